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

import timm
import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from backbones import CheckpointError, MaskedViT, load_student
from backbones.checkpoints import read_card
from backbones.student import CARD_FILE, STUDENT_FILE
from comad.runs.card import make_card

# timm's models of our full-scale widths; every other shape is one of these with changed arguments.
TIMM_NAMES = {
    192: 'vit_tiny_patch16_224',
    384: 'vit_small_patch16_224',
    768: 'vit_base_patch16_224',
}
STANDARD = dict(img_size=224, patch_size=16, depth=12)
ONNX_TOLERANCE = 1e-4


def export_timm(student: str | Path, folder: str | Path) -> dict[str, Any]:
    """Write ``model.safetensors``, ``config.json`` and ``README.md``, and check them in timm.

    The file is the student's own, whose tensors already have timm's names. timm then builds it by
    ``create_model(name, num_classes=0, checkpoint_path=...)`` or ``create_model('local-dir:...')``;
    both are compared with the student on random images.

    Args:
        student: ``student.safetensors`` or its folder.
        folder: New or existing folder; files of these names in it are replaced, all of them or,
            after an error, none.

    Returns:
        What ``config.json`` holds.

    Raises:
        CheckpointError: no complete student there, or timm's features are not identical.
    """
    path, backbone, card = _read(student)
    config = timm_config(backbone.architecture())
    arguments = ''.join(f', {k}={v}' for k, v in config['model_args'].items())
    page = model_card(
        card,
        f"""model = timm.create_model(
    '{config['architecture']}', num_classes=0{arguments},
    checkpoint_path='model.safetensors',
)
tokens = model.forward_features(images)""",
    )
    side = config['pretrained_cfg']['input_size'][-1]
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    options = dict(num_classes=0, **config['model_args'])
    with staged(Path(folder)) as stage:
        file = str(shutil.copyfile(path, stage / 'model.safetensors'))
        (stage / 'config.json').write_text(json.dumps(config, indent=2) + '\n')
        (stage / 'README.md').write_text(page)
        for name, model in (
            (file, timm.create_model(config['architecture'], checkpoint_path=file, **options)),
            (f'local-dir:{stage}', timm.create_model(f'local-dir:{stage}', pretrained=True)),
        ):
            with torch.no_grad():
                same = torch.equal(model.eval().forward_features(images), backbone.tokens(images))
            if not same:
                raise CheckpointError(f'{name} gives other features in timm than {path} here')
    return config


def export_onnx(student: str | Path, folder: str | Path) -> float:
    """Write ``model.onnx`` and ``README.md``, and compare with onnxruntime.

    Input ``images`` (B, 3, S, S) float32 of any B and the student's own S, output ``tokens``
    (B, 1 + N, D).

    Args:
        student: ``student.safetensors`` or its folder.
        folder: New or existing folder; files of these names in it are replaced, both of them or,
            after an error, none.

    Returns:
        The largest absolute difference to PyTorch on random images of another batch size.

    Raises:
        CheckpointError: no complete student there, packages are missing, or the difference is
            beyond ``ONNX_TOLERANCE``.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  torch.onnx needs it and says so less clearly
    except ImportError as error:
        raise CheckpointError(
            f"{error.name} is missing: the ONNX export needs pip install -e '.[export]'"
        ) from error
    path, backbone, card = _read(student)
    side = backbone.architecture()['img_size']
    images = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(0))

    def write(file: Path) -> None:
        torch.onnx.export(
            _Tokens(backbone).eval(),
            (images[:2],),
            file,
            input_names=['images'],
            output_names=['tokens'],
            dynamic_shapes={'images': {0: torch.export.Dim('batch')}},
            external_data=False,
            dynamo=True,
            verbose=False,
        )

    page = model_card(
        card,
        """session = onnxruntime.InferenceSession('model.onnx')
tokens, = session.run(None, {'images': images})""",
    )
    with staged(Path(folder)) as stage:
        file = stage / 'model.onnx'
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', FutureWarning)  # torch.onnx about torch's own internals
            write(file)
        session = onnxruntime.InferenceSession(str(file), providers=['CPUExecutionProvider'])
        (tokens,) = session.run(None, {'images': images.numpy()})
        with torch.no_grad():
            difference = float((torch.from_numpy(tokens) - backbone.tokens(images)).abs().max())
        if not difference <= ONNX_TOLERANCE:
            raise CheckpointError(
                f'the ONNX model differs from {path} by {difference:.1e}, more than '
                f'{ONNX_TOLERANCE:.0e}; nothing was written'
            )
        (stage / 'README.md').write_text(page)
    return difference


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


class _Tokens(nn.Module):
    """`MaskedViT.tokens` as a forward pass."""

    def __init__(self, backbone: MaskedViT) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        return self.backbone.tokens(images)


def _read(student: str | Path) -> tuple[Path, MaskedViT, dict[str, Any]]:
    path = Path(student)
    path = path / STUDENT_FILE if path.is_dir() else path
    return path, load_student(path).eval(), read_card(path.with_name(CARD_FILE))


def timm_config(architecture: Mapping[str, int]) -> dict[str, Any]:
    """timm's ``config.json`` for one of our architectures."""
    width, side = architecture['embed_dim'], architecture['img_size']
    name = TIMM_NAMES.get(width, TIMM_NAMES[192])
    usual = {**STANDARD, 'embed_dim': width, 'num_heads': width // 64}
    if width not in TIMM_NAMES:
        usual |= dict(embed_dim=192, num_heads=3)
    return dict(
        architecture=name,
        num_classes=0,
        num_features=width,
        model_args={k: v for k, v in architecture.items() if usual.get(k) != v},
        pretrained_cfg=dict(
            input_size=[3, side, side],
            fixed_input_size=True,
            interpolation='bicubic',
            crop_pct=0.875,
            mean=list(IMAGENET_DEFAULT_MEAN),
            std=list(IMAGENET_DEFAULT_STD),
            num_classes=0,
            pool_size=None,
            first_conv='patch_embed.proj',
            classifier='head',
        ),
    )


def model_card(card: Mapping[str, Any], usage: str) -> str:
    """The page that goes with the weights: what it is, from what, under which licences."""
    teachers = card.get('teachers') or []
    rows = [
        f'- {t.get("family", "?")}: `{t.get("file", "?")}`, licence {t.get("licence", "?")}'
        for t in teachers
    ]
    licences = sorted({str(t.get('licence', '?')) for t in teachers})
    known = {**card, 'data': make_card(card).pretrain_data}
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
        if card.get('sample')
        else ''
    )
    return f"""# {card.get('name', 'student')}
{warning}
```python
{usage}
```

RGB images, normalised by ImageNet's mean and standard deviation. `tokens` are the class token, then
the patch tokens in raster order, after the final norm.

## Made by

{chr(10).join(f'- {key}: {value}' for key, value in facts.items())}

## Teachers

{chr(10).join(rows) or 'None.'}

{bound}
"""
