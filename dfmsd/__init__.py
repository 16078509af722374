"""DFMSD: dual feature masking stage-wise knowledge distillation for object detection, and the study around it.

Importing this package is cheap and loads no torch, so that a study is planned in a moment. :mod:`dfmsd.distiller` registers the
distiller and the methods with mmdet, whatever was imported before: in an mmdet config,
``custom_imports = dict(imports=["dfmsd.distiller"])``.
"""

import importlib.util
import sys

# Configs that import "dfmsd" alone are read with mmengine loaded: for them, too, the registry is filled. A plan has no mmengine.
if "mmengine" in sys.modules and importlib.util.find_spec("mmdet") is not None:
    import dfmsd.distiller  # noqa: F401
