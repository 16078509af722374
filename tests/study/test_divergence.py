"""Divergence by hand: told of a term that rose and came down again, and not of a loss that is large from the start."""

from __future__ import annotations

import pytest

from dfmsd.report import words
from dfmsd.study import pages, plan
from dfmsd.study.divergence import diverged
from tests.conftest import WriteRecord
from tests.fixtures_study import baseline, record

FIRST, LAST = {"iteration": 1, "loss": 10.0, "loss_rec": 8.0}, {"iteration": 3, "loss": 3.0}
CALM = (FIRST, {"iteration": 2, "loss": 3.0, "loss_rec": 1000.0}, LAST)


@pytest.mark.parametrize(
    ("curve", "said"),
    [
        ((), ""),
        (CALM, ""),
        (
            (FIRST, {"iteration": 2, "loss": 1010.0, "loss_rec": 1000.5}, LAST),
            "loss_rec rose to 1e+03, where the whole loss was 10 at first",
        ),
        (({"iteration": 1, "loss": 9e9, "loss_rec": 9e9},), ""),
    ],
)
def test_a_term_a_hundred_times_above_the_first_loss_has_diverged(curve: tuple[dict[str, float], ...], said: str) -> None:
    assert diverged(record(baseline(), curve=curve)) == said


def test_a_page_names_its_runs_that_diverged(write_record: WriteRecord) -> None:
    page = pages.get("table03", scale="smoke")
    run = page.chains()[0][-1]
    write_record(run, 20.0, curve=CALM)
    assert "diverged" not in words.state([page])
    write_record(run, 20.0, curve=({"iteration": 1, "loss": 1.0}, {"iteration": 2, "loss": 200.0, "loss_rec": 199.0}))
    (line,) = [line for line in words.state([page]).splitlines() if line.startswith("- ")]
    assert line == f"- {plan.describe(run)} (`{run.key}`)"
