"""Resolved configs as they lie beside a run: read without running them, made flat to compare.

MMEngine dumps a resolved config as assignments of literals and ``dict(...)`` calls, so nothing in
it has to be executed, and a run folder of somebody else can be looked at.
"""

import ast
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

NUMBERS = {'inf': float('inf'), 'nan': float('nan')}


def read_resolved(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return a dumped config as plain Python; dictionaries, lists, tuples and scalars.

    Raises:
        ValueError: If the file holds anything but assignments of such values; the message is one
            line that names file and line.
    """
    try:
        module = ast.parse(Path(path).read_text(encoding='utf-8'))
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        reason = ' '.join(str(error).split()) or 'nested too deep'
        raise ValueError(f'{path} is no resolved config: {reason}') from None
    config = {}
    for statement in module.body:
        try:
            config.update(_assignment(statement))
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(
                f'{path}, line {statement.lineno}: {error}; a resolved config holds only values'
            ) from None
    return config


def flatten(node: Any, prefix: str = '') -> dict[str, Any]:
    """Return the leaves of nested dictionaries by dotted key; tuples and lists are the same.

    Entries of a list of typed dictionaries, such as a pipeline, are named by their type, so that
    an inserted one does not shift the others; the list itself becomes the order of the types.

    >>> flatten({'a': {'b': (1, 2)}, 'steps': [{'type': 'Flip', 'p': 0.5}]})
    {'a.b': [1, 2], 'steps': ['Flip'], 'steps.Flip.type': 'Flip', 'steps.Flip.p': 0.5}
    """
    if isinstance(node, Mapping) and node:
        flat: dict[str, Any] = {}
        for key, value in node.items():
            flat |= flatten(value, f'{prefix}.{key}' if prefix else str(key))
        return flat
    if isinstance(node, (list, tuple)) and any(isinstance(value, Mapping) for value in node):
        names = _names(node)
        flat = {prefix: names}
        for name, value in zip(names, node, strict=True):
            flat |= flatten(value, f'{prefix}.{name}')
        return flat
    return {prefix: _plain(node)}


def _names(entries: Sequence[Any]) -> list[str]:
    seen: Counter[str] = Counter()
    names = []
    for entry in entries:
        kind = str(entry.get('type', 'dict')) if isinstance(entry, Mapping) else 'value'
        seen[kind] += 1
        names.append(kind if seen[kind] == 1 else f'{kind}#{seen[kind]}')
    return names


def _plain(node: Any) -> Any:
    return [_plain(value) for value in node] if isinstance(node, (list, tuple)) else node


def _assignment(statement: ast.stmt) -> dict[str, Any]:
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        (target,) = statement.targets
        if isinstance(target, ast.Name):
            return {target.id: _value(statement.value)}
    raise ValueError('this is no assignment to a name')


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict':
        if node.args or any(keyword.arg is None for keyword in node.keywords):
            return {k: v for part in _parts(node) for k, v in part.items()}
        return {str(keyword.arg): _value(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.Dict) and None not in node.keys:
        pairs = zip(node.keys, node.values, strict=True)
        return {_value(key): _value(value) for key, value in pairs if key is not None}
    if isinstance(node, (ast.List, ast.Tuple)):
        values = [_value(value) for value in node.elts]
        return values if isinstance(node, ast.List) else tuple(values)
    if isinstance(node, ast.Name) and node.id in NUMBERS:
        return NUMBERS[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    return ast.literal_eval(node)


def _parts(call: ast.Call) -> list[dict[str, Any]]:
    """Keys that are no identifiers are dumped as ``dict({'a-b': 1}, **{...}, key=2)``."""
    nodes = [*call.args, *(k.value for k in call.keywords if k.arg is None)]
    parts = [_value(node) for node in nodes]
    if not all(isinstance(part, dict) for part in parts):
        raise ValueError('dict() of something that is no dictionary')
    return [*parts, {k.arg: _value(k.value) for k in call.keywords if k.arg is not None}]
