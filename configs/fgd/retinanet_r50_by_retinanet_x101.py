# RetinaNet R50 taught by RetinaNet X101: FGD, 24 epochs. Written by scripts/configs.py.
_base_ = [
    "mmdet::_base_/datasets/coco_detection.py",
    "mmdet::_base_/schedules/schedule_2x.py",
    "mmdet::_base_/default_runtime.py",
]
custom_imports = dict(imports=["dfmsd.distiller"], allow_failed_imports=False)
work_dir = "work_dirs/fgd/retinanet_r50_by_retinanet_x101"
model = dict(
    type="Distiller",
    student="mmdet::retinanet/retinanet_r50_fpn_2x_coco.py",
    teacher="mmdet::retinanet/retinanet_x101-64x4d_fpn_1x_coco.py",
    teacher_checkpoint="https://download.openmmlab.com/mmdetection/v2.0/retinanet/retinanet_x101_64x4d_fpn_1x_coco/retinanet_x101_64x4d_fpn_1x_coco_20200130-366f5af1.pth",
    methods=[dict(type="FGD", tau=0.5, alpha=0.001, beta=0.0005, gamma=0.0005, lam=5e-06)],
)
optim_wrapper = dict(optimizer=dict(lr=0.01), clip_grad=dict(max_norm=35.0, norm_type=2))
