"""Structural knowledge distillation, SSIM :cite:p:`skd` (arXiv 2211.13133), and the l1 and l2 distances it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dfmsd.hyper import Distance
from dfmsd.losses.base import Method, widened
from dfmsd.losses.blocks import align
from dfmsd.losses.pearson import channel_blocks

Compare = Callable[[Tensor, Tensor], Tensor]
CompareWithGradient = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]

C1 = 0.01**2
"""Keeps the luminance finite; the features' range is 1."""
C2 = 0.03**2
"""Keeps the contrast finite."""
C3 = C2 / 2
"""Keeps the structure finite."""


def minmax(feat: Tensor) -> Tensor:
    r"""Rescale each image's map to [0, 1] by its own smallest and largest value.

    .. math::
        \psi(X) = \frac{X - \min X}{\max X - \min X}

    Args:
        feat: Feature map :math:`X` of one level, ``(B, C, H, W)``.

    Returns:
        The same shape. A constant image becomes 0.

    Deviations:
        The paper gives the range [0, 1] but not its scope: here it is that of one image and level, over channels and positions.

    Example:
        >>> minmax(torch.tensor([[[[-2.0, 0.0, 6.0]]]])).flatten().tolist()
        [0.0, 0.25, 1.0]
    """
    feat = widened(feat)
    return _rescaled(feat, *_range(feat))


def ssim_parts(x: Tensor, y: Tensor, *, window: int, sigma: float) -> tuple[Tensor, Tensor, Tensor]:
    r"""Luminance, contrast and structure, the three parts of SSIM.

    .. math::
        l = \frac{2 \mu_x \mu_y + C_1}{\mu_x^2 + \mu_y^2 + C_1}, \quad
        c = \frac{2 \sigma_x \sigma_y + C_2}{\sigma_x^2 + \sigma_y^2 + C_2}, \quad
        s = \frac{\sigma_{xy} + C_3}{\sigma_x \sigma_y + C_3}

    Where:
        - :math:`\mu, \sigma, \sigma_{xy}`: mean, standard deviation and covariance under a Gaussian window around the position,
          per channel
        - :math:`C_1, C_2, C_3`: 0.01², 0.03² and half of :math:`C_2`, for values of range 1

    Args:
        x: Values in [0, 1], ``(B, C, H, W)``.
        y: The same.
        window: Side of the Gaussian window in positions, odd.
        sigma: Standard deviation of the window in positions.

    Returns:
        Three maps of the shape of ``x``.

    Deviations:
        Borders are reflected about their outermost row, as by kornia's SSIM, which the paper's authors used; on maps of half a
        window or less, where kornia stops, reflections are reflected again, down to one position, whose variance is 0.
        Variances that rounding makes negative are taken for 0, and 1e-12 is not added to a denominator of at least 9e-8.

    Example:
        >>> ramp = torch.linspace(0, 1, 8).expand(1, 1, 8, 8)
        >>> [round(part.mean().item(), 2) for part in ssim_parts(ramp, 1 - ramp, window=11, sigma=1.5)]
        [0.64, 1.0, -0.97]
    """
    x, y = widened(x), widened(y)
    return _parts(x, y, *_matrices(x, window, sigma))


def ssim_map(x: Tensor, y: Tensor, *, luminance: int, contrast: int, structure: int, window: int, sigma: float) -> Tensor:
    r"""Structural similarity around each position.

    .. math::
        \mathrm{SSIM} = l^{\alpha}\, c^{\beta}\, s^{\gamma}

    Where:
        - :math:`l, c, s`: :func:`ssim_parts`
        - :math:`\alpha, \beta, \gamma`: ``luminance``, ``contrast``, ``structure``

    Args:
        x: Values in [0, 1], ``(B, C, H, W)``.
        y: The same.
        luminance: Exponent >= 0; 0 switches the part off. Not all three are 0.
        contrast: The same.
        structure: The same.
        window: See :func:`ssim_parts`.
        sigma: See :func:`ssim_parts`.

    Returns:
        The shape of ``x``, in [-1, 1].

    Example:
        >>> x = torch.rand(1, 2, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> ssim_map(x, x, luminance=1, contrast=1, structure=1, window=11, sigma=1.5).mean().item()
        1.0
    """
    x, y = widened(x), widened(y)
    rows, columns = _matrices(x, window, sigma)
    return _similarity(x, y, rows, columns, luminance=luminance, contrast=contrast, structure=structure)


def structural_loss(
    feat_s: Tensor,
    feat_t: Tensor,
    *,
    distance: Distance,
    luminance: int,
    contrast: int,
    structure: int,
    window: int,
    sigma: float,
    detach_range: bool,
) -> Tensor:
    r"""How far the student's normalised map is from the teacher's, for one level.

    .. math::
        L = \frac{1}{N} \sum_{bchw} d\big(\psi(S), \psi(T)\big), \qquad
        d_{ssim} = \frac{1 - \mathrm{SSIM}}{2}, \quad d_{l1} = |\psi(S) - \psi(T)|, \quad d_{l2} = (\psi(S) - \psi(T))^2

    Where:
        - :math:`S, T`: ``feat_s``, ``feat_t``
        - :math:`\psi`: :func:`minmax`
        - :math:`\mathrm{SSIM}`: :func:`ssim_map`
        - :math:`N`: all elements, :math:`B C H W`

    Args:
        feat_s: Student's map, aligned to the teacher's channels, ``(B, C, H, W)``.
        feat_t: Teacher's map, ``(B, C, H, W)``.
        distance: Which :math:`d`; the arguments below matter to ``ssim`` only.
        luminance: See :func:`ssim_map`.
        contrast: See :func:`ssim_map`.
        structure: See :func:`ssim_map`.
        window: See :func:`ssim_parts`.
        sigma: See :func:`ssim_parts`.
        detach_range: Whether the student's range counts as a constant in the gradient.

    Returns:
        Scalar in [0, 1]: mean over batch, channels and positions. It can be differentiated once, with respect to the student.

    Deviations:
        The paper's text at hand says nothing of what l1 and l2 compare. They see the normalised features too, because third-party
        notes on the paper place the normalisation in the loss's general form, before any distance.

        With ``detach_range`` the gradient asks for another scale of the features though the loss does not depend on it: each step
        changes the scale, and the next one changes it again.

    Example:
        >>> feat_t = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> options = {"luminance": 1, "contrast": 1, "structure": 1, "window": 11, "sigma": 1.5}
        >>> options["detach_range"] = False
        >>> feat_s = (3 * feat_t - 7).requires_grad_()
        >>> loss = structural_loss(feat_s, feat_t, distance="ssim", **options)
        >>> loss.backward()
        >>> round(loss.item(), 5)
        0.0
    """
    feat_s = widened(feat_s)
    feat_t = feat_t.detach().to(feat_s.dtype)
    # Variances are differences of squares: half precision would leave nothing of them.
    with torch.autocast(feat_s.device.type, enabled=False):
        range_s, range_t = _range(feat_s.detach()), _range(feat_t)
        rows, columns = _matrices(feat_s, window, sigma)

        def compare(block_s: Tensor, block_t: Tensor) -> Tensor:
            x, y = _rescaled(block_s, *range_s), _rescaled(block_t, *range_t)
            if distance == "l1":
                return F.l1_loss(x, y, reduction="sum")
            if distance == "l2":
                return F.mse_loss(x, y, reduction="sum")
            similarity = _similarity(x, y, rows, columns, luminance=luminance, contrast=contrast, structure=structure)
            return (1 - similarity).sum() / 2

        def compare_fast(block_s: Tensor, block_t: Tensor) -> tuple[Tensor, Tensor]:
            x, y = _rescaled(block_s, *range_s), _rescaled(block_t, *range_t)
            value, gradient = _dissimilarity_with_gradient(x, y, rows, columns)
            return value, gradient / range_s[1]

        plain = distance == "ssim" and luminance == contrast == structure == 1
        if not torch.is_grad_enabled():
            feat_s = feat_s.detach()
        slopes = compare_fast if plain else _differentiated(compare)
        total: Tensor = _Blockwise.apply(feat_s, feat_t, compare, slopes, None if detach_range else range_s)
    return total / feat_s.numel()


class SSIM(Method):
    """Term ``feat``: :func:`structural_loss` summed over the levels."""

    name = "ssim"
    WEIGHTS: ClassVar = {"feat": "alpha"}

    def blocks(self, channels_s: int, channels_t: int, *, stride: int) -> nn.Module:
        """See :meth:`Method.blocks`."""
        adapter = nn.Conv2d(channels_s, channels_t, kernel_size=1) if self.spec.adapter else align(channels_s, channels_t)
        return nn.ModuleDict({"align": adapter})

    def level(self, block: Any, feat_s: Tensor, feat_t: Tensor, **_: Any) -> dict[str, Tensor]:
        """See :meth:`Method.level`."""
        return {"feat": structural_loss(block.align(feat_s), feat_t, **self.spec.comparison)}


class _Blockwise(torch.autograd.Function):
    """Sum of a comparison over blocks of channels, which it does not mix.

    The gradient is taken block by block on the way: it alone outlives the sum, and temporaries are as small as a block.
    """

    @staticmethod
    def forward(
        ctx: Any,
        feat_s: Tensor,
        feat_t: Tensor,
        compare: Compare,
        compare_with_gradient: CompareWithGradient,
        moving: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        total = feat_s.new_zeros(())
        if not ctx.needs_input_grad[0]:
            for block in channel_blocks(feat_s):
                total += compare(feat_s[:, block], feat_t[:, block])
            return total
        gradient = torch.empty_like(feat_s, memory_format=torch.contiguous_format)
        for block in channel_blocks(feat_s):
            value, gradient[:, block] = compare_with_gradient(feat_s[:, block], feat_t[:, block])
            total += value
        if moving is not None:
            _add_slope_of_range(gradient, feat_s, *moving)
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return grad * gradient, None, None, None, None


def _add_slope_of_range(gradient: Tensor, feat: Tensor, low: Tensor, extent: Tensor) -> None:
    """Add what the loss changes by way of the range, to the gradient at each image's first smallest and first largest value.

    With psi = (X - low) / (high - low) and G the gradient at a fixed range, the largest value gets - sum G psi, and the smallest
    sum G psi - sum G.
    """
    slopes, values = gradient.flatten(1), feat.flatten(1)
    shifts = slopes.sum(dim=1, keepdim=True)
    scales = (torch.linalg.vecdot(slopes, values)[:, None] - low.flatten(1) * shifts) / extent.flatten(1)
    slopes.scatter_add_(1, values.argmax(dim=1, keepdim=True), -scales)
    slopes.scatter_add_(1, values.argmin(dim=1, keepdim=True), scales - shifts)


def _differentiated(compare: Compare) -> CompareWithGradient:
    """The comparison and its gradient with respect to the first map, by automatic differentiation."""

    def with_gradient(block_s: Tensor, block_t: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            block_s = block_s.detach().requires_grad_()
            value = compare(block_s, block_t)
        return value.detach(), torch.autograd.grad(value, block_s)[0]

    return with_gradient


def _range(feat: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest value and extent of each image, ``(B, 1, 1, 1)``; the extent of a constant image is infinite."""
    low, high = (bound[:, None, None, None] for bound in feat.flatten(1).aminmax(dim=1))
    extent = high - low
    return low, extent.where(extent > torch.finfo(extent.dtype).tiny, torch.inf)


def _rescaled(feat: Tensor, low: Tensor, extent: Tensor) -> Tensor:
    return (feat - low) / extent


def _matrices(feat: Tensor, window: int, sigma: float) -> tuple[Tensor, Tensor]:
    """The Gaussian window as matrices of rows and columns, ``(H, H)`` and ``(W, W)``: a map filtered is rows X columns^T.

    They hold the reflected borders for maps of any size, and a gradient through them is deterministic, which one through
    reflected padding is not on a GPU.
    """
    taps = torch.arange(-(window // 2), window // 2 + 1, device=feat.device)
    weights = (-(taps.to(feat.dtype) ** 2) / (2 * sigma**2)).softmax(dim=0)

    def matrix(size: int) -> Tensor:
        positions = torch.arange(size, device=feat.device)
        period = max(2 * (size - 1), 1)
        sources = (positions[:, None] + taps) % period  # (size, window)
        sources = sources.minimum(period - sources)
        return ((sources[..., None] == positions) * weights[:, None]).sum(dim=1)  # (size, window, size) -> (size, size)

    return matrix(feat.shape[2]), matrix(feat.shape[3])


def _parts(x: Tensor, y: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    # Variances do not change with the origin: from the range's middle their squares are smaller, and lose fewer digits.
    x, y = x - 0.5, y - 0.5
    mean_x, mean_y, xx, yy, xy = rows @ torch.stack([x, y, x * x, y * y, x * y]) @ columns.T
    var_x, var_y = (xx - mean_x**2).clamp(min=0), (yy - mean_y**2).clamp(min=0)
    covariance = xy - mean_x * mean_y
    # The root has no gradient where a variance is 0.
    deviations = (var_x * var_y).clamp(min=torch.finfo(x.dtype).tiny).sqrt()
    mean_x, mean_y = mean_x + 0.5, mean_y + 0.5
    return (
        (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1),
        (2 * deviations + C2) / (var_x + var_y + C2),
        (covariance + C3) / (deviations + C3),
    )


def _similarity(x: Tensor, y: Tensor, rows: Tensor, columns: Tensor, *, luminance: int, contrast: int, structure: int) -> Tensor:
    """See :func:`ssim_map`.

    With equal exponents, contrast and structure merge without a root, since C2 = 2 C3. In terms of sum u = x + y and difference
    v = x - y, luminance and merged part then have one form, and four filtered maps do instead of five.
    """
    if contrast != structure:
        factors = zip(_parts(x, y, rows, columns), (luminance, contrast, structure), strict=True)
        return _product(factors)
    u, v = x + y - 1, x - y
    mean_u, mean_v, uu, vv = rows @ torch.stack([u, v, u * u, v * v]) @ columns.T
    var_u, var_v = (uu - mean_u**2).clamp(min=0), (vv - mean_v**2).clamp(min=0)
    return _product([(_agreement((mean_u + 1) ** 2, mean_v**2, 2 * C1), luminance), (_agreement(var_u, var_v, 2 * C2), contrast)])


def _agreement(both: Tensor, apart: Tensor, constant: float) -> Tensor:
    """(both - apart + constant) / (both + apart + constant)."""
    return 1 - 2 * apart / (both + apart + constant)


def _product(factors: Iterable[tuple[Tensor, int]]) -> Tensor:
    """Product of powers; exponents 0 and 1 cost nothing."""
    return reduce(torch.mul, [factor if exponent == 1 else factor**exponent for factor, exponent in factors if exponent])


def _dissimilarity_with_gradient(x: Tensor, y: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of (1 - SSIM) / 2 with all exponents 1, and its gradient with respect to x, as a formula.

    In the terms of :func:`_similarity`, and with r = apart / scale, scale = both + apart + constant, for luminance (1) and the
    merged part (2), each element is r1 + r2 - 2 r1 r2. It moves three fifths of the bytes of automatic differentiation.
    """
    maps = x.new_empty(4, *x.shape)
    u, v = torch.add(x, y, out=maps[0]).sub_(1), torch.sub(x, y, out=maps[1])
    torch.mul(maps[:2], maps[:2], out=maps[2:])
    mean_u, mean_v, uu, vv = rows @ maps @ columns.T
    var_u = uu.addcmul_(mean_u, mean_u, value=-1).clamp_(min=0)
    var_v = vv.addcmul_(mean_v, mean_v, value=-1).clamp_(min=0)
    mean, apart = mean_u + 1, mean_v * mean_v
    scale1, scale2 = torch.addcmul(apart, mean, mean).add_(2 * C1), (var_u + var_v).add_(2 * C2)
    r1, r2 = apart.div_(scale1), var_v.div_(scale2)
    value = (r1 + r2).addcmul_(r1, r2, value=-2).sum()

    # A slope by r becomes (1 - r) / scale of it by what is apart and -r / scale of it by what is both. Either is a square of
    # filtered maps, or a filtered square, whose own slope has a factor 2: it is in the slopes from the start, 2 - 4 r.
    slope1, slope2 = torch.rsub(r2, 2, alpha=4).div_(scale1), torch.rsub(r1, 2, alpha=4).div_(scale2)
    slopes = x.new_empty(3, *x.shape)
    both1, both2 = r1.mul_(slope1), torch.mul(r2, slope2, out=slopes[1])
    apart1, apart2 = slope1.sub_(both1), torch.sub(slope2, both2, out=slopes[2])
    torch.mul(mean_v, apart1.sub_(apart2), out=slopes[0]).addcmul_(mean_u, both2).addcmul_(mean, both1, value=-1)
    by_mean, by_uu, by_vv = rows.T @ slopes @ columns
    return value, by_mean.addcmul_(v, by_vv).addcmul_(u, by_uu, value=-1)
