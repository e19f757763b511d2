"""Tiny networks of every family, their teachers' files, and steps on noise."""

from pathlib import Path

import torch
from mmengine.registry import MODELS

import comad.data.preprocessor  # noqa: F401
import comad.distill  # noqa: F401
from backbones import save_student
from backbones.staged import StagedClassifier

FAMILIES = {
    'cnn': 'sample_resnet18',
    'vit': 'sample_deit_tiny',
    'mlp': 'sample_mixer_base',
    'swin': 'sample_swin_tiny',
}
CLASSES = 10
METHODS = ('KD', 'DKD', 'DIST', 'FitNet', 'CC', 'RKD', 'CRD', 'OFA', 'FBT')


def teacher_file(folder: Path, arch: str) -> Path:
    """A file of random weights, drawn once per folder."""
    path = folder / arch
    if not path.exists():
        torch.manual_seed(1)
        save_student(path, StagedClassifier(arch=arch, num_classes=CLASSES), {'name': arch})
    return path / 'student.safetensors'


def build(method: str, student: str, teacher: str | None, folder: Path, **options):
    """A method from and to networks of `FAMILIES`, in training mode."""
    torch.manual_seed(0)
    if method == 'CRD':
        options = {'negatives': 6, **options}
    if method == 'OFA':
        options = {'final_grid': 2, **options}
    if teacher is not None:
        arch = FAMILIES[teacher]
        file = str(teacher_file(folder, arch))
        options['teachers'] = [dict(family='classifier', arch=arch, checkpoint=file)]
    model = MODELS.build(
        dict(
            type=method,
            backbone=dict(type='StagedClassifier', arch=FAMILIES[student], drop_path_rate=0.0),
            num_classes=CLASSES,
            data_preprocessor=dict(type='ImageDataPreprocessor'),
            **options,
        )
    )
    if method == 'CRD' and options.get('crd_weight', 1):
        model.remember(torch.arange(40) % CLASSES)
    return model.train()


def batch(count: int = 4):
    """Normalised noise, labels and numbers of images."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, 3, 64, 64, generator=generator)
    return images, torch.arange(count) % CLASSES, torch.arange(count)


def step(model, optimizer=None):
    """Losses of a step on `batch`, after its gradients were taken and, perhaps, applied."""
    images, labels, index = batch()
    losses = model(images, labels, index=index)
    total, _ = model.parse_losses(losses)
    model.zero_grad()
    total.backward()
    if optimizer is not None:
        optimizer.step()
    return {name: float(value.detach()) for name, value in losses.items()}
