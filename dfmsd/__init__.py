"""DFMSD: dual feature masking stage-wise knowledge distillation for object detection, and the study around it.

Importing this package is cheap and loads no torch; :mod:`dfmsd.losses` and :mod:`dfmsd.distiller` do. In an mmdet config,
``custom_imports = dict(imports=["dfmsd.distiller"])`` registers the distiller and the methods.
"""
