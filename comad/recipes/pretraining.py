"""Fields of a pretraining: the recipe, and every plain argument of the method."""

import inspect
from collections.abc import Mapping
from typing import Any

from mmengine.registry import MODELS

from comad.tasks.fields import network, no_weight_decay, train_crop, training
from comad.tasks.protocol import Config, Field, ProtocolReader


def pretraining(config: Config, processes: int) -> dict[str, Field]:
    """The fields that the card of a pretraining config shows."""
    protocol = ProtocolReader(config, processes)
    model = config['model']
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(MODELS.get(model['type'])).parameters.items()
        if parameter.default is not parameter.empty
    }
    arguments = {
        key: str(value)
        for key, value in (defaults | dict(model)).items()
        if key not in ('type', 'backbone', 'data_preprocessor', 'teachers')
    }
    taught = [_teacher(teacher) for teacher in model.get('teachers') or ()]
    return {
        'network': network(config),
        'method': model['type'],
        **({'teachers': ', '.join(taught)} if taught else {}),
        **training(protocol),
        'no_weight_decay': no_weight_decay(protocol),
        'drop_path': protocol.get('model.backbone.drop_path_rate', 0.0),
        'train_crop': _crop(protocol),
        'views': protocol.get('train_dataloader.dataset.views.type'),
        **arguments,
    }


def _crop(protocol: ProtocolReader) -> Field:
    """That of images, or for clips ``224 px, 1-0.875-0.75-0.66 of the short side, x 4``."""
    data = 'train_dataloader.dataset'
    if not protocol.get(f'{data}.sampling'):
        return train_crop(protocol)['train_crop']
    scales = protocol.get(f'{data}.views.scales', (1.0, 0.875, 0.75, 0.66))
    shares = '-'.join(f'{scale:g}' for scale in scales)
    size, samples = (protocol.get(f'{data}.views.{key}', 1) for key in ('size', 'samples'))
    return f'{size} px, {shares} of the short side, x {samples}'


def _teacher(options: Mapping[str, Any]) -> str:
    """Family of a pretraining's teacher, with its role and its masks where it has them."""
    details = [options['role']] if 'role' in options else []
    if 'mask_ratio' in options:
        details.append(f'masked {options["mask_ratio"]:g}')
    return f'{options["family"]} ({", ".join(details)})' if details else options['family']
