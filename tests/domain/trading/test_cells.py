"""The compiled form of the engine's memory, as it runs uncompiled, against the plain one."""

from __future__ import annotations

import random
from typing import Any

import pytest

from domain.trading import cells as plain
from domain.trading import cells_packed

packed: Any = cells_packed
WIDTH = 12


@pytest.mark.parametrize("seed", range(4))
def test_orders_are_found_whatever_came_and_went(seed: int) -> None:
    """Numbers of few customers that count up, which is what an order's number is."""
    chance = random.Random(seed)
    cells, memory = plain.zeros(WIDTH * 700), packed.zeros(WIDTH * 700)
    expected, found = plain.Directory(), packed.Directory()
    refs = [0] * 5
    present: list[int] = []
    rows = [row * WIDTH for row in range(1, 700)]
    for step in range(6_000):
        if rows and chance.random() < (0.7 if step % 2_000 < 1_000 else 0.3):
            customer = chance.randrange(5)
            refs[customer] += 1
            number, row = (2_000_000_001 + customer) << 29 | refs[customer], rows.pop()
            cells[row] = memory[row] = number
            expected.add(number, row)
            found.add(number, row)
            present.append(number)
        elif present:
            index = chance.randrange(len(present))
            present[index], present[-1] = present[-1], present[index]
            number = present.pop()
            row = expected.find(cells, number)
            expected.remove(number, row)
            found.remove(number, row)
            rows.append(row)
        if not step % 50:
            assert found.count == expected.count == len(present)
            gone = (2_000_000_001 << 29) | chance.randint(1, max(1, refs[0]))
            for number in (*present, gone, gone + 10_000):
                assert found.find(memory, number) == expected.find(cells, number)


def test_numbers_are_spread_whoever_orders() -> None:
    """No customer, nor many who each count up from 1, fill one part of the table."""
    for customers, orders in ((1, 20_000), (20_000, 1), (500, 40)):
        places = {
            packed._hash((1_000_000_000 + 8 * customer) << 29 | ref) & 32_767
            for customer in range(customers)
            for ref in range(1, orders + 1)
        }
        assert len(places) > 0.42 * 32_768  # at random it would be 0.46


def test_more_room_keeps_what_is_there() -> None:
    for form in (plain, packed):
        cells = form.zeros(3)
        cells[1] = 7
        assert list(form.longer(cells, 2)) == [0, 7, 0, 0, 0]
