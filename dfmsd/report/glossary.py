"""The words that tables and pages use without saying each time what they mean."""

from __future__ import annotations

import re

SHORT = {
    "95 %": "the 95 % confidence interval",
    "AP": "average precision over IoU thresholds from 0.50 to 0.95, in percent; AP_S, AP_M and AP_L: small, medium, large objects",
    "AR": "average recall with at most 100 detections in an image, in percent; AR_S, AR_M, AR_L: small, medium, large objects",
    "ME": "masking enhancement: in the last stage, the features of noisy or cropped images are compared as well",
    "SAL": "stage-wise adaptation learning: a weaker teacher teaches first, then a stronger one, which teaches alone without SAL",
    "seed": "one training of a student and of its teachers; another seed has other initial weights and another order of images",
    "SFA": "semantic feature alignment: features are compared by their correlation, whatever their size",
    "share": "how large a loss term is relative to the detection loss; at 1 both are equally large",
    "stale": "made by code that has changed since",
    "stride": "the distance between two neighbouring positions of a feature map, in pixels of the image",
    "Δ": "the difference to the baseline of the same student, seed by seed; of AP it is the gain",
    "θ": "the share of an image that objects must cover so that masking enhancement crops it; if they cover less, it adds noise",
    "†": "an interval over the validation images of one seed, which says nothing about other seeds",
}
"""What abbreviations, signs and words of art mean, in a sentence without its point."""

WORDS = {
    "baseline": "the untaught student: trained without a teacher, for as many epochs as the other rows",
    "gate": "a condition that a scale must fulfil before its methods can be compared",
    "key": "the name of a run, which is a hash of everything that can change its result",
    "level": "one map of a detector's feature pyramid; its stride says which",
    "pair": "a student with its teachers",
    "record": "the committed file that holds the result of one run",
    "row": "one line of a table: a student, its teachers and a method",
    "scale": "the size of an experiment: smoke, mini, gpu or coco",
    "settled": "decided by a test; where nothing is settled, the runs so far fit a difference of 0",
    "stage": "the training of a student by one of its teachers; DFMSD has one stage after another",
    "start": "the weights with which a backbone begins, pretrained on crops of single objects",
    "strong teacher, weak teacher": "of a pair's two teachers the one that teaches last, and the first one",
    "type": (
        "the family of a detector, such as RetinaNet, FCOS or Mask R-CNN, whatever its backbone; the teachers of a pair are of the "
        "student's own type if all of them belong to its family, and of another type otherwise"
    ),
}
"""What plain words mean here."""

TERM = re.compile(rf"(?<![\w&])({'|'.join(map(re.escape, SHORT))})(?![\w;])")
"""A term of :data:`SHORT` in a text."""


def is_word(term: str) -> bool:
    """Whether a term is a plain word, which prose may use with its usual meaning.

    Example:
        >>> [term for term in SHORT if is_word(term)]
        ['seed', 'share', 'stale', 'stride']
    """
    return term.isascii() and term.isalpha() and term.islower()


def hover(text: str) -> str:
    """HTML in which each term of :data:`SHORT` shows what it means when a reader points at it, where it stands first.

    Example:
        >>> hover("MGD, stale")
        'MGD, <abbr title="made by code that has changed since">stale</abbr>'
    """
    seen: set[str] = set()

    def marked(found: re.Match[str]) -> str:
        term = found[1]
        if term in seen:
            return term
        seen.add(term)
        return f'<abbr title="{SHORT[term]}">{term}</abbr>'

    return TERM.sub(marked, text)


def markdown() -> str:
    """All terms as a page of the book."""
    terms = SHORT | WORDS
    lines = (f"{term}\n  {terms[term][0].upper()}{terms[term][1:]}.\n" for term in sorted(terms, key=str.lower))
    return "```{glossary}\n" + "\n".join(lines) + "```\n"
