"""Resolved configs as data: read without running them."""

import ast
from typing import Any


def read_literal_config(text: str) -> dict[str, Any]:
    """Return the variables of a resolved config as MMEngine writes it: literals and ``dict(...)``.

    Raises:
        ValueError: If anything in it is neither; nothing is ever executed.
    """
    try:
        tree = ast.parse(text)
        config = {}
        for statement in tree.body:
            if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
                raise ValueError(f'line {statement.lineno} is no assignment')
            (target,) = statement.targets
            if not isinstance(target, ast.Name):
                raise ValueError(f'line {statement.lineno} does not assign to a name')
            config[target.id] = _value(statement.value)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f'no Python literals ({type(error).__name__})') from None
    return config


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Call):
        plain = isinstance(node.func, ast.Name) and node.func.id == 'dict' and not node.args
        if not plain or any(keyword.arg is None for keyword in node.keywords):
            raise ValueError(f'line {node.lineno} calls something')
        return {keyword.arg: _value(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.Dict):
        if None in node.keys:
            raise ValueError(f'line {node.lineno} unpacks something')
        pairs = zip(node.keys, node.values, strict=True)
        return {ast.literal_eval(key): _value(value) for key, value in pairs}
    if isinstance(node, (ast.List, ast.Tuple)):
        values = [_value(element) for element in node.elts]
        return values if isinstance(node, ast.List) else tuple(values)
    return ast.literal_eval(node)
