"""What an operator sees of the platform, for page and API: partitions, slots, books, incidents.

Reads through ``actors.operations`` and ``persistence``; changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from actors.operations import RETIRED, Overview, PartitionView, SlotRun
from persistence import proofs, supervision
from persistence.following import Position
from persistence.placement import order_of
from persistence.proofs import Proof
from persistence.supervision import Incident, NodeRow
from persistence.trading.projector import CURSOR
from serve_apps.services import Services

INCIDENTS_SHOWN: Final = 20
SIDE: Final = 64
"""The slot map is drawn as so many rows of so many slots."""
SHARED_SLOTS: Final = SIDE * SIDE
COLOURS: Final = 12


class AssetSum(msgspec.Struct, frozen=True):
    """All ledger accounts of one asset together, in minor units: ``total`` is zero when right.

    ``house`` are the accounts outside customers': fees, the bonus pot, what is on its way.
    """

    asset: str
    customers: int
    house: int

    @property
    def total(self) -> int:
        """What should be zero."""
        return self.customers + self.house


class Books(msgspec.Struct, frozen=True):
    """Whether the books sum to zero, from what each partition says of its own books right now.

    ``answered`` of ``expected`` partitions have said so; ``wrong`` names those whose own books do
    not sum to zero. ``proof`` is the last full proof from the database, which is another matter.
    """

    answered: int
    expected: int
    wrong: list[str]
    sums: list[AssetSum]
    proof: Proof | None = None

    @property
    def state(self) -> str:
        """``right``, ``wrong``, or ``unknown`` while somebody does not answer."""
        if self.wrong:
            return "wrong"
        return "right" if self.answered == self.expected else "unknown"


class Condition(msgspec.Struct, frozen=True):
    """Everything at a moment, but for the slot map."""

    overview: Overview
    books: Books
    nodes: list[NodeRow]
    history: list[Position] = []

    @property
    def history_rows(self) -> int:
        """Journal rows that the projector has not read yet."""
        return sum(place.behind for place in self.history)

    @property
    def history_seconds(self) -> float:
        """How old the oldest of them is."""
        return max((place.behind_s for place in self.history), default=0.0)

    @property
    def partitions(self) -> list[PartitionView]:
        """Streams that have or are to have slots."""
        return [view for view in self.overview.partitions if view.state != RETIRED]

    @property
    def retired(self) -> list[str]:
        """Streams without slots."""
        return [view.stream for view in self.overview.partitions if view.state == RETIRED]

    def node_name(self, node: str) -> str:
        """What people call a node."""
        found = next((row for row in self.nodes if row.node == node), None)
        return (found.name or found.address) if found else node[:8]


async def condition(services: Services) -> Condition:
    """How the platform is."""
    overview = await services.operations.overview()
    proof = await proofs.latest(services.pool)
    nodes = [row for row in await supervision.nodes(services.pool) if row.alive]
    history = await CURSOR.positions(services.pool)
    return Condition(overview, books_of(overview.partitions, proof), nodes, history)


async def incidents(services: Services, limit: int = INCIDENTS_SHOWN) -> list[Incident]:
    """What the supervisor found and did, newest first."""
    return await supervision.incidents(services.pool, limit)


def books_of(partitions: Sequence[PartitionView], proof: Proof | None = None) -> Books:
    """Add up what the partitions say of their own books."""
    expected = [view for view in partitions if view.state != RETIRED]
    # One that has just begun has no books yet; one that has ended has dropped them.
    telling = [view for view in expected if view.state == "running"]
    customers: Counter[str] = Counter()
    house: Counter[str] = Counter()
    wrong = []
    for view in telling:
        customers.update(view.entity_sums)
        for amounts in view.house.values():
            house.update(amounts)
        if any(view.books.values()):
            wrong.append(view.stream)
    assets = sorted({*customers, *house})
    sums = [AssetSum(asset, customers[asset], house[asset]) for asset in assets]
    return Books(len(telling), len(expected), wrong, sums, proof)


class Area(msgspec.Struct, frozen=True):
    """A path in the drawing of the slot map, in units of slots."""

    stream: str
    path: str
    slots: int
    colour: int = 0


class SlotDrawing(msgspec.Struct, frozen=True):
    """The shared slots as areas by owner, and those that are to move on top of them."""

    owned: list[Area]
    moving: list[Area]


def colour_of(stream: str) -> int:
    """The colour of a stream, the same on all pages: by its number."""
    number = stream.rpartition("/")[2].rpartition("-")[2]
    return int(number) % COLOURS if number.isdigit() else 0


def draw(runs: Sequence[SlotRun]) -> SlotDrawing:
    """The slot map as a square, row by row."""
    owned: dict[str, list[SlotRun]] = {}
    moving: dict[str, list[SlotRun]] = {}
    for run in runs:
        if run.last < SHARED_SLOTS:
            owned.setdefault(run.stream, []).append(run)
            if run.target:
                moving.setdefault(f"{run.stream} to {run.target}", []).append(run)

    def areas(grouped: dict[str, list[SlotRun]]) -> list[Area]:
        return [
            Area(
                name,
                "".join(_path(run.first, run.last) for run in members),
                sum(run.last - run.first + 1 for run in members),
                colour_of(name),
            )
            for name, members in sorted(grouped.items(), key=lambda item: order_of(item[0]))
        ]

    return SlotDrawing(areas(owned), areas(moving))


def _path(first: int, last: int) -> str:
    """Rectangles that cover a run: its first row, whole rows, its last row."""
    pieces = []
    row, column = divmod(first, SIDE)
    while first <= last:
        if column == 0 and (rows := (last - first + 1) // SIDE):
            width, height = SIDE, rows
        else:
            width, height = min(SIDE - column, last - first + 1), 1
        pieces.append(f"M{column} {row}h{width}v{height}h-{width}z")
        first += width * height
        row, column = row + height, 0
    return "".join(pieces)
