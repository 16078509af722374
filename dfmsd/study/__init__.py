"""What a run is, what runs it and records it, and one tidy frame of all results.

A notebook needs four names: :func:`page` (its page model from its parameters), :func:`make` (train what is missing), :func:`frame`
(the results, the paper's beside ours) and :func:`curves` (learning curves).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dfmsd.study.ensure import make
    from dfmsd.study.frames import curves, frame
    from dfmsd.study.pages import page

__all__ = ["curves", "frame", "make", "page"]


def __getattr__(name: str) -> Any:
    # Not imported above: a plan, and a doctor where packages are missing, want neither pandas nor torch.
    homes = {"page": "pages", "make": "ensure", "frame": "frames", "curves": "frames"}
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{homes[name]}"), name)
