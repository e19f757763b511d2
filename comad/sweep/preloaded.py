"""What the server of fork.py imports, once; nothing else imports this."""

from contextlib import suppress
from importlib import import_module

for name in (
    'torch.utils.tensorboard',
    'comad.engine.launch',
    'comad.engine.register',
    'mmseg.models',
    'mmseg.datasets',
    'mmdet.models',
    'mmdet.datasets',
    'mmdet.evaluation',
):
    with suppress(ModuleNotFoundError):  # of the dense tasks' packages
        import_module(name)
