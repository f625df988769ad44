"""Every rejection of what is asked of a brokerage besides trades, and their precedence."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest

from domain.accounts import events as ev
from domain.accounts import trading as tr
from domain.accounts.brokerage import Balance, Brokerage
from domain.accounts.brokerage_funds import SWITCHES_MAX
from domain.accounts.codes import Code
from domain.accounts.commands import AccountStatus
from domain.accounts.numbers import account_number
from domain.accounts.trading import HOLDING_MAX
from domain.money import AMOUNT_MAX
from tests.domain.accounts.bank import ALICE, DAY, NOON, command_id, usd
from tests.domain.accounts.test_rejections import (
    NOBODY,
    Case,
    Table,
    Violation,
    fields,
    judged,
)

UNITS = 10**6


def funded(case: Case) -> Case:
    """Alice has 500 dollars in the brokerage, 100 of which are held."""
    case.alice.brokerage = Brokerage(ALICE, {"USD": Balance(50_000 * UNITS, 10_000 * UNITS)})
    return case


def fund_case() -> Case:
    return funded(
        Case(tr.FundBrokerage, id=command_id(7), fingerprint=b"", account=usd(ALICE), amount=40_000)
    )


def withdraw_case() -> Case:
    case = fund_case()
    case.kind = tr.WithdrawBrokerage
    return case


def issue_case() -> Case:
    return Case(
        tr.IssueAsset, id=command_id(7), fingerprint=b"", customer=ALICE, asset="KTRA", quantity=5
    )


def switch_case() -> Case:
    return funded(
        Case(
            tr.CancelAfter,
            id=command_id(7),
            fingerprint=b"",
            customer=ALICE,
            symbol="BTCUSD",
            at=NOON + 1,
        )
    )


def read_case() -> Case:
    return Case(tr.ReadBrokerage, customer=ALICE)


def _closed(case: Case) -> None:
    case.status(usd(ALICE), AccountStatus.CLOSED)


def _held(case: Case) -> None:
    case.alice.brokerage = Brokerage(ALICE, {"USD": Balance(50_000 * UNITS, 10_000 * UNITS + 1)})


def _switches(case: Case) -> None:
    assert case.alice.brokerage is not None
    case.alice.brokerage.switches.update((f"S{n}", NOON + 5) for n in range(SWITCHES_MAX))


AMOUNTS: Table = [
    (Code.AMOUNT_NOT_POSITIVE, fields(amount=0)),
    (Code.AMOUNT_NOT_POSITIVE, fields(amount=-1)),
    (Code.AMOUNT_TOO_LARGE, fields(amount=AMOUNT_MAX + 1)),
]

TABLES: dict[str, tuple[Callable[[], Case], Table]] = {
    "fund": (
        fund_case,
        [
            *AMOUNTS,
            (Code.UNKNOWN_SOURCE_ACCOUNT, fields(account=account_number(ALICE, 50))),
            (Code.ACCOUNT_CLOSED, _closed),
            (
                Code.ACCOUNT_FROZEN,
                lambda case: case.status(usd(ALICE), AccountStatus.FROZEN),
            ),
            (Code.INSUFFICIENT_FUNDS, fields(amount=100_001)),
        ],
    ),
    "withdraw": (
        withdraw_case,
        [
            *AMOUNTS,
            (Code.UNKNOWN_DESTINATION_ACCOUNT, fields(account=account_number(ALICE, 50))),
            (Code.DESTINATION_CLOSED, _closed),
            (Code.INSUFFICIENT_FUNDS, fields(amount=40_001)),
            (Code.INSUFFICIENT_FUNDS, _held),
        ],
    ),
    "issue": (
        issue_case,
        [
            (Code.AMOUNT_NOT_POSITIVE, fields(quantity=0)),
            (Code.AMOUNT_TOO_LARGE, fields(quantity=HOLDING_MAX + 1)),
            (Code.UNKNOWN_CUSTOMER, fields(customer=NOBODY)),
            (Code.ASSET_INVALID, fields(asset="USD")),
            (Code.ASSET_INVALID, fields(asset="X")),
            (Code.ASSET_INVALID, fields(asset="LONGERTHANTEN")),
            (Code.ASSET_INVALID, fields(asset="ktra")),
            (Code.ASSET_INVALID, fields(asset="KT.8")),
        ],
    ),
    "switch": (
        switch_case,
        [
            (Code.TEXT_INVALID, fields(symbol="btc-usd")),
            (Code.UNKNOWN_CUSTOMER, fields(customer=NOBODY)),
            (Code.EXPIRY_INVALID, fields(at=NOON)),
            (Code.EXPIRY_INVALID, fields(at=-5)),
            (Code.EXPIRY_INVALID, fields(at=NOON + DAY + 1)),
            (Code.TOO_MANY_HOLDS, _switches),
        ],
    ),
    "read": (read_case, [(Code.UNKNOWN_CUSTOMER, fields(customer=NOBODY))]),
}


@pytest.mark.parametrize("name", TABLES)
def test_the_case_is_accepted_as_it_is(name: str) -> None:
    make, table = TABLES[name]
    assert not hasattr(judged(make()), "code")
    order = list(Code)
    places = [order.index(code) for code, _ in table]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("make", "violate", "code"),
    [
        pytest.param(make, violate, code, id=f"{name}-{index}-{code}")
        for name, (make, table) in TABLES.items()
        for index, (code, violate) in enumerate(table)
    ],
)
def test_each_violation_has_its_code(
    make: Callable[[], Case], violate: Violation, code: Code
) -> None:
    case = make()
    violate(case)
    decision = judged(case)
    assert decision.code == code
    assert all(isinstance(value, str) for value in decision.fields.values())


def pairs() -> list[Any]:
    return [
        pytest.param(make, later, earlier, code, id=f"{name}-{i}-{j}-{code}-over-{later_code}")
        for name, (make, table) in TABLES.items()
        for (i, (code, earlier)), (j, (later_code, later)) in combinations(enumerate(table), 2)
        if code != later_code
    ]


@pytest.mark.parametrize(("make", "later", "earlier", "code"), pairs())
def test_of_two_violations_the_earlier_answers(
    make: Callable[[], Case], later: Violation, earlier: Violation, code: Code
) -> None:
    case = make()
    later(case)
    earlier(case)
    assert judged(case).code == code


def test_no_more_of_an_asset_than_can_be_counted() -> None:
    case = fund_case()
    assert case.alice.brokerage is not None
    case.alice.brokerage.balances["USD"].total = HOLDING_MAX - 40_000 * UNITS
    (event,) = judged(case).events
    assert event == ev.BrokerageFunded(
        command_id(7), b"", usd(ALICE), "USD", 40_000, 40_000 * UNITS, NOON
    )
    case.alice.brokerage.balances["USD"].total += 1
    assert judged(case).code == Code.AMOUNT_TOO_LARGE


def test_a_switch_that_is_set_can_be_put_off_and_taken_away() -> None:
    case = switch_case()
    _switches(case)
    for symbol, at in (("S3", NOON + 9), ("S3", 0), ("OTHER", 0)):
        case.fields.update(symbol=symbol, at=at)
        (event,) = judged(case).events
        assert event == ev.SwitchSet(ALICE, symbol, at)
