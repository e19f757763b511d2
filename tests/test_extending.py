"""docs/extending.md is followed word for word in a copy of the tree: its files, lines and commands.

A pretraining method, a teacher family, a task and a track are added and run on a handful of images;
each has to get its row, ranked or with the reasons why not.
"""

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from backbones import MaskedViT
from comad.runs.place import CALLER, HOME

REPOSITORY = Path(__file__).resolve().parents[1]
DOC = REPOSITORY / 'docs' / 'extending.md'
BLOCK = re.compile(r'^```(python|sh)\n(.*?)^```$', re.MULTILINE | re.DOTALL)
COPIED = ('backbones', 'base_configs', 'cls_configs', 'comad', 'pretrain_configs', 'tools')
# What a section adds: new files, and lines in files that are there.
BUDGET = {
    'A pretraining method': (2, 2),
    'A teacher': (1, 1),
    'A task': (3, 0),
    'A track': (3, 0),
}
# A pretraining of the sample is minutes, and its probe wants 1,500 images.
NO_HOOKS = ('default_hooks.online_probe=None', 'default_hooks.pretrain_figure=None')
SHORT = ('--cfg-options', 'train_cfg.max_epochs=2', *NO_HOOKS)
CLASSES, TRAIN, VAL = 10, 30, 2


def sections() -> dict[str, list[tuple[str, str]]]:
    """Heading up to its colon -> language and text of its blocks that are to be followed."""
    found = {}
    for part in DOC.read_text(encoding='utf-8').split('\n## ')[1:]:
        heading = part.partition('\n')[0].partition(':')[0]
        found[heading] = [
            (language, text)
            for language, text in BLOCK.findall(part)
            if language == 'sh' or text.startswith('# ')
        ]
    return found


def put(root: Path, block: str) -> tuple[int, int]:
    """Write the file or the lines that a block holds; return how many files and lines are new."""
    head, _, body = block.partition('\n')
    path, _, line = head.removeprefix('# ').partition(', after: ')
    file = root / path
    if not line:
        assert not file.exists(), f'{path} is there already'
        file.parent.mkdir(exist_ok=True)
        file.write_text(body)
        return 1, 0
    lines = file.read_text().splitlines(keepends=True)
    assert lines.count(line + '\n') == 1, f'{path} does not hold once: {line}'
    place = lines.index(line + '\n') + 1
    file.write_text(''.join([*lines[:place], body, *lines[place:]]))
    return 0, body.count('\n')


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    """A copy of the tree with all that the document adds, images and a teacher's file."""
    root = tmp_path_factory.mktemp('copy')
    for name in COPIED:
        shutil.copytree(REPOSITORY / name, root / name)
    (root / 'results').mkdir()
    for path in (REPOSITORY / 'results').glob('published*.csv'):
        shutil.copy(path, root / 'results')
    for heading, budget in BUDGET.items():
        blocks = [text for language, text in sections()[heading] if language == 'python']
        new = [put(root, text) for text in blocks]
        assert tuple(map(sum, zip(*new, strict=True))) == budget, heading
    generator = np.random.default_rng(0)
    for split, count in (('train', TRAIN), ('val', VAL)):
        for label in range(CLASSES):
            folder = root / 'data' / 'sample' / 'imagenet' / split / f'n{label}'
            folder.mkdir(parents=True)
            for number in range(count):
                noise = generator.integers(0, 60, (64, 64, 3), dtype=np.uint8) + 20 * label
                Image.fromarray(noise.astype(np.uint8)).save(folder / f'n{label}_{number}.JPEG')
    shutil.copytree(root / 'data' / 'sample' / 'imagenet', root / 'data' / 'flowers')
    # What makes it the sample: a run on other data has no place in the sample's tables.
    manifest = {'seed': 0, 'version': 0, 'sha256': '0' * 64}
    (root / 'data' / 'sample' / 'manifest.json').write_text(json.dumps(manifest))
    torch.manual_seed(0)
    (root / 'teachers').mkdir()
    torch.save({'model': MaskedViT('sample_base').state_dict()}, root / 'teachers' / 'ours.pth')
    return root


def run(root: Path, command: str, *options: str) -> str:
    words = shlex.split(command)
    words[0] = sys.executable if words[0] == 'python' else words[0]
    # Nothing of the checkout itself, and the copy's own path comes from its tools.
    own = ('PYTHONPATH', HOME, CALLER)
    environment = {k: v for k, v in os.environ.items() if k not in own}
    path = f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}'
    environment |= {'PATH': path, 'CUDA_VISIBLE_DEVICES': '', 'OMP_NUM_THREADS': '1'}
    done = subprocess.run(
        [*words, *options], cwd=root, env=environment, capture_output=True, text=True, timeout=600
    )
    said = f'{done.stdout}\n{done.stderr}'
    assert done.returncode == 0, f'{command}\n{said[-3000:]}'
    return said


def test_every_block_that_is_followed_stands_in_a_section_with_a_budget():
    followed = {heading for heading, blocks in sections().items() if blocks}
    assert followed == set(BUDGET)


@pytest.mark.slow
def test_a_method_a_teacher_a_task_and_a_track_get_their_rows(tree):
    commands = {
        heading: [
            line for language, text in blocks if language == 'sh' for line in text.splitlines()
        ]
        for heading, blocks in sections().items()
    }
    tables = 'python tools/leaderboard.py --sample'

    def follow(heading: str) -> None:
        for command in commands[heading]:
            if command != tables:
                run(tree, command, *(SHORT if 'pretrain.sh' in command else ()))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(follow, ('A pretraining method', 'A teacher')))
    follow('A task')
    assert tables in commands['A pretraining method'] and tables in commands['A task']
    said = run(tree, tables)
    table = tree / 'results' / 'sample' / 'leaderboard_classification.csv'
    rows = list(csv.DictReader(table.open()))
    made = {(row['method'], row['teachers'], row['protocol']) for row in rows}
    assert made == {
        ('patch_colour', '', 'dino_knn'),
        ('comad_only_ours', 'ours', 'dino_knn'),
        ('patch_colour', '', 'nearest'),
    }
    for row in rows:
        assert 0 <= float(row['value']) <= 100 and row['pool'] in ('cls', 'mean')
        assert row['rank'] or any(name in said for name in row['records'].split('; ')), row
    assert len(rows) == 6
    follow('A track')
    table = tree / 'results' / 'flowers' / 'leaderboard_classification.csv'
    rows = list(csv.DictReader(table.open()))
    assert [
        (row['method'], row['student'], row['protocol'], row['resolution']) for row in rows
    ] == [('scratch', 'ViT-Tiny/16', 'dino_knn', '64')] * 2
