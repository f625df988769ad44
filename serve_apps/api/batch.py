"""Many transfers in one request.

The work for each transfer is what bounds the throughput, so what is shared is done once: each
account number is read once, all unknown accounts are looked up with one query, and the entities
are asked together.
"""

from __future__ import annotations

import hashlib

from domain.accounts.codes import Code
from domain.accounts.commands import (
    Command,
    LinkedReply,
    LinkedTransfers,
    Receipt,
    Reply,
    Transfer,
)
from domain.accounts.numbers import customer_of
from domain.durable import Rejection, Unavailable
from domain.identity.rules import IdentityCode
from persistence.identity import unpaid
from serve_apps.accounts import account_of, judge_form
from serve_apps.api.bodies import STATUS_NAMES, Batch, BatchBody, BatchResult, BatchTransfer
from serve_apps.api.routing import Answer, Call, Outcome

ENDPOINT = "transaction/batch"


async def batch(call: Call) -> Outcome:
    """Carry out a batch; the answer is in its order."""
    form: Batch = call.body
    items = form.transfers
    numbers = _read_numbers(items)
    await call.services.directory.learn(number for number in numbers.values() if number is not None)
    judged = _judge(call, items, numbers)
    if call.principal.second_factor:
        await _hold_back_new_payees(call, judged)
    commands, places = _commands(items, judged)
    replies = await call.services.accounts.call_many(commands) if commands else []
    results = [_refused(item, outcome) for item, outcome in zip(items, judged, strict=True)]
    for reply, place in zip(replies, places, strict=True):
        if isinstance(place, int):
            _answer(results[place], reply)
        else:
            _answer_group(results, reply, place)
    content_type = call.headers.get(b"content-type", b"")
    if content_type.startswith(b"application/msgpack"):
        return Answer(BatchBody(results), content_type=b"application/msgpack")
    return Answer(BatchBody(results))


def _read_numbers(items: list[BatchTransfer]) -> dict[str | int, int | None]:
    numbers: dict[str | int, int | None] = {}
    for item in items:
        source, destination = item.source, item.destination
        if source not in numbers:
            numbers[source] = account_of(source)
        if destination not in numbers:
            numbers[destination] = account_of(destination)
    return numbers


def _judge(
    call: Call, items: list[BatchTransfer], numbers: dict[str | int, int | None]
) -> list[Transfer | Rejection]:
    """The command of each transfer, or why there is none."""
    services, user = call.services, call.user
    known = services.directory.known
    scope = hashlib.blake2b(f"{user}\0{ENDPOINT}\0".encode(), digest_size=16)
    judged: list[Transfer | Rejection] = []
    for item in items:
        source, destination = numbers[item.source], numbers[item.destination]
        if source is None or customer_of(source) != user:
            judged.append(Rejection(Code.UNKNOWN_SOURCE_ACCOUNT))
            continue
        digest = scope.copy()
        digest.update(item.id.encode())
        judged.append(
            judge_form(
                services,
                item,
                digest.digest(),
                source,
                known(source),
                destination,
                None if destination is None else known(destination),
            )
        )
    return judged


async def _hold_back_new_payees(call: Call, judged: list[Transfer | Rejection]) -> None:
    """Refuse, in place, what goes to somebody who was never paid: that is confirmed one by one."""
    others = {
        outcome.destination
        for outcome in judged
        if type(outcome) is Transfer and customer_of(outcome.destination) != call.user
    }
    new = await unpaid(call.services.pool, call.user, others) if others else others
    for index, outcome in enumerate(judged):
        if type(outcome) is Transfer and outcome.destination in new:
            judged[index] = Rejection(IdentityCode.CONFIRMATION_REQUIRED)


def _commands(
    items: list[BatchTransfer], judged: list[Transfer | Rejection]
) -> tuple[list[Command], list[int | list[int]]]:
    """What to ask, and to which transfers each answer belongs; a broken group is not asked for."""
    commands: list[Command] = []
    places: list[int | list[int]] = []
    groups: dict[str, list[int]] = {}
    for index, (item, outcome) in enumerate(zip(items, judged, strict=True)):
        if item.group:
            groups.setdefault(item.group, []).append(index)
        elif type(outcome) is Transfer:
            commands.append(outcome)
            places.append(index)
    for indexes in groups.values():
        legs = [leg for index in indexes if type(leg := judged[index]) is Transfer]
        if len(legs) == len(indexes):
            commands.append(_linked(legs))
            places.append(indexes)
    return commands, places


def _linked(legs: list[Transfer]) -> LinkedTransfers:
    ids = hashlib.blake2b(b"group\0", digest_size=16)
    prints = hashlib.blake2b(digest_size=16)
    for leg in legs:
        ids.update(leg.id)
        prints.update(leg.fingerprint)
    return LinkedTransfers(ids.digest(), prints.digest(), tuple(legs))


def _refused(item: BatchTransfer, outcome: Transfer | Rejection) -> BatchResult:
    """What is said if no reply comes: the rejection, or that another of the group was refused."""
    if type(outcome) is Rejection:
        return BatchResult(item.id, "rejected", "", outcome.code)
    return BatchResult(item.id, "rejected", outcome.id.hex(), Code.LINKED_FAILED)


def _answer(result: BatchResult, reply: Reply) -> None:
    if type(reply) is Receipt:
        result.status, result.code = STATUS_NAMES[reply.status], reply.reason
    elif isinstance(reply, Rejection):
        result.code = reply.code
    elif isinstance(reply, Unavailable):
        result.status, result.code = "unknown", "outcome_unknown"
    else:
        raise TypeError(f"unexpected reply {reply!r}")


def _answer_group(results: list[BatchResult], reply: Reply, indexes: list[int]) -> None:
    if isinstance(reply, LinkedReply):
        for index, member in zip(indexes, reply.results, strict=True):
            _answer(results[index], member)
    else:
        for index in indexes:
            _answer(results[index], reply)
