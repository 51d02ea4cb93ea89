"""The table of mutants is whole and up to date. What it claims, test_mutants.py tries out."""

import ast
from collections import Counter

import pytest

from apps.simulator import faults
from tests.mutants import crashes, provider_faults
from tests.mutants.mutant import Mutant, names_in, source

MUTANTS = (*provider_faults.MUTANTS, *crashes.MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_its_text_is_in_the_product_once_and_its_tests_exist(mutant: Mutant) -> None:
    assert source(mutant.file).count(mutant.old) == 1
    ast.parse(mutant.mutated())
    assert mutant.mutated() != source(mutant.file)
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert name.partition("[")[0] in names_in(file), test


def test_each_fault_of_the_simulator_and_each_row_of_the_matrix_has_a_mutant() -> None:
    named = Counter(fault for mutant in MUTANTS for fault in mutant.faults)
    assert named.keys() == faults.KNOWN.keys() | set(crashes.ROWS)
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
