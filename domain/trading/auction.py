"""The price of an auction: what trades most, leaves least over, and is nearest to the reference."""

from __future__ import annotations

Curve = list[tuple[int, int]]
"""Price and whole quantity of each level of a side, best first."""


def clearing(bids: Curve, asks: Curve, reference: int) -> tuple[int, int, int]:
    """Price, quantity and surplus of buyers at which bids and asks clear; zeros: nothing crosses.

    Nothing changes between prices, but where demand has just fallen or supply just risen; the
    stretches that are best lie side by side. Of all their prices the one nearest to ``reference``
    is taken, or the middle one, rounded down, when there is no reference.
    """
    if not bids or not asks or bids[0][0] < asks[0][0]:
        return 0, 0, 0
    low, high = asks[0][0], bids[0][0]
    starts = {price for price, _ in asks if price <= high}
    starts |= {price + 1 for price, _ in bids if low <= price < high}
    edges = sorted(starts)
    demand, supply = _demand(bids, edges), _supply(asks, edges)
    ranks = [(-min(d, s), abs(d - s)) for d, s in zip(demand, supply, strict=True)]
    best = min(ranks)
    first = ranks.index(best)
    last = first + ranks.count(best) - 1
    start, end = edges[first], edges[last + 1] - 1 if last + 1 < len(edges) else high
    price = min(max(reference, start), end) if reference else (start + end) // 2
    at = max(index for index, edge in enumerate(edges) if edge <= price)
    return price, -best[0], demand[at] - supply[at]


def _demand(bids: Curve, edges: list[int]) -> list[int]:
    """For each of the ascending prices, what is bid at it or above."""
    result: list[int] = []
    index = total = 0
    for edge in reversed(edges):
        while index < len(bids) and bids[index][0] >= edge:
            total += bids[index][1]
            index += 1
        result.append(total)
    result.reverse()
    return result


def _supply(asks: Curve, edges: list[int]) -> list[int]:
    """For each of the ascending prices, what is offered at it or below."""
    result: list[int] = []
    index = total = 0
    for edge in edges:
        while index < len(asks) and asks[index][0] <= edge:
            total += asks[index][1]
            index += 1
        result.append(total)
    return result
