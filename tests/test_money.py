"""No float on the way of money: not as a number, a type or a call, wherever amounts are made, held or posted."""

import ast
from collections.abc import Iterator
from typing import TypeGuard

import pytest

from tests.test_house import ROOT

ROOMS = [
    "apps/core/money.py",
    *(f"apps/ledger/{path.name}" for path in sorted((ROOT / "apps/ledger").glob("*.py"))),
    "apps/catalog/pricing.py",
    "apps/jobs/submit.py",
    "apps/jobs/settle.py",
    "apps/jobs/unknowns.py",
    "apps/ops/reconcile.py",
]


def _tells_seconds(node: ast.AST) -> TypeGuard[ast.FunctionDef]:
    return isinstance(node, ast.FunctionDef) and node.name.endswith("_s")


def floats(tree: ast.AST) -> Iterator[str]:
    """Float literals, the name `float`, and columns of floats. What a function of seconds (`*_s`) returns is time."""
    of_time = {id(node.returns) for node in ast.walk(tree) if _tells_seconds(node)}
    for node in ast.walk(tree):
        if id(node) in of_time:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, float):
            yield f"line {node.lineno}: {node.value}"
        elif isinstance(node, ast.Name) and node.id == "float":
            yield f"line {node.lineno}: float"
        elif isinstance(node, ast.Attribute) and node.attr == "FloatField":
            yield f"line {node.lineno}: FloatField"


@pytest.mark.parametrize("room", ROOMS)
def test_there_is_no_float_where_money_is_handled(room: str) -> None:
    assert list(floats(ast.parse((ROOT / room).read_text()))) == []


@pytest.mark.parametrize("code", ["x = 0.1", "def f(a: float): ...", "float('1')", "c = models.FloatField()"])
def test_the_search_finds_floats(code: str) -> None:
    assert list(floats(ast.parse(code)))
