"""Every rejection of every command, and their precedence.

A table for each command lists what can be wrong with it, in the order of ``codes.Code``. Each row
alone gives its code; any two rows together give the earlier one.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest

from domain.accounts import commands as cmd
from domain.accounts.codes import Code
from domain.accounts.commands import AccountStatus, Rate
from domain.accounts.numbers import ACCOUNTS_MAX, account_number
from domain.accounts.state import Account, Hold
from domain.money import AMOUNT_MAX, RATE_SCALE
from tests.domain.accounts.bank import (
    ALICE,
    BOB,
    DAY,
    NOON,
    Bank,
    cny,
    command_id,
    eur,
    usd,
)

NOBODY = 5_555_555_555


class Case:
    """A bank in which the command would be accepted, and the command's fields."""

    def __init__(self, kind: type, **fields: Any) -> None:
        self.kind = kind
        self.fields = fields
        self.bank = Bank()
        self.bank.open(ALICE, 100_000, 100_000, 100_000)
        self.bank.open(BOB, 100_000)
        self.alice = self.bank.customers[ALICE]

    def command(self) -> Any:
        return self.kind(**self.fields)

    def status(self, account: int, status: AccountStatus) -> None:
        self.bank.account(account).status = status


Violation = Callable[[Case], None]
Table = list[tuple[Code, Violation]]


def fields(**changed: Any) -> Violation:
    """A violation by the command's fields alone."""

    def violate(case: Case) -> None:
        case.fields.update(changed)

    return violate


# -- transfer -----------------------------------------------------------------------------


def transfer_case() -> Case:
    """A transfer to another customer with a conversion."""
    return Case(
        cmd.Transfer,
        id=command_id(77),
        fingerprint=b"",
        source=usd(ALICE),
        destination=eur(BOB),
        amount=10_000,
        destination_currency="EUR",
        rate=Rate(RATE_SCALE, NOON + 1),
    )


def _own_destination_closed(case: Case) -> None:
    case.fields.update(destination=cny(ALICE), destination_currency="CNY")
    case.status(cny(ALICE), AccountStatus.CLOSED)


def _same_account(case: Case) -> None:
    case.fields.update(destination=case.fields["source"], destination_currency="USD")


def _unknown_own_destination(case: Case) -> None:
    case.fields.update(destination=account_number(ALICE, 55), destination_currency="EUR")


def _limit_of_nothing(case: Case) -> None:
    case.alice.limits["USD"] = 9_999


def _empty_source(case: Case) -> None:
    case.bank.account(usd(ALICE)).posted = 10_049


TRANSFER: Table = [
    (Code.AMOUNT_NOT_POSITIVE, fields(amount=0)),
    (Code.AMOUNT_NOT_POSITIVE, fields(amount=-10_000)),
    (Code.AMOUNT_TOO_LARGE, fields(amount=AMOUNT_MAX + 1)),
    (Code.REFERENCE_TOO_LONG, fields(reference="x" * 141)),
    (Code.TEXT_INVALID, fields(reference="a\0b")),
    (Code.SAME_ACCOUNT, _same_account),
    (Code.UNKNOWN_SOURCE_ACCOUNT, fields(source=account_number(ALICE, 50))),
    (Code.UNKNOWN_DESTINATION_ACCOUNT, fields(destination_currency="")),
    (Code.UNKNOWN_DESTINATION_ACCOUNT, _unknown_own_destination),
    (Code.ACCOUNT_CLOSED, lambda case: case.status(usd(ALICE), AccountStatus.CLOSED)),
    (Code.ACCOUNT_FROZEN, lambda case: case.status(usd(ALICE), AccountStatus.FROZEN)),
    (Code.DESTINATION_CLOSED, _own_destination_closed),
    (Code.CURRENCY_MISMATCH, fields(destination=cny(ALICE))),
    (Code.RATE_REQUIRED, fields(rate=None)),
    (Code.QUOTE_EXPIRED, fields(rate=Rate(RATE_SCALE, NOON - 1))),
    (Code.AMOUNT_TOO_SMALL, fields(rate=Rate(1, NOON))),
    (Code.DAILY_LIMIT_EXCEEDED, _limit_of_nothing),
    (Code.INSUFFICIENT_FUNDS, _empty_source),
]


# -- holds --------------------------------------------------------------------------------


def reserve_case() -> Case:
    """A hold of 100 dollars for a day."""
    return Case(
        cmd.ReserveHold,
        id=command_id(77),
        fingerprint=b"",
        account=usd(ALICE),
        amount=10_000,
        expires_at=NOON + DAY,
        purpose="order",
    )


def _almost_enough(case: Case) -> None:
    case.bank.account(usd(ALICE)).posted = 9_999


def _full_of_holds(case: Case) -> None:
    for number in range(case.bank.machine.policy.holds_max):
        case.alice.holds[command_id(1_000 + number)] = Hold(eur(ALICE), 1, NOON + DAY, "")


RESERVE: Table = [
    (Code.AMOUNT_NOT_POSITIVE, fields(amount=0)),
    (Code.AMOUNT_TOO_LARGE, fields(amount=AMOUNT_MAX + 1)),
    (Code.REFERENCE_TOO_LONG, fields(purpose="x" * 141)),
    (Code.TEXT_INVALID, fields(purpose="\ud800")),
    (Code.UNKNOWN_SOURCE_ACCOUNT, fields(account=account_number(ALICE, 50))),
    (Code.ACCOUNT_CLOSED, lambda case: case.status(usd(ALICE), AccountStatus.CLOSED)),
    (Code.ACCOUNT_FROZEN, lambda case: case.status(usd(ALICE), AccountStatus.FROZEN)),
    (Code.EXPIRY_INVALID, fields(expires_at=NOON)),
    (Code.EXPIRY_INVALID, fields(expires_at=NOON + 90 * DAY + 1)),
    (Code.INSUFFICIENT_FUNDS, _almost_enough),
    (Code.TOO_MANY_HOLDS, _full_of_holds),
]

HOLD = command_id(5)


def post_case() -> Case:
    """A hold of 100 dollars, of which 50 go to another customer."""
    case = Case(
        cmd.PostHold,
        id=command_id(77),
        fingerprint=b"",
        customer=ALICE,
        hold=HOLD,
        amount=5_000,
        destination=usd(BOB),
        destination_currency="USD",
    )
    case.alice.holds[HOLD] = Hold(usd(ALICE), 10_000, NOON + DAY, "order")
    case.bank.account(usd(ALICE)).held = 10_000
    return case


def _limit_of_little(case: Case) -> None:
    case.alice.limits["USD"] = 4_999


def _void(case: Case) -> None:
    del case.alice.holds[HOLD]


def _expire(case: Case) -> None:
    case.alice.holds[HOLD].expires_at = NOON


def _own_in_other_currency(case: Case) -> None:
    case.fields.update(destination=cny(ALICE), destination_currency="USD")


POST: Table = [
    (Code.AMOUNT_NOT_POSITIVE, fields(amount=0)),
    (Code.REFERENCE_TOO_LONG, fields(reference="x" * 141)),
    (Code.TEXT_INVALID, fields(reference="a\0b")),
    (Code.SAME_ACCOUNT, fields(destination=usd(ALICE), destination_currency="USD")),
    (Code.UNKNOWN_DESTINATION_ACCOUNT, fields(destination_currency="")),
    (Code.UNKNOWN_DESTINATION_ACCOUNT, _unknown_own_destination),
    (Code.HOLD_UNKNOWN, _expire),
    (Code.DESTINATION_CLOSED, _own_destination_closed),
    (Code.CURRENCY_MISMATCH, _own_in_other_currency),
    (Code.CURRENCY_MISMATCH, fields(destination=eur(BOB), destination_currency="EUR")),
    (Code.HOLD_EXCEEDED, fields(amount=9_951)),
    (Code.DAILY_LIMIT_EXCEEDED, _limit_of_little),
]


def void_case() -> Case:
    case = post_case()
    case.kind, case.fields = cmd.VoidHold, {}
    case.fields.update(id=command_id(77), fingerprint=b"", customer=ALICE, hold=HOLD)
    return case


VOID: Table = [(Code.HOLD_UNKNOWN, _void)]


# -- accounts -----------------------------------------------------------------------------


def open_account_case() -> Case:
    return Case(
        cmd.OpenAccount,
        id=command_id(77),
        fingerprint=b"",
        customer=ALICE,
        currency="EUR",
        name="Savings",
    )


def _many_accounts(case: Case) -> None:
    for index in range(ACCOUNTS_MAX):
        number = account_number(ALICE, index)
        case.alice.accounts[number] = Account(number, "USD", "", NOON)


OPEN_ACCOUNT: Table = [
    (Code.TEXT_INVALID, fields(name="a\nb")),
    (Code.UNKNOWN_CUSTOMER, fields(customer=NOBODY)),
    (Code.UNKNOWN_CURRENCY, fields(currency="XXX")),
    (Code.TOO_MANY_ACCOUNTS, _many_accounts),
    (Code.NAME_INVALID, fields(name="  ")),
    (Code.NAME_INVALID, fields(name="x" * 41)),
]


def close_case() -> Case:
    case = Case(
        cmd.SetAccountStatus,
        id=command_id(77),
        fingerprint=b"",
        account=usd(BOB),
        status=AccountStatus.CLOSED,
    )
    case.bank.account(usd(BOB)).posted = 0
    return case


def _with(**changed: int) -> Violation:
    def violate(case: Case) -> None:
        for name, value in changed.items():
            setattr(case.bank.account(usd(BOB)), name, value)

    return violate


def _closed_before(case: Case) -> None:
    case.status(usd(BOB), AccountStatus.CLOSED)
    case.fields.update(status=AccountStatus.OPEN)


SET_STATUS: Table = [
    (Code.UNKNOWN_SOURCE_ACCOUNT, fields(account=account_number(BOB, 50))),
    (Code.ACCOUNT_CLOSED, _closed_before),
    (Code.ACCOUNT_FROZEN, lambda case: case.status(usd(BOB), AccountStatus.FROZEN)),
    (Code.ACCOUNT_NOT_EMPTY, _with(posted=1)),
    (Code.ACCOUNT_NOT_EMPTY, _with(posted=1, held=1)),
    (Code.ACCOUNT_NOT_EMPTY, _with(pending=1)),
    (Code.ACCOUNT_NOT_EMPTY, _with(expecting=1)),
]


def limit_case() -> Case:
    return Case(
        cmd.SetDailyLimit,
        id=command_id(77),
        fingerprint=b"",
        customer=ALICE,
        currency="USD",
        amount=0,
    )


SET_LIMIT: Table = [
    (Code.AMOUNT_NOT_POSITIVE, fields(amount=-1)),
    (Code.AMOUNT_TOO_LARGE, fields(amount=AMOUNT_MAX + 1)),
    (Code.UNKNOWN_CUSTOMER, fields(customer=NOBODY)),
    (Code.UNKNOWN_CURRENCY, fields(currency="XXX")),
]


def open_customer_case() -> Case:
    return Case(
        cmd.OpenCustomer,
        id=command_id(77),
        fingerprint=b"",
        customer=NOBODY,
        currencies=("USD", "EUR"),
        bonus_currency="USD",
        bonus_amount=100,
    )


OPEN_CUSTOMER: Table = [(Code.UNKNOWN_CURRENCY, fields(currencies=("USD", "XXX")))]


def read_case() -> Case:
    return Case(cmd.ReadCustomer, customer=ALICE)


READ: Table = [(Code.UNKNOWN_CUSTOMER, fields(customer=NOBODY))]


# -- messages -----------------------------------------------------------------------------


def credit_case() -> Case:
    return Case(
        cmd.Credit,
        transfer=command_id(77),
        source=usd(ALICE),
        destination=usd(BOB),
        amount=1,
        currency="USD",
        source_amount=1,
        fee=0,
        source_currency="USD",
        at=NOON,
    )


def prepare_case() -> Case:
    return Case(
        cmd.PrepareCredit,
        group=command_id(77),
        transfer=command_id(78),
        source=usd(ALICE),
        destination=usd(BOB),
        currency="USD",
    )


ARRIVAL: Table = [
    (Code.UNKNOWN_DESTINATION_ACCOUNT, fields(destination=account_number(BOB, 50))),
    (Code.DESTINATION_CLOSED, lambda case: case.status(usd(BOB), AccountStatus.CLOSED)),
    (Code.CURRENCY_MISMATCH, fields(currency="EUR")),
]

TABLES: dict[str, tuple[Callable[[], Case], Table]] = {
    "transfer": (transfer_case, TRANSFER),
    "reserve": (reserve_case, RESERVE),
    "post": (post_case, POST),
    "void": (void_case, VOID),
    "open account": (open_account_case, OPEN_ACCOUNT),
    "close": (close_case, SET_STATUS),
    "limit": (limit_case, SET_LIMIT),
    "open customer": (open_customer_case, OPEN_CUSTOMER),
    "read": (read_case, READ),
    "credit": (credit_case, ARRIVAL),
    "prepare": (prepare_case, ARRIVAL),
}

ELSEWHERE = {
    Code.ID_REUSED: "the runtime",
    Code.AMOUNT_INVALID: "reading amounts",
    Code.TOO_MANY_DECIMALS: "reading amounts",
    Code.QUOTE_INVALID: "reading quotes",
    Code.LINKED_FAILED: "linked groups",
    Code.ASSET_INVALID: "brokerages",
    Code.REASON_MISSING: "adjustments",
    Code.ADJUSTMENT_UNKNOWN: "adjustments",
    Code.ADJUSTMENT_OWN: "adjustments",
    Code.ADJUSTMENT_MAKER: "adjustments",
    Code.ADJUSTMENT_CHANGED: "adjustments",
    Code.ADJUSTMENT_EXPIRED: "adjustments",
    Code.TOO_MANY_ADJUSTMENTS: "adjustments",
}


def judged(case: Case) -> Any:
    """The decision on the case's command, at the receiver's for a message."""
    command = case.command()
    message = isinstance(command, cmd.Credit | cmd.PrepareCredit)
    key = BOB if message else int(case.bank.machine.key(command))
    return case.bank._judge(key, command)


def rows() -> list[Any]:
    return [
        pytest.param(make, violate, code, id=f"{name}-{index}-{code}")
        for name, (make, table) in TABLES.items()
        for index, (code, violate) in enumerate(table)
    ]


def pairs() -> list[Any]:
    return [
        pytest.param(make, later, earlier, code, id=f"{name}-{i}-{j}-{code}-over-{later_code}")
        for name, (make, table) in TABLES.items()
        for (i, (code, earlier)), (j, (later_code, later)) in combinations(enumerate(table), 2)
        if code != later_code
    ]


@pytest.mark.parametrize("name", TABLES)
def test_the_case_is_accepted_as_it_is(name: str) -> None:
    make, table = TABLES[name]
    decision = judged(make())
    assert not hasattr(decision, "code"), decision
    order = list(Code)
    assert [order.index(code) for code, _ in table] == sorted(
        order.index(code) for code, _ in table
    )


@pytest.mark.parametrize(("make", "violate", "code"), rows())
def test_each_violation_has_its_code(
    make: Callable[[], Case], violate: Violation, code: Code
) -> None:
    case = make()
    violate(case)
    decision = judged(case)
    assert decision.code == code
    assert all(isinstance(value, str) for value in decision.fields.values())


@pytest.mark.parametrize(("make", "later", "earlier", "code"), pairs())
def test_of_two_violations_the_earlier_answers(
    make: Callable[[], Case], later: Violation, earlier: Violation, code: Code
) -> None:
    case = make()
    later(case)
    earlier(case)
    assert judged(case).code == code


def test_every_code_has_a_row() -> None:
    tested = {code for _, table in TABLES.values() for code, _ in table}
    assert tested | set(ELSEWHERE) == set(Code)
    assert not tested & set(ELSEWHERE)
