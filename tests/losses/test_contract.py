"""What every method keeps: each that is registered, with every value of its switches, on every kind of head that it watches."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import product
from types import SimpleNamespace
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import Tensor, nn

from dfmsd import losses
from dfmsd.hyper import METHODS
from dfmsd.losses import Method
from dfmsd.losses.base import CHANGED, widened
from tests import fixtures_detectors
from tests.losses.helpers import IMAGE, LAYOUTS, method, run

Pyramid = dict[int, Tensor]
Change = Callable[[Tensor], Tensor]

STRIDES = (8, 16, 32, 64, 128)
CHANNELS_S, CHANNELS_T = 12, 16
BOXES = [torch.tensor([[3.0, 5, 30, 20], [12, 6, 20, 39]]), torch.tensor([[0.0, 0, 47, 9]])]
NO_BOXES = [torch.zeros(0, 4)] * 2
HALVES = (torch.bfloat16, torch.float16)
HEADS = ("retinanet_r50", "gfl_r101", "fcos_r50")

RANDOM = {"mgd", "amd-hide=random", "dmkd-hide=random", "dfmsd-hide=random"}
"""Draw their masks; the masks of the others follow from the teacher's attention."""
UNMOVED = {"pkd": r"align\.bias", "fgd": r"conv_mask\.bias", "dfmsd-sfa_inside=True": r"branch_..\.1\.2\.bias"}
"""Parameters without an effect: offsets before a standardisation or a softmax, which take them out again."""

network = cache(fixtures_detectors.network)


@dataclass(frozen=True)
class Variant:
    """A method with its specification's values but for one switch, and the kind of head that it watches."""

    id: str
    name: str
    changes: dict[str, Any] = field(default_factory=dict)
    head: str | None = None

    def belongs_to(self, names: set[str]) -> bool:
        return not names.isdisjoint({self.id, self.name})


def variants() -> Iterator[Variant]:
    for name, model in METHODS.items():
        watches = getattr(losses, model.__name__).watching is not Method.watching
        yield from [Variant(f"{name}-{head}", name, head=head) for head in HEADS] if watches else [Variant(name, name)]
        for key, info in model.model_fields.items():
            switch = get_args(info.annotation) if get_origin(info.annotation) is Literal else ()
            for value in (False, True) if info.annotation is bool else switch:
                if value != info.default:
                    yield Variant(f"{name}-{key}={value}", name, {key: value}, HEADS[0] if watches else None)


@pytest.fixture(params=variants(), ids=lambda variant: variant.id)
def variant(request: pytest.FixtureRequest) -> Variant:
    return request.param  # type: ignore[no-any-return]


class Subject:
    """A variant's module, between a student's and a teacher's head if it watches one.

    What starts at 0 is random, so that blocks that start as the identity have an effect. Weights in half precision leave a term in
    half precision as it is; those in float32 would widen it.
    """

    def __init__(
        self,
        variant: Variant,
        *,
        channels_s: int = CHANNELS_S,
        dtype: torch.dtype = torch.float32,
        weights: torch.dtype = torch.float32,
    ) -> None:
        strides = STRIDES if variant.head else STRIDES[:2]  # a head has them all
        wide = {"se_ratio": 2} if "se_ratio" in METHODS[variant.name].model_fields else {}  # or no channel may be left active
        options = {"strides": strides, "channels_s": channels_s, "channels_t": CHANNELS_T} | wide | variant.changes
        self.module = method(variant.name, **options).to(dtype)
        for parameter in self.module.parameters():
            if not parameter.any():
                nn.init.normal_(parameter)
        for name, buffer in self.module.named_buffers(recurse=False):
            setattr(self.module, name, buffer.to(weights))
        self.head: Any = None
        if variant.head:
            self.head, teacher = (head(variant.head, channels).to(dtype) for channels in (channels_s, CHANNELS_T))
            self.module.connect(SimpleNamespace(bbox_head=self.head), SimpleNamespace(bbox_head=teacher))

    def __call__(
        self, levels_s: Pyramid, levels_t: Pyramid, *, boxes: Sequence[Tensor] = BOXES, seed: int = 0
    ) -> dict[str, Tensor]:
        boxes = boxes[: len(levels_s[8])]
        with self.module.watching():
            if self.head:
                self.head.loss(tuple(widened(feat) for feat in levels_s.values()), [sample(one) for one in boxes])
        return run(self.module, levels_s, levels_t, boxes=boxes, seed=seed, enhanced={"aug": (levels_s, levels_t)})

    def maps(self, levels: Pyramid) -> dict[str, Tensor]:
        """Those of the levels that take part."""
        return {str(stride): levels[stride] for stride in self.module.strides}


def head(name: str, channels: int) -> Any:
    model = network(name)
    torch.manual_seed(channels)
    return MODELS.build(model.bbox_head | {"in_channels": channels, "stacked_convs": 4, "train_cfg": model.get("train_cfg")})


def sample(boxes: Tensor) -> DetDataSample:
    found = DetDataSample(metainfo={"img_shape": IMAGE, "pad_shape": IMAGE})
    found.gt_instances = InstanceData(bboxes=boxes, labels=torch.zeros(len(boxes), dtype=torch.long))
    return found


def pyramids(
    shape: tuple[int, int, int] = (2, 4, 5), *, channels_s: int = CHANNELS_S, change: Change = Tensor.float
) -> tuple[Pyramid, Pyramid]:
    """Random maps of student and teacher, changed; images and size are the same at all levels, and both ask for a gradient."""
    generator = torch.Generator().manual_seed(0)
    images, *size = shape
    levels_s, levels_t = (
        {stride: change(torch.randn(images, channels, *size, generator=generator)).requires_grad_() for stride in STRIDES}
        for channels in (channels_s, CHANNELS_T)
    )
    return levels_s, levels_t


def with_outliers(feat: Tensor) -> Tensor:
    """Squares of the largest overflow float16; they are exact in half precision, or attention would depend on their rounding."""
    return feat.masked_fill(feat > 2, 320.0)


def with_nan(feat: Tensor) -> Tensor:
    feat = feat.detach().clone()
    feat[-1, -1, -1, -1] = torch.nan
    return feat


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


def gradients(value: Tensor, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """By each input; 0 by those that the value does not depend on."""
    found = torch.autograd.grad(value, list(inputs.values()), retain_graph=True, materialize_grads=True)
    return dict(zip(inputs, found, strict=True))


def assert_finite(terms: dict[str, Tensor], inputs: dict[str, Tensor]) -> None:
    assert all(one.isfinite().all() for one in (terms | gradients(total(terms), inputs)).values())


def test_the_same_seed_and_inputs_give_the_same_loss_to_the_bit(variant: Variant) -> None:
    levels, subject = pyramids(), Subject(variant)
    first = subject(*levels, seed=1)
    torch.manual_seed(99)
    assert subject(*levels, seed=1) == first
    assert Subject(variant)(*levels, seed=1) == first


def test_another_seed_gives_another_loss_where_masks_are_drawn_and_only_there(variant: Variant) -> None:
    levels, subject = pyramids(), Subject(variant)
    assert (subject(*levels, seed=1) != subject(*levels, seed=2)) == variant.belongs_to(RANDOM)


@pytest.mark.parametrize("channels_s", [CHANNELS_S, CHANNELS_T])
def test_gradient_reaches_the_student_from_every_term_and_every_parameter_that_has_an_effect(
    variant: Variant, channels_s: int
) -> None:
    """In float64, where a gradient that cancels is far below all others."""
    levels_s, levels_t = pyramids(channels_s=channels_s, change=Tensor.double)
    subject = Subject(variant, channels_s=channels_s, dtype=torch.float64)
    terms, maps = subject(levels_s, levels_t), subject.maps(levels_s)
    for value in terms.values():
        assert all(one.any() for one in gradients(value, maps).values())
    found = gradients(total(terms), maps | dict(subject.module.named_parameters()))
    sizes = {name: one.abs().max().item() for name, one in found.items()}
    unmoved = {name for name, size in sizes.items() if size < 1e-12 * max(sizes.values())}
    assert unmoved == {name for name in sizes if re.search(UNMOVED.get(variant.id, "$^"), name)}


def test_no_gradient_reaches_a_teacher_that_asks_for_it(variant: Variant) -> None:
    (levels_s, levels_t), subject = pyramids(), Subject(variant)
    total(subject(levels_s, levels_t)).backward()
    assert all(feat.grad is None for feat in levels_t.values())


@pytest.mark.parametrize("boxes", [BOXES, NO_BOXES], ids=["boxes", "no-boxes"])
def test_a_teachers_nan_is_not_hidden_at_any_level(variant: Variant, boxes: list[Tensor]) -> None:
    (levels_s, levels_t), subject = pyramids(), Subject(variant)
    for stride in subject.module.strides:
        terms = subject(levels_s, levels_t | {stride: with_nan(levels_t[stride])}, boxes=boxes)
        assert all(value.isnan() for value in terms.values())


@pytest.mark.parametrize("boxes", [BOXES, NO_BOXES], ids=["boxes", "no-boxes"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 1), (2, 1, 7), (2, 4, 5)])
def test_small_and_constant_maps_leave_loss_and_gradient_finite(
    variant: Variant, shape: tuple[int, int, int], boxes: list[Tensor]
) -> None:
    """Also where student and teacher are equal."""
    subject, pairs = Subject(variant, channels_s=CHANNELS_T), [pyramids(shape, channels_s=CHANNELS_T)]
    for constants in ((0.0, 0.0), (7.0, 7.0), (0.0, 1.0), (7.0, 1.0)):
        changes = [partial(torch.full_like, fill_value=value) for value in constants]
        (levels_s, _), (_, levels_t) = (pyramids(shape, channels_s=CHANNELS_T, change=change) for change in changes)
        pairs.append((levels_s, levels_t))
    for levels_s, levels_t in pairs:
        inputs = subject.maps(levels_s) | dict(subject.module.named_parameters())
        assert_finite(subject(levels_s, levels_t, boxes=boxes), inputs)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("change", [Tensor.float, with_outliers], ids=["normal", "outliers"])
@pytest.mark.parametrize("autocast", [True, False], ids=["autocast", "half"])
def test_half_precision_is_close_to_float32_and_leaves_the_gradient_finite(
    variant: Variant, autocast: bool, change: Change, dtype: torch.dtype
) -> None:
    """Maps in half precision, and maps in float32 under autocast. Within 1 %: bfloat16 keeps 8 bits of each value."""
    levels, subject = pyramids(change=change), Subject(variant, weights=dtype)
    half_s, half_t = levels if autocast else pyramids(change=lambda feat: change(feat).to(dtype))
    with torch.autocast("cpu", dtype=dtype, enabled=autocast):
        half = subject(half_s, half_t)
    assert {value.dtype for value in half.values()} == {torch.float32}
    plain = {name: value.item() for name, value in subject(*levels).items()}
    assert {name: value.item() for name, value in half.items()} == pytest.approx(plain, rel=0.01)
    assert_finite(half, subject.maps(half_s))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_and_gradients_do_not_depend_on_the_maps_memory_layout(variant: Variant, layout: str) -> None:
    """In float64, where another order of the same additions is far below a gradient that goes astray."""
    results = []
    for change in (Tensor.contiguous, LAYOUTS[layout]):
        levels_s, levels_t = pyramids(change=lambda feat, change=change: change(feat.double()))  # type: ignore[misc]
        subject = Subject(variant, dtype=torch.float64)
        terms, inputs = subject(levels_s, levels_t), subject.maps(levels_s) | dict(subject.module.named_parameters())
        results.append((terms, gradients(total(terms), inputs)))
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-12)


def weights_on(name: str) -> Iterator[tuple[dict[str, float], set[str]]]:
    """Every choice of weights that are 0, and the terms that are left on."""
    terms: dict[str, str] = dict(getattr(losses, METHODS[name].__name__).WEIGHTS)
    fields = sorted(set(terms.values()))
    for chosen in product((0.0, 1.0), repeat=len(fields)):
        weights = dict(zip(fields, chosen, strict=True))
        yield weights, {term for term, field in terms.items() if weights[field]}


@pytest.mark.parametrize("channels_s", [CHANNELS_S, CHANNELS_T])
@pytest.mark.parametrize("changed", [(), ("aug",), CHANGED], ids=str)
@pytest.mark.parametrize("name", [name for name in METHODS if name != "crosskd"])
def test_a_term_of_weight_0_leaves_nothing_behind_that_gets_no_gradient(
    name: str, changed: tuple[str, ...], channels_s: int
) -> None:
    """Or DDP would wait for it. The coarsest level has no semantic alignment; a stage may have no changed images."""
    strides = (8, 64)
    wide = {"se_ratio": 2} if "se_ratio" in METHODS[name].model_fields else {}
    levels_s, levels_t = pyramids(channels_s=channels_s)
    for weights, on in weights_on(name):
        module = method(name, channels_s=channels_s, channels_t=CHANNELS_T, strides=strides, changed=changed, **wide, **weights)
        terms = run(module, levels_s, levels_t, boxes=BOXES, enhanced=dict.fromkeys(changed, (levels_s, levels_t)))
        assert set(terms) == on - (set(CHANGED) - set(changed))
        if terms:
            total(terms).backward()
        assert all(parameter.grad is not None for parameter in module.parameters())


def test_crosskds_terms_can_be_off() -> None:
    levels = pyramids()
    for weights, on in weights_on("crosskd"):
        assert set(Subject(Variant("crosskd", "crosskd", weights, HEADS[0]))(*levels)) == on
