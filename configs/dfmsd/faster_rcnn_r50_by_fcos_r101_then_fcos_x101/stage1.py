# Faster R-CNN R50 taught by FCOS R101: DFMSD, stage 1, 12 epochs. Written by scripts/configs.py.
_base_ = [
    "mmdet::_base_/datasets/coco_detection.py",
    "mmdet::_base_/schedules/schedule_1x.py",
    "mmdet::_base_/default_runtime.py",
]
custom_imports = dict(imports=["dfmsd.distiller"], allow_failed_imports=False)
work_dir = "work_dirs/dfmsd/faster_rcnn_r50_by_fcos_r101_then_fcos_x101/stage1"
model = dict(
    type="Distiller",
    student="mmdet::faster_rcnn/faster-rcnn_r50_fpn_2x_coco.py",
    teacher="mmdet::fcos/fcos_r101-caffe_fpn_gn-head_ms-640-800-2x_coco.py",
    teacher_checkpoint="https://download.openmmlab.com/mmdetection/v2.0/fcos/fcos_r101_caffe_fpn_gn-head_mstrain_640-800_2x_coco/fcos_r101_caffe_fpn_gn-head_mstrain_640-800_2x_coco-511424d6.pth",
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
