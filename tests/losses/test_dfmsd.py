"""One stage of DFMSD: its terms, and each of its switches."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from dfmsd.losses import dmkd_reconstruction, dual_masks, enhanced_loss, pearson_loss, standardise
from tests.losses import helpers
from tests.losses.helpers import run

STRIDES = (8, 16, 32, 64)
DUAL: dict[str, Any] = {"strides": STRIDES, "alpha": 2.0, "se_ratio": 2}

method = partial(helpers.method, "dfmsd", beta=0.5, **DUAL)


def pyramid(seed: int, *, channels: int = 4, size: int = 8) -> dict[int, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {stride: torch.randn(2, channels, size * 8 // stride, size * 8 // stride, generator=generator) for stride in STRIDES}


def test_reconstruction_is_dmkds_and_alignment_is_on_three_levels() -> None:
    levels = pyramid(0), pyramid(1)
    terms = run(method(), *levels)
    aligned = 10 * sum(pearson_loss(levels[0][stride], levels[1][stride]) for stride in (8, 16, 32))
    torch.testing.assert_close(terms, run(helpers.method("dmkd", **DUAL), *levels) | {"sfa": aligned})


@pytest.mark.parametrize("changes", [{"sfa": 0.0}, {"sfa_strides": (128,)}, {"sfa_inside": True}])
def test_alignment_can_be_left_out(changes: dict[str, Any]) -> None:
    assert set(run(method(**changes), pyramid(0), pyramid(1))) == {"rec"}


def test_alignment_inside_standardises_both_sides_of_the_reconstruction() -> None:
    module = method(sfa_inside=True, alpha=1.0)
    levels_s, levels_t = pyramid(0), pyramid(1)
    expected = 0.0
    for stride in STRIDES:
        hidden_sp, hidden_ch = dual_masks(levels_t[stride], tau=0.5, spatial_ratio=0.65, channel_ratio=0.65)
        level = module.levels[str(stride)]
        learnt = {name: getattr(level, name) for name in ("branch_sp", "branch_ch", "fusion")}
        recon = dmkd_reconstruction(levels_s[stride], hidden_sp=hidden_sp, hidden_ch=hidden_ch, **learnt)
        expected += ((standardise(recon) - standardise(levels_t[stride])) ** 2).sum() / 2
    torch.testing.assert_close(run(module, levels_s, levels_t)["rec"], expected)


def test_enhanced_images_add_the_error_of_their_plain_features() -> None:
    enhanced = pyramid(2, size=6), pyramid(3, size=6)
    terms = run(method(), pyramid(0), pyramid(1), enhanced={"aug": enhanced})
    expected = sum(((enhanced[0][stride].double() - enhanced[1][stride].double()) ** 2).sum() / 2 for stride in STRIDES)
    assert terms["aug"].item() == pytest.approx(0.5 * float(expected), rel=1e-5)


def test_enhanced_loss_by_hand_masked_and_not() -> None:
    s, t = np.zeros((2, 1, 1, 3)), np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]).reshape(2, 1, 1, 3)
    hidden = torch.tensor([[True, False, True], [False, False, True]]).view(2, 1, 1, 3)
    feat_s, feat_t = torch.from_numpy(s), torch.from_numpy(t)
    assert enhanced_loss(feat_s, feat_t, hidden=None).item() == (1 + 4 + 9 + 16 + 25 + 36) / 2
    assert enhanced_loss(feat_s, feat_t, hidden=hidden).item() == (1 + 9 + 36) / 2


def test_the_mean_of_the_enhanced_error_is_eq_8_as_printed() -> None:
    """A level counts by its mean whatever its size: sizes differ, the error is 2 everywhere."""
    levels_s, levels_t = pyramid(2), {stride: feat + 2 for stride, feat in pyramid(2).items()}
    terms = run(method(reduction="mean", beta=1.0), pyramid(0), pyramid(1), enhanced={"aug": (levels_s, levels_t)})
    assert terms["aug"].item() == pytest.approx(4 * len(STRIDES), rel=1e-5)


def test_enhanced_masked_counts_what_either_mask_hides() -> None:
    enhanced = pyramid(2), pyramid(3)
    masked = run(method(enhanced_masked=True), pyramid(0), pyramid(1), enhanced={"aug": enhanced})["aug"]
    expected = 0.0
    for stride in STRIDES:
        hidden_sp, hidden_ch = dual_masks(enhanced[1][stride], tau=0.5, spatial_ratio=0.65, channel_ratio=0.65)
        either = (hidden_sp | hidden_ch).double()
        expected += float((((enhanced[0][stride] - enhanced[1][stride]).double() ** 2) * either).sum()) / 2
    assert masked.item() == pytest.approx(0.5 * expected, rel=1e-5)
    assert masked < run(method(), pyramid(0), pyramid(1), enhanced={"aug": enhanced})["aug"]


def test_alignment_and_enhanced_error_see_the_student_through_its_projection() -> None:
    module = method(channels_s=3)
    levels_s = pyramid(0, channels=3)
    terms = run(module, levels_s, pyramid(1), enhanced={"aug": (levels_s, pyramid(1))})
    level = module.levels
    expected = 10 * sum(pearson_loss(level[str(s)].align(levels_s[s]), pyramid(1)[s]) for s in (8, 16, 32))
    torch.testing.assert_close(terms["sfa"], expected)
    terms["aug"].backward()
    assert level["64"].align.weight.grad.abs().sum() > 0


def test_gradient() -> None:
    levels_t = {8: torch.randn(1, 4, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))}
    module = method(strides=[8]).double()
    student = torch.randn(1, 4, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()

    def total(feat_s: torch.Tensor) -> torch.Tensor:
        terms = run(module, {8: feat_s}, levels_t, enhanced={"aug": ({8: feat_s}, levels_t)})
        assert len(terms) == 3
        return torch.stack(list(terms.values())).sum()

    assert torch.autograd.gradcheck(total, student)
