"""Each method teaches: over a few iterations its term falls, and nothing else breaks."""

from __future__ import annotations

import copy
from pathlib import Path
from statistics import fmean

import pytest
import torch
from mmengine.model import BaseModel

from dfmsd.balance import factors
from dfmsd.distiller import Distiller
from dfmsd.hyper import METHODS
from dfmsd.study import scales
from tests.fixtures_detectors import batch, checkpoint, network

ITERATIONS = 20


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_the_term_falls_and_the_teacher_stays(name: str, tmp_path: Path) -> None:
    teacher = "retinanet_r101" if name == "crosskd" else "gfl_x101"
    method = {"type": METHODS[name].__name__} | scales.get("smoke").methods[name]
    torch.manual_seed(0)
    networks, file = (network("retinanet_r50"), network(teacher), [method]), checkpoint(teacher, tmp_path)
    untaught = Distiller(*networks, teacher_checkpoint=file)
    untaught.init_weights()
    shares = factors(untaught, [batch(images=4, seed=seed) for seed in range(3)])
    model = Distiller(*networks, teacher_checkpoint=file, factors=shares)
    model.init_weights()
    model.train()
    before = copy.deepcopy(model.teachers[0].state_dict())
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    distilled, own = [], []
    for iteration in range(ITERATIONS):
        losses = model(**model.data_preprocessor(batch(images=4, seed=iteration), True), mode="loss")
        total, logs = BaseModel.parse_losses(model, losses)
        optimiser.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 35.0)
        optimiser.step()
        terms = [float(value.detach()) for key, value in logs.items() if key.startswith(f"loss_{name}_")]
        distilled.append(sum(terms))
        own.append(float(total.detach()) - sum(terms))
    assert all(map(torch.isfinite, torch.tensor(own)))
    assert fmean(distilled[-5:]) < fmean(distilled[5:10])
    # Statistics of its normalisation count, too: in training mode they would have moved.
    for part, value in model.teachers[0].state_dict().items():
        assert torch.equal(value, before[part]), part
