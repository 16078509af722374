"""A Sphinx extension of the book: words of the glossary say what they mean when a reader points at them."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

from dfmsd.report.glossary import SHORT, TERM, WORDS, is_word


def setup(app: Sphinx) -> dict[str, Any]:
    """What Sphinx calls."""
    app.connect("doctree-resolved", _explain)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _explain(app: Sphinx, page: nodes.document, name: str) -> None:
    """Links to the glossary, and each abbreviation and sign where it first stands in the prose of a page, outputs included."""
    for word in page.findall(nodes.inline):
        meaning = (SHORT | WORDS).get(word.astext())
        if meaning and "std-term" in word["classes"] and isinstance(word.parent, nodes.reference):
            word.parent["reftitle"] = meaning
    seen: set[str] = set()
    for text in [text for paragraph in page.findall(nodes.paragraph) for text in paragraph.findall(nodes.Text)]:
        if isinstance(text.parent, nodes.paragraph | nodes.strong | nodes.emphasis):
            parts = [_part(part, seen) for part in TERM.split(text)]
            if any(isinstance(part, nodes.abbreviation) for part in parts):
                text.parent.replace(text, parts)


def _part(text: str, seen: set[str]) -> nodes.Node:
    if text in seen or text not in SHORT or is_word(text):
        return nodes.Text(text)
    seen.add(text)
    return nodes.abbreviation(text, text, explanation=SHORT[text])
