"""Kills a small pretraining again and again; it has to end as if nothing had happened.

    python -m tests.chaos --kills 50 --seed 0

A tiny MAE on images in folders, through the suite's Runner, saves every few steps, each save slowed
down. SIGKILL ends it, or SIGTERM makes it save and stop, at random moments, half of them inside a
save; then it is resumed.
Losses of all steps, weights and optimizer have to equal an uninterrupted run's bit by bit, and
after every kill the newest checkpoint has to be there. Exit code 0: they do; 1: something differs.

Imports cost more than the training, so one process imports and every life is a fork of it.
"""

import argparse
import hashlib
import io
import os
import random
import select
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import torch.utils.tensorboard  # noqa: F401  (every life would import it)

import comad.engine.register  # noqa: F401
from backbones.checkpoints import read_checkpoint
from comad.engine import checkpoint_files
from comad.engine.checkpoint_files import last_checkpoint
from comad.engine.checkpointing import SafeCheckpointHook
from comad.engine.preemption import PREEMPTED, Preempted, stop_request
from comad.engine.runner import BenchmarkRunner
from tests.methods.small_run import small_config, write_images

MODEL = dict(type='MAE', decoder=dict(arch='sample_tiny'))
SAVE_EVERY, STEPS_PER_EPOCH = 4, 6
SLOW_WRITE = 0.03  # seconds between the halves of a file
PATIENCE = 120  # seconds without a sign of life


def train(folder: Path, run: str, epochs: int, workers: int, report: int) -> None:
    """One life: train from the newest checkpoint, if any, and report to the pipe."""

    def tell(word: str, step: int) -> None:
        os.write(report, f'{word} {step}\n'.encode())

    config = small_config(
        folder,
        run,
        MODEL,
        hooks=dict(
            checkpoint=dict(
                type='SafeCheckpointHook', by_epoch=False, interval=SAVE_EVERY, max_keep_ckpts=2
            ),
            preemption=dict(type='PreemptionHook'),
        ),
        resume=True,
    )
    config.train_cfg.max_epochs = epochs
    config.train_dataloader.num_workers = workers
    config.log_level = 'ERROR'
    runner = BenchmarkRunner.from_cfg(config)
    make_saves_slow(tell)
    losses = os.open(folder / run / 'losses.txt', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    original = runner.call_hook

    def call_hook(name: str, **arguments: Any) -> None:
        if name == 'after_train_iter':
            loss = float(arguments['outputs']['loss'].detach()).hex()
            os.write(losses, f'{runner.iter} {loss}\n'.encode())
        original(name, **arguments)
        if name == 'after_train_iter':
            tell('step', runner.iter)

    runner.call_hook = call_hook
    with stop_request.listen():
        runner.train()
    (folder / run / 'final.txt').write_text(digest(runner))


def make_saves_slow(tell: Any) -> None:
    """Write and swap files slowly, and report the beginning and the end of every checkpoint."""
    replace, save = os.replace, SafeCheckpointHook._save

    class SlowFile(io.BufferedWriter):
        def write(self, data: Any) -> int:
            for half in (data[: len(data) // 2], data[len(data) // 2 :]):
                super().write(half)
                self.flush()
                time.sleep(SLOW_WRITE)
            return len(data)

    def slow_open(path: Any, mode: str) -> Any:
        return SlowFile(io.FileIO(path, 'wb')) if mode == 'wb' else open(path, mode)

    def slow_replace(source: Any, target: Any) -> None:
        time.sleep(SLOW_WRITE / 2)
        replace(source, target)
        time.sleep(SLOW_WRITE / 2)

    def reported_save(self: Any, runner: Any, name: str, meta: dict[str, Any]) -> None:
        tell('saving', meta['iter'])
        save(self, runner, name, meta)
        tell('saved', meta['iter'])

    checkpoint_files.open, os.replace = slow_open, slow_replace
    SafeCheckpointHook._save = reported_save


def digest(runner: Any) -> str:
    """sha256 of all weights and the whole state of the optimizer."""
    state = runner.optim_wrapper.optimizer.state_dict()['state']
    tensors = list(runner.model.state_dict().values())
    tensors += [value for entry in state.values() for _, value in sorted(entry.items())]
    return hashlib.sha256(b''.join(t.numpy().tobytes() for t in tensors)).hexdigest()


class Life:
    """A forked process that trains, as seen from outside."""

    def __init__(self, folder: Path, run: str, epochs: int, workers: int) -> None:
        self.reports, report = os.pipe()
        self.steps = self.saved = 0
        self.buffer = b''
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.close(self.reports)
                (folder / run).mkdir(exist_ok=True)
                output = os.open(
                    folder / run / 'output.txt', os.O_WRONLY | os.O_CREAT | os.O_APPEND
                )
                os.dup2(output, 1)
                os.dup2(output, 2)
                train(folder, run, epochs, workers, report)
                code = 0
            except Preempted:
                code = PREEMPTED
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        os.close(report)

    def words(self) -> Any:
        """Yield ('step' | 'saving' | 'saved', step) until the process is gone."""
        while True:
            ready, _, _ = select.select([self.reports], [], [], PATIENCE)
            data = os.read(self.reports, 4096) if ready else b''
            if not data:
                return
            *lines, self.buffer = (self.buffer + data).split(b'\n')
            for line in lines:
                word, step = line.decode().split()
                self.steps += word == 'step'
                if word == 'saved':
                    self.saved = int(step)
                yield word, int(step)

    def end(self) -> int:
        """What the process returned, a negative signal number if it was killed."""
        for _ in self.words():
            pass
        os.close(self.reports)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def kill_somewhere(life: Life, draw: random.Random) -> str | None:
    """Send a signal at a random moment; its name, or None if the training was done before."""
    inside, name = draw.random() < 0.5, draw.choice(['SIGKILL', 'SIGTERM'])
    target = draw.randint(1, 2) if inside else draw.randint(1, 2 * SAVE_EVERY)
    delay = draw.uniform(0, 5 * SLOW_WRITE if inside else 0.02)
    for word, _ in life.words():
        target -= word == ('saving' if inside else 'step')
        if target <= 0:
            time.sleep(delay)
            os.kill(life.pid, getattr(signal, name))
            return f'{name}{" inside a save" if inside else ""}'
    return None


def check_checkpoints(run: Path, promised: int) -> tuple[int, list[str]]:
    """Step of the newest checkpoint, and what is wrong with those that are there."""
    faults, newest = [], 0
    for path in run.glob('*.pth'):
        try:
            read_checkpoint(path)
        except Exception as error:  # whatever is wrong with it
            faults.append(f'{path.name} cannot be read: {error}')
    try:
        pointed = last_checkpoint(run)
        newest = read_checkpoint(pointed)['meta']['iter'] if pointed else 0
    except Exception as error:
        faults.append(str(error))
    if newest < promised:
        faults.append(f'lost: step {promised} was saved, the newest checkpoint is of step {newest}')
    return newest, faults


def read_losses(run: Path) -> dict[int, set[str]]:
    """Step -> the different losses that it had in all lives."""
    losses: dict[int, set[str]] = {}
    for line in (run / 'losses.txt').read_text().splitlines():
        step, loss = line.split()
        losses.setdefault(int(step), set()).add(loss)
    return losses


def main(kills: int, seed: int, workers: int, folder: Path) -> int:
    started = time.perf_counter()
    torch.set_num_threads(1)
    write_images(folder / 'images')
    draw = random.Random(seed)
    epochs = max(10, kills)
    whole = Life(folder, 'whole', epochs, workers)
    if whole.end() != 0:
        print((folder / 'whole' / 'output.txt').read_text())
        return 1
    print(
        f'uninterrupted: {whole.steps} steps in {time.perf_counter() - started:.1f} s', flush=True
    )
    run, faults, lives, done, promised = folder / 'killed', [], 0, [], 0
    code = None
    while code != 0 and not faults:
        life = Life(folder, 'killed', epochs, workers)
        lives += 1
        killed = kill_somewhere(life, draw) if len(done) < kills else None
        code = life.end()
        if killed is not None:
            done.append(killed)
        elif code != 0:
            faults.append(f'life {lives} ended with {code}')
        promised = max(promised, life.saved)
        newest, found = check_checkpoints(run, promised)
        promised = max(promised, newest)
        faults += found
        if killed and len(done) % 5 == 0:
            print(f'{len(done)} kills, newest checkpoint of step {newest}', flush=True)
    if not faults:
        faults += compare(folder)
        if len(done) < kills:
            faults.append(f'the training ended after {len(done)} of {kills} kills')
    for fault in faults:
        print(f'FAILED: {fault}')
    if faults and (run / 'output.txt').is_file():
        print((run / 'output.txt').read_text()[-3000:])
    inside = sum('inside' in kind for kind in done)
    hard = sum('SIGKILL' in kind for kind in done)
    print(
        f'chaos: {len(done)} kills ({hard} SIGKILL, {inside} inside a save), {lives} lives, '
        f'{whole.steps} steps, seed {seed}: '
        f'{"DIFFERENT" if faults else "bit-equal, no checkpoint lost"}, '
        f'{len(list(run.glob(".*.tmp")))} unfinished files left, '
        f'{time.perf_counter() - started:.1f} s'
    )
    return int(bool(faults))


def compare(folder: Path) -> list[str]:
    """Differences between the killed run and the whole one."""
    whole, killed = (read_losses(folder / name) for name in ('whole', 'killed'))
    different = [step for step in whole if killed.get(step) != whole[step]]
    faults = [f'losses differ at {len(different)} steps, first {different[0]}'] if different else []
    finals = {(folder / name / 'final.txt').read_text() for name in ('whole', 'killed')}
    return faults + (['final weights or optimizer states differ'] if len(finals) > 1 else [])


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--kills', type=int, default=50)
    parser.add_argument('--seed', type=int, default=0, help='of the moments and signals')
    parser.add_argument('--workers', type=int, default=0, help='data workers')
    options = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix='chaos'))
    failed = main(options.kills, options.seed, options.workers, place)
    if failed:
        print(f'kept: {place}')
    else:
        shutil.rmtree(place)
    sys.exit(failed)
