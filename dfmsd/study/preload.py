"""What a run's process has from the server that it is forked from, beside modules: the package's code as its hash reads it."""

from __future__ import annotations

from dfmsd.hyper import METHODS
from dfmsd.study import code

code.modules(method.__name__ for method in METHODS.values())
