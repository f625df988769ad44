"""The platform broken on purpose, one way after another: the simulator must see it each time."""

from __future__ import annotations

import pytest

from tests.simulation.mutations import Mutant, all_mutants, found


@pytest.mark.parametrize("mutant", all_mutants(), ids=lambda mutant: mutant.title)
def test_the_simulator_finds(mutant: Mutant) -> None:
    assert found(mutant) is not None, "no promise is seen to be broken"
