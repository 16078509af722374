"""A Sphinx extension of the book: a link to a word of the glossary says what it means when a reader points at it."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

from dfmsd.report.glossary import SHORT, WORDS


def setup(app: Sphinx) -> dict[str, Any]:
    """What Sphinx calls."""
    app.connect("doctree-resolved", _explain)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _explain(app: Sphinx, page: nodes.document, name: str) -> None:
    for word in page.findall(nodes.inline):
        meaning = (SHORT | WORDS).get(word.astext())
        if meaning and "std-term" in word["classes"] and isinstance(word.parent, nodes.reference):
            word.parent["reftitle"] = meaning
