"""A recipe card as text for a terminal."""

from collections.abc import Sequence

from comad.recipes.card import DIFFERENT, SAME, UNSTATED, Card
from comad.recipes.cost import Cost
from comad.recipes.groups import Group

MARKS = {SAME: '=', DIFFERENT: '≠', UNSTATED: ' '}


def protocol_text(card: Card) -> str:
    """The table of the protocol, and what the marks mean."""
    title = f'protocol {card.name}, version {card.version}'
    if not card.published:
        rows = [('', row.field, row.effective) for row in card.rows]
        return f'{title}: our own, no published one is claimed\n{_table(rows)}'
    rows = [('', '', 'effective', 'published')]
    for row in card.rows:
        published = 'not in our sources' if row.published is None else row.published
        rows.append((MARKS[row.status], row.field, row.effective, published))
    lines = [f'{title}, claims {card.published}', *(f'  source: {s}' for s in card.sources)]
    lines.append(_table(rows))
    lines += [f'≠ {row.field}: {row.reason}' for row in card.rows if row.reason]
    same = sum(row.status == SAME for row in card.rows)
    different = sum(row.status == DIFFERENT for row in card.rows)
    lines.append(f'{same} fields as published (=), {different} different (≠)')
    return '\n'.join([*lines, *(f'problem: {problem}' for problem in card.problems)])


def cost_text(cost: Cost, gpus: int, tflops: float, rate: float) -> str:
    """Parameters, GFLOPs and hours."""
    parts = ', '.join(f'{name} {count / 1e6:.2f}' for name, count in cost.parameters.items())
    lines = [f'parameters (millions): {parts}']
    if cost.gflop:
        lines.append(
            f'forward GFLOP per image: backbone {cost.gflop["backbone"]:.2f}, '
            f'rest {cost.gflop["rest"]:.2f}'
        )
    if cost.step_gflop:
        total, each = sum(cost.step_gflop.values()), 'clip' if cost.unit == 'video' else 'image'
        parts = ', '.join(
            f'{name} {count:.2f} ({100 * count / total:.0f} %)'
            for name, count in cost.step_gflop.items()
        )
        lines.append(f'step, GFLOP per {each}: {total:.2f}; forward {parts}')
    if not cost.images:
        return '\n'.join(lines)
    made = f' of {cost.samples} clips' if cost.samples > 1 else ''
    lines.append(f'training: {cost.images:,} {cost.unit}s{made} x {cost.trained_gflop:.2f} GFLOP')
    assumed = f'{gpus} GPUs that each sustain {tflops:g} TFLOP/s'
    hours, data = cost.hours(gpus, tflops), cost.data_hours(rate)
    if data:
        lines.append(
            f'estimated hours: {max(hours, data):.2g}, the longer of {hours:.2g} on {assumed} and '
            f'{data:.2g} for {cost.workers} workers that each decode {rate:g} {cost.unit}s/s'
        )
        lines.append(
            f'these GPUs need {cost.decodes_needed(gpus, tflops):,.0f} decoded {cost.unit}s/s, '
            f'{cost.decodes_needed(gpus, tflops) / cost.workers:.3g} of each worker'
        )
    else:
        lines.append(f'estimated hours: {hours:.2g} on {assumed}, data loading left out')
    lines.append('(both speeds are assumptions: --tflops, --decode-rate; evaluation is left out)')
    return '\n'.join(lines)


def groups_text(groups: Sequence[Group]) -> str:
    """The table of parameter groups."""
    rows = [('layer', 'lr scale', 'weight decay', 'tensors', 'parameters', 'first tensor')]
    rows += [
        (
            group.layer,
            f'{group.lr_scale:.6g}',
            f'{group.weight_decay:g}',
            str(group.tensors),
            f'{group.parameters:,}',
            group.example,
        )
        for group in groups
    ]
    return _table(rows)


def _table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ('  '.join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows)
    return '\n'.join(line.rstrip() for line in lines)
