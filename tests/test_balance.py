"""Weights as shares of the detection loss: matched by hand-computed ratios, then held."""

from __future__ import annotations

import torch
import torch.multiprocessing as mp
from torch import Tensor, distributed

from dfmsd.balance import ShareBalance


def step(balance: ShareBalance, detection: float, *, weight: float = 1.0, **values: float) -> dict[str, float]:
    """One training step with terms of these unweighted values."""
    terms = {name: torch.tensor(weight * value) for name, value in values.items()}
    weights = {name: torch.tensor(weight) for name in values}
    return {name: value.item() for name, value in balance(torch.tensor(detection), terms, weights).items()}


def test_factor_is_the_running_ratio_of_sums() -> None:
    balance = ShareBalance(["a"], iterations=3)
    assert step(balance, 6.0, a=2.0)["a"] == 6.0  # 6 / 2
    assert step(balance, 2.0, a=6.0)["a"] == 6.0  # (6 + 2) / (2 + 6) = 1
    assert step(balance, 4.0, a=16.0)["a"] == 8.0  # 12 / 24
    assert balance.factor("a").item() == 0.5


def test_factor_is_held_after_its_iterations() -> None:
    balance = ShareBalance(["a"], iterations=1)
    step(balance, 6.0, a=2.0)
    assert step(balance, 1000.0, a=1.0)["a"] == 3.0


def test_weight_is_the_share() -> None:
    balance = ShareBalance(["a", "b"], iterations=2)
    first = step(balance, 5.0, weight=0.25, a=40.0, b=0.001)
    assert first["a"] == 1.25
    assert abs(first["b"] - 1.25) < 1e-6


def test_terms_are_matched_apart_and_from_where_each_appears() -> None:
    """A term that appears late is compared with the detection loss of its own steps."""
    balance = ShareBalance(["a", "b"], iterations=2)
    step(balance, 8.0, a=2.0)
    step(balance, 4.0, a=2.0, b=1.0)
    assert balance.factor("a").item() == 3.0
    assert balance.factor("b").item() == 4.0


def test_a_term_like_another_has_its_factor_whatever_its_own_size() -> None:
    balance = ShareBalance(["a", "b"], iterations=1, like={"b": "a"})
    assert step(balance, 8.0, a=2.0, b=100.0) == {"a": 8.0, "b": 400.0}
    assert balance.factor("b") == balance.factor("a") == 4.0


def test_weight_zero_and_value_zero_have_factor_one() -> None:
    balance = ShareBalance(["a", "b"], iterations=5)
    assert step(balance, 8.0, weight=0.0, a=2.0)["a"] == 0.0
    assert step(balance, 8.0, b=0.0)["b"] == 0.0
    assert (balance.factor("a").item(), balance.factor("b").item()) == (1.0, 1.0)


def test_evaluation_observes_nothing() -> None:
    balance = ShareBalance(["a"], iterations=5).eval()
    assert step(balance, 6.0, a=2.0)["a"] == 2.0
    assert balance.seen.item() == 0


def test_gradient_passes_through_the_term_and_not_through_the_factor() -> None:
    value, detection = torch.tensor(2.0, requires_grad=True), torch.tensor(6.0, requires_grad=True)
    balance = ShareBalance(["a"], iterations=1)
    balance(detection, {"a": value * 0.5}, {"a": torch.tensor(0.5)})["a"].backward()
    assert value.grad is not None
    assert value.grad.item() == 0.5 * 3.0
    assert detection.grad is None


def test_matching_goes_on_from_a_checkpoint() -> None:
    whole, first, second = (ShareBalance(["a"], iterations=3) for _ in range(3))
    for detection, value in ((6.0, 2.0), (2.0, 6.0), (4.0, 16.0), (9.0, 1.0)):
        step(whole, detection, a=value)
    step(first, 6.0, a=2.0)
    second.load_state_dict(first.state_dict())
    for detection, value in ((2.0, 6.0), (4.0, 16.0), (9.0, 1.0)):
        step(second, detection, a=value)
    assert torch.equal(whole.factor("a"), second.factor("a"))
    assert second.seen.item() == 3


def _process(rank: int, store: str, factors: Tensor) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    balance = ShareBalance(["a"], iterations=1)
    step(balance, [2.0, 10.0][rank], a=[1.0, 2.0][rank])
    factors[rank] = balance.factor("a")
    distributed.destroy_process_group()


def test_processes_agree_on_the_ratio_of_their_means(tmp_path: object) -> None:
    """(2 + 10) / (1 + 2) = 4, where their own ratios are 2 and 5."""
    factors = torch.zeros(2).share_memory_()
    mp.start_processes(_process, args=(f"{tmp_path}/store", factors), nprocs=2, start_method="fork")
    assert factors.tolist() == [4.0, 4.0]
