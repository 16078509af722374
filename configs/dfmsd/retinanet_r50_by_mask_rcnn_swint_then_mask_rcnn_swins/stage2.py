# RetinaNet R50 taught by Mask R-CNN Swin-T, then Mask R-CNN Swin-S: DFMSD, stage 2 with ME, 12 epochs. Written by scripts/configs.py.
# It starts from the student that the stage before leaves. Whether an image is cropped depends on the boxes that Mask R-CNN Swin-T finds in it:
#   python scripts/area_ratios.py configs/dfmsd/retinanet_r50_by_mask_rcnn_swint_then_mask_rcnn_swins
_base_ = "stage1.py"
work_dir = "work_dirs/dfmsd/retinanet_r50_by_mask_rcnn_swint_then_mask_rcnn_swins/stage2"
model = dict(
    teacher="mmdet::swin/mask-rcnn_swin-s-p4-w7_fpn_amp-ms-crop-3x_coco.py",
    teacher_checkpoint="https://download.openmmlab.com/mmdetection/v2.0/swin/mask_rcnn_swin-s-p4-w7_fpn_fp16_ms-crop-3x_coco/mask_rcnn_swin-s-p4-w7_fpn_fp16_ms-crop-3x_coco_20210903_104808-b92c91f1.pth",
    student_checkpoint="work_dirs/dfmsd/retinanet_r50_by_mask_rcnn_swint_then_mask_rcnn_swins/stage1/epoch_12.pth",
    methods=[
        dict(
            type="DFMSD",
            tau=0.5,
            alpha=2e-05,
            spatial_ratio=0.65,
            channel_ratio=0.65,
            se_ratio=16,
            beta=1e-05,
            sfa=6.0,
            sfa_strides=(8, 16, 32),
        )
    ],
    enhance=dict(
        theta=0.5, score=0.3, sigma=0.08, noise_probability=0.3, crop=(0.8, 1.0), ratios="work_dirs/ratios/mask_rcnn_swint.json"
    ),
)
