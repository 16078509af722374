# RetinaNet R50 taught by RetinaNet R101: MSE, 24 epochs. Written by scripts/configs.py.
_base_ = [
    "mmdet::_base_/datasets/coco_detection.py",
    "mmdet::_base_/schedules/schedule_2x.py",
    "mmdet::_base_/default_runtime.py",
]
custom_imports = dict(imports=["dfmsd.distiller"], allow_failed_imports=False)
work_dir = "work_dirs/mse/retinanet_r50_by_retinanet_r101"
model = dict(
    type="Distiller",
    student="mmdet::retinanet/retinanet_r50_fpn_2x_coco.py",
    teacher="mmdet::retinanet/retinanet_r101_fpn_2x_coco.py",
    teacher_checkpoint="https://download.openmmlab.com/mmdetection/v2.0/retinanet/retinanet_r101_fpn_2x_coco/retinanet_r101_fpn_2x_coco_20200131-5560aee8.pth",
    methods=[dict(type="MSE", alpha=1.0)],
)
optim_wrapper = dict(optimizer=dict(lr=0.01), clip_grad=dict(max_norm=35.0, norm_type=2))
