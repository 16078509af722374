"""The methods' pages: what they say is what code, specification and records say."""

from __future__ import annotations

import inspect
import io
from pathlib import Path
from typing import Any

import papermill
import pytest
import torch

from dfmsd.errors import StudyError
from dfmsd.hyper import METHODS
from dfmsd.report import docstrings, live
from dfmsd.report import methods as methodpage
from dfmsd.study import benchrecord as bench_record
from dfmsd.study import pages, paths, plan, records
from dfmsd.study.benchrecord import Bench, Cost, Measured, Sample, Shapes
from dfmsd.study.pages import MethodPage
from dfmsd.study.rows import Row, chain
from dfmsd.study.spec import RunSpec
from tests.fixtures_detectors import detector
from tests.fixtures_study import folders, record, smoke  # noqa: F401

pytestmark = pytest.mark.usefixtures("folders")


def page(name: str, **changes: Any) -> MethodPage:
    found = pages.get(name, scale="smoke")
    assert isinstance(found, MethodPage)
    return found.model_copy(update=changes)


@pytest.mark.parametrize("name", METHODS)
def test_a_page_tells_what_its_functions_and_its_class_say(name: str) -> None:
    here = page(name)
    text = methodpage.equations(here).data
    for function in methodpage.functions(here).values():
        for equation in docstrings.read(function).equations:
            assert f"$$\n{equation}\n$$" in text
        assert inspect.getsource(function).rstrip() in methodpage.code(here).data
    assert f"class {METHODS[name].__name__}(" in methodpage.code(here).data
    for shown in (methodpage.idea(here).data, text, methodpage.deviations(here).data, methodpage.references(here).data):
        assert ":math:" not in shown and ":func:" not in shown and ":cite:" not in shown
    assert "{cite:t}`" in methodpage.references(here).data


def test_all_methods_that_have_them_show_their_deviations() -> None:
    assert "`fgd_focal`: The released code multiplies" in methodpage.deviations(page("fgd")).data
    assert "Verified in the released code" in methodpage.deviations(page("fgd")).data
    assert methodpage.deviations(page("mgd")).data.startswith("None that we know of.")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("mgd.mgd_los", r"dfmsd/losses/mgd\.py has no function 'mgd_los': did you mean 'mgd_loss'\?"),
        ("mdg.mgd_loss", r"there is no dfmsd/losses/mdg\.py"),
    ],
)
def test_a_function_that_is_not_there_is_refused(path: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        methodpage.equations(page("mgd", functions=(path,)))


def test_a_method_that_is_not_there_is_refused() -> None:
    fields = page("mgd").model_dump() | {"method": "mdg"}
    with pytest.raises(StudyError, match=r"method = 'mdg': there is no such method: did you mean 'mgd'\?"):
        pages.validate(MethodPage, fields)


def test_hyper_parameters_are_the_specification_s_own() -> None:
    frame = methodpage.hyper_parameters(page("fgd")).data.set_index("")
    assert set(frame.index) == set(METHODS["fgd"].model_fields) - {"type"}
    assert frame.loc["tau", ["one-stage", "two-stage student", "fcos student"]].tolist() == ["0.5", "", "0.8"]
    assert frame.loc["alpha", ["one-stage", "two-stage student", "fcos student"]].tolist() == ["1e-3", "5e-5", "1.6e-3"]
    assert "two-stage teacher" not in frame
    assert methodpage.hyper_parameters(page("pkd")).data.set_index("").loc["alpha", "two-stage teacher"] == "6"
    assert "shares of the detection loss" in methodpage.hyper_parameters(page("pkd")).to_html()


@pytest.mark.parametrize("name", METHODS)
def test_every_hyper_parameter_is_explained(name: str) -> None:
    for field, info in METHODS[name].model_fields.items():
        assert field == "type" or info.description, f"{name}.{field} has no docstring in dfmsd/hyper.py"


def measurement(**costs: float) -> Bench:
    shapes = Shapes(name="P3 to P7", sizes={8: (4, 4)}, kind="one_stage")
    samples = {name: Sample(ms=ms, mse_ms=2.0, convolutions_ms=0.0, copy_gb_s=1.0) for name, ms in costs.items()}
    found = {
        name: Cost(spec={}, least_mb=5.0, convolutions={}, peak_mb=17.0, samples=(sample,), code=bench_record.code_digest(name))
        for name, sample in samples.items()
    }
    facts = dict(clock="", memory="", versions={}, tf32=False, commit="", finished="", left_out={}, repeats=1)
    return Bench(device="cpu", hardware="Tester", threads=2, results=(Measured(shapes=shapes, costs=found),), **facts)


def test_cost_is_not_measured_until_it_is() -> None:
    assert "Not measured yet" in methodpage.cost(page("mgd")).data
    assert page("mgd").files() == []
    file = bench_record.write(measurement(mse=2.0, mgd=10.0))
    assert page("mgd").files() == [file], "the page is made anew when it is measured"
    (row,) = methodpage.cost(page("mgd")).data.to_dict("records")
    assert row == {
        "machine": "Tester, 2 threads",
        "maps": "P3 to P7",
        "ms": "10",
        "× MSE": "5.00",
        "× floor": "2.00",
        "peak, MiB": "17",
    }
    assert "Not measured yet" in methodpage.cost(page("fgd")).data


def trained_baseline() -> RunSpec:
    """A student that the study has trained, as far as its files tell."""
    (run,) = chain(Row(student="retinanet_r50", teachers=(), recipe="baseline"), smoke(), 0)
    stream = io.BytesIO()
    torch.save({"state_dict": detector("retinanet_r50").state_dict()}, stream)
    folder = paths.runs() / run.key
    folder.mkdir(parents=True)
    (folder / "student.pth").write_bytes(stream.getvalue())
    import hashlib

    kept = record(run).model_copy(update={"weights_sha256": hashlib.sha256(stream.getvalue()).hexdigest()})
    records.write_atomic(folder / "record.json", records.dump(kept))
    assert plan.has_weights(run)
    return run


@pytest.mark.slow
@pytest.mark.xdist_group("notebooks")
def test_pages_share_a_teacher_and_say_whose_features_they_show(monkeypatch: pytest.MonkeyPatch) -> None:
    first = page("mgd", teacher_epochs=0.25)
    begun, _ = methodpage.look(first)
    words = methodpage.legend(first, begun).data
    assert "Teacher: RetinaNet R101, trained for 1 iteration only. Student: RetinaNet R50, with its initial weights." in words

    def refuse(*_: Any) -> None:
        raise AssertionError("it was trained already")

    monkeypatch.setattr(live, "_fit", refuse)
    trained_baseline()
    other = page("fgd", teacher_epochs=0.25)
    again, seen = methodpage.look(other)
    assert "Student: RetinaNet R50, the study's baseline, AP 12.5." in methodpage.legend(other, again).data
    for name, weight in detector("retinanet_r50").state_dict().items():
        assert torch.equal(again.distiller.student.state_dict()[name], weight)
    for mine, its in zip(begun.distiller.teachers[0].parameters(), again.distiller.teachers[0].parameters(), strict=True):
        assert torch.equal(mine, its)
    assert "% of the teacher's attention" in methodpage.figure(again, seen).alt


def test_defaults_of_the_template_are_those_of_the_page() -> None:
    known = papermill.inspect_notebook(str(paths.NOTEBOOKS / "method.ipynb"))
    for name, field in MethodPage.model_fields.items():
        if not field.is_required() and name != "scale":
            assert known[name]["default"] == repr(field.default).replace("'", '"')


def test_pages_of_methods_have_no_row_in_the_table_of_pages(tmp_path: Path) -> None:
    from dfmsd.report import book

    table = book.table_of_pages("{page}")
    assert "(mgd)" not in table and "(choosing)" in table and "(table03)" in table
