"""A result over one or two options, from records the test has chosen."""

from __future__ import annotations

import pytest

from dfmsd.errors import StudyError
from dfmsd.report import sensitivity
from dfmsd.study import pages
from dfmsd.study.pages import SensitivityPage
from dfmsd.study.rows import Options, Row, chain
from tests.conftest import WriteRecord
from tests.fixtures_study import smoke


def page(name: str) -> SensitivityPage:
    found = pages.get(name, seeds=[0])
    assert isinstance(found, SensitivityPage)
    return found


@pytest.mark.parametrize(
    ("name", "values"),
    [("fig09", {(0.1,), (0.3,), (0.5,), (0.7,), (0.9,)}), ("fig10", {(a, b) for a in (0.5, 1.0, 2.0) for b in (0.5, 1.0, 2.0)})],
)
def test_each_value_has_one_row(name: str, values: set[tuple[float, ...]], write_record: WriteRecord) -> None:
    assert set(sensitivity.points(page(name))) == values


@pytest.mark.parametrize("name", ["fig09", "fig10"])
def test_the_figure_tells_what_is_run_and_what_is_not(name: str, write_record: WriteRecord) -> None:
    spec = page(name)
    assert sensitivity.figure(spec).alt.count("not run") == len(sensitivity.points(spec))
    for ap, entry in enumerate(spec.entries(), start=20):
        if entry.row.recipe == "baseline" or "0.5" in entry.row.name:
            write_record(entry.runs[-1], float(ap))
    first, second = sensitivity.figure(spec), sensitivity.figure(spec)
    assert first.svg == second.svg
    assert "0.5 and 0.5: 21.0" in first.alt if name == "fig10" else "0.5: not run" in first.alt
    assert "not run" in first.alt


def test_the_map_has_intervals_from_three_seeds_on(write_record: WriteRecord) -> None:
    spec = pages.get("fig10", seeds=[0, 1, 2])
    assert isinstance(spec, SensitivityPage)
    for entry in spec.entries():
        if entry.row.name == "alpha x 2" or (entry.row.name == "beta x 2" and entry.seed == 0):
            write_record(entry.runs[-1], 20.0 + entry.seed)
    known = sensitivity.points(spec)
    assert sensitivity.text(known[2.0, 1.0]) == "21.0\n20.0 to 22.0"
    assert sensitivity.text(known[1.0, 2.0]) == "20.0"
    assert sensitivity.text(known[1.0, 1.0]) == "not run"


@pytest.mark.parametrize("name", ["fig09", "fig10"])
def test_a_stale_point_is_told_apart(name: str, write_record: WriteRecord) -> None:
    spec = page(name)
    entry = next(entry for entry in spec.entries() if entry.row.recipe != "baseline")
    provenance = write_record(entry.runs[-1], 20.0).provenance
    fresh = sensitivity.figure(spec)
    write_record(entry.runs[-1], 20.0, provenance=provenance.model_copy(update={"code_digest": "another"}))
    stale = sensitivity.figure(spec)
    assert stale.svg != fresh.svg
    assert stale.alt == fresh.alt.replace("20.0", "20.0 (stale)")


def test_a_factor_multiplies_what_the_scale_sets() -> None:
    row = Row(student="fcos_r50", teachers=("gfl_r101", "gfl_x101"), recipe="dfmsd", options=Options(times={"alpha": 0.5}))
    plain, halved = (
        chain(row.model_copy(update={"options": options}), smoke(), 0)[-1].stage for options in (Options(), row.options)
    )
    assert plain is not None and halved is not None
    changed = plain.methods[0].model_copy(update={"alpha": 0.5 * plain.methods[0].alpha})  # type: ignore[union-attr]
    assert halved.methods == (changed,)


def test_a_factor_on_nothing_is_refused() -> None:
    row = Row(student="fcos_r50", teachers=("gfl_x101",), recipe="mgd", options=Options(times={"alhpa": 2.0}))
    with pytest.raises(StudyError, match="mgd has no weight 'alhpa' to multiply: did you mean 'alpha'"):
        chain(row, smoke(), 0)
