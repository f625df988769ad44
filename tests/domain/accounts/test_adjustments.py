"""Adjustments: made by one, checked by another, posted once, and never to or by oneself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations
from typing import Any

import msgspec
import pytest

from domain.accounts import adjusting
from domain.accounts import commands as cmd
from domain.accounts import events as ev
from domain.accounts.adjusting import LIFE_US, PENDING_MAX, AdjustmentDecisions
from domain.accounts.adjustment import (
    AdjustmentReply,
    AdjustmentStatus,
    DecideAdjustment,
    ProposeAdjustment,
    adjustment_digest,
)
from domain.accounts.codes import Code
from domain.accounts.commands import AccountStatus
from domain.accounts.machine import AccountsMachine
from domain.accounts.numbers import account_number
from domain.accounts.state import house_postings
from domain.accounts.trading import WakeCustomer
from domain.money import AMOUNT_MAX
from tests.domain.accounts.bank import ALICE, BOB, NOON, Bank, eur, usd
from tests.domain.accounts.test_rejections import (
    Case,
    Table,
    Violation,
    fields,
    judged,
)
from tests.mutation import Mutation, found_by

MAKER, CHECKER = 2_000_000_001, 2_000_000_002


def make_bank() -> Bank:
    """The customers that this module's tests are about."""
    bank = Bank()
    bank.open(ALICE, 5_000)
    bank.open(BOB)
    return bank


@pytest.fixture
def bank() -> Bank:
    return make_bank()


def closed(case: Case) -> None:
    case.status(usd(ALICE), AccountStatus.CLOSED)


def propose(bank: Bank, amount: int, account: int = usd(ALICE)) -> AdjustmentReply:
    command = ProposeAdjustment(bank.id(), b"", account, amount, "Fee charged twice", MAKER)
    return bank.expect(command, AdjustmentReply)


def decide(bank: Bank, seen: AdjustmentReply, **changed: Any) -> DecideAdjustment:
    """The decision of somebody who has seen the proposal."""
    digest = adjustment_digest(
        seen.id, seen.account, seen.currency, seen.amount, seen.reason, seen.maker,
        seen.expires_at,
    )  # fmt: skip
    command = DecideAdjustment(
        bank.id(), b"", seen.account // 10_000, seen.id, digest, CHECKER, True, "Looked at it"
    )
    return msgspec.structs.replace(command, **changed)


@pytest.mark.parametrize(("amount", "left"), [(250, 5_250), (-5_000, 0)])
def test_what_two_people_agree_on_is_posted_once(bank: Bank, amount: int, left: int) -> None:
    seen = propose(bank, amount)
    assert (seen.status, seen.checker) == (AdjustmentStatus.PENDING, 0)
    assert bank.account(usd(ALICE)).posted == 5_000, "nothing moves before it is checked"
    done = bank.expect(decide(bank, seen), AdjustmentReply)
    assert (done.status, done.checker, done.amount) == (AdjustmentStatus.POSTED, CHECKER, amount)
    assert bank.account(usd(ALICE)).posted == left
    assert bank.refusal(decide(bank, seen)) == Code.ADJUSTMENT_UNKNOWN
    (_, posted) = bank.events[-1]
    assert isinstance(posted, ev.AdjustmentPosted)
    assert (posted.maker, posted.checker, posted.reason) == (MAKER, CHECKER, "Fee charged twice")
    moved = bank.machine.postings(posted)
    assert [(p.account, p.asset, p.amount) for p in moved] == [
        ("adjustments", "USD", -amount),
        (str(usd(ALICE)), "USD", amount),
    ]
    assert house_postings(posted) == (("adjustments", "USD", -amount),)


def test_what_is_refused_moves_nothing(bank: Bank) -> None:
    seen = propose(bank, 250)
    done = bank.expect(decide(bank, seen, approve=False, note="No"), AdjustmentReply)
    assert (done.status, done.checker) == (AdjustmentStatus.REFUSED, CHECKER)
    assert bank.account(usd(ALICE)).posted == 5_000
    assert bank.refusal(decide(bank, seen)) == Code.ADJUSTMENT_UNKNOWN
    assert bank.machine.postings(bank.events[-1][1]) == ()


def test_proposals_expire_and_make_room(bank: Bank) -> None:
    seen = [propose(bank, 1) for _ in range(PENDING_MAX)]
    late = ProposeAdjustment(bank.id(), b"", usd(ALICE), 1, "One more", MAKER)
    assert bank.refusal(late) == Code.TOO_MANY_ADJUSTMENTS
    alice = bank.customers[ALICE]
    assert bank.machine.due(alice) == NOON + LIFE_US
    bank.now = NOON + LIFE_US - 1
    bank.expect(WakeCustomer(ALICE), cmd.Done)
    assert len(alice.adjustments or ()) == PENDING_MAX
    bank.now = NOON + LIFE_US
    assert bank.refusal(decide(bank, seen[0])) == Code.ADJUSTMENT_EXPIRED
    bank.expect(WakeCustomer(ALICE), cmd.Done)
    assert not alice.adjustments
    assert bank.machine.due(alice) == 0
    assert bank.refusal(decide(bank, seen[0])) == Code.ADJUSTMENT_UNKNOWN
    propose(bank, 1)


def test_a_proposal_waits_beside_holds(bank: Bank) -> None:
    bank.reserve(usd(ALICE), 100, days=30)
    propose(bank, 1)
    assert bank.machine.due(bank.customers[ALICE]) == NOON + LIFE_US
    bank.reserve(usd(ALICE), 100, days=1)
    assert bank.machine.due(bank.customers[ALICE]) < NOON + LIFE_US


def test_a_freeze_does_not_stop_it(bank: Bank) -> None:
    seen = propose(bank, -100)
    bank.set_status(usd(ALICE), AccountStatus.FROZEN)
    bank.expect(decide(bank, seen), AdjustmentReply)
    assert bank.account(usd(ALICE)).posted == 4_900


def test_what_is_held_is_not_taken(bank: Bank) -> None:
    seen = propose(bank, -4_000)
    bank.reserve(usd(ALICE), 1_001)
    assert bank.refusal(decide(bank, seen)) == Code.INSUFFICIENT_FUNDS


def test_two_that_do_not_fit_together(bank: Bank) -> None:
    first, second = propose(bank, -3_000), propose(bank, -3_000)
    bank.expect(decide(bank, first), AdjustmentReply)
    assert bank.refusal(decide(bank, second)) == Code.INSUFFICIENT_FUNDS
    bank.fund(ALICE, "USD", 1_000)
    bank.expect(decide(bank, second), AdjustmentReply)
    assert bank.account(usd(ALICE)).posted == 0


@pytest.mark.parametrize(
    "changed",
    [
        {"id": b"x" * 16}, {"account": eur(ALICE)}, {"currency": "EUR"}, {"amount": 251},
        {"reason": "Another"}, {"maker": MAKER + 1}, {"expires_at": 1},
    ],
    ids=lambda changed: next(iter(changed)),
)  # fmt: skip
def test_an_approval_is_of_what_was_seen(bank: Bank, changed: dict[str, Any]) -> None:
    seen = propose(bank, 250)
    other = decide(bank, msgspec.structs.replace(seen, **changed))
    command = msgspec.structs.replace(other, adjustment=seen.id, customer=ALICE)
    assert bank.refusal(command) == Code.ADJUSTMENT_CHANGED
    refuse = msgspec.structs.replace(command, approve=False)
    assert bank.refusal(refuse) == Code.ADJUSTMENT_CHANGED


def test_states_of_before_can_be_read() -> None:
    bank = Bank()
    bank.open(ALICE, 100)
    encoded = msgspec.msgpack.encode(bank.customers[ALICE])
    short = msgspec.msgpack.encode(msgspec.msgpack.decode(encoded)[:-1])
    kind = type(bank.customers[ALICE])
    assert msgspec.msgpack.decode(short, type=kind).adjustments is None


# -- refusals, by their precedence ----------------------------------------------------------


def proposing() -> Case:
    return Case(
        ProposeAdjustment, id=b"p" * 16, fingerprint=b"", account=usd(ALICE), amount=-100,
        reason="Charged twice", maker=MAKER,
    )  # fmt: skip


def crowded(case: Case) -> None:
    for _ in range(PENDING_MAX):
        command = ProposeAdjustment(case.bank.id(), b"", eur(ALICE), 1, "Waits", MAKER)
        case.bank.expect(command, AdjustmentReply)


PROPOSALS: Table = [
    (Code.AMOUNT_NOT_POSITIVE, fields(amount=0)),
    (Code.AMOUNT_TOO_LARGE, fields(amount=-AMOUNT_MAX - 1)),
    (Code.REFERENCE_TOO_LONG, fields(reason="x" * 141)),
    (Code.TEXT_INVALID, fields(reason="a\nb")),
    (Code.REASON_MISSING, fields(reason=" ")),
    (Code.UNKNOWN_SOURCE_ACCOUNT, fields(account=account_number(ALICE, 50))),
    (Code.ADJUSTMENT_OWN, fields(maker=ALICE)),
    (Code.ACCOUNT_CLOSED, closed),
    (Code.INSUFFICIENT_FUNDS, fields(amount=-100_001)),
    (Code.TOO_MANY_ADJUSTMENTS, crowded),
]


def deciding() -> Case:
    case = Case(
        DecideAdjustment, id=b"d" * 16, fingerprint=b"", customer=ALICE, adjustment=b"",
        digest=b"", checker=CHECKER, approve=True, note="",
    )  # fmt: skip
    seen = propose(case.bank, -100)
    given = decide(case.bank, seen)
    case.fields.update(adjustment=seen.id, digest=given.digest)
    return case


def late(case: Case) -> None:
    case.bank.now += LIFE_US


def spent(case: Case) -> None:
    case.alice.accounts[usd(ALICE)].posted = 99


DECISIONS: Table = [
    (Code.REFERENCE_TOO_LONG, fields(note="x" * 141)),
    (Code.TEXT_INVALID, fields(note="\x7f")),
    (Code.REASON_MISSING, fields(approve=False, note=" ")),
    (Code.ADJUSTMENT_UNKNOWN, fields(adjustment=b"?" * 16)),
    (Code.ADJUSTMENT_OWN, fields(checker=ALICE)),
    (Code.ADJUSTMENT_MAKER, fields(checker=MAKER)),
    (Code.ADJUSTMENT_CHANGED, fields(digest=b"")),
    (Code.ADJUSTMENT_EXPIRED, late),
    (Code.ACCOUNT_CLOSED, closed),
    (Code.INSUFFICIENT_FUNDS, spent),
]

TABLES = [(proposing, PROPOSALS), (deciding, DECISIONS)]
ROWS: list[Any] = [
    pytest.param(make, code, [violation], id=f"{make.__name__}-{code}")
    for make, table in TABLES
    for code, violation in table
]
PAIRS = [
    pytest.param(make, first, [later, earlier], id=f"{make.__name__}-{first}-over-{second}")
    for make, table in TABLES
    for (first, earlier), (second, later) in combinations(table, 2)
]


@pytest.mark.parametrize(("make", "table"), TABLES)
def test_the_case_is_accepted_as_it_is(make: Callable[[], Case], table: Table) -> None:
    assert not hasattr(judged(make()), "code")
    order = list(Code)
    places = [order.index(code) for code, _ in table]
    assert places == sorted(places)


@pytest.mark.parametrize(("make", "code", "violations"), ROWS + PAIRS)
def test_refusals_and_their_order(
    make: Callable[[], Case], code: Code, violations: list[Violation]
) -> None:
    case = make()
    for violate in violations:
        violate(case)
    assert judged(case).code == code


# -- rules broken on purpose ----------------------------------------------------------------

MUTATIONS = [
    Mutation(
        "who made it may check it", AdjustmentDecisions, "_decide_adjustment",
        "command.checker == waiting.maker", "False",
    ),
    Mutation(
        "anything may be approved", AdjustmentDecisions, "_decide_adjustment",
        "command.digest != _digest(command.adjustment, waiting, account)", "False",
    ),
    Mutation(
        "one's own accounts may be checked", AdjustmentDecisions, "_decide_adjustment",
        "command.checker == command.customer", "False",
    ),
    Mutation(
        "one's own accounts may be adjusted", AdjustmentDecisions, "_propose",
        "command.maker == customer_of(command.account)", "False",
    ),
    Mutation(
        "a proposal lasts a moment too long", AdjustmentDecisions, "_decide_adjustment",
        "waiting.expires_at <= now", "waiting.expires_at < now",
    ),
    Mutation(
        "proposals stay for ever", AdjustmentDecisions, "expired_adjustments",
        "waiting.expires_at <= now", "False",
    ),
    Mutation(
        "there is no end of proposals", AdjustmentDecisions, "_propose",
        ">= PENDING_MAX", "> PENDING_MAX",
    ),
    Mutation(
        "what is held may be taken", adjusting, "_cannot_post",
        "account.available + amount < 0", "account.posted + amount < 0",
    ),
    Mutation(
        "nobody is woken for it", AccountsMachine, "due", "if state.adjustments:", "if False:"
    ),
    Mutation(
        "an amount can be changed after it was seen", adjusting, "_digest",
        "waiting.amount,", "abs(waiting.amount),",
    ),
]  # fmt: skip


def checks() -> Iterator[tuple[str, Callable[[], object]]]:
    """Examples and tables of this file."""
    for test in (
        test_proposals_expire_and_make_room,
        test_a_proposal_waits_beside_holds,
        test_what_is_held_is_not_taken,
    ):
        yield test.__name__, partial(test, make_bank())
    yield "posted", partial(test_what_two_people_agree_on_is_posted_once, make_bank(), -5_000, 0)
    for row in ROWS:
        yield str(row.id), partial(test_refusals_and_their_order, *row.values)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.title)
def test_broken_rules_are_found(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found_by(checks()) is None
    mutation.apply(monkeypatch)
    assert found_by(checks()) is not None, "no test fails"
