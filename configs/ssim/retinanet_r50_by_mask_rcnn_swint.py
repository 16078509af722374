# RetinaNet R50 taught by Mask R-CNN Swin-T: SSIM, 24 epochs. Written by scripts/configs.py.
_base_ = [
    "mmdet::_base_/datasets/coco_detection.py",
    "mmdet::_base_/schedules/schedule_2x.py",
    "mmdet::_base_/default_runtime.py",
]
custom_imports = dict(imports=["dfmsd.distiller"], allow_failed_imports=False)
work_dir = "work_dirs/ssim/retinanet_r50_by_mask_rcnn_swint"
model = dict(
    type="Distiller",
    student="mmdet::retinanet/retinanet_r50_fpn_2x_coco.py",
    teacher="mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco.py",
    teacher_checkpoint="https://download.openmmlab.com/mmdetection/v2.0/swin/mask_rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco/mask_rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco_20210906_131725-bacf6f7b.pth",
    methods=[dict(type="SSIM", alpha=4.0, distance="ssim", luminance=1, contrast=1, structure=1, window=11, sigma=1.5)],
)
optim_wrapper = dict(optimizer=dict(lr=0.01), clip_grad=dict(max_norm=35.0, norm_type=2))
