"""A Sphinx extension of the book: a figure whose SVG is a part of the page, so that a reader can select and find its words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.directives.patches import Figure
from sphinx.util.docutils import SphinxDirective


class Drawing(Figure, SphinxDirective):
    """As ``figure``, with a number and a caption; the file's text takes the place of a link to it."""

    def run(self) -> list[nodes.Node]:
        """What Sphinx calls."""
        found = super().run()
        for image in [image for node in found for image in node.findall(nodes.image)]:
            relative, file = self.env.relfn2path(image["uri"])
            self.env.note_dependency(relative)
            image.replace_self(nodes.raw("", Path(file).read_text(), format="html"))
        return found


def setup(app: Sphinx) -> dict[str, Any]:
    """What Sphinx calls."""
    app.add_directive("drawing", Drawing)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
