# GFL R50 taught by FCOS R101, then FCOS X101: DFMSD, stage 2 with ME, 12 epochs. Written by scripts/configs.py.
# It starts from the student that the stage before leaves. Whether an image is cropped depends on the boxes that FCOS R101 finds in it:
#   python scripts/area_ratios.py configs/dfmsd/gfl_r50_by_fcos_r101_then_fcos_x101
_base_ = "stage1.py"
work_dir = "work_dirs/dfmsd/gfl_r50_by_fcos_r101_then_fcos_x101/stage2"
model = dict(
    teacher="mmdet::fcos/fcos_x101-64x4d_fpn_gn-head_ms-640-800-2x_coco.py",
    teacher_checkpoint="https://download.openmmlab.com/mmdetection/v2.0/fcos/fcos_x101_64x4d_fpn_gn-head_mstrain_640-800_2x_coco/fcos_x101_64x4d_fpn_gn-head_mstrain_640-800_2x_coco-ede514a8.pth",
    student_checkpoint="work_dirs/dfmsd/gfl_r50_by_fcos_r101_then_fcos_x101/stage1/epoch_12.pth",
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
    enhance=dict(
        theta=0.5, score=0.3, sigma=0.08, noise_probability=0.3, crop=(0.8, 1.0), ratios="work_dirs/ratios/fcos_r101.json"
    ),
)
