"""Whether a training diverged, read off its record: its numbers are finite, and its AP is still that of a failed training."""

from __future__ import annotations

from dfmsd.study.records import Record

ROSE = 100.0
"""A term that once stood so many times above the whole loss of the first iterations has diverged, even if it came down again."""


def diverged(record: Record) -> str:
    """How a term of the loss diverged, in words; empty where none did, or the record has no curve."""
    terms = [(value, name) for point in record.curve for name, value in point.items() if name.startswith("loss_")]
    if not terms or (first := record.curve[0].get("loss", 0.0)) <= 0:
        return ""
    most, name = max(terms)
    return f"{name} rose to {most:.3g}, where the whole loss was {first:.3g} at first" if most > ROSE * first else ""
