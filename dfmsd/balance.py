"""Loss weights as shares of the detection loss: a factor for each term, measured once, before any training."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from mmengine.model import BaseModel

from dfmsd.errors import StudyError
from dfmsd.losses.base import CHANGED

if TYPE_CHECKING:
    from dfmsd.distiller import Distiller


@torch.no_grad()
def factors(distiller: Distiller, batches: Iterable[dict[str, Any]]) -> dict[str, float]:
    r"""What makes each term as large as the detection loss, with the distiller's weights as they are.

    The factor of term :math:`k` is the ratio of sums over the batches

    .. math::
        f_k = \frac{\sum_i L_{det}^{(i)}}{\sum_i L_k^{(i)}}

    with :math:`L_k` before its weight. Given to :class:`~dfmsd.distiller.Distiller`, it makes a weight of 1 mean "as large as the
    detection loss before training". The papers' absolute weights belong to their feature sizes; a share is how the same effort
    of tuning can be given to every method at another size. Nothing is trained in between, and the distiller stays as it was. The
    factor is a fixed number: a term that falls faster than the detection loss has a smaller share later on.

    Args:
        distiller: With the weights that training will start from, on its device.
        batches: Of the training data, as the data loader gives them.

    Returns:
        By the loss's name, as ``loss_mgd_rec``. A term on changed images has the factor of its method's first term, with which it
        shares the kind of sum: the published ratio of their weights holds. 1 for a term that is always 0.

    Raises:
        StudyError: if there is no batch, or a loss is not finite.

    Example:
        ::

            model = MODELS.build(config.model)
            model.init_weights()
            loader = Runner.build_dataloader(config.train_dataloader)
            config.model.factors = factors(model, itertools.islice(loader, 20))
    """
    weights = distiller.weights
    state, training = copy.deepcopy(distiller.state_dict()), distiller.training
    distiller.train()
    detection, sums = 0.0, dict.fromkeys(weights, 0.0)
    for batch in batches:
        losses = distiller(**distiller.data_preprocessor(batch, True), mode="loss")
        own = {name: value for name, value in losses.items() if name not in weights}
        detection += float(BaseModel.parse_losses(distiller, own)[0])
        for name, weight in weights.items():
            sums[name] += float(losses.get(name, 0.0)) / weight
    distiller.load_state_dict(state)
    distiller.train(training)
    if not detection:
        raise StudyError("factors: there is no detection loss to compare with: give at least one batch of the training data")
    if bad := [name for name, total in sums.items() if not math.isfinite(detection / total if total else detection)]:
        raise StudyError(f"factors: the loss is not finite before any training ({', '.join(bad)})")
    found = {name: detection / total if total else 1.0 for name, total in sums.items()}
    for method in distiller.methods_by_teacher[0]:
        first = f"loss_{method.name}_{next(iter(method.WEIGHTS))}"
        if first in found:
            found |= {f"loss_{method.name}_{term}": found[first] for term in CHANGED if term in method.WEIGHTS}
    return found
