"""A short distillation in the reader's own process, and what it looks like from inside.

The study proper is :mod:`dfmsd.study.run`: it evaluates, records and exports. Here the same config is run for a few hundred
iterations, nothing is evaluated, and what comes back is the :class:`~dfmsd.distiller.Distiller` itself, before and after.
"""

from __future__ import annotations

import contextlib
import copy
import io
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from IPython.display import display
from matplotlib.figure import Figure
from mmdet.models.detectors import BaseDetector
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn

import dfmsd.distiller
import dfmsd.study.hooks  # noqa: F401  (registers the hooks)
from dfmsd import checkpoints, hyper
from dfmsd.augment import enhance
from dfmsd.distiller import Distiller
from dfmsd.errors import StudyError
from dfmsd.hyper import METHODS, MethodSpec
from dfmsd.levels import strides
from dfmsd.losses import amd_mask, dual_masks, random_mask
from dfmsd.report import canvas
from dfmsd.report.figures import described
from dfmsd.report.images import first, magnitude, pictures
from dfmsd.report.methods import SEED
from dfmsd.stages import Enhance
from dfmsd.study import build, code, data, exports, files, pages, paths, plan, records, run, scales, zoo
from dfmsd.study.hooks import read_curve
from dfmsd.study.machine import is_live
from dfmsd.study.pages.short import ExplorePage, ShortPage
from dfmsd.study.rows import chain, teacher_of
from dfmsd.study.spec import RunSpec, StartSpec

WARMUP = 0.2
"""Share of a short training that its warm-up may take."""

RATE = 0.5
"""Of the scale's learning rate, for a student: beside a teacher this young DFMSD's reconstruction diverges at the whole one."""

START = 500
"""Images whose crops a start learns from that is pretrained here."""


@dataclass(frozen=True)
class Live:
    """A distillation just done."""

    before: Distiller
    after: Distiller
    curve: list[dict[str, float]]
    story: pd.DataFrame
    """How both networks were trained, a column each."""


def planned(page: ShortPage) -> list[RunSpec]:
    """The run of each of a page's rows: a student that learns from one teacher for a short while.

    The teacher is the study's own where it has been trained on this machine; else one trained for a short while, too. Likewise the
    starts of their backbones.

    Raises:
        StudyError: if the scale is too large for a notebook, or the page's level or image is not there.
    """
    if page.scale not in ("smoke", "mini"):
        raise StudyError(f"scale = {page.scale!r}: a training in a notebook takes mini or smoke")
    scale = scales.get(page.scale)
    teacher = teacher_of(page.teacher, scale)
    assert isinstance(teacher, RunSpec)
    taught = teacher if exports.to_be_had(teacher) else _short(teacher, page.teacher_epochs)
    runs = [_taught(chain(row, scale, scale.seeds[0])[0], taught, page.epochs) for row in page.rows()]
    if isinstance(page, ExplorePage) and page.stride not in (there := _strides(runs[0])):
        raise StudyError(f"stride = {page.stride}: {page.method} works on strides {', '.join(map(str, there))} of this pair")
    if isinstance(page, ExplorePage) and page.image >= (count := scale.data.val or 0):
        raise StudyError(f"image = {page.image}: the validation images are 0 to {count - 1}")
    return runs


def _taught(full: RunSpec, teacher: RunSpec, epochs: float) -> RunSpec:
    assert full.stage is not None
    enhance = full.stage.enhance and full.stage.enhance.model_copy(update={"weak": teacher})
    balance = full.stage.balance and full.stage.balance.model_copy(update={"teacher": teacher})
    links = {"teacher": teacher, "enhance": enhance, "balance": balance}
    slower = full.schedule.model_copy(update={"lr": RATE * full.schedule.lr})
    return _short(full.model_copy(update={"schedule": slower}), epochs, stage=full.stage.model_copy(update=links))


def _strides(student: RunSpec) -> list[int]:
    """The levels that student and teacher share, as far as the method works on them."""
    assert student.stage is not None
    with _silence():
        own, other = (set(strides(build.built(one.network, 1))) for one in (student, student.stage.teacher))
    wanted = student.stage.methods[0].strides
    return sorted(stride for stride in own & other if wanted is None or stride in wanted)


def _short(full: RunSpec, epochs: float, **changes: Any) -> RunSpec:
    schedule = full.schedule.model_copy(update={"max_iters": None, "epochs": 1})
    iterations = max(1, round(epochs * plan.iterations(full.model_copy(update={"schedule": schedule}))))
    warmup = min(full.schedule.warmup, int(WARMUP * iterations))
    short = full.schedule.model_copy(update={"max_iters": iterations, "warmup": warmup})
    fields = {name: getattr(full, name) for name in RunSpec.model_fields}
    return RunSpec(**(fields | changes | {"schedule": short, "start": _start(full.start)}))


def _start(full: StartSpec | None) -> StartSpec | None:
    if full is None or exports.to_be_had(full):
        return full
    few = {"train": min(START, full.data.train), "val": min(START, full.data.val)}
    return full.model_copy(update={"data": full.data.model_copy(update=few)})


def teacher(student: RunSpec) -> BaseDetector:
    """A run's teacher, trained for a short while if there is none, in eval mode; see :func:`distil`."""
    assert student.stage is not None and isinstance(student.stage.teacher, RunSpec)
    classes = data.ensure(student.data, progress=is_live()).classes
    with _silence():
        network = build.built(student.stage.teacher.network, len(classes))
    checkpoints.load(network, _teacher(student.stage.teacher)[0])
    return network.eval()


def distil(student: RunSpec, *, method: Mapping[str, Any] | None = None) -> Live:
    """Train what :func:`planned` says, in this process: the starts and the teacher if there are none yet, then the student.

    The student's training is never skipped. A start is kept like a run of the study. A short-trained teacher is kept in
    ``explore/`` of :func:`dfmsd.study.paths.runs` as long as the code behind it stays the same. Masking enhancement goes by the
    ground-truth boxes, as a teacher this young finds none.

    Args:
        student: The run.
        method: Config of a method that stands in the place of the run's, such as one that a notebook has registered.

    Raises:
        StudyError: if a loss is not finite, or the teacher's checkpoint is damaged.
    """
    assert student.stage is not None and isinstance(student.stage.teacher, RunSpec)
    weights, teacher_story = _teacher(student.stage.teacher)
    before, after, curve, story = _fit(student, weights, method)
    assert isinstance(before, Distiller) and isinstance(after, Distiller)
    both = pd.DataFrame({plan.describe(student.stage.teacher): teacher_story, plan.describe(student): story})
    return Live(before, after, curve, both)


def _teacher(teacher: RunSpec) -> tuple[str, dict[str, Any]]:
    """The file of a teacher's weights, and how it was trained; it is trained here if there are none, by one process at a time."""
    if teacher.schedule.max_iters is None:
        exports.take(teacher)
        record = records.read(paths.runs() / teacher.key / "record.json")
        origin = f"the study's, AP {record.metrics.get('AP', 0.0):.1f}"
        return run.weights(teacher), _story(origin, plan.iterations(teacher), record.provenance.seconds, record.curve)
    file = paths.runs() / "explore" / f"{teacher.key}-{code.digest(teacher)}.pth"
    with files.locked(file.with_suffix(".lock")):
        if file.exists():
            with _silence():
                return str(file), checkpoints.read(file)["story"] | {"origin": "kept from an earlier training"}
        _, after, _, story = _fit(teacher, None)
        stream = io.BytesIO()
        torch.save({"state_dict": after.state_dict(), "story": story}, stream)
        files.write_atomic(file, stream.getvalue())
    return str(file), story


def _story(origin: str, iterations: int, seconds: float, curve: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    loss = {"first loss": round(curve[0]["loss"], 3), "last loss": round(curve[-1]["loss"], 3)}
    return {"origin": origin, "iterations": iterations, "seconds": round(seconds, 1)} | loss


def _fit(
    spec: RunSpec, teacher: str | None, method: Mapping[str, Any] | None = None
) -> tuple[nn.Module, nn.Module, list[dict[str, float]], dict[str, Any]]:
    """Train a run in this process, without evaluation or checkpoints: the network before and after, the curve, the story."""
    paths.runs().mkdir(parents=True, exist_ok=True)
    if spec.start is not None:
        exports.take(spec.start)
        if not exports.are_here(spec.start.key):
            data.ensure(spec.start.data, progress=is_live())
            with progress(1, f"{plan.describe(spec.start)}, in some minutes") as bar, _silence():
                run.run(spec.start)
                bar.update()
    with tempfile.TemporaryDirectory(prefix="explore-", dir=paths.runs()) as place:
        config = _config(spec, Path(place), teacher, method)
        watch = _Watch(plan.describe(spec) if method is None else f"{zoo.label(spec.name)}, {method['type']}")
        with _silence():
            runner = Runner.from_cfg(config)
            runner.register_hook(watch, priority="LOWEST")
            start = time.monotonic()
            runner.train()
            seconds = time.monotonic() - start
        curve = read_curve(Path(place) / "curve.jsonl")
    return watch.before.cpu(), runner.model.cpu(), curve, _story("trained in this notebook", runner.iter, seconds, curve)


def _config(spec: RunSpec, folder: Path, teacher: str | None, method: Mapping[str, Any] | None) -> Config:
    def config(one: RunSpec) -> Config:
        made = build.run_config(
            one,
            data.ensure(one.data),
            folder,
            teacher_checkpoints=[teacher] if teacher else [],
            start_checkpoint=run.weights(one.start) if one.start else None,
        )
        if method is not None:
            made.model.methods = [dict(method)]
        return made

    def measured(before: RunSpec) -> dict[str, float]:
        taken.update(run.measured_factors(config(before), before.seed))
        return defaultdict(float, taken)  # of a method in the place of the run's, whose own terms are not among them

    settings = config(spec)
    taken: dict[str, float] = {}
    if spec.stage is not None:
        with _silence():
            factors = run.factors_of(spec, measured)
        settings.model.factors = factors if method is None else taken or None
    if spec.stage is not None and spec.stage.enhance is not None:
        settings.model.enhance.ratios = None
    settings.update({"val_dataloader": None, "val_cfg": None, "val_evaluator": None, "log_level": "ERROR"})
    settings.default_hooks.update({"checkpoint": None, "logger": None})
    return settings


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the chatter of libraries, and the paths in it, out of the notebook; a display is not printed and gets through."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def progress(total: int, title: str) -> Any:
    """A bar that shows how far something is: a widget where there are some, else on the error output."""
    if is_live():
        from tqdm.auto import tqdm
    else:
        from tqdm.std import tqdm
    return tqdm(total=total, desc=title, mininterval=1.0)


class _Watch(Hook):
    """Keep the network as it was before the first step, and show progress."""

    before: nn.Module

    def __init__(self, title: str) -> None:
        self.title = title

    def before_train(self, runner: Any) -> None:
        """Weights are initialised by now."""
        self.before = copy.deepcopy(runner.model)
        self.bar = progress(runner.max_iters, self.title)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """One more iteration."""
        self.bar.update()

    def after_train(self, runner: Any) -> None:
        """The bar stays as it is."""
        self.bar.close()


@torch.no_grad()
def look(teacher: BaseDetector, page: ExplorePage) -> Figure:
    """What a page's teacher finds in the page's image, its features there, what the method hides by them, and the enhanced image.

    Args:
        teacher: In eval mode.
        page: Its method, ratio and theta count; the student does not.
    """
    (run,) = planned(page)
    assert run.stage is not None
    (shown,) = pictures(run, [page.image])
    options = Enhance(theta=page.theta)
    sample = DetDataSample(metainfo={"img_shape": shown.image.shape[1:], "ori_shape": shown.image.shape[1:]})
    sample.set_metainfo({"scale_factor": (1.0, 1.0)})
    batch = teacher.data_preprocessor({"inputs": [shown.image], "data_samples": [sample]})
    found = teacher.predict(batch["inputs"], batch["data_samples"])[0].pred_instances
    boxes = found.bboxes[found.scores >= options.score].cpu()
    feat = dict(zip(strides(teacher), teacher.extract_feat(batch["inputs"]), strict=True))[page.stride].cpu()
    hidden = _hidden(run.stage.methods[0], feat)
    ratio = shown.ratio_of(boxes)
    fields = options.model_dump(exclude={"theta", "score", "noise_probability"})
    enhanced = enhance(shown.image, ratio, theta=page.theta, noise_probability=1.0, **fields, generator=_seeded())
    figure, axes = canvas.grid(1, 4)
    canvas.draw_image(axes[0, 0], canvas.displayed(shown.image), f"{len(boxes) or 'no'} boxes of the teacher", boxes=boxes)
    canvas.draw_map(axes[0, 1], magnitude(feat), f"its features, stride {page.stride}")
    masked = canvas.displayed(shown.image) if hidden is None else canvas.covered(shown.image, hidden, page.stride)
    share = 0.0 if hidden is None else hidden.float().mean().item()
    canvas.draw_image(axes[0, 2], masked, f"{page.method} hides {share:.0%}")
    change = f"{ratio:.0%} < θ: noise" if ratio < page.theta else f"{ratio:.0%} ≥ θ: a crop"
    canvas.draw_image(axes[0, 3], canvas.displayed(enhanced), change)
    words = (
        f"An image in which the teacher finds {len(boxes)} objects, which cover {ratio:.0%} of it; a heat map of the teacher's "
        f"features; the image with the cells dark that {page.method} hides, {share:.0%}; and the image after masking enhancement."
    )
    return described(figure, words)


def _hidden(method: MethodSpec, feat_t: Tensor) -> Tensor | None:
    """The positions that a method hides by a teacher's map; None if it hides none."""
    if isinstance(method, hyper.DMKD):
        return dual_masks(feat_t, **method.masking, generator=_seeded())[0]
    if isinstance(method, hyper.AMD):
        return amd_mask(feat_t, **method.masking, generator=_seeded())
    return random_mask(feat_t, ratio=method.ratio, generator=_seeded()) if isinstance(method, hyper.MGD) else None


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(SEED)


class Pick:
    """:func:`look`, with pickers of image, level, method, ratio and theta where Jupyter runs live with ipywidgets.

    Args:
        teacher: In eval mode.
        page: What is picked at first, and all there is where no reader picks.
    """

    def __init__(self, teacher: BaseDetector, page: ExplorePage) -> None:
        self.teacher = teacher
        self.page = page
        """With what is picked."""

    def picked(self, **chosen: Any) -> None:
        """Take other values, and show them; or say in one line why they cannot be, and show those that still count."""
        try:
            page = pages.validate(ExplorePage, self.page.model_dump() | chosen)
            picture = look(self.teacher, page)
        except StudyError as error:
            print(f"{error}. What was picked before still counts ({self.page.method}, and this picture):")
            picture = look(self.teacher, self.page)
        else:
            self.page = page
        display(picture)

    def _methods(self) -> list[str]:
        """Those that can teach this student by this teacher."""
        found = []
        for name in METHODS:
            with contextlib.suppress(StudyError):
                found.append(pages.validate(ExplorePage, self.page.model_dump() | {"method": name, "ratio": None}).method)
        return found

    def _ipython_display_(self) -> None:
        if not is_live():
            display(look(self.teacher, self.page))
            return
        ipywidgets = import_module("ipywidgets")
        (run,) = planned(self.page)
        shares = {place / 20 for place in range(21)} | ({self.page.ratio} if self.page.ratio else set())
        ratios = {"the method's own": None} | {f"{share:.0%}": share for share in sorted(shares)}
        levels, last = _strides(run), len(first(scales.get(self.page.scale), 100)) - 1
        box = ipywidgets.interactive(
            self.picked,
            image=ipywidgets.IntSlider(self.page.image, 0, last, continuous_update=False),
            stride=ipywidgets.Dropdown(options=levels, value=self.page.stride),
            method=ipywidgets.Dropdown(options=self._methods(), value=self.page.method),
            # By its place: a value of None would show nothing.
            ratio=ipywidgets.Dropdown(options=ratios, index=list(ratios.values()).index(self.page.ratio)),
            theta=ipywidgets.FloatSlider(self.page.theta, min=0.0, max=1.0, step=0.05, continuous_update=False),
        )
        display(box)


def losses(live: Live) -> pd.DataFrame:
    """The student's curve, a column a part: its ``detection`` loss, and each term of the method by its name; by iteration."""
    prefix = f"loss_{live.after.methods_by_teacher[0][0].name}_"
    frame = pd.DataFrame(live.curve).set_index("iteration")
    terms = frame.filter(regex=f"^{prefix}").rename(columns=lambda name: str(name).removeprefix(prefix))
    return pd.concat([(frame["loss"] - terms.sum(axis=1)).rename("detection"), terms], axis=1)


@torch.no_grad()
def reconstruction(distiller: Distiller, feat_s: Tensor, feat_t: Tensor, stride: int) -> Tensor | None:
    """What a method's blocks make of the masked student's map ``(1, C_s, H, W)`` on a level; None if it hides nothing."""
    method: Any = distiller.methods_by_teacher[0][0]
    if not (hasattr(method, "reconstruct") or hasattr(method, "mask")):
        return None
    block, generator = method.levels[str(stride)], _seeded()
    if hasattr(method, "reconstruct"):
        made: Tensor = method.reconstruct(block, block.align(feat_s), feat_t, generator)
        return made
    made = block.generate(block.align(feat_s).masked_fill(method.mask(feat_t, generator), 0.0))
    return made
