"""Every table, page and printed line that the suite makes of the fixed records.

Made by the public commands in a folder of its own. Left out of the comparison is what a record
alone decides (its digest and its protocol fields, which the tests compare with the record) and what
other packages draw: pictures as a whole, figures unless Matplotlib is the one they were made with.
"""

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

from PIL import Image

from comad.commands.leaderboard import main
from comad.runs.place import CALLER, HOME
from comad.sweep.finish import finish_ablations, finish_study
from comad.sweep.step import Step
from tests.golden.records import FOLDERS, write_records

HERE = Path(__file__).parent
FILES = HERE / 'tables'
DIGESTS = (
    'leaderboard.json',
    'report.html',
    'sample/leaderboard.json',
    'sample/report.html',
)
FORMATS = ('--format', 'csv', 'markdown', 'latex', 'json')
PAGE = """Before.
<!-- leaderboard:begin -->
<!-- leaderboard:end -->
Between.
<!-- check:begin -->
<!-- check:end -->

<!-- study:begin -->
<!-- study:end -->

<!-- paired:begin -->
<!-- paired:end -->

<!-- complementary:begin -->
<!-- complementary:end -->
"""
# A row that an earlier study left, under an earlier version of the protocol.
EARLIER = """student,method_version,teachers,task,metric,pool,mean,sd,n,seeds,values,\
pretrain_seconds,pretrain_gflop_per_image,pretrain_tflop,kind,protocol,protocol_version,device,\
cpu,torch
dmt_tiny,1,mae; mocov3; ibot,linear,top1,mean,44.25,0.35,2,0/0; 1/1,44.00; 44.50,71.0,0.44,5.28,\
measured,mae_linear,0,cpu,a processor,2.10.0
"""
CLASSES = {'wall': 71.25, 'sky': 90.5, 'door & <frame>': None}


class Made(NamedTuple):
    """Texts of all files and printed lines, exit codes, the tables as JSON, and the records."""

    texts: dict[str, str]
    codes: dict[str, int]
    rows: dict[str, list[dict[str, Any]]]
    records: list[dict[str, Any]]


def make_tables(root: Path) -> Made:
    """Run study, ablations, tables of both scales, reports and verification below ``root``."""
    records = write_records(root)
    shutil.copy(HERE / 'published.csv', root / 'results/published.csv')
    (root / 'docs').mkdir()
    (root / 'docs/results.md').write_text(PAGE)
    (root / 'results/sample_study.csv').write_text(EARLIER)
    _write_runs(root, records)
    steps = [
        Step(name, ('true',), (f'{FOLDERS[True]}/{name}',))
        for name in sorted(path.name for path in (root / FOLDERS[True]).iterdir())
    ]
    finish_study(root, steps)
    finish_ablations(root, SimpleNamespace(steps=steps, is_done=lambda step: True), 3)
    said, codes = {}, {}
    commands = {
        'printed.txt': ('--published', 'results/published.csv', *FORMATS),
        'sample/printed.txt': ('--sample', *FORMATS),
        'report.txt': ('--published', 'results/published.csv', 'report'),
        'sample/report.txt': ('--sample', 'report'),
        'verified.txt': ('--published', 'results/published.csv', 'verify'),
        'sample/verified.txt': ('--sample', 'verify'),
    }
    with _inside(root):
        for name, arguments in commands.items():
            codes[name], said[name] = _run(*arguments)
    left_out = (root / 'results/published.csv', *(root / folder for folder in FOLDERS.values()))
    texts = {'results_page.md': (root / 'docs/results.md').read_text(), **said}
    for path in sorted((root / 'results').rglob('*.*')):
        if path.suffix != '.png' and not {path, path.parent} & set(left_out):
            texts[str(path.relative_to(root / 'results'))] = path.read_text()
    rows = json.loads(texts['leaderboard.json'])
    return Made(texts, codes, rows, records)


def comparable(made: Made) -> dict[str, str]:
    """Name -> text without what a record alone decides and what other packages draw.

    Large texts are there as digests; what a person needs to see a difference, the words of the page
    and one row as JSON, is there beside.
    """
    texts = {name: _plain(text, made.records) for name, text in made.texts.items()}
    page = texts['report.html']
    rows = json.dumps(json.loads(texts['leaderboard.json'])['segmentation'][:2], indent=1) + '\n'
    digests = {name: hashlib.sha256(texts.pop(name).encode()).hexdigest() for name in DIGESTS}
    words = re.sub(r'<(style|script)>.*?</\1>|<[^>]*>', '', page, flags=re.S)
    texts['report_words.txt'] = re.sub(r'\n\s*\n+', '\n', words)
    texts['segmentation.json'] = rows
    return {**texts, 'digests.json': json.dumps(digests, indent=1) + '\n'}


def figure_digests(made: Made) -> dict[str, Any]:
    """Matplotlib's version, and the digest of every figure of the full-scale page."""
    import matplotlib

    figures = re.findall(r'<svg.*?</svg>', made.texts['report.html'], re.S)
    digests = [hashlib.sha256(figure.encode()).hexdigest()[:16] for figure in figures]
    return {'matplotlib': matplotlib.__version__, 'figures': digests}


def _run(*arguments: str) -> tuple[int, str]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main(list(arguments))
    return code, said.getvalue()


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    # What contextlib.chdir does from Python 3.11 on; and there commands are at home.
    before = Path.cwd()
    os.chdir(folder)
    try:
        with mock.patch.dict(os.environ, {HOME: str(folder), CALLER: str(folder)}):
            yield
    finally:
        os.chdir(before)


def _plain(text: str, records: list[dict[str, Any]]) -> str:
    for number, record in enumerate(records):
        text = text.replace(record['digest'], f'digest-of-record-{number}')
    found: dict[str, str] = {}
    text = re.sub(r'@[0-9a-f]{6}\b', lambda m: found.setdefault(m[0], f'@{len(found) + 1}'), text)
    text = re.sub(r'"protocol": \{.*?\}', '"protocol": {}', text, flags=re.S)
    text = re.sub(r' title="[^"]*">whole protocol', '>whole protocol', text)
    own = r'(<div popover id="p-.*?<dl class="facts">).*?(</dl>)'
    text = re.sub(own, r'\1\2', text, flags=re.S)
    text = re.sub(r'<svg.*?</svg>', '<svg/>', text, flags=re.S)
    text = re.sub(r'(src="data:)[^"]*', r'\1', text)
    return re.sub(r'\(\d+ kB\)', '(.. kB)', text)


def _write_runs(root: Path, records: list[dict[str, Any]]) -> None:
    """What runs leave beside their records, for three students of some tasks and seeds."""
    for record in records:
        student, seed = record['student']['name'], record['seeds']['pretrain']
        if record['sample'] or seed > 1 or student not in ('comad_tiny', 'mae_tiny'):
            continue
        folder = root / record['config']['work_dir']
        ends = [{**record['metrics'], 'step': epoch} for epoch in (1, 2, 3)]
        losses = [
            {
                'loss': 3 - step / 500 + seed / 8,
                'epoch': 1 + step // 400,
                'iter': step,
                'step': step,
            }
            for step in range(100, 1001, 100)
        ]
        _log(folder, [*losses, *ends])
        if record['task'] == 'upernet':
            metrics = {'IoU': {**CLASSES, 'wall': 71.25 + seed}}
            (folder / 'per_class.json').write_text(json.dumps({'metrics': metrics}))
            Image.new('RGB', (320, 200), (90, 120, 200)).save(folder / 'predictions.png')
        lines = []
        for step in range(50, 1001, 50):
            line = {'loss': 2 - step / 900, 'iter': step, 'step': step}
            if student == 'comad_tiny':
                line |= {'share_mae': 0.25, 'share_ibot': 0.5 + step / 9000, 'target_rank': 8.0}
                line |= {'gate_entropy': 1.05, 'agreement_ibot': 0.25 + step / 4000}
            lines.append(line)
        lines += [{'probe_knn_mean': 20 + step / 300, 'step': step} for step in (500, 1000)]
        _log(root / 'work_dirs/pretrain' / student / f'seed{seed}', lines)


def _log(folder: Path, lines: list[dict[str, Any]]) -> None:
    path = folder / '20260101_000000/vis_data/scalars.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(json.dumps(line) + '\n' for line in lines))
