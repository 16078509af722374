"""How alike two networks' features are, and what they tell: pure functions of feature maps.

Two networks that were trained apart have no channel in common: channel 5 of one has nothing to do with channel 5 of the other. What
can be compared of any two is *where* their features are large (:func:`map_correlation`, :func:`mask_agreement`). Channel by channel
(:class:`ChannelSums`) a comparison makes sense for a student that was taught to imitate its teacher channel by channel: by SFA,
Eq. (5), or by any method that subtracts features without a projection between them. :class:`Alignment` is fair to all: it asks how
much of the teacher's features can be had from the student's by the best 1 x 1 convolution.

Deviations:
    The paper shows one image or two that its authors chose, and gives no number. Here a rule chooses the images, and every number
    is taken over many. How the paper's Fig. 8 pairs the channels of two networks is not said; the alignment that DFMSD trains is
    not part of an exported student, and where both have equally many channels there is none: then channels are paired by their
    place, as the loss pairs them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata, wasserstein_distance
from torch import Tensor

from dfmsd.losses import top_mask
from dfmsd.study.measured import Interval, Values, rounded
from dfmsd.study.stats import LEVEL, SEED

Array = NDArray[Any]

RESAMPLES = 1000
"""Bootstrap resamples of the images."""

RIDGE = 1e-3
"""Added to the Gram matrix's diagonal, relative to its mean: an alignment exists even where channels are copies of each other."""

BINS = 60
REACH = 4.0
"""Bins reach so many standard deviations from the mean of the network that goes furthest."""


def magnitude(feat: Tensor) -> Tensor:
    r"""Where a feature map is large: the mean magnitude over channels.

    .. math::
        E_{hw} = \frac{1}{C} \sum_c |F_{chw}|

    Spatial attention, Eq. (3), is a softmax of it, and a mask hides the positions where it is highest: both follow from it.

    Args:
        feat: One map, ``(1, C, H, W)``.

    Returns:
        ``(H, W)``.

    Example:
        >>> magnitude(torch.tensor([[[[1.0, -2.0]], [[3.0, 0.0]]]])).tolist()
        [[2.0, 1.0]]
    """
    return feat[0].abs().mean(dim=0)


def map_correlation(map_s: Tensor, map_t: Tensor) -> float | None:
    r"""Pearson's correlation of two maps over the positions of one image.

    .. math::
        r_{map} = \frac{\sum_{hw} (E^S_{hw} - \bar E^S)(E^T_{hw} - \bar E^T)}
        {\sqrt{\sum_{hw} (E^S_{hw} - \bar E^S)^2 \, \sum_{hw} (E^T_{hw} - \bar E^T)^2}}

    Args:
        map_s: From :func:`magnitude`, ``(H, W)``.
        map_t: Likewise, of the same shape.

    Returns:
        In [-1, 1]; None where a map is constant.

    Example:
        >>> one = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> map_correlation(one, 2 * one + 1), map_correlation(one, -one), map_correlation(one, torch.ones(2, 2))
        (1.0, -1.0, None)
    """
    centred = [one.double() - one.double().mean() for one in (map_s, map_t)]
    norms = [one.square().sum().sqrt().item() for one in centred]
    if min(norms) <= 1e-9 * max(1.0, map_s.abs().max().item(), map_t.abs().max().item()):
        return None
    return rounded(float((centred[0] * centred[1]).sum()) / (norms[0] * norms[1]))


def mask_agreement(map_s: Tensor, map_t: Tensor, *, ratio: float) -> float:
    """The share of the positions that one network's mask hides and the other's hides, too.

    Masks hide the positions of highest attention, as DMKD's and DFMSD's spatial branch does; two masks that have nothing to do with
    each other agree on a share ``ratio``.

    Args:
        map_s: From :func:`magnitude`, ``(H, W)``.
        map_t: Likewise, of the same shape.
        ratio: Share that is hidden.

    Returns:
        In [0, 1].

    Example:
        >>> one = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
        >>> mask_agreement(one, one, ratio=0.5), mask_agreement(one, -one, ratio=0.5)
        (1.0, 0.0)
    """
    hidden_s, hidden_t = (top_mask(one[None], ratio=ratio) for one in (map_s, map_t))
    return rounded((hidden_s & hidden_t).sum().item() / max(1, hidden_s.sum().item()))


def touched(boxes: Tensor, *, stride: int, size: tuple[int, int]) -> Tensor:
    """The cells of a level that a box reaches into.

    Args:
        boxes: ``(n, 4)`` as x1, y1, x2, y2 in pixels.
        stride: Of the level in pixels.
        size: Rows and columns of the level.

    Returns:
        Boolean, ``(H, W)``.

    Example:
        >>> touched(torch.tensor([[7.0, 0.0, 9.0, 8.0]]), stride=8, size=(2, 3)).int().tolist()
        [[1, 1, 0], [0, 0, 0]]
    """
    rows, columns = (torch.arange(count) * stride for count in size)
    x1, y1, x2, y2 = boxes.T[:, :, None]  # (n, 4) -> 4 x (n, 1)
    across, down = (x1 < columns + stride) & (x2 > columns), (y1 < rows + stride) & (y2 > rows)  # (n, W), (n, H)
    inside: Tensor = (down[:, :, None] & across[:, None, :]).any(dim=0)
    return inside


def objectness(map_: Tensor, inside: Tensor) -> float | None:
    r"""How well a map tells objects from background: the area under the ROC curve.

    .. math::
        a = P(E_{in} > E_{out}) + \tfrac12 P(E_{in} = E_{out})

    for one position inside a box and one outside, both drawn at random. 0.5 is chance, 1 is perfect. It is the same for a map and
    any increasing function of it, so it is as true of the attention.

    Args:
        map_: From :func:`magnitude`, ``(H, W)``.
        inside: From :func:`touched`, ``(H, W)``.

    Returns:
        In [0, 1]; None where all positions are inside, or none is.

    Example:
        >>> objectness(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([False, True, False, True]))
        0.75
    """
    count, within = inside.numel(), int(inside.sum())
    if within in (0, count):
        return None
    ranks = rankdata(map_.flatten().numpy())
    above = ranks[inside.flatten().numpy()].sum() - within * (within + 1) / 2
    return rounded(above / (within * (count - within)))


@dataclass
class ChannelSums:
    r"""Pearson's correlation channel by channel, over positions and images: what SFA, Eq. (5), raises.

    .. math::
        r_{channel} = \frac{1}{C} \sum_c \mathrm{corr}_{bhw}(S_{bchw}, T_{bchw})

    with a constant channel counted as 0. Eq. (5) takes it over a batch; here it runs over all images. For two networks trained
    apart it is about 0, however alike they are: their channels come in any order.

    Example:
        >>> sums = ChannelSums()
        >>> feat = torch.tensor([[[[1.0, 2.0, 4.0]], [[0.0, 1.0, 5.0]]]])
        >>> sums.add(feat, torch.cat([3 * feat[:, :1] + 1, -feat[:, 1:]], dim=1))
        >>> sums.correlations(np.ones((1, 1))).round(6).tolist()
        [[1.0, -1.0]]
    """

    rows: list[Array] = field(default_factory=list)
    """For each image: n, and the sums of s, t, s², t² and s t over its positions, ``(6, C)``."""

    def add(self, feat_s: Tensor, feat_t: Tensor) -> None:
        """Count an image in: two maps ``(1, C, H, W)`` with as many channels."""
        s, t = (feat[0].flatten(1).double() for feat in (feat_s, feat_t))  # (C, H * W)
        sums = (torch.ones_like(s), s, t, s * s, t * t, s * t)
        self.rows.append(torch.stack([one.sum(dim=1) for one in sums]).cpu().numpy())

    def correlations(self, weights: Array) -> Array:
        """The correlation of each channel when each image counts with a weight: ``(R, images)`` -> ``(R, C)``."""
        n, s, t, ss, tt, st = np.moveaxis(np.tensordot(weights, np.stack(self.rows), axes=1), 1, 0)
        variances = (ss - s * s / n) * (tt - t * t / n)
        floor = 1e-12 * np.maximum(ss * tt, 1e-30)  # below is rounding
        return np.where(variances > floor, (st - s * t / n) / np.sqrt(np.maximum(variances, floor)), 0.0)

    def interval(self) -> Interval:
        """The mean over channels, and its bootstrap interval over images."""
        count = len(self.rows)
        draws = np.random.default_rng(SEED).multinomial(count, [1 / count] * count, size=RESAMPLES)
        found = self.correlations(draws.astype(float)).mean(axis=1)
        low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        value = self.correlations(np.ones((1, count))).mean()
        return Interval(value=rounded(value), low=rounded(low), high=rounded(high))


@dataclass
class Alignment:
    r"""The 1 x 1 convolution that makes most of the teacher's features of the student's, in the least-squares sense.

    .. math::
        \hat T = W S + b, \qquad
        W, b = \arg\min \sum_{bhw} \lVert T_{bhw} - W S_{bhw} - b \rVert^2 + \rho \lVert W \rVert^2

    It has the form of the trained alignment of Eq. (1), which is thrown away when a student is exported and which is no layer at
    all where student and teacher have equally many channels. The correlation of :math:`\hat T` and :math:`T`, channel by channel,
    on images that did not choose :math:`W`, does not depend on the order, scale or mixture of the student's channels.

    Example:
        >>> fit = Alignment()
        >>> feat = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(0))
        >>> fit.add(feat, feat.flip(1) + 5)
        >>> weights = fit.solve()
        >>> (align(feat, weights) - feat.flip(1) - 5).abs().max().item() < 0.01
        True
    """

    gram: Tensor = field(default_factory=lambda: torch.zeros(()))
    cross: Tensor = field(default_factory=lambda: torch.zeros(()))

    def add(self, feat_s: Tensor, feat_t: Tensor) -> None:
        """Count an image in: maps ``(1, C_s, H, W)`` and ``(1, C_t, H, W)``."""
        s, t = _with_one(feat_s), feat_t[0].flatten(1).double().T
        self.gram = self.gram + (s.T @ s).cpu()
        self.cross = self.cross + (s.T @ t).cpu()

    def solve(self) -> Tensor:
        """Weights, the last row of which is the bias, ``(C_s + 1, C_t)``."""
        diagonal = self.gram.diagonal().clone()
        penalty = RIDGE * diagonal[:-1].mean() * torch.ones_like(diagonal)
        penalty[-1] = 0.0  # a bias costs nothing
        weights: Tensor = torch.linalg.lstsq(self.gram + penalty.diag(), self.cross).solution
        return weights


def align(feat: Tensor, weights: Tensor) -> Tensor:
    """A map through a 1 x 1 convolution from :meth:`Alignment.solve`: ``(1, C_s, H, W)`` -> ``(1, C_t, H, W)``."""
    height, width = feat.shape[2:]
    return (_with_one(feat) @ weights.to(feat.device)).T.reshape(1, -1, height, width)


def _with_one(feat: Tensor) -> Tensor:
    """Positions with their channels and a 1, ``(H * W, C + 1)``."""
    flat = feat[0].flatten(1).double().T
    return torch.cat([flat, flat.new_ones(len(flat), 1)], dim=1)


@dataclass
class Moments:
    """Mean and standard deviation of all values of a level.

    Example:
        >>> moments = Moments()
        >>> moments.add(torch.tensor([1.0, 3.0]))
        >>> moments.mean, moments.std
        (2.0, 1.0)
    """

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, feat: Tensor) -> None:
        """Count a map in."""
        self.count += feat.numel()
        self.total += feat.double().sum().item()
        self.squares += feat.double().square().sum().item()

    @property
    def mean(self) -> float:
        """Over everything that was counted."""
        return self.total / self.count

    @property
    def std(self) -> float:
        """Of the population, not of a sample."""
        return math.sqrt(max(0.0, self.squares / self.count - self.mean**2))


def edges(found: list[Moments]) -> Array:
    """Edges of bins that suit the values of several networks, ``(BINS + 1,)``."""
    low = min(one.mean - REACH * one.std for one in found)
    high = max(one.mean + REACH * one.std for one in found)
    if rounded(low) == rounded(high):  # every value is the same
        low, high = low - max(0.5, abs(low)), high + max(0.5, abs(high))
    return np.linspace(rounded(low), rounded(high), BINS + 1)


def counted(feat: Tensor, bins: Array) -> Array:
    """How many values of a map lie in each bin; what lies beyond is counted in the outermost ones.

    Example:
        >>> counted(torch.tensor([-9.0, 0.2, 0.7, 9.0]), np.array([0.0, 0.5, 1.0])).tolist()
        [2.0, 2.0]
    """
    values = feat.flatten().double().clamp(bins[0], bins[-1]).cpu().numpy()
    return np.histogram(values, bins)[0].astype(float)


def values(counts: Array, bins: Array, moments: Moments) -> Values:
    """A distribution from its counts: the density integrates to 1."""
    density = counts / counts.sum() / np.diff(bins)
    return Values(
        mean=rounded(moments.mean),
        std=rounded(moments.std),
        low=bins[0],
        high=bins[-1],
        density=tuple(rounded(one) for one in density),
    )


def distance(first: Values, second: Values, *, standardised: bool) -> float:
    r"""The Wasserstein distance of two distributions, in standard deviations of the second.

    .. math::
        W_1 = \frac{1}{\sigma_T} \int \lvert P_S(x) - P_T(x) \rvert \, dx

    with the cumulative distributions :math:`P`. A shift of all values by one standard deviation is a distance of 1.

    Args:
        first: The student's.
        second: The teacher's.
        standardised: Bring both to mean 0 and variance 1 first: then only their shapes count.

    Returns:
        0 for equal distributions.

    Example:
        >>> one = Values(mean=0.5, std=0.5, low=0.0, high=2.0, density=(1.0, 0.0))
        >>> other = Values(mean=1.5, std=0.5, low=0.0, high=2.0, density=(0.0, 1.0))
        >>> distance(one, other, standardised=False), distance(one, other, standardised=True)
        (2.0, 0.0)
    """
    places = []
    for one in (first, second):
        centre, unit = (one.mean, one.std) if standardised else (second.mean, second.std)
        places.append((centres(one) - centre) / (unit or 1.0))
    return float(wasserstein_distance(*places, first.density, second.density))


def centres(found: Values) -> Array:
    """The middle of each bin."""
    width = (found.high - found.low) / len(found.density)
    return found.low + width * (np.arange(len(found.density)) + 0.5)
