"""One piece of product code that handles a fault, what is left when it is taken out, and the tests that must notice."""

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Mutant:
    """faults: by the simulator's names (apps/simulator/faults.py) or as tests/mutants/crashes.py lists them.

    file: below the root. old: a text that is in it once. new: what it becomes when the handling is removed.
    tests: each must fail then (one of its cases, where it has several): by an assertion, by not ending in time, or by
    the error that nobody catches any more, whose class is `raises`.
    """

    faults: tuple[str, ...]
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    raises: str = ""

    @property
    def name(self) -> str:
        """For the report: the fault, the file and the line."""
        return f"{self.faults[0]}-{Path(self.file).stem}-{self.line}"

    @property
    def line(self) -> int:
        """Where it begins; 0 if it is not there."""
        before, found, _ = source(self.file).partition(self.old)
        return before.count("\n") + 1 if found else 0

    def mutated(self) -> str:
        """The file without the handling."""
        return source(self.file).replace(self.old, self.new)


@cache
def source(file: str) -> str:
    return (ROOT / file).read_text()


@cache
def names_in(file: str) -> frozenset[str]:
    """The names of a file's tests."""
    tree = ast.parse(source(file))
    return frozenset(
        node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )
