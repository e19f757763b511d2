"""Clocks for work that may run on a device."""

import re
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

# Seconds of a turn, where nobody says how many calls it takes.
TURN = 0.4
PEAK = re.compile(r'VmHWM:\s+(\d+) kB')  # of this process, in Linux's words


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch with so many threads; a data worker has one."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what was asked of it."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def interleave(
    work: Mapping[str, Callable[[], object]],
    device: torch.device,
    rounds: int,
    steps: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    until: float | None = None,
    seconds: dict[str, list[float]] | None = None,
) -> dict[str, list[float]]:
    """Seconds per call of each piece of work, one value per round.

    All pieces take their turn in every round, so that whatever else the machine does meets all of
    them; each is called before, to warm up. The device is waited for once per turn, not per
    call.

    Args:
        work: name -> function.
        device: what the functions run on.
        rounds: turns of each.
        steps: calls per turn; None: as many as take `TURN` seconds, at least one.
        progress: called with turns done and in all.
        until: time of ``time.monotonic`` after which no further round begins.
        seconds: what is filled and returned, for those who look at it on the way.
    """
    seconds = {} if seconds is None else seconds
    seconds |= {name: [] for name in work}
    counts = dict.fromkeys(work, steps)
    total = (rounds + 1) * len(work)

    def timed(call: Callable[[], object], number: int) -> float:
        synchronize(device)
        start = time.perf_counter()
        for _ in range(number):
            call()
        synchronize(device)
        return (time.perf_counter() - start) / number

    for turn in range(rounds + 1):
        for place, (name, call) in enumerate(work.items(), 1):
            if turn:
                seconds[name].append(timed(call, counts[name]))
            else:
                spent = timed(call, 1)
                if steps is None:
                    # The first call also allocates, tunes or compiles: the second one is a step.
                    spent = timed(call, 1) if spent < TURN or device.type == 'cuda' else spent
                    counts[name] = max(1, round(TURN / spent))
            if progress:
                progress(turn * len(work) + place, total)
        if turn and until is not None and time.monotonic() > until:
            break
    return seconds


def matmul_rate(device: torch.device, dtype: torch.dtype, seconds: float = 1.0) -> float:
    """TFLOP/s of square matrix products on the device, the best turn in ``seconds``.

    A turn on a GPU is several products without waiting in between: a card that is asked for one
    at a time shows how fast it is started, and one that is fresh and cool more than it can hold.
    """
    n, turn = (8192, 10) if device.type == 'cuda' else (2048, 1)
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    best, begin = float('inf'), time.perf_counter()
    a @ b
    while time.perf_counter() - begin < seconds or best == float('inf'):
        synchronize(device)
        start = time.perf_counter()
        for _ in range(turn):
            a @ b
        synchronize(device)
        best = min(best, (time.perf_counter() - start) / turn)
    return 2 * n**3 / best / 1e12


def copy_rate(make: Callable[[], Callable[[], object]], gib: float, device: torch.device) -> float:
    """GB/s of a copy of so many GiB, the best of five; ``make`` gives the copying function."""
    copy = make()
    copy()
    best = float('inf')
    for _ in range(5):
        synchronize(device)
        start = time.perf_counter()
        copy()
        synchronize(device)
        best = min(best, time.perf_counter() - start)
    return gib * 2**30 / best / 1e9


def peak_memory_gib(device: torch.device) -> float:
    """Largest memory so far: of the device's tensors on a GPU, else of the process."""
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated(device) / 2**30
    with suppress(OSError):
        return int(PEAK.search(Path('/proc/self/status').read_text())[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def held_memory_gib(device: torch.device) -> float:
    """Of the device's tensors that are there now; 0 on a CPU, whose peak cannot be told apart."""
    return torch.cuda.memory_allocated(device) / 2**30 if device.type == 'cuda' else 0.0


class PartClock:
    """Adds up how long parts of a step take, in the order of the device's own work.

    On a GPU events are recorded between its kernels: nothing waits. Parts may be nested in
    themselves (a network's ``tokens`` calls its ``run``): only the outermost call counts.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.open: set[str] = set()
        self.marks: list[tuple[str, object, object]] = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time what happens inside."""
        if name in self.open:
            yield
            return
        self.open.add(name)
        start = self._now()
        try:
            yield
        finally:
            self.open.discard(name)
            self.marks.append((name, start, self._now()))

    def watch(self, owner: object, method: str, name: str) -> None:
        """Time a method of one object from now on, as part ``name``."""
        inner = getattr(owner, method)

        def timed(*args: object, **options: object) -> object:
            with self.part(name):
                return inner(*args, **options)

        setattr(owner, method, timed)

    def totals(self) -> dict[str, float]:
        """Seconds per part since the last call."""
        synchronize(self.device)
        seconds: dict[str, float] = {}
        for name, start, stop in self.marks:
            seconds[name] = seconds.get(name, 0.0) + self._between(start, stop)
        self.marks.clear()
        return seconds

    def _now(self) -> object:
        if self.device.type != 'cuda':
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    @staticmethod
    def _between(start: object, stop: object) -> float:
        if isinstance(start, float):
            return stop - start
        return start.elapsed_time(stop) / 1000
