"""What every public function keeps: it needs torch alone, computes in float32 or wider, and sees no memory layout."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dfmsd import losses
from tests.losses.calls import CALLS, maker, outputs
from tests.losses.helpers import LAYOUTS

Change = Callable[[torch.Tensor], torch.Tensor]

ROOT = Path(__file__).parents[2]


def python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_every_exported_function_is_called_here() -> None:
    assert set(CALLS) == {name for name, value in vars(losses).items() if inspect.isfunction(value)}


def test_torch_is_enough() -> None:
    """With the import of all OpenMMLab libraries blocked: the functions, their examples, and the book's step in any training loop.

    In that step student and adapter learn, and the teacher does not; the masked loss reaches all that it learns with.
    """
    step, masked = re.findall(r"```python\n(.*?)```", (ROOT / "book" / "loop.md").read_text(), re.S)
    code = f"""
import doctest
import importlib
import pkgutil
import sys


class Blocked:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("mmcv", "mmdet", "mmengine"):
            raise ModuleNotFoundError(name)


sys.meta_path.insert(0, Blocked())
from dfmsd.losses import dmkd_loss, pearson_loss, spatial_attention
from tests.losses import calls
calls.modules_without_mmdet()
names = {{one.name for one in pkgutil.iter_modules(sys.modules["dfmsd.losses"].__path__)}} - {{"heads"}}
modules = [importlib.import_module("dfmsd.losses." + name) for name in names]
found = [doctest.testmod(module, optionflags=doctest.ELLIPSIS) for module in modules]
print(sum(one.attempted for one in found) > 50, any(one.failed for one in found))
torch = calls.torch
torch.manual_seed(0)
{step}
print(teacher[0].weight.grad, all(one.grad.abs().sum() > 0 for one in (student[0].weight, align.weight)))
student(images)
print(pearson_loss(align(feats["student"]), feats["teacher"]).item() < distilled.item())
{masked}
print(teacher[0].weight.grad, all(one.grad.abs().sum() > 0 for one in (fusion, *branches.parameters())))
"""
    assert python(code).split() == ["True", "False", "None", "True", "True", "None", "True"]


def test_importing_the_losses_takes_no_mmdet_where_there_is_one() -> None:
    code = """
        import sys
        import dfmsd.losses
        print(sorted({"mmcv", "mmdet", "mmengine"} & set(sys.modules)))
    """
    assert python(code) == "[]"


@pytest.mark.parametrize("change", [torch.Tensor.bfloat16, torch.Tensor.half], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("name", CALLS)
def test_half_precision_changes_inputs_but_not_the_arithmetic(name: str, change: Change) -> None:
    """The maps are exact in both, so values are those of float32 to the bit; a gradient comes back in the maps' dtype."""
    half, gradient = outputs(name, change)
    plain, expected = outputs(name)
    for one, other in zip(half, plain, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    torch.testing.assert_close(gradient.float(), expected, rtol=2**-7, atol=1e-3)


@pytest.mark.parametrize("name", CALLS)
def test_float64_stays_float64(name: str) -> None:
    for one, other in zip(outputs(name, torch.Tensor.double)[0], outputs(name)[0], strict=True):
        assert one.dtype == (torch.bool if other.dtype == torch.bool else torch.float64)


@pytest.mark.parametrize("name", CALLS)
def test_no_loss_passes_a_gradient_to_the_teacher(name: str) -> None:
    """Losses are what returns scalars."""
    make = maker()
    feat_s, feat_t = make(2, 4, 5, 6).requires_grad_(), make(2, 4, 5, 6).requires_grad_()
    found = CALLS[name](feat_s, feat_t, make)
    values = [found] if isinstance(found, torch.Tensor) else list(found)
    if all(value.ndim == 0 for value in values):
        torch.stack(values).sum().backward()
        assert feat_s.grad is not None
        assert feat_t.grad is None


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", CALLS)
def test_memory_layout_does_not_matter(name: str, layout: str) -> None:
    def change(feat: torch.Tensor) -> torch.Tensor:
        return LAYOUTS[layout](feat.double()) if feat.ndim == 4 else feat.double()

    torch.testing.assert_close(outputs(name, change), outputs(name, torch.Tensor.double), rtol=1e-10, atol=1e-12)
