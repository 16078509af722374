"""What the losses cost: floors by hand, the measurement on tiny maps, its record, its page, its command."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from IPython.display import Markdown
from mmengine.registry import init_default_scope
from pandas.io.formats.style import Styler

from dfmsd.__main__ import main
from dfmsd.errors import StudyError
from dfmsd.hyper import METHODS, for_pair
from dfmsd.report import bench as measure
from dfmsd.report import benchpage as page
from dfmsd.report import floors
from dfmsd.report.plain import INSTEAD, PLAIN
from dfmsd.study import benchrecord as record
from dfmsd.study import pages, paths
from dfmsd.study.benchrecord import Bench, Cost, Measured, Sample, Shapes
from tests.losses.helpers import method

CPU = torch.device("cpu")
SIZES = {8: (12, 16), 16: (6, 8)}
TINY = Shapes(name="tiny", sizes=SIZES, kind="one_stage", channels=32, boxes=2)
FIVE = {8: (32, 32), 16: (16, 16), 32: (8, 8), 64: (4, 4), 128: (2, 2)}
CELLS = [height * width for height, width in FIVE.values()]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A measurement of all methods on tiny maps, written and read again."""
    init_default_scope("mmdet")  # whatever test ran before
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DFMSD_RECORDS", str(tmp_path_factory.mktemp("records")))
        file = measure.run(device="cpu", threads=1, repeats=2, shapes=[TINY], copy_bytes=2**16, say=lambda _: None)
        bench = record.read(file)
        assert record.all_records() == [bench]
        assert pages.get("losses").files() == [file]
        yield bench


def cost(ms: float, convolutions_ms: float, code: str = "") -> Cost:
    """A method that must move 20 MB where a copy makes 10 GB/s: 2 ms."""
    sample = Sample(ms=ms, mse_ms=2.0, convolutions_ms=convolutions_ms, copy_gb_s=10.0)
    return Cost(spec={}, least_mb=20.0, convolutions={}, peak_mb=1.0, samples=(sample,), code=code)


def publish(measured: Bench, costs: dict[str, Cost]) -> Path:
    return record.write(measured.model_copy(update={"results": (Measured(shapes=TINY, costs=costs),)}))


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DFMSD_RECORDS", str(tmp_path))
    return tmp_path


def losses() -> pages.BenchPage:
    found = pages.get("losses")
    assert isinstance(found, pages.BenchPage)
    return found


def test_every_method_has_a_floor_or_a_reason() -> None:
    assert {*floors.PASSES, *floors.LEFT_OUT} == set(METHODS)
    assert not set(floors.PASSES) & set(floors.LEFT_OUT)


@pytest.mark.parametrize(
    ("name", "maps"),
    [
        ("mse", [5] * 5),
        # S -> X; R T ->; R T -> dR; dX -> dS
        ("mgd", [2 + 2 + 3 + 2] * 5),
        # Aligned on strides 8, 16 and 32; as DMKD on the others.
        ("dfmsd", [2 + 1 + 3 + 3 + 5 + 3 + 5] * 3 + [1 + 1 + 3 + 3 + 5 + 3 + 3] * 2),
        # On the four finest levels.
        ("pkd", [5, 5, 5, 5, 0]),
        # 31 whole maps and 18 inner ones, of 64 and then 128 of 256 channels.
        ("fkd", [31 + 18 / 4] * 2 + [31 + 18 / 2] * 3),
    ],
)
def test_floor_by_hand(name: str, maps: list[float]) -> None:
    bytes_a_cell = 2 * 256 * 4
    expected = sum(count * cells for count, cells in zip(maps, CELLS, strict=True)) * bytes_a_cell
    assert floors.least_bytes(name, for_pair(name, "one_stage"), FIVE, batch=2, channels=256) == expected


def test_cocos_sizes_are_those_of_its_usual_input() -> None:
    for shapes in measure.SHAPES:
        assert shapes.image == (800, 1344)
        for stride, (height, width) in shapes.sizes.items():
            assert (height, width) == (-(-800 // stride), -(-1344 // stride))


def test_ratios_by_hand() -> None:
    found = cost(10.0, 3.0)
    assert found.times_mse() == [5.0]
    assert found.times_floor() == [10 / (2 + 3)]
    assert found.convolutions_share == 3 / 5


def test_all_methods_are_measured(measured: Bench) -> None:
    (result,) = measured.results
    assert result.shapes == TINY
    assert set(result.costs) == set(floors.PASSES)
    for found in result.costs.values():
        assert len(found.samples) == 2
        assert all(min(sample.ms, sample.mse_ms, sample.copy_gb_s) > 0 for sample in found.samples)
        assert all((sample.convolutions_ms > 0) == bool(found.convolutions) for sample in found.samples)
        assert found.peak_mb > 0
    straightforward = {name for name, found in result.costs.items() if found.plain_times()}
    assert straightforward == set(PLAIN) == set(INSTEAD) == {name for name, found in result.costs.items() if found.plain_peak_mb}
    assert measured.threads == 1
    assert measured.left_out == floors.LEFT_OUT


def test_a_record_says_nothing_about_who_measured(measured: Bench) -> None:
    text = measured.model_dump_json()
    for private in (socket.gethostname(), str(Path.home()), str(paths.ROOT)):
        assert len(private) < 3 or private not in text


def test_convolutions_are_counted(measured: Bench) -> None:
    costs = measured.results[0].costs
    fine, coarse = ("3x3 32 to 32, 3x3 32 to 32 at 2x32x12x16", "3x3 32 to 32, 3x3 32 to 32 at 2x32x6x8")
    assert costs["mgd"].convolutions == costs["amd"].convolutions == {fine: 1, coarse: 1}
    assert costs["dmkd"].convolutions == costs["dfmsd"].convolutions == {fine: 2, coarse: 2}
    # Two adaptations and four in either non-local block; those of the teacher's map need no gradient to it, but the last does.
    at = "1x1 32 to 32 at 2x32x12x16"
    assert {key: n for key, n in costs["fkd"].convolutions.items() if key.startswith(at)} == {
        at: 7,
        f"{at}, no gradient to the input": 3,
    }
    for name in ("mse", "ssim", "fgd", "pkd"):
        assert costs[name].convolutions == {}


def test_gradients_reach_the_students_features() -> None:
    subject = measure.Subject.make("mgd", measure.Inputs.make(TINY, CPU))
    gradients = subject.work()
    assert isinstance(gradients, tuple)
    assert len(gradients) == len(SIZES) + len(list(subject.method.parameters()))
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)


@pytest.mark.parametrize("name", PLAIN)
def test_the_straightforward_version_gives_the_same_terms_and_gradients(name: str) -> None:
    """With random parameters, or blocks that start as the identity would hide what is before them."""
    inputs = measure.Inputs.make(TINY, CPU)
    ours = method(name, channels_s=32, channels_t=32, learnt=True)
    plain = PLAIN[name](**{**METHODS[name](strides=(8, 16)).model_dump(exclude={"type"}), "channels_s": 32, "channels_t": 32})
    plain.load_state_dict(ours.state_dict())
    terms, gradients = [], []
    for module in (ours, plain):
        terms.append(module(inputs.levels_s, inputs.levels_t, inputs.boxes, inputs.image_shapes, generator=inputs.generator))
        wanted = [*inputs.levels_s.values(), *module.parameters()]
        gradients.append(torch.autograd.grad(torch.stack(list(terms[-1].values())).sum(), wanted, allow_unused=True))
    torch.testing.assert_close(*terms, rtol=1e-4, atol=0)
    # A softmax does not see its input's bias, whose gradient is rounding alone.
    rounding = 1e-6 * max(gradient.abs().max().item() for gradient in gradients[1] if gradient is not None)
    for found, expected in zip(*gradients, strict=True):
        assert (found is None) == (expected is None)
        if expected is not None:
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=max(1e-3 * expected.abs().max().item(), rounding))


def test_inputs_are_the_same_every_time() -> None:
    one, other = measure.Inputs.make(TINY, CPU), measure.Inputs.make(TINY, CPU)
    assert [len(boxes) for boxes in one.boxes] == [1, 3]
    for boxes, same in zip(one.boxes, other.boxes, strict=True):
        assert torch.equal(boxes, same)
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert (boxes[:, 2:] <= torch.tensor([128.0, 96.0])).all()
    assert all(torch.equal(one.levels_s[stride], other.levels_s[stride]) for stride in SIZES)
    assert not torch.equal(one.levels_s[8], one.levels_t[8])


def test_time_and_memory_of_a_call_that_is_known() -> None:
    assert 0.02 <= measure.seconds(lambda: time.sleep(0.02), CPU) < 1.0
    kib = 256  # float32 numbers
    # A temporary of 4 KiB is gone when the one of 2 KiB comes.
    assert measure.peak_bytes(lambda: torch.ones(4 * kib).sum() + torch.ones(2 * kib).sum(), CPU) == pytest.approx(4096, abs=64)


def test_without_a_record_the_page_says_how_to_make_one(records: Path) -> None:
    for shown in (page.costs(losses()), page.improvements(), page.provenance()):
        assert isinstance(shown, Markdown)
        assert shown.data == "**Not measured yet**: run `python -m dfmsd bench losses`."
    assert isinstance(page.passes(), Styler)


def test_the_page_shows_a_miss_as_a_miss(measured: Bench, records: Path) -> None:
    code = {name: record.code_digest(name) for name in ("mse", "mgd", "dmkd")}
    costs = {"mse": cost(3.9, 0.0, code["mse"]), "mgd": cost(14.0, 10.0, code["mgd"]), "dmkd": cost(13.7, 10.0, code["dmkd"])}
    publish(measured, costs)
    table = page.costs(losses())
    assert isinstance(table, Styler)
    shown = table.data  # a line for the group, then one for each method
    assert list(shown.index)[1:] == ["MSE", "MGD", "DMKD"]
    assert [words.partition("<")[0] for words in shown["against it", "× floor"][1:]] == ["1.95", "1.17", "1.14"]
    assert list(shown["against it", "target"][1:]) == ["met", '<span class="flag">missed</span>', "met"]
    assert "MGD 17.6, FGD 7.3 times a plain MSE" in table.caption and "1.15 times the floor" in table.caption
    assert f"{record.folder().name}/{measured.name}.json" in page.provenance()._repr_html_()  # type: ignore[union-attr]


def test_the_gain_over_the_straightforward_version_by_hand(measured: Bench, records: Path) -> None:
    found = cost(10.0, 3.0, record.code_digest("pkd"))
    sample = found.samples[0].model_copy(update={"plain_ms": 25.0})
    publish(measured, {"mse": found, "pkd": found.model_copy(update={"samples": (sample,), "plain_peak_mb": 4.0})})
    table = page.improvements()
    assert isinstance(table, Styler)
    (row,) = table.data.iloc[1:].to_dict("records")
    assert (row["time"].partition("<")[0], row["memory"]) == ("2.50", "4.00")
    assert [words for words in page.instead().data["instead"]] == list(INSTEAD.values())


def test_code_that_has_changed_since_is_told(measured: Bench, records: Path) -> None:
    publish(measured, {"mgd": cost(14.0, 10.0, code="0" * 12)})
    table = page.costs(losses())
    assert isinstance(table, Styler)
    assert "stale" in table.index[1]


@pytest.mark.parametrize("text", ["{", "{}", '{"device": "tpu"}'])
def test_a_damaged_record_is_told(text: str, records: Path) -> None:
    file = record.folder() / "cpu.json"
    file.parent.mkdir()
    file.write_text(text)
    with pytest.raises(StudyError, match=r"cpu\.json is damaged .*delete it and run `python -m dfmsd bench losses`"):
        record.read(file)


def test_a_renamed_record_is_told(measured: Bench, records: Path) -> None:
    file = publish(measured, {})
    with pytest.raises(StudyError, match="it was renamed or edited"):
        record.read(file.rename(file.with_name("cpu-other-1-thread.json")))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["loses"], "unknown measurement 'loses': did you mean 'losses'?"),
        (["losses", "--device", "cdua"], "unknown device 'cdua': did you mean 'cuda'?"),
        (["losses", "--device", "cuda"], "--device cuda: PyTorch finds no GPU here"),
    ],
)
def test_a_wrong_command_is_told_in_one_line(
    words: list[str], message: str, records: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["bench", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1
    assert not any(records.iterdir())


def test_the_command_says_where_the_record_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked: dict[str, object] = {}
    monkeypatch.setattr(measure, "run", lambda **options: asked.update(options) or Path("cpu.json"))
    assert main(["bench", "losses", "--device", "cpu", "--threads", "2", "--repeats", "3"]) == 0
    assert capsys.readouterr().out == "wrote cpu.json\n"
    assert asked == {"device": "cpu", "threads": 2, "repeats": 3}
