# Faster R-CNN R50 taught by RetinaNet R101: DFMSD, stage 1, 12 epochs. Written by scripts/configs.py.
_base_ = [
    "mmdet::_base_/datasets/coco_detection.py",
    "mmdet::_base_/schedules/schedule_1x.py",
    "mmdet::_base_/default_runtime.py",
]
custom_imports = dict(imports=["dfmsd.distiller"], allow_failed_imports=False)
work_dir = "work_dirs/dfmsd/faster_rcnn_r50_by_retinanet_r101_then_retinanet_x101/stage1"
model = dict(
    type="Distiller",
    student="mmdet::faster_rcnn/faster-rcnn_r50_fpn_2x_coco.py",
    teacher="mmdet::retinanet/retinanet_r101_fpn_2x_coco.py",
    teacher_checkpoint="https://download.openmmlab.com/mmdetection/v2.0/retinanet/retinanet_r101_fpn_2x_coco/retinanet_r101_fpn_2x_coco_20200131-5560aee8.pth",
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
)
optim_wrapper = dict(optimizer=dict(lr=0.02), clip_grad=dict(max_norm=35.0, norm_type=2))
