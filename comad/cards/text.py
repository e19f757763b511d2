"""A recipe card as text for a terminal."""

from collections.abc import Sequence

from .card import DIFFERENT, SAME, UNSTATED, Card
from .cost import Cost
from .groups import Group

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


def cost_text(cost: Cost, gpus: int, tflops: float) -> str:
    """Parameters, GFLOPs and hours."""
    parts = ', '.join(f'{name} {count / 1e6:.2f}' for name, count in cost.parameters.items())
    lines = [
        f'parameters (millions): {parts}',
        f'forward GFLOP per image: backbone {cost.gflop["backbone"]:.2f}, '
        f'rest {cost.gflop["rest"]:.2f}',
    ]
    if cost.images:
        lines.append(
            f'training: {cost.images:,} images x {cost.trained_gflop:.2f} GFLOP, '
            f'{cost.hours(gpus, tflops):.1f} h on {gpus} GPUs if each sustains {tflops:g} TFLOP/s '
            '(an assumption, --tflops; data loading and evaluation left out)'
        )
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
