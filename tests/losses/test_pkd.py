"""PKD: its levels. Its loss of a level is Eq. (5), tested in test_pearson.py."""

from __future__ import annotations

import pytest
import torch

from dfmsd.losses import pearson_loss, pkd_loss
from tests.losses.helpers import maps, method, run


def test_a_level_has_the_loss_that_dfmsd_aligns_features_with() -> None:
    assert torch.equal(pkd_loss(*maps()), pearson_loss(*maps()))


@pytest.mark.parametrize(
    ("levels", "used"), [(None, (8, 16, 32, 64, 128)), (4, (8, 16, 32, 64)), (2, (8, 16)), (9, (8, 16, 32, 64, 128))]
)
def test_the_finest_levels_take_part_whatever_their_order(levels: int | None, used: tuple[int, ...]) -> None:
    strides = (128, 8, 32, 16, 64)
    levels_s = {stride: maps()[0][..., : 1 + i, :] for i, stride in enumerate(strides)}
    levels_t = {stride: maps()[1][..., : 1 + i, :] for i, stride in enumerate(strides)}
    terms = run(method("pkd", strides=strides, levels=levels, alpha=6.0), levels_s, levels_t)
    expected = 6 * torch.stack([pkd_loss(levels_s[stride], levels_t[stride]) for stride in used]).sum()
    torch.testing.assert_close(terms, {"feat": expected})


def test_levels_that_take_no_part_have_no_projection() -> None:
    assert list(method("pkd", channels_s=3, strides=(32, 16, 8), levels=2).levels) == ["8", "16"]
