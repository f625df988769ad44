"""The rules of brokerages broken on purpose: some test must fail each time."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from domain.accounts import brokerage, brokerage_funds, machine, placing, reports, settling, state
from domain.accounts.brokerage_funds import FundsDecisions
from domain.accounts.machine import AccountsMachine
from domain.accounts.placing import Draft, PlacingDecisions
from domain.accounts.settling import SettlingDecisions
from tests.domain.accounts import test_brokerage, test_brokerage_trades
from tests.domain.accounts.test_brokerage_model import BrokerageModel
from tests.domain.accounts.test_brokerage_rejections import TABLES
from tests.domain.accounts.test_mutations import _example, _row
from tests.mutation import Mutation, found_by

MODULES = (brokerage, brokerage_funds, machine, placing, reports, settling, state)

MUTATIONS = [
    Mutation(
        "held funds can be spent again",
        Draft,
        "__init__",
        "quote.total - quote.held",
        "quote.total",
    ),
    Mutation(
        "two orders of a trade share the same funds",
        Draft,
        "_pay",
        "self.free_quote -= needed",
        "pass",
    ),
    Mutation(
        "a better price frees nothing",
        brokerage,
        "still_costs",
        "return (order.quantity - order.filled) * place.price * order.terms.unit",
        "return order.quantity * place.price * order.terms.unit",
    ),
    Mutation(
        "an ended order keeps its hold",
        brokerage,
        "still_costs",
        "ended = order.final_filled >= 0",
        "ended = False",
    ),
    Mutation(
        "an order ends before its last fills",
        brokerage,
        "_settle",
        "if order.final_filled == filled:",
        "if order.final_filled >= 0:",
    ),
    Mutation(
        "an order ends before its answer",
        brokerage,
        "_settle",
        "if order.answered:",
        "if True:",
    ),
    Mutation(
        "a late answer opens an ended order again",
        brokerage,
        "_settle",
        "elif order.final_filled < 0:",
        "else:",
    ),
    Mutation(
        "a late answer takes an amendment back",
        brokerage,
        "_settle",
        "if 0 < quantity < order.quantity or not order.quantity:",
        "if quantity:",
    ),
    Mutation(
        "fees are forgotten",
        settling,
        "moved_by",
        "(terms.base, (bought - sold) * terms.lot - fee_base, fee_base)",
        "(terms.base, (bought - sold) * terms.lot, 0)",
    ),
    Mutation(
        "a seller pays no fee to the house",
        state,
        "_house_brokerage",
        'moved.append(("trading fees", asset, fee))',
        "pass",
    ),
    Mutation(
        "fills are settled twice",
        brokerage,
        "_settle",
        "balance_of(brokerage, asset).total += more",
        "balance_of(brokerage, asset).total += 2 * more",
    ),
    Mutation(
        "a refused cancel ends the order",
        settling,
        "_reports",
        "            idle = True\n    if idle:",
        "    if False:",
    ),
    Mutation(
        "an answer is told that may change",
        SettlingDecisions,
        "_worked",
        "durable=kept is updates and type(outcome) is Worked,",
        "durable=True,",
    ),
    Mutation(
        "fills of unknown orders are dropped",
        SettlingDecisions,
        "_settled",
        "elif update.fills:",
        "elif False:",
    ),
    Mutation(
        "a trade under way is done again",
        PlacingDecisions,
        "_trade",
        "if underway is not None:",
        "if False:",
    ),
    Mutation(
        "an id is given twice",
        Draft,
        "place",
        "client in self.brokerage.clients or client in self.drafted",
        "client in self.drafted",
    ),
    Mutation(
        "an id is given twice in a trade",
        Draft,
        "place",
        "client in self.brokerage.clients or client in self.drafted",
        "client in self.brokerage.clients",
    ),
    Mutation(
        "a replacement does not wait for its cancel",
        Draft,
        "_pay",
        "if order.after and self.freeing:",
        "if False:",
    ),
    Mutation(
        "a replacement is placed though its cancel failed",
        PlacingDecisions,
        "_place_later",
        "draft.failed if before is None else bool(before.code)",
        "False",
    ),
    Mutation(
        "an order waits for a cancel that there is not",
        Draft,
        "cancel_all",
        'bool(cancels), False, ""',
        'True, False, ""',
    ),
    Mutation(
        "ids of a trade's first half are forgotten",
        PlacingDecisions,
        "_place_later",
        "draft.parts.extend(message.parts)",
        "pass",
    ),
    Mutation(
        "another instrument's order is cancelled",
        Draft,
        "_mine",
        "order.symbol != self.symbol or ",
        "",
    ),
    Mutation(
        "what is held is withdrawn",
        FundsDecisions,
        "_withdraw",
        "before.available < quantity",
        "before.total < quantity",
    ),
    Mutation(
        "funding is not taken from the account",
        state,
        "_brokerage_funded",
        "state.accounts[event.account].posted -= event.amount",
        "pass",
    ),
    Mutation(
        "a switch goes off again and again",
        FundsDecisions,
        "switched",
        "ev.SwitchSet(brokerage.customer, symbol, 0) for symbol in due",
        "ev.SwitchSet(brokerage.customer, symbol, now) for symbol in due",
    ),
    Mutation(
        "nobody wakes for a switch",
        AccountsMachine,
        "_due",
        "state.brokerage is not None and state.brokerage.switches",
        "False",
    ),
    Mutation(
        "the books forget brokerages",
        AccountsMachine,
        "balances",
        "sums[asset + _LEDGER] = balance.total",
        "pass",
    ),
    Mutation(
        "deciding a trade changes the state",
        Draft,
        "decision",
        "terms = self.terms",
        "terms = self.terms; self.brokerage.next_ref += 1",
    ),
]


def _refused(row: tuple[object, ...]) -> None:
    test_brokerage.refused_order(test_brokerage.make_bank(), *row[1:])  # type: ignore[arg-type]


def checks() -> Iterator[tuple[str, Callable[[], object]]]:
    """The tables of rejections, the examples, then random trading against the naive book."""
    for name, (make, table) in TABLES.items():
        for code, violate in table:
            yield f"test_brokerage_rejections[{name}-{code}]", partial(_row, make, violate, code)
    for row in test_brokerage.REFUSED:
        yield f"test_brokerage[{row[0]}]", partial(_refused, row)
    for module in (test_brokerage, test_brokerage_trades):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            if name.startswith("test_") and [*inspect.signature(function).parameters] == ["bank"]:
                yield name, partial(_example, function, module.make_bank)
    bounds = settings(
        max_examples=150,
        stateful_step_count=50,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
    )
    yield "model", partial(run_state_machine_as_test, BrokerageModel, settings=bounds)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.title)
def test_broken_rules_are_found(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    mutation.apply(monkeypatch)
    if inspect.ismodule(mutation.owner):
        broken = getattr(mutation.owner, mutation.name)
        for module in MODULES:
            if hasattr(module, mutation.name):
                monkeypatch.setattr(module, mutation.name, broken)
        for kind, apply in state.APPLY.items():
            if apply.__name__ == mutation.name:
                monkeypatch.setitem(state.APPLY, kind, broken)
    assert found_by(checks()) is not None, "no test fails"


def test_unbroken_rules_pass() -> None:
    assert found_by(checks()) is None
