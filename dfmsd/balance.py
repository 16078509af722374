"""Loss weights as shares of the detection loss: matched over the first iterations of a run, then held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn


class ShareBalance(nn.Module):
    r"""Scale each term so that a weight of 1 makes it as large as the detection loss.

    Over the first ``iterations`` training steps the factor of term :math:`k` is the running ratio of sums

    .. math::
        f_k = \frac{\sum_i L_{det}^{(i)}}{\sum_i L_k^{(i)}}

    with :math:`L_k` before its weight; afterwards it stays. The papers' absolute weights belong to their feature sizes, and a fixed
    share is how the same effort of tuning can be given to every method at the miniature scales. The factors are buffers: they
    travel with the checkpoint, so that a resumed run goes on with the same weights. Only the factor is held: a term that falls
    faster than the detection loss has a smaller share later on.

    Args:
        names: Names of the terms.
        iterations: Number of steps to match over.
        like: Terms that have the factor of another, by name: between the two the ratio of their weights stays what it is.

    Example:
        >>> balance = ShareBalance(["loss_mgd_rec"], iterations=1)
        >>> terms = {"loss_mgd_rec": torch.tensor(0.5)}
        >>> balance(torch.tensor(3.0), terms, {"loss_mgd_rec": torch.tensor(0.25)})["loss_mgd_rec"].item()
        0.75
    """

    seen: Tensor
    detection_sum: Tensor
    term_sum: Tensor

    def __init__(self, names: Sequence[str], iterations: int, like: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.index = {name: i for i, name in enumerate(names)}
        self.like = dict(like or {})
        self.iterations = iterations
        self._matched = False  # known to the host: it need not wait for the device in every step
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
        self.register_buffer("detection_sum", torch.zeros(len(self.index)))
        self.register_buffer("term_sum", torch.zeros(len(self.index)))

    def forward(self, detection: Tensor, terms: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Scale weighted terms.

        Args:
            detection: The student's own loss, scalar.
            terms: Weighted terms.
            weights: The weight that each of them carries.
        """
        if self.training and not self._matched:
            self._matched = bool(self.seen >= self.iterations)
            if not self._matched:
                self._observe(detection, terms, weights)
        return {name: value * self.factor(name) for name, value in terms.items()}

    def factor(self, name: str) -> Tensor:
        """The factor of a term as matched so far; 1 for a term that was never seen or is always 0."""
        i = self.index[self.like.get(name, name)]
        return torch.where(self.term_sum[i] > 0, self.detection_sum[i] / self.term_sum[i].clamp(min=1e-30), 1.0)

    @torch.no_grad()
    def _observe(self, detection: Tensor, terms: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
        for name, value in terms.items():
            if weights[name] > 0:
                pair = torch.stack([detection.detach(), value.detach() / weights[name]]).float()
                all_reduce(pair, op="mean")
                self.detection_sum[self.index[name]] += pair[0]
                self.term_sum[self.index[name]] += pair[1]
        self.seen += 1
