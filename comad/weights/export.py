"""Students for others: a folder that plain timm or onnxruntime loads, with a model card."""

import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import timm
import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from backbones import CheckpointError, load_student
from backbones.checkpoints import read_card
from backbones.contract import offered, usual_size
from backbones.staged_table import entry_of
from backbones.student import CARD_FILE, SAMPLE, STUDENT_FILE, track_of
from comad.data.cifar_files import MEAN as CIFAR_MEAN
from comad.data.cifar_files import STD as CIFAR_STD
from comad.data.identity import DataIdentity
from comad.weights.video import VIDEOMAE_FILE, write_videomae

ONNX_TOLERANCE = 1e-4
EDGES = (64, 8192)  # of an ONNX model's images in pixels, where any are taken
OUTPUTS = {
    'tokens': """`tokens` are the class token, then
the patch tokens in raster order, after the final norm.""",
    'cubes': '`cubes` are the tokens of all cubes, slot by slot, after the final norm.',
    'map': '`map` is the last feature map.',
    'logits': '`logits` are class scores.',
    'features': '`features` are the mean over the last map.',
}


def export_timm(student: str | Path, folder: str | Path) -> dict[str, Any]:
    """Write ``model.safetensors``, ``config.json`` and ``README.md``, and check them in timm.

    The file is the student's own, whose tensors already have timm's names. timm then builds it by
    ``create_model(name, num_classes=..., checkpoint_path=...)`` or
    ``create_model('local-dir:...')``: a distilled classifier with its head, any other student
    without one. Both are compared with the student on random images.

    Args:
        student: ``student.safetensors`` or its folder.
        folder: New or existing folder; files of these names in it are replaced, all of them or,
            after an error, none.

    Returns:
        What ``config.json`` holds.

    Raises:
        CheckpointError: no complete student there, or timm's features are not identical.
    """
    path, output, card = _read(student)
    config = timm_config(output.backbone, card)
    call = 'forward' if output.name in ('logits', 'features') else 'forward_features'
    arguments = ''.join(f', {k}={v}' for k, v in config['model_args'].items())
    page = model_card(
        card,
        f"""model = timm.create_model(
    '{config['architecture']}', num_classes={config['num_classes']}{arguments},
    checkpoint_path='model.safetensors',
)
{output.name} = model.{call}(images)""",
        output.name,
    )
    side = config['pretrained_cfg']['input_size'][-1]
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    options = dict(num_classes=config['num_classes'], **config['model_args'])
    with staged(Path(folder)) as stage:
        file = str(shutil.copyfile(path, stage / 'model.safetensors'))
        (stage / 'config.json').write_text(json.dumps(config, indent=2) + '\n')
        (stage / 'README.md').write_text(page)
        for name, model in (
            (file, timm.create_model(config['architecture'], checkpoint_path=file, **options)),
            (f'local-dir:{stage}', timm.create_model(f'local-dir:{stage}', pretrained=True)),
        ):
            with torch.no_grad():
                same = torch.equal(getattr(model.eval(), call)(images), output(images))
            if not same:
                raise CheckpointError(f'{name} gives other features in timm than {path} here')
    return config


def export_onnx(student: str | Path, folder: str | Path) -> float:
    """Write ``model.onnx`` and ``README.md``, and compare with onnxruntime.

    Input ``images`` (B, 3, H, W), or clips (B, 3, T, S, S), float32, output ``tokens``
    (B, 1 + N, D), or what `Output` says of other networks. B is free, and so are H and W from
    ``EDGES`` in steps of the patch size, unless the network is of one size.

    Args:
        student: ``student.safetensors`` or its folder.
        folder: New or existing folder; files of these names in it are replaced, both of them or,
            after an error, none.

    Returns:
        The largest absolute difference to PyTorch on random images of other batches and sizes.

    Raises:
        CheckpointError: no complete student there, packages are missing, or the difference is
            beyond ``ONNX_TOLERANCE``.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  torch.onnx needs it and says so less clearly
    except ImportError as error:
        raise CheckpointError(
            f"{error.name} is missing: the ONNX export needs pip install -e '.[onnx]'"
        ) from error
    path, output, card = _read(student)
    shape, free, larger = input_shape(output.backbone), _free_edges(output.backbone), []
    if free:  # what is traced at the network's own size has its grid for good
        larger = [shape[-1] + steps * output.backbone.size_divisor for steps in (4, 6)]
    generator = torch.Generator().manual_seed(0)
    sizes = [(2, *shape[: len(shape) - len(larger)], *larger), (3, *shape)]
    traced, *others = [torch.randn(*size, generator=generator) for size in sizes]

    def write(file: Path) -> None:
        torch.onnx.export(
            output,
            (traced,),
            file,
            input_names=['images'],
            output_names=[output.name],
            dynamic_shapes={'images': {0: torch.export.Dim('batch'), **free}},
            external_data=False,
            dynamo=True,
            verbose=False,
        )

    page = model_card(
        card,
        f"""session = onnxruntime.InferenceSession('model.onnx')
{output.name}, = session.run(None, {{'images': images}})""",
        output.name,
    )
    with staged(Path(folder)) as stage:
        file = stage / 'model.onnx'
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', FutureWarning)  # torch.onnx about torch's own internals
            write(file)
        session = onnxruntime.InferenceSession(str(file), providers=['CPUExecutionProvider'])
        difference = 0.0
        for images in (traced, *others):
            (found,) = session.run(None, {'images': images.numpy()})
            with torch.no_grad():
                own = float((torch.from_numpy(found) - output(images)).abs().max())
            difference = max(difference, own)
        if not difference <= ONNX_TOLERANCE:
            raise CheckpointError(
                f'the ONNX model differs from {path} by {difference:.1e}, more than '
                f'{ONNX_TOLERANCE:.0e}; nothing was written'
            )
        (stage / 'README.md').write_text(page)
    return difference


def export_videomae(student: str | Path, folder: str | Path) -> dict[str, Tensor]:
    """Write ``videomae.pth`` and ``README.md`` of a student on video, see `comad.weights.video`.

    Args:
        student: ``student.safetensors`` or its folder.
        folder: New or existing folder; files of these names in it are replaced, both of them or,
            after an error, none.
    """
    path, output, card = _read(student)
    usage = f"tensors = torch.load('{VIDEOMAE_FILE}')['model']  # encoder.*, as VideoMAE names them"
    with staged(Path(folder)) as stage:
        tensors = write_videomae(path, output.backbone, stage)
        (stage / 'README.md').write_text(model_card(card, usage, output.name))
    return tensors


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """An empty folder whose files move to ``folder`` if the block ends without an error."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f'.{folder.name}-', dir=folder.parent) as name:
        stage = Path(name)
        yield stage
        folder.mkdir(exist_ok=True)
        for file in sorted(stage.iterdir()):
            os.replace(file, folder / file.name)


class Output(nn.Module):
    """What a student is exported for, as a forward pass.

    Attributes:
        name: ``tokens``, ``map`` (the last one) or ``logits``, the first that the student has;
            ``cubes`` are the tokens of a network on video.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        kind = getattr(backbone, 'exports', None) or next(iter(offered(backbone)), None)
        if kind is None:
            raise CheckpointError(f'{type(backbone).__name__} offers nothing that can be exported')
        self.name = 'map' if kind == 'maps' else kind
        if hasattr(backbone, 'frames'):
            self.name = 'cubes'

    def forward(self, images: Tensor) -> Tensor:
        if self.name == 'features':
            return self.backbone.features(images)['mean']
        if self.name == 'map':
            return self.backbone.maps(images)[-1]
        return (
            self.backbone(images)
            if self.name == 'cubes'
            else getattr(self.backbone, self.name)(images)
        )


def _free_edges(backbone: nn.Module) -> dict[int, Any]:
    """Height and width of an ONNX model's images as sizes that are free; none of one size."""
    if not getattr(backbone, 'any_size', False):
        return {}
    step = backbone.size_divisor
    low, high = (edge // step for edge in EDGES)
    names = {2: 'height', 3: 'width'}
    edges = {axis: torch.export.Dim(name, min=low, max=high) for axis, name in names.items()}
    return {axis: step * edge for axis, edge in edges.items()} if step > 1 else edges


def input_shape(backbone: nn.Module) -> tuple[int, ...]:
    """(3, S, S) of the images that a network is made for, or (3, T, S, S) of clips."""
    side = usual_size(backbone)
    return (3, *([backbone.frames] if hasattr(backbone, 'frames') else []), side, side)


def _read(student: str | Path) -> tuple[Path, Output, dict[str, Any]]:
    path = Path(student)
    path = path / STUDENT_FILE if path.is_dir() else path
    card = read_card(path.with_name(CARD_FILE))
    teachers = card.get('teachers') or []
    if not isinstance(teachers, list) or not all(isinstance(one, Mapping) for one in teachers):
        raise CheckpointError(
            f'{path.with_name(CARD_FILE)}: teachers {teachers!r} is no list of them'
        )
    return path, Output(load_student(path)).eval(), card


def timm_config(backbone: nn.Module, card: Mapping[str, Any]) -> dict[str, Any]:
    """timm's ``config.json`` for a student.

    Raises:
        CheckpointError: timm has no such network.
    """
    if not hasattr(backbone, 'timm_model'):
        raise CheckpointError(
            f'{type(backbone).__name__} has no form in timm; --to onnx writes it for onnxruntime'
            + (', --to videomae for that code' if hasattr(backbone, 'frames') else '')
        )
    try:
        name, arguments = backbone.timm_model()
    except ValueError as error:
        raise CheckpointError(f'{error}; --to onnx writes it for onnxruntime') from None
    side, known = usual_size(backbone), timm.get_pretrained_cfg(name)
    classes = getattr(backbone, 'num_classes', 0)
    mean, std = normalisation(card)
    view = evaluation_images(card)
    return dict(
        architecture=name,
        num_classes=classes,
        num_features=backbone.embed_dim,
        model_args=arguments,
        pretrained_cfg=dict(
            input_size=[3, side, side],
            fixed_input_size=getattr(backbone, 'sized', True),
            **view,
            mean=list(mean),
            std=list(std),
            num_classes=classes,
            pool_size=None,
            first_conv=known.first_conv,
            classifier=known.classifier,
        ),
    )


def normalisation(card: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation that a student's images were normalised by."""
    if str(card.get('config')).startswith('distill_configs/cifar100_'):
        return CIFAR_MEAN, CIFAR_STD
    return IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD


def evaluation_images(card: Mapping[str, Any]) -> dict[str, Any]:
    """Crop and interpolation of a student's test images, as timm's configs name them."""
    entry = entry_of(('sample_' if track_of(card) == SAMPLE else '') + str(card.get('arch')))
    if entry is None:
        return dict(interpolation='bicubic', crop_pct=0.875)
    return dict(interpolation=entry.interpolation, crop_pct=entry.crop)


def _data_read(data: Any) -> str | None:
    """What a pretraining read, in words; unknown of cards without or from before data were told."""
    if not isinstance(data, Mapping):
        return None
    try:
        return msgspec.convert(data, DataIdentity).text
    except msgspec.ValidationError as error:
        raise CheckpointError(f'{CARD_FILE} does not say what was read: {error}') from error


def model_card(card: Mapping[str, Any], usage: str, output: str) -> str:
    """The page that goes with the weights: what it is, from what, under which licences."""
    teachers = card.get('teachers') or []
    rows = [
        f'- {t.get("family", "?")}: `{t.get("file", "?")}`, licence {t.get("licence", "?")}'
        for t in teachers
    ]
    licences = sorted({str(t.get('licence', '?')) for t in teachers})
    known = {**card, 'data': _data_read(card.get('data'))}
    statistics = "ImageNet's mean and standard deviation"
    if (stated := normalisation(card)) != (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD):
        statistics = f'mean {stated[0]} and standard deviation {stated[1]}'
    facts = {
        key: known[key]
        for key in ('method', 'method_version', 'data', 'epochs', 'config_digest', 'sha256')
        if known.get(key) is not None
    }
    bound = (
        'What is distilled from a teacher keeps its conditions: ' + ', '.join(licences) + '.'
        if licences
        else 'No teacher was used.'
    )
    warning = (
        '\n**Pretrained on the embedded sample: it shows that the tools work and nothing else.**\n'
        if track_of(card) == SAMPLE
        else ''
    )
    return f"""# {card.get('name', 'student')}
{warning}
```python
{usage}
```

RGB {'clips' if output == 'cubes' else 'images'}, normalised by {statistics}. {OUTPUTS[output]}

## Made by

{chr(10).join(f'- {key}: {value}' for key, value in facts.items())}

## Teachers

{chr(10).join(rows) or 'None.'}

{bound}
"""
