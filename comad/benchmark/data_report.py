"""Conditions of a measurement of data, and its table."""

import os
from typing import Any

from comad.runs.environment import collect_environment


def conditions() -> dict[str, Any]:
    """Processor, load and the versions that decode and resize."""
    import cv2
    import PIL
    import torch
    import torchvision
    from PIL import features

    environment = collect_environment()
    build = [line.strip() for line in cv2.getBuildInformation().splitlines() if 'JPEG:' in line]
    return {
        'cpu': environment['cpu'],
        'cores': environment['cpu_cores'],
        'load': round(os.getloadavg()[0], 1),
        'threads': torch.get_num_threads(),
        'git_commit': environment['git_commit'],
        'versions': {
            'pillow': PIL.__version__,
            "pillow's libjpeg-turbo": features.version('libjpeg_turbo') or 'none',
            'opencv': cv2.__version__,
            "opencv's JPEG": build[0].partition(':')[2].strip() if build else 'unknown',
            'torch': torch.__version__,
            'torchvision': torchvision.__version__,
        },
    }


def table(result: dict[str, Any]) -> str:
    """The figures of `comad.benchmark.data` as text, conditions below."""
    ways, known = result['ways'], result['conditions']
    what = f'{known.get("unit", "images")}/s'
    unit = f'{what}, {known["workers"]} workers' if known['workers'] else f'{what} per core'
    header = f'{"way of reading":34} {unit:>20} {"(min-max)":>15} {"file":>8}'
    compared = 'ratio' in ways[0]
    lines = [header + (f' {"ratio":>6} {"(min-max)":>12}' if compared else '')]
    for way in ways:
        spread = f'({way["slowest"]:.0f}-{way["fastest"]:.0f})'
        line = f'{way["way"]:34} {way["images_per_second"]:20.0f} {spread:>15}'
        line += f' {way["mean_kb"]:5.0f} KB'
        if compared:
            bounds = f'({way["ratio_min"]:.2f}-{way["ratio_max"]:.2f})'
            line += f' {way["ratio"]:6.2f} {bounds:>12}'
        lines.append(line)
    of = 'videos' if 'unit' in known else 'images'
    lines += ['', f'{known["rounds"]} rounds of {known["images"]} {of}; medians']
    lines.append(f'data: {known["data"]}, {known["mean_kb"]:.0f} KB on average')
    lines.append(f'machine: {known["cpu"]}, {known["cores"]} cores, load {known["load"]}')
    lines.append('versions: ' + ', '.join(f'{k} {v}' for k, v in known['versions'].items()))
    return '\n'.join(lines)
