"""Which training of a network the runs of a student and a seed learned from, where there are several.

The same run ends in other weights on another kind of processor. Two runs of one student and seed, of which one learned from one
training of a teacher and the other from another, differ by that, too. So pages show of each student and seed the runs that had the
training that most had. Rows of other students are compared with rows of their own: they may have had another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from dfmsd.errors import StudyError
from dfmsd.study import paths, records
from dfmsd.study.records import Record

Block = tuple[str, str, int]
"""A network's run, by its key, and what began with it or learned from it: student and seed."""


def left_out() -> frozenset[str]:
    """Keys of the runs that had another training of some network than most of their student and seed.

    Of equally many the later ones stay.
    """
    known = _all()
    used: dict[str, dict[Block, str]] = {}
    for key, record in known.items():
        student, seed = record.spec["network"]["name"], record.spec["seed"]
        used[key] = {(need, student, seed): sha for need, sha in _had(record, known)}
    votes: dict[Block, Counter[str]] = {}
    for key in sorted(used, key=lambda key: known[key].provenance.finished, reverse=True):
        for block, sha in used[key].items():
            votes.setdefault(block, Counter())[sha] += 1  # of equal counts the first is the most common
    usual = {block: count.most_common(1)[0][0] for block, count in votes.items()}
    return frozenset(key for key, own in used.items() if any(usual[block] != sha for block, sha in own.items()))


def _all() -> dict[str, Record]:
    """Every student's or teacher's record: as :func:`dfmsd.study.records.find` has it, from its folder before the published one."""
    found: dict[str, Record] = {}
    for file in [*paths.records().glob("*.json"), *paths.runs().glob("*/record.json")]:
        try:
            record = records.read(file)
        except StudyError:
            continue
        if record.is_result and "network" in record.spec and not file.parent.name.endswith(".partial"):
            found[record.key] = record
    return found


def _had(record: Record, known: Mapping[str, Record]) -> Iterator[tuple[str, str]]:
    """The runs that a run, and the stages before it, needed, each with the hash of its weights."""
    for key, sha in (record.needed or {}).items():
        yield key, sha
        if key in known and known[key].weights_sha256 == sha and known[key].spec["stage"]:
            yield from _had(known[key], known)
