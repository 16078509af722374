# RetinaNet R50 taught by RetinaNet X101: SSIM, 24 epochs. Written by scripts/configs.py.
_base_ = [
    "mmdet::_base_/datasets/coco_detection.py",
    "mmdet::_base_/schedules/schedule_2x.py",
    "mmdet::_base_/default_runtime.py",
]
custom_imports = dict(imports=["dfmsd.distiller"], allow_failed_imports=False)
work_dir = "work_dirs/ssim/retinanet_r50_by_retinanet_x101"
model = dict(
    type="Distiller",
    student="mmdet::retinanet/retinanet_r50_fpn_2x_coco.py",
    teacher="mmdet::retinanet/retinanet_x101-64x4d_fpn_1x_coco.py",
    teacher_checkpoint="https://download.openmmlab.com/mmdetection/v2.0/retinanet/retinanet_x101_64x4d_fpn_1x_coco/retinanet_x101_64x4d_fpn_1x_coco_20200130-366f5af1.pth",
    methods=[dict(type="SSIM", alpha=4.0, distance="ssim", luminance=1, contrast=1, structure=1, window=11, sigma=1.5)],
)
optim_wrapper = dict(optimizer=dict(lr=0.01), clip_grad=dict(max_norm=35.0, norm_type=2))
