"""Import mmdet without its notices about optional packages that this study has no use for (OneDL, faster_coco_eval)."""

import contextlib
import io
import warnings

with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
    warnings.simplefilter("ignore")
    import mmdet.datasets
    import mmdet.evaluation  # noqa: F401
