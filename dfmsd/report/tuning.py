"""The trials of shares in words."""

from __future__ import annotations

import pandas as pd

from dfmsd.report.tables import plain, signed


def said(found: pd.DataFrame) -> str:
    """The best share of every method, as :func:`chosen` gives it, as Markdown; empty while none is known."""
    lines = []
    for row, one in found.dropna(subset="best").iterrows():
        said = f"- {plain(str(row))} gains most at a share of {one['best']:g}: {signed(one['Δ'])} AP."
        edge, note = one["at the edge"], one["note"]
        lines.append(said + f" It is {edge}." * bool(edge) + f" The share in use is {note}." * bool(note))
    return "\n".join(lines)
