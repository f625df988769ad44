"""Operations for operators: how the platform runs. What the operations page shows, for programs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from actors.operations import PartitionView
from domain.identity.permissions import Permission
from domain.money import format_amount
from serve_apps import operations
from serve_apps.api.bodies import moment_text
from serve_apps.api.routing import Answer, Call, Operation, Outcome
from serve_apps.operations import Books, Condition


class AssetSumBody(msgspec.Struct):
    """All ledger accounts of one asset together; ``sum`` is zero when the books are right."""

    asset: str
    customers: str
    house: str
    sum: str


class ProofBody(msgspec.Struct):
    """The result of the last recorded `kontor check`."""

    at: str
    ok: bool
    findings: int
    seconds: float


class BooksBody(msgspec.Struct):
    """What partitions say of their own books at this moment, and the last full proof.

    ``state`` is ``right``, ``wrong``, or ``unknown`` while a partition does not answer.
    """

    state: str
    answered: int
    expected: int
    wrong: list[str]
    sums: list[AssetSumBody]
    proof: ProofBody | None


class PartitionBody(msgspec.Struct):
    """A partition. From ``entities`` on it is what the partition says: zero if it does not answer.

    ``entities`` of its ``kind`` (customers of ``accounts``, books of ``books``) are in memory;
    ``load`` is commands a second; ``position``, ``lag`` and ``since_checkpoint`` are journal rows;
    ``memory`` is bytes.
    """

    partition: str
    kind: str
    state: str
    reason: str
    slots: int
    arriving: int
    leaving: int
    pinned: list[str]
    epoch: int
    entities: int
    load: float
    queue: int
    parked: int
    in_transit: int
    position: int
    lag: int
    since_checkpoint: int
    checkpoint_age_s: float
    recoveries: int
    memory: int
    node: str


class NodeBody(msgspec.Struct):
    """A living node of the cluster."""

    node: str
    name: str
    address: str
    head: bool
    draining: bool
    partitions: int


class HistoryLagBody(msgspec.Struct):
    """How far trading history is behind: journal rows not read yet, and the age of the oldest."""

    rows: int
    seconds: float


class OperationsBody(msgspec.Struct):
    """How the platform is; ``moving`` slots are not where they are to be."""

    at: str
    moving: int
    books: BooksBody
    partitions: list[PartitionBody]
    retired: list[str]
    nodes: list[NodeBody]
    history: HistoryLagBody


class SlotRunBody(msgspec.Struct):
    """Neighbouring slots with one owner; ``target`` is where they are to go, or empty."""

    kind: str
    first: int
    last: int
    partition: str
    target: str


class SlotsBody(msgspec.Struct):
    """The slot maps of all kinds. Slots from 4,096 on belong to one customer, or book, each."""

    slots: list[SlotRunBody]


class IncidentBody(msgspec.Struct):
    """Something that the supervisor found or did."""

    at: str
    event: str
    what: str
    partition: str
    node: str


class IncidentsBody(msgspec.Struct):
    """Incidents, newest first."""

    incidents: list[IncidentBody]


async def overview(call: Call) -> Outcome:
    """Partitions, books and nodes."""
    return Answer(_overview_body(await operations.condition(call.services)))


async def slots(call: Call) -> Outcome:
    """The slot maps."""
    runs = await call.services.operations.slots()
    return Answer(
        SlotsBody(
            [
                SlotRunBody(kind, run.first, run.last, run.stream, run.target)
                for kind, of_kind in runs.items()
                for run in of_kind
            ]
        )
    )


async def incidents(call: Call) -> Outcome:
    """What the supervisor found and did."""
    found = await operations.incidents(call.services)
    return Answer(
        IncidentsBody(
            [
                IncidentBody(
                    moment_text(row.at), row.event, row.what, row.stream or "", row.node or ""
                )
                for row in found
            ]
        )
    )


def _overview_body(condition: Condition) -> OperationsBody:
    return OperationsBody(
        moment_text(datetime.fromtimestamp(condition.overview.at, UTC)),
        condition.overview.moving,
        _books_body(condition.books),
        [_partition_body(view) for view in condition.partitions],
        condition.retired,
        [
            NodeBody(row.node, row.name, row.address, row.head, row.draining, row.partitions)
            for row in condition.nodes
        ],
        HistoryLagBody(condition.history_rows, round(condition.history_seconds, 3)),
    )


def _books_body(books: Books) -> BooksBody:
    proof = books.proof
    return BooksBody(
        books.state,
        books.answered,
        books.expected,
        books.wrong,
        [
            AssetSumBody(
                row.asset,
                format_amount(row.customers, row.asset),
                format_amount(row.house, row.asset),
                format_amount(row.total, row.asset),
            )
            for row in books.sums
        ],
        None
        if proof is None
        else ProofBody(
            moment_text(proof.at), proof.ok, proof.findings, round(float(proof.seconds), 3)
        ),
    )


def _partition_body(view: PartitionView) -> PartitionBody:
    named = {name: getattr(view, name) for name in PartitionBody.__struct_fields__[1:]}
    return PartitionBody(partition=view.stream, **named)


_PARTITION_EXAMPLE: Final[dict[str, Any]] = {
    "partition": "accounts/0",
    "kind": "accounts",
    "state": "running",
    "reason": "",
    "slots": 2048,
    "arriving": 0,
    "leaving": 1024,
    "pinned": [],
    "epoch": 3,
    "entities": 20_481,
    "load": 812.5,
    "queue": 4,
    "parked": 0,
    "in_transit": 2,
    "position": 90_210,
    "lag": 1,
    "since_checkpoint": 311,
    "checkpoint_age_s": 2.4,
    "recoveries": 1,
    "memory": 187_432_960,
    "node": "3f1c",
}
_OVERVIEW_EXAMPLE: Final[dict[str, Any]] = {
    "at": "2026-11-20T09:30:00.125000Z",
    "moving": 1024,
    "books": {
        "state": "right",
        "answered": 1,
        "expected": 1,
        "wrong": [],
        "sums": [{"asset": "USD", "customers": "100.00", "house": "-100.00", "sum": "0.00"}],
        "proof": {
            "at": "2026-11-20T06:00:00.000000Z",
            "ok": True,
            "findings": 0,
            "seconds": 3.2,
        },
    },
    "partitions": [_PARTITION_EXAMPLE],
    "history": {"rows": 3, "seconds": 0.18},
    "retired": ["accounts/3"],
    "nodes": [
        {
            "node": "3f1c",
            "name": "node-a",
            "address": "10.0.0.7",
            "head": True,
            "draining": False,
            "partitions": 1,
        }
    ],
}


def for_operators(name: str, path: str, handler: Any, summary: str, **more: Any) -> Operation:
    """An operation on the platform as it runs: shown to whoever may see that, unless ``more`` says.

    ``path`` is below ``/api/operations/``.
    """
    usual = {"method": "GET", "permission": Permission.OPERATIONS_SEE}
    return Operation(
        name=name,
        path=f"/api/operations/{path}",
        handler=handler,
        summary=summary,
        tag="Operations",
        access="user",
        **{**usual, **more},
    )


OPERATIONS: Final = (
    for_operators(
        "operations", "", overview, "Partitions, books and nodes",
        description="Sums in `books` are what the partitions themselves say at this moment.",
        answer=OperationsBody, answer_example=_OVERVIEW_EXAMPLE,
    ),
    for_operators(
        "operations_slots", "slot/", slots, "The slot maps",
        answer=SlotsBody,
        answer_example={
            "slots": [
                {
                    "kind": "accounts",
                    "first": 0,
                    "last": 2047,
                    "partition": "accounts/0",
                    "target": "",
                }
            ]
        },
    ),
    for_operators(
        "operations_incidents", "incident/", incidents, "What the supervisor found and did",
        answer=IncidentsBody,
        answer_example={
            "incidents": [
                {
                    "at": "2026-11-20T09:30:00.125000Z",
                    "event": "hung",
                    "what": "accounts/0 did not answer and was replaced.",
                    "partition": "accounts/0",
                    "node": "",
                }
            ]
        },
    ),
)  # fmt: skip
