# FCOS R50 taught by Mask R-CNN Swin-T: DFMSD, stage 1, 12 epochs. Written by scripts/configs.py.
_base_ = [
    "mmdet::_base_/datasets/coco_detection.py",
    "mmdet::_base_/schedules/schedule_1x.py",
    "mmdet::_base_/default_runtime.py",
]
custom_imports = dict(imports=["dfmsd.distiller"], allow_failed_imports=False)
work_dir = "work_dirs/dfmsd/fcos_r50_by_mask_rcnn_swint_then_mask_rcnn_swins/stage1"
model = dict(
    type="Distiller",
    student="mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py",
    teacher="mmdet::swin/mask-rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco.py",
    teacher_checkpoint="https://download.openmmlab.com/mmdetection/v2.0/swin/mask_rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco/mask_rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco_20210906_131725-bacf6f7b.pth",
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
)
optim_wrapper = dict(
    optimizer=dict(lr=0.01), clip_grad=dict(max_norm=35.0, norm_type=2), paramwise_cfg=dict(bias_lr_mult=2.0, bias_decay_mult=0.0)
)
