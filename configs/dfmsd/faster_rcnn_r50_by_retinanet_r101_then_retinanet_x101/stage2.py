# Faster R-CNN R50 taught by RetinaNet R101, then RetinaNet X101: DFMSD, stage 2 with ME, 12 epochs. Written by scripts/configs.py.
# It starts from the student that the stage before leaves. Whether an image is cropped depends on the boxes that RetinaNet R101 finds in it:
#   python scripts/area_ratios.py configs/dfmsd/faster_rcnn_r50_by_retinanet_r101_then_retinanet_x101
_base_ = "stage1.py"
work_dir = "work_dirs/dfmsd/faster_rcnn_r50_by_retinanet_r101_then_retinanet_x101/stage2"
model = dict(
    teacher="mmdet::retinanet/retinanet_x101-64x4d_fpn_1x_coco.py",
    teacher_checkpoint="https://download.openmmlab.com/mmdetection/v2.0/retinanet/retinanet_x101_64x4d_fpn_1x_coco/retinanet_x101_64x4d_fpn_1x_coco_20200130-366f5af1.pth",
    student_checkpoint="work_dirs/dfmsd/faster_rcnn_r50_by_retinanet_r101_then_retinanet_x101/stage1/epoch_12.pth",
    methods=[
        dict(
            type="DFMSD",
            tau=0.5,
            alpha=5e-07,
            spatial_ratio=0.45,
            channel_ratio=0.45,
            se_ratio=16,
            beta=2.5e-07,
            sfa=10.0,
            sfa_strides=(8, 16, 32),
        )
    ],
    enhance=dict(
        theta=0.5, score=0.3, sigma=0.08, noise_probability=0.3, crop=(0.8, 1.0), ratios="work_dirs/ratios/retinanet_r101.json"
    ),
)
