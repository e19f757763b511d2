"""A measured step as a person reads it."""

from typing import Any

from comad.benchmark.spread import Spread, ratios
from comad.runs.place import get_track

# A step should cost at most what its teachers alone cost, divided by this.
TEACHER_SHARE = 0.85


def text(m: dict[str, Any]) -> str:
    """The figures as a person reads them."""
    where, batch = m['conditions'], m['batch']
    seconds = {name: Spread.of(values) for name, values in m['seconds_per_step'].items()}
    step = seconds['step']
    rate = Spread(*(batch / value for value in (step.median, step.high, step.low)))
    changes = ''.join(f' {key}={value}' for key, value in m['cfg_options'].items())
    what = f'{m["config"]}, {m["student"]}' + get_track(m['track']).option + changes
    lines = [
        f'{what}: batch {batch}, {m["precision"]}, '
        f'{"compiled" if m["compiled"] else "not compiled"}, random weights and images',
        f'{where["device"]}, {where["threads"]} CPU threads, torch {where["versions"]["torch"]}, '
        f'{len(m["seconds_per_step"]["step"])} rounds',
        '',
        f'{rate.text(1)} images/s, {1000 * step.median:.1f} ms per step',
    ]
    lines += _shares(m['parts_ms'])
    work = m['gflop_per_image']
    lines.append(f'{work:.2f} GFLOP per image, counted')
    used = work * rate.median / 1000
    lines.append(
        f'{used:.3g} TFLOP/s of the {m["matmul_tflops"]:.3g} that large {m["precision"]} matrix '
        f'products reach here: utilisation {100 * used / m["matmul_tflops"]:.0f} %'
    )
    if 'peak_memory_gib' in m:
        lines.append(f'peak memory {m["peak_memory_gib"]:.2f} GiB')
    if m['compiled']:
        faster = ratios(m['seconds_per_step'], 'not compiled', 'step').text()
        lines.append(
            f'{faster} times faster than without compiling, {m["first_step_seconds"]:.0f} s of it'
        )
    lines += _comparisons(m)
    return '\n'.join(lines)


def _comparisons(m: dict[str, Any]) -> list[str]:
    lines, seconds = [], m['seconds_per_step']
    if 'teachers alone' in seconds:
        share = ratios(seconds, 'teachers alone', 'step')
        lines.append(
            f'the teachers alone take {share.text()} of a whole step (aim: {TEACHER_SHARE} or more)'
        )
    if 'compared_with' in m:
        difference = m.get('largest_difference_float32')
        lines += ['', f'compared with: {m["compared_with"]}']
        if difference is not None:
            lines.append(f'tokens and losses agree in float32 to {difference:.1g}')
        if m['compiled']:
            lines.append('note: ours is compiled, the other is not')
    for name in ('reference', 'reference float32'):
        if name in seconds:
            label = name if name != 'reference' else f'reference, {m["precision"]}'
            lines.append(f'{ratios(seconds, name, "step").text()} times faster than the {label}')
    for name in seconds:
        if parts := m.get(f'parts_ms {name}'):
            spread = ratios(seconds, 'step', name)
            lines.append(f'{spread.text()} times the time of {name}')
            lines.append(f'{name}: {m[f"gflop_per_image {name}"]:.2f} GFLOP per image, counted')
            lines += _shares(parts)
    return lines


def _shares(parts: dict[str, float]) -> list[str]:
    total = sum(parts.values())
    return [
        f'  {name:<24}{value:9.1f} ms {100 * value / total:5.1f} %' for name, value in parts.items()
    ]
