"""How many processes are kept in reserve, and when the next one is started."""

from __future__ import annotations

from actors.durable.reserve import Reserve


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


def started(reserve: Reserve, clock: Clock, seconds: float, *nodes: str) -> list[tuple[float, str]]:
    """Look twice a second for a while; when something is started, and where."""
    found = []
    for _ in range(round(seconds * 2)):
        found += [(clock.now, node) for node in reserve.due(nodes)]
        clock.now += 0.5
    return found


def full() -> tuple[Reserve, Clock]:
    """A reserve of two on one node, with nothing missing."""
    clock = Clock()
    reserve = Reserve(2, clock)
    for _ in range(5):
        reserve.begun("a", had_waited=False)
    assert len(started(reserve, clock, 60, "a")) == 2
    return reserve, clock


def test_the_first_ones_wait_until_the_platform_has_started() -> None:
    clock = Clock()
    reserve = Reserve(2, clock)
    reserve.begun("a", had_waited=False)
    assert started(reserve, clock, 20, "a") == [(53.0, "a"), (55.0, "a")]


def test_one_is_started_for_each_that_is_used() -> None:
    reserve, clock = full()
    before = clock.now
    reserve.begun("a", had_waited=True)
    assert started(reserve, clock, 20, "a") == [(before + 1.0, "a")]
    reserve.begun("a", had_waited=True)
    reserve.begun("a", had_waited=True)
    assert len(started(reserve, clock, 20, "a")) == 2


def test_all_are_started_when_somebody_found_none() -> None:
    reserve, clock = full()
    reserve.begun("a", had_waited=False)
    assert len(started(reserve, clock, 20, "a")) == 2


def test_who_begins_while_the_first_are_started_is_not_taken_for_one_that_found_none() -> None:
    clock = Clock()
    reserve = Reserve(2, clock)
    reserve.begun("a", had_waited=False)
    assert len(started(reserve, clock, 6, "a")) == 2
    reserve.begun("a", had_waited=False)
    assert started(reserve, clock, 20, "a") == []


def test_never_more_than_a_node_is_to_have() -> None:
    reserve, clock = full()
    for _ in range(7):
        reserve.begun("a", had_waited=True)
    assert len(started(reserve, clock, 60, "a")) == 2


def test_each_node_has_its_own_and_one_that_is_left_out_gets_none() -> None:
    clock = Clock()
    reserve = Reserve(2, clock)
    reserve.begun("a", had_waited=False)
    reserve.begun("b", had_waited=False)
    assert {node for _, node in started(reserve, clock, 20, "a")} == {"a"}
    assert [node for _, node in started(reserve, clock, 20, "b")] == ["b", "b"]
