"""The rules of accounts broken on purpose: some test must fail each time."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from domain.accounts import guards, linked, machine, numbers, state
from domain.accounts.codes import Code
from domain.accounts.holds import HoldDecisions
from domain.accounts.linked import LinkedDecisions
from domain.accounts.machine import AccountsMachine
from domain.accounts.state import Account
from tests.domain.accounts import test_holds, test_linked, test_transfers
from tests.domain.accounts.bank import Bank
from tests.domain.accounts.test_model import AccountsModel
from tests.domain.accounts.test_rejections import TABLES, Case, Violation, judged
from tests.mutation import Mutation, found_by

MUTATIONS = [
    Mutation(
        "the fee is not counted against what is available",
        AccountsMachine,
        "judge_transfer",
        "source.available < amount + fee",
        "source.available < amount",
    ),
    Mutation(
        "holds are not counted against what is available",
        Account,
        "available",
        "self.posted - self.held",
        "self.posted",
    ),
    Mutation(
        "a refund can be repeated",
        AccountsMachine,
        "_credit_acknowledged",
        "return Decision([event], reply,",
        "return Decision([event, event], reply,",
    ),
    Mutation(
        "a refund keeps the fee",
        AccountsMachine,
        "_credit_acknowledged",
        "message.source_amount,\n            message.fee,\n            message.source_currency,\n"
        "            message.amount,\n            message.currency,\n            outcome.code",
        "message.source_amount,\n            0,\n            message.source_currency,\n"
        "            message.amount,\n            message.currency,\n            outcome.code",
    ),
    Mutation(
        "a conversion credits nobody",
        AccountsMachine,
        "send",
        "return Decision([sent, received],",
        "return Decision([sent],",
    ),
    Mutation(
        "a conversion leaves no posting on the other side",
        state,
        "_sent",
        'result.append(Posting("fx", event.credited_currency, -sign * event.credited))',
        "pass",
    ),
    Mutation(
        "the house's part of a conversion is forgotten",
        state,
        "_house_sent",
        '("fx", event.credited_currency, -event.credited),',
        "",
    ),
    Mutation(
        "an expired quote is taken",
        AccountsMachine,
        "judge_transfer",
        "command.rate.expires_at < now",
        "False",
    ),
    Mutation(
        "a frozen account pays",
        guards,
        "cannot_leave",
        "account.status == AccountStatus.FROZEN",
        "False",
    ),
    Mutation(
        "the limit forgets the day",
        state,
        "spent_on",
        "(spent if spent_day == day else 0)",
        "spent",
    ),
    Mutation(
        "the limit does not count groups that wait",
        state,
        "spent_on",
        "return waiting + ",
        "return ",
    ),
    Mutation(
        "a return gives no limit back",
        state,
        "_transfer_returned",
        "if day == event.day:",
        "if False:",
    ),
    Mutation(
        "a hold can be posted again",
        state,
        "_reduce_hold",
        "if not hold.amount:",
        "if False:",
    ),
    Mutation(
        "an expired hold can be posted",
        HoldDecisions,
        "_post_hold",
        "if hold is None or hold.expires_at <= now:",
        "if hold is None:",
    ),
    Mutation(
        "more can be posted than is held",
        HoldDecisions,
        "_post_hold",
        "command.amount + fee > hold.amount",
        "command.amount > hold.amount",
    ),
    Mutation(
        "the rest of a hold is released unasked",
        HoldDecisions,
        "_post_hold",
        "hold.amount if command.release else command.amount + fee",
        "hold.amount",
    ),
    Mutation(
        "holds expire too early",
        HoldDecisions,
        "_expire_holds",
        "if hold.expires_at <= now",
        "if hold.expires_at - 1 <= now",
    ),
    Mutation(
        "an account with a payment on its way can be closed",
        machine,
        "_idle",
        "or account.pending",
        "",
    ),
    Mutation(
        "an account that has promised can be closed",
        machine,
        "_idle",
        "or account.expecting",
        "",
    ),
    Mutation(
        "a customer is opened twice",
        AccountsMachine,
        "_open_customer",
        "if state.accounts:",
        "if False:",
    ),
    Mutation(
        "a group pays what is covered and drops the rest",
        LinkedDecisions,
        "_linked",
        "return Decision(reply=_all_refused(command.transfers, index, sent))",
        "continue",
    ),
    Mutation(
        "a group does not put its funds aside",
        state,
        "_group_reserved",
        "state.accounts[leg.source].held += leg.amount + leg.fee",
        "pass",
    ),
    Mutation(
        "a group is carried out at the first promise",
        LinkedDecisions,
        "_prepare_acknowledged",
        "if group.waiting != [message.transfer]:",
        "if False:",
    ),
    Mutation(
        "a leg's id can be used twice in a group",
        LinkedDecisions,
        "_linked",
        "if leg.id in ids:",
        "if False:",
    ),
    Mutation(
        "the id of a waiting leg is free",
        linked,
        "waits_in_group",
        "return transfer in state.groups or any(",
        "return False and any(",
    ),
    Mutation(
        "a decision changes the state",
        AccountsMachine,
        "judge_transfer",
        "credited, rate = amount, None",
        "credited, rate = amount, None; source.pending += 1",
    ),
]


def _row(make: Callable[[], Case], violate: Violation, code: Code) -> None:
    case = make()
    violate(case)
    assert judged(case).code == code


def _example(function: Callable[[Bank], None], make: Callable[[], Bank]) -> None:
    function(make())


def checks() -> Iterator[tuple[str, Callable[[], object]]]:
    """The table of rejections, the examples, then random commands against the model."""
    for name, (make, table) in TABLES.items():
        for code, violate in table:
            yield f"test_rejections[{name}-{code}]", partial(_row, make, violate, code)
    for module in (test_transfers, test_holds, test_linked):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if name.startswith("test_") and [*inspect.signature(function).parameters] == ["bank"]:
                place = module.__name__.rpartition(".")[2]
                yield f"{place}::{name}", partial(_example, function, module.make_bank)
    once = test_transfers.test_a_customer_is_opened_once
    yield f"test_transfers::{once.__name__}", once
    bounds = settings(
        max_examples=200,
        stateful_step_count=50,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
    )
    yield "test_model", partial(run_state_machine_as_test, AccountsModel, settings=bounds)


def found_in_rules(mutation: Mutation, patch: pytest.MonkeyPatch) -> str | None:
    """The first test that fails with the mutation in place, which every user of a name sees."""
    mutation.apply(patch)
    if inspect.ismodule(mutation.owner):
        broken = getattr(mutation.owner, mutation.name)
        for module in (guards, linked, machine, state, inspect.getmodule(HoldDecisions)):
            if hasattr(module, mutation.name):
                patch.setattr(module, mutation.name, broken)
        for kind, apply in state.APPLY.items():
            if apply.__name__ == mutation.name:
                patch.setitem(state.APPLY, kind, broken)
    return found_by(checks())


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.title)
def test_broken_rules_are_found(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found_in_rules(mutation, monkeypatch) is not None, "no test fails"


def test_unbroken_rules_pass() -> None:
    assert found_by(checks()) is None


def test_a_wrong_check_digit_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    number = numbers.account_number(1_000_000_001, 3)
    Mutation("", numbers, "account_number", "98 - ", "97 - ").apply(monkeypatch)
    assert numbers.parse_account(str(number)) == number
    assert numbers.parse_account(str(numbers.account_number(1_000_000_001, 3))) is None
