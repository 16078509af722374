"""DFMSD: dual feature masking stage-wise knowledge distillation for object detection, and the study around it.

Importing this package is cheap and loads no torch, so that a study is planned in a moment; :mod:`dfmsd.losses` and
:mod:`dfmsd.distiller` do. In an mmdet config, ``custom_imports = dict(imports=["dfmsd"])`` registers the distiller and the methods.
"""

import sys

# Whoever imports us from an mmdet config has mmengine loaded already and wants the registry filled; a plan has not and does not.
if "mmengine" in sys.modules:
    import dfmsd.distiller  # noqa: F401
