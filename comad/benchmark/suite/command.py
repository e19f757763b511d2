"""Everything that matters about this machine's speed, in order of value, within given minutes.

Each part runs in a process of its own and is ended when its time is over; what it has measured
until then is kept, and the file is written after every part. Needs neither data nor weights.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import re
import signal
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TextIO

from backbones.names import meant
from comad.runs.place import typed

SCHEMA = 1
# Seconds that a part at least gets; less is left for what was asked for.
LEAST = 5.0
# Seconds that a part gets beyond its time, to end by itself.
GRACE = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command; nothing heavy is imported."""
    parser.add_argument(
        '--minutes', type=float, default=8.0, help='for all parts (default %(default)g)'
    )
    parser.add_argument(
        '--out',
        type=typed,
        metavar='FILE',
        help='where figures go (default: results/benchmarks/<device>.json)',
    )
    parser.add_argument(
        '--parts', nargs='+', metavar='NAME', help='these alone; the others of the file stay'
    )
    parser.add_argument('--sample', action='store_true', help="the embedded sample's sizes")
    parser.add_argument(
        '--device', choices=('cpu', 'cuda'), help='(default: a GPU if there is one)'
    )


def run(args: argparse.Namespace) -> int:
    """Measure part by part; returns the exit code: 1 where a part failed."""
    ends = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, _leave) for number in ends}
    try:
        return _run(args)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(args: argparse.Namespace) -> int:
    if not 0 < args.minutes < float('inf'):
        raise ValueError(f'--minutes {args.minutes:g}: expected more than 0, and an end')
    if args.out and Path(args.out).is_dir():
        raise ValueError(f'--out {args.out} is a folder: expected a file')
    # Before torch: a process that has looked for a GPU in the usual way cannot be forked.
    os.environ['PYTORCH_NVML_BASED_CUDA_CHECK'] = '1'
    from comad.benchmark.suite.parts import PARTS

    chosen = args.parts or list(PARTS)
    if unknown := [name for name in chosen if name not in PARTS]:
        near = meant(unknown[0], PARTS)
        raise ValueError(f'--parts {unknown[0]}{near}: expected some of {", ".join(PARTS)}')
    end = time.monotonic() + 60 * args.minutes
    sys.stdout.write(f'{len(chosen)} parts in at most {args.minutes:g} minutes\n')
    about, _ = _in_process('conditions', args, {}, time.monotonic() + 60)
    if about['state'] != 'done':
        raise RuntimeError(f'the device cannot be used: {about["state"]}')
    conditions = about['figures']['conditions']
    name = _file_name(conditions['device']) + '_sample' * args.sample
    out = Path(args.out or f'results/benchmarks/{name}.json')
    result = _begin(out, conditions, args)
    todo = [name for name in PARTS if name in chosen]
    failed = False
    for place, name in enumerate(todo):
        weights = [PARTS[other].weight for other in todo[place:]]
        left = end - time.monotonic()
        if left < LEAST and place:
            result['parts'].setdefault(name, {'state': 'no time was left', 'figures': {}})
            continue
        until = time.monotonic() + max(LEAST, left * weights[0] / sum(weights))
        began = time.monotonic()
        part, log = _in_process(name, args, result['parts'], until)
        part['seconds'] = round(time.monotonic() - began, 1)
        # None outside of a checkout; with a plus where files differ from the commit.
        part['at'] = (conditions['git_commit'] or '') + '+' * bool(conditions['git_dirty']) or None
        result['parts'][name] = part
        _write(out, result)
        failed |= part['state'].startswith('failed')
        left = max(0.0, end - time.monotonic())
        sys.stdout.write(
            f'{place + 1} of {len(todo)} {name}: {part["state"]}, {part["seconds"]:.0f} s; '
            f'at most {left / 60:.1f} min left\n'
        )
        if part['state'].startswith('failed') and log:
            sys.stdout.write(''.join(f'  {line}\n' for line in log.splitlines()[-12:]))
        sys.stdout.flush()
    _write(out, result)
    sys.stdout.write(f'{out}; its tables: python tools/benchmark.py show {out}\n')
    return int(failed)


def _begin(out: Path, conditions: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """What the file will hold: parts of an older one stay until they have been measured again."""
    parts: dict[str, Any] = {}
    if out.is_file():
        try:
            old = json.loads(out.read_text(encoding='utf-8'))
            parts, device = old['parts'], old['conditions']['device']
            if old['schema'] != SCHEMA or old['sample'] != args.sample:
                raise ValueError('another schema, or --sample differs')
        except (LookupError, TypeError, ValueError) as error:
            raise ValueError(
                f'{out} holds no parts to keep ({type(error).__name__} {error}): name another file'
            ) from error
        if device != conditions['device']:
            raise ValueError(f'{out} was measured on {device}: name another file')
    return {'schema': SCHEMA, 'sample': args.sample, 'conditions': conditions, 'parts': parts}


def _leave(number: int, frame: object) -> None:
    """What has been started ends with the command."""
    raise SystemExit(128 + number)


def _write(out: Path, result: dict[str, Any]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    waiting = out.with_name(out.name + '.part')
    waiting.write_text(json.dumps(result, indent=1) + '\n', encoding='utf-8')
    waiting.replace(out)


def _file_name(device: str) -> str:
    """``nvidia_h100_80gb_hbm3`` of a device's name."""
    return re.sub(r'[^a-z0-9]+', '_', device.lower()).strip('_') or 'device'


def _in_process(
    name: str, args: argparse.Namespace, known: dict[str, Any], until: float
) -> tuple[dict[str, Any], str]:
    """A part's figures and how it ended, and what it printed, which is shown only if it failed."""
    context = multiprocessing.get_context('fork')
    ours, theirs = context.Pipe(duplex=False)
    with (
        tempfile.TemporaryFile('w+', errors='replace') as log,
        tempfile.TemporaryDirectory(prefix='comad-benchmark-') as folder,
    ):
        work = (name, args, known, until, folder, (ours, theirs), log)
        process = context.Process(target=_work, args=work)
        process.start()
        theirs.close()
        try:
            part = _followed(process, ours, until)
        finally:  # with what it has started, such as data workers
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.join()
        log.seek(0)
        return part, log.read()


def _followed(process: Any, ours: Connection, until: float) -> dict[str, Any]:
    """What a part sends until it ends, or is ended at its time."""
    figures: dict[str, Any] = {}
    state = ''
    patience = until + GRACE
    while not state:
        if not ours.poll(max(0.0, patience - time.monotonic())):
            state = 'ended at its time'
            break
        try:
            kind, value = ours.recv()
        except EOFError:
            process.join(5)
            state = f'failed: its process ended with {process.exitcode}'
            break
        if kind == 'figures':
            figures |= value
        else:
            state = value
    if state != 'ended at its time':
        process.join(5)
    return {'state': state, 'figures': figures}


def _work(
    name: str,
    args: argparse.Namespace,
    known: dict[str, Any],
    until: float,
    folder: str,
    ends: tuple[Connection, Connection],
    log: TextIO,
) -> None:
    """One part, in a process and a process group of its own.

    What it prints goes to ``log``, temporary files lie in ``folder``.
    """
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    listening, pipe = ends
    listening.close()  # so that it ends where nobody listens
    os.environ['TMPDIR'] = tempfile.tempdir = folder
    for descriptor in (1, 2):
        os.dup2(log.fileno(), descriptor)
    import traceback
    import warnings

    import torch

    from comad.benchmark.suite.parts import PARTS, Case, conditions_of
    from comad.data.pool import usable_cores

    warnings.filterwarnings('ignore')
    torch.set_num_threads(usable_cores())
    kind = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    case = Case(
        device=torch.device(kind),
        sample=args.sample,
        until=until,
        known=known,
        keep=lambda key, value: pipe.send(('figures', {key: value})),
    )
    measure = conditions_of if name == 'conditions' else PARTS[name].measure
    try:
        if case.gpu and not torch.cuda.is_available():
            raise RuntimeError('there is no GPU here')
        measure(case)
        state = 'done'
    except ModuleNotFoundError as error:
        state = f'skipped: no {(error.name or str(error)).partition(".")[0]}'
    except Exception as error:
        traceback.print_exc(file=log)
        log.flush()
        state = f'failed: {type(error).__name__}: {" ".join(str(error).split())[:300]}'
    pipe.send(('state', state))
    pipe.close()
    os._exit(0)
