"""Docstrings as Markdown: what a page shows is what stands beside the code."""

from __future__ import annotations

from dfmsd.report import docstrings


def documented() -> None:
    r"""Measure a thing :cite:p:`one, two`.

    .. math::
        a = b
        \qquad c

    Then again, as in :func:`~dfmsd.losses.mgd.mgd_loss`.

    .. math::
        d = e

    Where:
        - :math:`a`: an ``argument``, which goes on
          on the next line
        - :math:`b`: another

    Args:
        x: What is not shown.

    Deviations:
        None, see :cite:t:`one`.
    """


def test_equations_are_set_off_and_the_words_between_them_stay() -> None:
    read = docstrings.read(documented)
    assert read.equations == ("a = b\n\\qquad c", "d = e")
    assert read.text == (
        "Measure a thing {cite:p}`one, two`.\n\n$$\na = b\n\\qquad c\n$$\n\nThen again, as in `mgd_loss`.\n\n$$\nd = e\n$$"
    )


def test_sections_are_what_stands_below_their_names() -> None:
    read = docstrings.read(documented)
    assert set(read.sections) == {"Where", "Args", "Deviations"}
    assert read.sections["Where"] == "- $a$: an `argument`, which goes on\n  on the next line\n- $b$: another"
    assert read.sections["Deviations"] == "None, see {cite:t}`one`."


def test_keys_are_cited_once() -> None:
    assert docstrings.citations(documented) == ("one", "two")


def test_what_has_no_docstring_has_nothing_to_say() -> None:
    read = docstrings.read(lambda: None)
    assert (read.text, dict(read.sections), read.equations) == ("", {}, ())
