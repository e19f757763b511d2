"""What the console shows of a run before its first step; the log file holds everything.

Importing this imports neither torch nor MMEngine.
"""

import contextlib
import io
import logging
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from comad.runs.place import get_track

SHOWN = {'shown': True}  # of a record: for the console from the beginning
FILE_ONLY = {'file_only': True}
PACKAGE = str(Path(__file__).resolve().parents[1])
LIBRARIES = tuple({sysconfig.get_path(name) for name in ('purelib', 'platlib', 'stdlib')})


class StartFilter(logging.Filter):
    """Keeps environment, config and hooks off the console until `start`; ours to warn of passes."""

    started = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the console shows a record."""
        if hasattr(record, 'file_only'):
            return False
        if self.started or hasattr(record, 'shown') or record.levelno >= logging.ERROR:
            return True
        return record.levelno >= logging.WARNING and record.pathname.startswith(PACKAGE)


def quiet_console(logger: logging.Logger) -> StartFilter:
    """Put a new `StartFilter` before what the logger writes to the terminal."""
    chosen = StartFilter()
    for handler in logger.handlers:
        if not isinstance(handler, logging.FileHandler):
            earlier = [one for one in handler.filters if isinstance(one, StartFilter)]
            for one in earlier:
                handler.removeFilter(one)
            handler.addFilter(chosen)
    _warnings.write_to(logger)
    return chosen


@contextlib.contextmanager
def printed_to_log(logger: logging.Logger) -> Iterator[None]:
    """What libraries print meanwhile (pycocotools does) goes to the log."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        yield
    if text := printed.getvalue().strip():
        logger.info(text)


class _LibraryWarnings:
    """`warnings.showwarning` for a run: those of libraries are kept until there is a log file."""

    def __init__(self) -> None:
        self.held: list[str] = []
        self.logger: logging.Logger | None = None

    def install(self) -> None:
        if warnings.showwarning != self.show:
            self.shown, warnings.showwarning = warnings.showwarning, self.show

    def show(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: Any = None,
        line: str | None = None,
    ) -> None:
        if file is not None or not filename.startswith(LIBRARIES):
            self.shown(message, category, filename, lineno, file, line)
            return
        self.held.append(warnings.formatwarning(message, category, filename, lineno, line).strip())
        if self.logger is not None:
            self.write_to(self.logger)

    def write_to(self, logger: logging.Logger) -> None:
        self.logger, held, self.held = logger, self.held, []
        for text in held:
            logger.warning(text, extra=FILE_ONLY)


_warnings = _LibraryWarnings()
# Warnings of libraries are not the user's: from this call on the log file takes them.
warnings_to_log = _warnings.install


def introduce(runner: Any) -> str:
    """What runs, on which data, how long, where, and where its files are: some short lines."""
    cfg = runner.cfg
    run = cfg.get('run')
    if run:
        what = 'pretraining' if run.kind == 'pretrain' else f'{run.kind} of'
        track = get_track(run.track)
        place = f', on {track.title}' if track.option else ''
        title = f'{what} {run.student}, seed {run.seed}{place} ({run.config})'
    else:
        title = f'{runner.experiment_name} ({cfg.filename})'
    trains = hasattr(runner._train_loop, 'run')
    rows = {'model': _model(cfg)}
    if teachers := cfg.model.get('teachers'):
        shown = (
            teacher.get('name') or f'{teacher["family"]} {teacher.get("arch", "")}'.strip()
            for teacher in teachers
        )
        rows['teachers'] = ', '.join(shown)
    loops = (runner._train_loop, runner._val_loop if trains else runner._test_loop)
    rows['data'] = ', then '.join(_data(loop) for loop in loops if hasattr(loop, 'run'))
    if trains:
        rows['length'] = _length(runner)
    rows['device'] = _device(runner)
    rows['files'] = f'{runner.work_dir}, everything in {runner.timestamp}/{runner.timestamp}.log'
    return '\n'.join([title, *(f'  {name:<9}{text}' for name, text in rows.items())])


def describe_start(runner: Any) -> str:
    """Parameters, cost and place of a training that takes its first step now."""
    parameters = list(runner.model.parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad) / 1e6
    total = sum(p.numel() for p in parameters) / 1e6
    costs = (getattr(hook, 'gflop', None) for hook in runner.hooks)
    cost = next((f', {gflop:.4g} GFLOP per image' for gflop in costs if gflop), '')
    loop = runner.train_loop
    return (
        f'training {trained:.3g} M of {total:.3g} M parameters{cost}, '
        f'from step {loop.iter + 1} of {loop.max_iters}'
    )


def _model(cfg: Any) -> str:
    backbone = cfg.model.get('backbone') or {}
    arch = str(backbone.get('arch', '')).removeprefix('sample_')
    size = ' (small, for the sample)' if 'sample_' in str(backbone.get('arch')) else ''
    student = (backbone.get('init_cfg') or {}).get('student')
    weights = f', weights of {student}' if student and 'scratch' not in student else ''
    return f'{cfg.model.type} with {backbone.get("type")} {arch}{size}{weights}'


def _data(loop: Any) -> str:
    outer = inner = loop.dataloader.dataset
    while 'dataset' in vars(inner):
        inner = inner.dataset
    if hasattr(inner, 'storage'):
        place = inner.storage.folder
    else:
        prefix = getattr(inner, 'data_prefix', None) or {}
        place = next((v for k, v in prefix.items() if k.startswith('img')), type(inner).__name__)
    return f'{len(outer):,} images of {place}'


def _length(runner: Any) -> str:
    loop, cfg = runner._train_loop, runner.cfg
    accumulated = cfg.optim_wrapper.get('accumulative_counts', 1)
    each = loop.dataloader.batch_sampler.batch_size
    batch = each * runner.world_size * accumulated
    parts = f' ({each} x {runner.world_size} processes x {accumulated} accumulated)'
    epochs = cfg.train_cfg.get('max_epochs')
    steps = f'{epochs} epochs of {len(loop.dataloader):,} steps' if epochs else None
    return f'{steps or f"{loop.max_iters:,} steps"}, batch {batch}{parts if batch != each else ""}'


def _device(runner: Any) -> str:
    import torch

    from comad.engine.models import compiles, unwrapped

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU'
    count = f'{runner.world_size} x ' if runner.world_size > 1 else ''
    wrapper = runner.cfg.get('optim_wrapper') or {}
    trains = hasattr(runner._train_loop, 'run')
    does = trains and compiles(runner.cfg.get('compile'), unwrapped(runner.model))
    compiled = 'compiled: the first step takes minutes' if does else 'not compiled'
    return f'{count}{name}, {wrapper.get("dtype", "float32")}, {compiled}'
