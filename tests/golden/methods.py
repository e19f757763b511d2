"""Twenty seeded steps of every method on tiny networks, in float64: what a refactoring must keep.

The methods compute targets and losses in float32 on purpose. Twenty steps of it differ in the
fourth digit between processors, so here every float32 is made a float64 before torch sees it: what
remains of the processor is 1e-12, and a change of any formula shows. All randomness comes from
torch's CPU generator, whose figures no processor changes, other than `bernoulli_` and
`exponential_`: hence no stochastic depth.
"""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import MessageHub
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from torch import Tensor
from torch.overrides import TorchFunctionMode

import comad.engine.register  # noqa: F401

FILE = Path(__file__).with_name('losses.json')
STEPS, BATCH, SIZE = 20, 8, 32
# 4 x 4 patches of 8 px; one width for all would hide a map that is applied from the wrong side.
STUDENT = dict(type='MaskedViT', arch='sample_tiny', img_size=SIZE, embed_dim=32, depth=3)
TEACHER = dict(arch='sample_tiny', img_size=SIZE, embed_dim=48, depth=4, num_heads=4)
# 2 x 4 x 4 cubes of 2 x 8 x 8.
CLIP = dict(img_size=SIZE, frames=4, patch_size=8, tubelet=2)
VIDEO_STUDENT = dict(STUDENT | CLIP, type='MaskedVideoViT', arch='sample_video_small', num_heads=2)
VIDEO_TEACHER = dict(TEACHER | CLIP, arch='sample_video_large')
ON_VIDEO = ('VideoMAE', 'AMDVideo')
SMALL_DECODER = dict(arch='sample_tiny', width=32)
CONTRASTIVE_HEAD = dict(hidden_dim=32, out_dim=16)
PROTOTYPES = dict(out_dim=24, hidden_dim=32, bottleneck=8, norm=True)
OPTIMIZER = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, betas=(0.9, 0.95), weight_decay=0.05),
    clip_grad=dict(max_norm=3.0),
    constructor='LayerWiseDecayConstructor',
    paramwise_cfg=dict(),
)
# What trains the stand-in of a teacher's official file, by family.
SCHOOLS: dict[str, dict[str, Any]] = {
    'mae': dict(type='MAE', decoder=SMALL_DECODER),
    'mocov3': dict(type='MoCoV3', head=CONTRASTIVE_HEAD),
    'ibot': dict(type='IBOT', backbone=dict(use_mask_token=True), head=PROTOTYPES),
    'videomae': dict(type='VideoMAE', decoder=SMALL_DECODER),
}
RATIOS = dict(mae=0.6, mocov3=0.4, ibot=0.2)
COMAD = dict(type='CoMAD', decoder=SMALL_DECODER, diagnostics_every=5, teachers=RATIOS)
WHOLE = dict.fromkeys(RATIOS, {})
# Name -> model config; ``teachers`` names families and what is added to each one's entry.
METHODS: dict[str, dict[str, Any]] = {
    'comad': COMAD,
    'comad_affinity': dict(COMAD, gate='affinity_only'),
    'comad_agreement': dict(COMAD, gate='agreement_only'),
    'comad_uniform': dict(COMAD, gate='uniform', masks='student_subset', map_axis='channel'),
    'comad_pca': dict(COMAD, align='pca', whiten=False, positions='learned', map_weight=0.5),
    'comad_orthogonal': dict(COMAD, align='orthogonal', cls_weight=0.5, temperature=2.0),
    'comad_reconstruct': dict(COMAD, align='reconstruct', balance=0.25, tau=0.2),
    'comad_joint': dict(COMAD, align='joint'),
    'comad_only_mae': dict(COMAD, teachers=dict(mae=0.6), cls_weight=1.0),
    'dmt': dict(type='DMT', teachers=WHOLE),
    'dmt_mean': dict(type='DMT', teachers=WHOLE, heads='mean', positions='learned'),
    'dmt_layers': dict(type='DMT', teachers=WHOLE, projector='mlp', layers=[(2, 2), (3, 4)]),
    'hybrid_distill': dict(
        type='HybridDistill',
        teachers=dict(mocov3=dict(role='features'), mae=dict(role='relations')),
        diagnostics_every=5,
    ),
    'amd': dict(type='AMD', teachers=dict(mae=0.5), decoder=SMALL_DECODER),
    'd_mae_lite': dict(type='DMAELite', teachers=dict(mae={}), decoder=SMALL_DECODER),
    'mae': SCHOOLS['mae'],
    'mae_pixels': dict(type='MAE', decoder=SMALL_DECODER, norm_pix=False, mask_ratio=0.5),
    'mocov3': SCHOOLS['mocov3'],
    'ibot': dict(SCHOOLS['ibot'], freeze_prototypes=0.25, teacher_temp=(0.04, 0.07, 0.5)),
    'ibot_random': dict(
        SCHOOLS['ibot'],
        head={**PROTOTYPES, 'norm': False, 'norm_last_layer': False},
        mask_shape='random',
        init='mae',
    ),
    'videomae': dict(SCHOOLS['videomae'], mask_ratio=0.75),
    'amd_video': dict(type='AMDVideo', teachers=dict(videomae=0.75), decoder=SMALL_DECODER),
}
VIEWS = dict(MoCoV3=(SIZE, SIZE), IBOT=(SIZE, SIZE, SIZE // 2, SIZE // 2))


class InFloat64(TorchFunctionMode):
    """Every float32 that Python asks torch for is a float64."""

    def __enter__(self) -> 'InFloat64':
        self.before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch.set_default_dtype(self.before)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.Tensor.float:
            return args[0].double()
        options = {key: _wider(value) for key, value in (kwargs or {}).items()}
        return func(*map(_wider, args), **options)


def train(name: str, folder: Path) -> dict[str, Any]:
    """Train the method ``name`` for ``STEPS`` steps; ``folder`` keeps the teachers' files.

    Returns:
        ``steps``: name -> what each step logged under it, None where it did not; ``student``:
        tensor of the exported network -> its norm and two projections.
    """
    with InFloat64():
        config = dict(METHODS[name])
        video = config['type'] in ON_VIDEO
        if 'teachers' in config:
            config['teachers'] = [
                dict(
                    family=family,
                    checkpoint=str(teacher_file(family, folder)),
                    **(VIDEO_TEACHER if video else TEACHER),
                    **(entry if isinstance(entry, dict) else dict(mask_ratio=entry)),
                )
                for family, entry in config['teachers'].items()
            ]
        torch.manual_seed(7)
        _progress(0)
        model = _build(config, VIDEO_STUDENT if video else STUDENT)
        with torch.random.fork_rng():
            torch.manual_seed(11)
            model.fit(iter([images(SIZE) for _ in range(12)]))
        steps = _train(model)
        tensors = model.exported.state_dict()
    names = dict.fromkeys(name for step in steps for name in step)
    return {
        'steps': {name: [step.get(name) for step in steps] for name in names},
        'student': {name: summary(tensor) for name, tensor in tensors.items()},
    }


def write_runs(runs: Mapping[str, Mapping[str, Any]]) -> None:
    """Store what :func:`train` returned by method: a line per name, ten digits per figure."""
    entries = []
    for name, run in runs.items():
        parts = [
            f'"{part}": {{\n' + ',\n'.join(map(_line, run[part].items())) + '\n}'
            for part in ('steps', 'student')
        ]
        entries.append(f'"{name}": {{{", ".join(parts)}}}')
    FILE.write_text('{' + ',\n'.join(entries) + '}\n')


def teacher_file(family: str, folder: Path) -> Path:
    """The stand-in of a family's official file, made by a few steps of its own method."""
    found = list(folder.glob(f'{family}_*'))
    if found:
        return found[0]
    torch.manual_seed(len(family))
    _progress(0)
    student, teacher = (
        (VIDEO_STUDENT, VIDEO_TEACHER) if family == 'videomae' else (STUDENT, TEACHER)
    )
    model = _build(SCHOOLS[family], student | teacher)
    _train(model, 4)
    name, content = model.official_checkpoint()
    path = folder / f'{family}_{name}'
    torch.save(content, path)
    return path


def images(size: int) -> Tensor:
    """(BATCH, 3, size, size) normalised stand-ins: waves of random direction, colour and noise."""
    shape = BATCH, 3, 1, 1
    across = torch.linspace(0, 1, size)
    down, tint = across[:, None], torch.rand(shape) - 0.5
    waves = torch.sin(12 * (torch.rand(shape) * across + torch.rand(shape) * down))
    return waves * (1 + tint) + tint + 0.3 * torch.randn(BATCH, 3, size, size)


def batch_of(method: str) -> Tensor | list[Tensor]:
    """What a method is trained on: images, several views of them, or clips."""
    if method in ON_VIDEO:
        return clips()
    return [images(size) for size in VIEWS[method]] if method in VIEWS else images(SIZE)


def clips() -> Tensor:
    """(BATCH, 3, 4, SIZE, SIZE): such images that fade in, with noise of their own per frame."""
    frames = [images(SIZE) * share for share in (0.4, 0.6, 0.8, 1.0)]
    return torch.stack(frames, 2) + images(SIZE).unsqueeze(2)


def summary(tensor: Tensor) -> list[float]:
    """Norm of a tensor and its products with two fixed directions, in the order of its entries."""
    x = tensor.detach().double().flatten()
    places = torch.arange(len(x), dtype=torch.float64)
    return [float(x.norm()), float(x @ torch.cos(places)), float(x @ torch.sin(1 + 3 * places))]


def _build(config: Mapping[str, Any], backbone: Mapping[str, Any]) -> Any:
    own = config.get('backbone', {})
    model = MODELS.build({**config, 'backbone': {**backbone, **own}})
    logging.disable(logging.INFO)  # a line per tensor
    model.init_weights()
    logging.disable(logging.NOTSET)
    return model.train()


def _train(model: Any, count: int = STEPS) -> list[dict[str, float]]:
    wrapper = build_optim_wrapper(model, dict(OPTIMIZER))
    model.follow(wrapper.optimizer)
    steps = []
    for step in range(count):
        _progress(step, count)
        inputs = batch_of(type(model).__name__)
        labels = torch.arange(BATCH) % 4
        logged = model.train_step(dict(inputs=inputs, labels=labels), wrapper)
        steps.append({key: value.item() for key, value in logged.items()})
    return steps


def _progress(step: int, total: int = STEPS) -> None:
    """Tell methods with schedules where the training is, as the runner does."""
    hub = MessageHub.get_current_instance()
    hub.update_info('iter', step)
    hub.update_info('max_iters', total)


def _line(entry: tuple[str, list[float | None]]) -> str:
    name, values = entry
    return f'"{name}": ' + json.dumps([x if x is None else float(f'{x:.10g}') for x in values])


def _wider(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value
