# RepPoints R50 taught by RepPoints R101: DFMSD, stage 1, 12 epochs. Written by scripts/configs.py.
_base_ = [
    "mmdet::_base_/datasets/coco_detection.py",
    "mmdet::_base_/schedules/schedule_1x.py",
    "mmdet::_base_/default_runtime.py",
]
custom_imports = dict(imports=["dfmsd.distiller"], allow_failed_imports=False)
work_dir = "work_dirs/dfmsd/reppoints_r50_by_reppoints_r101_then_reppoints_x101/stage1"
model = dict(
    type="Distiller",
    student="mmdet::reppoints/reppoints-moment_r50_fpn-gn_head-gn_2x_coco.py",
    teacher="mmdet::reppoints/reppoints-moment_r101_fpn-gn_head-gn_2x_coco.py",
    teacher_checkpoint="https://download.openmmlab.com/mmdetection/v2.0/reppoints/reppoints_moment_r101_fpn_gn-neck%2Bhead_2x_coco/reppoints_moment_r101_fpn_gn-neck%2Bhead_2x_coco_20200329-4fbc7310.pth",
    methods=[
        dict(
            type="DFMSD",
            tau=0.5,
            alpha=2e-05,
            spatial_ratio=0.65,
            channel_ratio=0.65,
            se_ratio=16,
            beta=1e-05,
            sfa=10.0,
            sfa_strides=(8, 16, 32),
        )
    ],
)
optim_wrapper = dict(optimizer=dict(lr=0.01), clip_grad=dict(max_norm=35.0, norm_type=2))
