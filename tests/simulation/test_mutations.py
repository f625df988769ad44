"""The platform broken on purpose, one way after another: the simulator must see it each time."""

from __future__ import annotations

import pytest

from tests.simulation.mutations import Mutant, all_mutants, found, listed

LISTED = listed()


@pytest.mark.parametrize("mutant", all_mutants(), ids=lambda mutant: mutant.title)
def test_the_simulator_finds(mutant: Mutant) -> None:
    """The table says which seed showed it; when it does not any more, another one must."""
    hint = LISTED.get(mutant.title, 1)
    assert found(mutant, hint=hint) is not None, "no promise is seen to be broken"


def test_each_is_listed() -> None:
    assert {mutant.title for mutant in all_mutants()} <= LISTED.keys()
