"""What every run's process would import or work out anew, done once in the server that they are forked from.

It counts at the scale ``smoke``, whose runs are short. Nothing here may ask for a GPU: forked processes could not use it then.
"""

from importlib import import_module

from dfmsd.study import records

IMPORTED = (
    "dfmsd.study.run",
    "torch._dynamo",  # by torch's optimisers
    "torch.utils.cpp_extension",  # by mmengine, to write down its environment,
    "yapf.yapflib.yapf_api",  # and to write down a config, even as it is
    "mmdet.engine",
    "mmdet.visualization",
)
"""The module that trains, and what is imported only while it does."""

for name in IMPORTED:
    import_module(name)

# For the records, to which these files' syntax trees count.
records.digest((*records.TRAINING, *records.DISTILLATION, *records.ENHANCEMENT))
