# RetinaNet R50 taught by GFL X101: AMD, 24 epochs. Written by scripts/configs.py.
_base_ = [
    "mmdet::_base_/datasets/coco_detection.py",
    "mmdet::_base_/schedules/schedule_2x.py",
    "mmdet::_base_/default_runtime.py",
]
custom_imports = dict(imports=["dfmsd.distiller"], allow_failed_imports=False)
work_dir = "work_dirs/amd/retinanet_r50_by_gfl_x101"
model = dict(
    type="Distiller",
    student="mmdet::retinanet/retinanet_r50_fpn_2x_coco.py",
    teacher="mmdet::gfl/gfl_x101-32x4d_fpn_ms-2x_coco.py",
    teacher_checkpoint="https://download.openmmlab.com/mmdetection/v2.0/gfl/gfl_x101_32x4d_fpn_mstrain_2x_coco/gfl_x101_32x4d_fpn_mstrain_2x_coco_20200630_102002-50c1ffdb.pth",
    methods=[dict(type="AMD", tau=0.5, alpha=2e-05, ratio=0.65, se_ratio=16)],
)
optim_wrapper = dict(optimizer=dict(lr=0.01), clip_grad=dict(max_norm=35.0, norm_type=2))
