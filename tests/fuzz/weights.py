"""Mutated weight files and cards, inspected, converted and loaded."""

import argparse
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from backbones import MaskedViT, build_teacher, load_student, save_student
from backbones.checkpoints import read_checkpoint
from comad.methods.parts.positions import sincos_positions
from comad.weights.convert import convert
from comad.weights.inspect import inspect_file
from tests.backbones.test_families import below, in_transformers
from tests.fuzz.mutations import ODD, harm_bytes, harm_json
from tests.fuzz.outcome import MARK, Kind

SHAPE = dict(arch='sample_tiny', depth=1)


class Writes:
    """Writes a file where somebody unpickles it unguarded."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return open, (self.path, 'w')


class Checkpoints(Kind):
    """One file, an index with two, or a student with its card."""

    name = 'checkpoints'

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        torch.manual_seed(0)
        self.learned = MaskedViT(**SHAPE).state_dict()
        self.fixed = {**self.learned, 'pos_embed': sincos_positions(64, 8, 'w')}
        self.student = MaskedViT(**SHAPE)

    def prepare(self, draw: random.Random, case: Path) -> tuple[str, Callable[[], None]]:
        way = draw.choice(['file', 'file', 'file', 'parts', 'student'])
        words = getattr(self, f'_{way}')(draw, case)
        files = sorted(path for path in case.iterdir() if path.is_file())
        if draw.random() < 0.3 and files:
            words += f'; {harm_bytes(draw, draw.choice(files))}'
        family = draw.choice(['auto', 'auto', 'mae', 'ibot', 'dinov2'])
        source = case / 'student.safetensors' if way == 'student' else next(
            (path for path in files if path.name.startswith('file')), case
        )  # fmt: skip

        def attempt() -> None:
            if way == 'student':
                load_student(source)
                return
            report = inspect_file(source, family)
            report.text()
            if report.problem is None:
                convert(source, case / 'out.safetensors', family)
                build_teacher(family, case / 'out.safetensors', **SHAPE)
            build_teacher(family, source, **SHAPE)

        return f'{way} as {family}: {words}', attempt

    def check(self, case: Path, error: BaseException | None) -> str | None:
        if (case / 'out.safetensors').exists():
            read_checkpoint(case / 'out.safetensors')
        return super().check(case, error)

    def _tensors(self, draw: random.Random) -> dict[str, Any]:
        tensors = dict(draw.choice([self.learned, self.fixed]))
        if draw.random() < 0.2:
            tensors = in_transformers(tensors, draw.choice(['', 'vit.']))
        return tensors

    def _harmed(self, draw: random.Random, tensors: dict[Any, Any]) -> str:
        """Change a tensor, in place."""
        name = draw.choice([name for name in tensors if isinstance(name, str)])
        tensor = tensors[name]
        changes = {
            'gone': None,
            'empty': torch.zeros(0),
            'scalar': torch.tensor(1.0),
            'flat': tensor.flatten(),
            'one more': torch.stack([tensor, tensor]),
            'cut': tensor.reshape(-1)[:-1],
            'half': tensor.half(),
            'double': tensor.double(),
            'whole': tensor.to(torch.int64),
            'bool': tensor != 0,
            'complex': tensor.to(torch.complex64),
            'nan': tensor * float('nan'),
            'other': draw.choice(['x.y', 'head.weight', 'blocks.7.norm1.weight', 'cls_token']),
        }
        way = draw.choice(list(changes))
        if way == 'gone':
            del tensors[name]
        elif way == 'other':
            tensors[changes[way]] = tensors.pop(name)
        else:
            tensors[name] = changes[way].contiguous()
        return f'{way} {name}'

    def _file(self, draw: random.Random, case: Path) -> str:
        tensors = self._tensors(draw)
        words = [self._harmed(draw, tensors) for _ in range(draw.choice([0, 1, 1, 2]))]
        prefixes = ('', 'module.', '_orig_mod.', 'backbone.', 'teacher.backbone.', 'trunk.x.')
        prefix = draw.choice(prefixes)
        content: Any = below(prefix, tensors)
        if draw.random() < 0.3:
            save_file(content, case / 'file.safetensors')
            return f'{prefix} {words}'
        key = draw.choice([None, 'model', 'state_dict', 'teacher', 'student', 'weights'])
        content = content if key is None else {key: content}
        extra = draw.choice(['nothing', 'nothing', 'number', 'arguments', 'odd', 'code', 'array'])
        beside = {
            'number': np.float32(1.5),
            'arguments': argparse.Namespace(lr=np.float64(1), x=[{}]),
            'odd': draw.choice(ODD),
            'code': Writes(case / MARK),
            'array': np.arange(3),
        }
        if extra != 'nothing':
            content[draw.choice(['epoch', 'state_dict_ema', 'model', 7, ('a', 1)])] = beside[extra]
        if draw.random() < 0.05:
            content = draw.choice([list(content), None, 5, 'text', tensors.get('cls_token')])
        name = draw.choice(['file.pth', 'file.pth', 'file.pth.tar', 'file.bin', 'file.x'])
        zipped = draw.random() < 0.8
        torch.save(content, case / name, _use_new_zipfile_serialization=zipped)
        return f'{name} {key} {prefix} {extra} {words}'

    def _parts(self, draw: random.Random, case: Path) -> str:
        tensors = self._tensors(draw)
        places = {name: f'part{number % 2}.safetensors' for number, name in enumerate(tensors)}
        for file in sorted(set(places.values())):
            save_file({k: v for k, v in tensors.items() if places[k] == file}, case / file)
        index = {'weight_map': places, 'metadata': {}}
        words = harm_json(draw, index)
        (case / 'file.safetensors.index.json').write_text(json.dumps(index))
        return words

    def _student(self, draw: random.Random, case: Path) -> str:
        save_student(case, self.student, dict(name='toy_tiny', teachers=[]))
        path = case / 'student.json'
        card = json.loads(path.read_bytes())
        node = draw.choice([card, card['architecture']])
        words = harm_json(draw, node)
        path.write_text(json.dumps(card))
        return words
