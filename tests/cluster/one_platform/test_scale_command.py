"""Operators' commands on a running platform: scale, pin, rebalance, drain, placement, role."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from decimal import Decimal
from typing import Any

import psutil
import pytest

from actors.durable.routing import slot_of
from cluster.processes import wait_until
from tests.cluster.one_platform.operating import Payer, command, shares
from tests.cluster.running import Running, environment, kontor

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def payers(platform: Running) -> tuple[Payer, Payer]:
    return Payer(platform, "ann"), Payer(platform, "ben")


def test_it_grows_and_asking_again_changes_nothing(
    platform: Running, payers: tuple[Payer, Payer]
) -> None:
    ann, ben = payers
    assert ann.pay(ben) == "completed"
    grown = command(platform, "scale", "accounts", "3")
    assert (grown["done"], grown["left"], grown["running"]) == (True, 0, True)
    assert grown["moves"] > 1_000
    assert grown["streams"] == ["accounts/0", "accounts/1", "accounts/2"]
    assert sorted(shares(platform).values()) == [1365, 1365, 1366]
    assert ann.pay(ben) == "completed"
    again = command(platform, "scale", "accounts", "3")
    assert (again["done"], again["moves"]) == (True, 0)


def test_a_pinned_customer_has_a_partition_alone(
    platform: Running, payers: tuple[Payer, Payer]
) -> None:
    ann, ben = payers
    pinned = command(platform, "pin", "accounts", ann.number)
    assert (pinned["done"], pinned["stream"]) == (True, "accounts/pin-1")
    found = command(platform, "placement", "accounts")
    (alone,) = [row for row in found["partitions"] if row["stream"] == "accounts/pin-1"]
    assert (alone["pinned"], alone["slots"], alone["state"]) == ([ann.number], 1, "running")
    assert ann.pay(ben) == "completed"
    assert ben.pay(ann) == "completed"
    again = command(platform, "pin", "accounts", ann.number)
    assert (again["stream"], again["moves"]) == ("accounts/pin-1", 0)
    back = command(platform, "unpin", "accounts", ann.number)
    assert back["done"]
    assert not back["stream"].startswith("accounts/pin")
    assert ann.pay(ben) == "completed"
    found = command(platform, "placement", "accounts")
    (alone,) = [row for row in found["partitions"] if row["stream"] == "accounts/pin-1"]
    assert (alone["slots"], alone["state"]) == (0, "retired")


def test_an_interrupted_command_leaves_the_move_going_on(
    platform: Running, payers: tuple[Payer, Payer]
) -> None:
    ann, ben = payers
    found = command(platform, "placement", "accounts")
    (last,) = [row for row in found["partitions"] if row["stream"] == "accounts/2"]
    # Nothing leaves it before the interruption, nor is it replaced meanwhile.
    frozen = [psutil.Process(platform.pid), psutil.Process(last["pid"])]
    for process in frozen:
        process.suspend()
    watching = subprocess.Popen(
        [sys.executable, "-c", "from cluster.cli import main; main()", "scale", "accounts", "2"],
        env=environment(platform.data_dir, {}),
        cwd=platform.data_dir.parent,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wished = wait_until(
            lambda: command(platform, "placement", "accounts")["moving"] > 0, timeout_s=60
        )
        assert wished
        time.sleep(1)
        watching.send_signal(signal.SIGINT)
        _, said = watching.communicate(timeout=60)
    finally:
        for process in frozen:
            process.resume()
    assert watching.returncode == 130, said
    assert said.strip().splitlines()[-1] == (
        "kontor: The move goes on by itself; `kontor scale accounts 2` shows it again."
    )
    assert command(platform, "scale", "accounts", "2")["done"]
    assert shares(platform) == {"accounts/0": 2048, "accounts/1": 2048}
    assert ann.pay(ben) == "completed"


def slot_way(row: dict[str, Any]) -> tuple[str, str]:
    """From where to where a slot is to go."""
    return row["from"], row["to"]


def test_a_rebalance_is_suggested_and_carried_out(platform: Running) -> None:
    """Four busy customers in one partition: two of them are to go to the other."""
    owners: dict[int, str] = {}
    for run in command(platform, "placement", "accounts")["slots"]:
        owners.update(dict.fromkeys(range(run["first"], run["last"] + 1), run["stream"]))
    busy: dict[int, Payer] = {}
    for number in range(40):
        payer = Payer(platform, f"busy{number}")
        if owners[slot := slot_of(payer.number)] == "accounts/0":
            busy[slot] = payer
        if len(busy) == 4:
            break
    deadline = time.monotonic() + 90
    found: dict[str, Any] = {"moves": []}

    def suggested(*words: str) -> dict[str, Any]:
        # What counts is the load of the last seconds, which the command's own start may outlast.
        for _ in range(25):
            for payer in busy.values():
                payer.http.get(f"/api/user/{payer.number}/")
        answer: dict[str, Any] = command(platform, "rebalance", "accounts", *words)
        return answer

    # The demo's bot trades as well, and may be the busiest at first.
    while not {row["slot"] for row in found["moves"]} & set(busy) and time.monotonic() < deadline:
        found = suggested()
    assert found["applied"] is None
    assert found["before"] > found["after"] >= 1.0
    moving = {row["slot"] for row in found["moves"]}
    assert moving & set(busy)
    # Whoever else is at work may be moved the other way to make it even.
    ways = {slot_way(row) for row in found["moves"] if row["slot"] in busy}
    assert ways == {("accounts/0", "accounts/1")}
    assert shares(platform) == {"accounts/0": 2048, "accounts/1": 2048}, "nothing has changed"
    applied = suggested("--apply")
    while applied["applied"] is None and time.monotonic() < deadline:
        applied = suggested("--apply")
    assert applied["applied"]["done"]
    forth = sum(slot_way(row) == ("accounts/0", "accounts/1") for row in applied["moves"])
    back = len(applied["moves"]) - forth
    assert forth
    assert shares(platform)["accounts/0"] == 2048 - forth + back


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("scale", "accounts", "0"), "From 1 to 256 partitions, not 0."),
        (("scale", "accounts", "257"), "From 1 to 256 partitions, not 257."),
        (("scale", "cards", "2"), "There are no cards to place: accounts, books are."),
        (("pin", "accounts", "123"), "123 is not a customer number: 10 digits."),
        (("pin", "accounts", "1234567890"), "There is no customer 1234567890."),
        (("unpin", "accounts", "1234567890"), "1234567890 is not pinned."),
        (("pin", "books", "BTC-USD"), "BTC-USD is not a symbol: capitals and digits."),
        (("pin", "books", "nosuchusd"), "There is no instrument NOSUCHUSD."),
        (("drain", "nobody"), "No living node is called nobody."),
        (("role", "grant", "nobody@example.org"), "Nobody has signed up as nobody@example.org."),
        (("role", "grant", "olga@example.com", "tsar"), "There is no role tsar."),
        (("role", "revoke", "ada@example.com"), "ada@example.com does not hold the role operator."),
    ],
)
def test_refusals_are_one_line(platform: Running, words: tuple[str, ...], said: str) -> None:
    done = kontor(*words, data_dir=platform.data_dir)
    assert (done.returncode, done.stderr) == (2, f"kontor: {said}\n")
    assert done.stdout == ""


def test_the_only_node_is_not_drained(platform: Running) -> None:
    address = command(platform, "status")["platform"]["ray"].partition(":")[0]
    done = kontor("drain", address, data_dir=platform.data_dir)
    assert done.returncode == 2, done.stdout
    assert done.stderr.endswith("is the only node that takes partitions: add one first.\n")
    assert len(done.stderr.splitlines()) == 1


def test_a_role_counts_within_seconds(platform: Running, payers: tuple[Payer, Payer]) -> None:
    ann, _ = payers

    def status() -> int:
        return ann.http.get("/api/operations/").status_code

    assert status() == 404
    assert command(platform, "role", "grant", ann.email)["changed"]
    assert wait_until(lambda: {status() for _ in range(8)} == {200}, timeout_s=20)
    held = command(platform, "role", "list")
    assert {row["email"] for row in held} == {ann.email, "olga@example.com", "sam@example.com"}
    checked = kontor("check", data_dir=platform.data_dir)
    assert checked.returncode == 0, checked.stdout
    time.sleep(1)
    found = ann.http.get("/api/operations/").json()
    assert found["books"]["state"] == "right"
    assert found["books"]["proof"]["ok"]
    assert all(Decimal(row["sum"]) == 0 for row in found["books"]["sums"])
    assert [row["state"] for row in found["partitions"]] == ["running"] * 3
    command(platform, "role", "revoke", ann.email)
    assert wait_until(lambda: {status() for _ in range(8)} == {404}, timeout_s=20)


def test_the_command_line_starts_without_ray() -> None:
    """Ray reads its settings when it is imported; they are made after this."""
    script = "import cluster.cli, sys; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
