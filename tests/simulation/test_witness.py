"""The checker itself: what it must not take for a fault."""

from __future__ import annotations

from random import Random

from actors.durable.routing import slot_of
from cluster.simulation.database import Database
from cluster.simulation.kinds import ACCOUNTS, POLICY
from cluster.simulation.witness import Witness
from domain.accounts import commands as cmd
from domain.durable import Moved

CUSTOMER = 1_000_000_002
KEY = str(CUSTOMER)


async def test_a_customer_pinned_after_its_slot_had_moved_was_elsewhere_before() -> None:
    """Asked while the slot was elsewhere; answered when the customer, pinned here, was not."""
    database = Database(["accounts/0", "accounts/1"], Random(1))
    witness = Witness(database, ACCOUNTS.codec(), POLICY)
    database.pin(KEY, "accounts/1")
    database.owners[database.private[KEY][0]] = "accounts/1"
    question = [cmd.ReadCustomer(CUSTOMER)]

    witness._moved[slot_of(KEY)] = 7
    witness.sent_away("accounts/1", 5, question, [Moved(slot_of(KEY))])
    assert not witness.failed.done()

    witness.sent_away("accounts/1", 8, question, [Moved(slot_of(KEY))])
    assert witness.failed.result().check == 11
