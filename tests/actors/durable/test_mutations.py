"""The runtime broken on purpose, one way after another: some test must fail each time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import structlog

from actors.durable import partition as partition_module
from actors.durable.intake import Intake
from actors.durable.partition import Partition
from actors.durable.post import Post
from actors.durable.turn import Workspace
from cluster.simulation.virtual import run_virtual
from domain.accounts.linked import LinkedDecisions
from tests.actors.durable import test_ids, test_messages, test_partition
from tests.actors.durable.scenario import play
from tests.actors.durable.test_chaos import run
from tests.mutation import Mutation, found_by

MUTATIONS = [
    Mutation(
        "replies leave before the commit",
        Partition,
        "_write",
        "await self.journal.commit(row, self.scribe.statements(turn, row.seq))",
        "[b.answer(i, r) for b, i, r in turn.answers]; turn.answers.clear();"
        " await self.journal.commit(row, self.scribe.statements(turn, row.seq))",
    ),
    Mutation(
        "replies leave when decided, whatever becomes of the commit",
        Partition,
        "_fill",
        "decide(turn, item, known)",
        "decide(turn, item, known);"
        " [b.answer(i, r) for b, i, r in turn.answers]; turn.answers.clear()",
    ),
    Mutation(
        "messages leave before the commit",
        Partition,
        "_write",
        "await self.journal.commit(row, self.scribe.statements(turn, row.seq))",
        "[self._post.send(s) for s in turn.record.sent];"
        " await self.journal.commit(row, self.scribe.statements(turn, row.seq))",
    ),
    Mutation(
        "events are published before the commit",
        Partition,
        "_write",
        "await self.journal.commit(row, self.scribe.statements(turn, row.seq))",
        "self._published(turn.at, turn.record.events, turn.news);"
        " await self.journal.commit(row, self.scribe.statements(turn, row.seq))",
    ),
    Mutation(
        "a failed commit is ignored",
        Partition,
        "_write",
        "await self.journal.commit(row, self.scribe.statements(turn, row.seq))",
        "try:\n            await self.journal.commit(row, self.scribe.statements(turn, row.seq))\n"
        "        except OSError:\n            pass",
    ),
    Mutation(
        "the receiver does not know what it has seen",
        Workspace,
        "_incoming",
        "if inbox is not None and message.seq in inbox:",
        "if False:",
    ),
    Mutation(
        "the receiver takes what comes late for new",
        Workspace,
        "_incoming",
        "if message.seq < self.partition.lows.get(item.origin, 0):",
        "if False:",
    ),
    Mutation(
        "who sends what is long settled is told that it was accepted",
        Workspace,
        "_incoming",
        "turn.answers.append((item.batch, item.index, STALE))",
        "turn.answers.append((item.batch, item.index, None))",
    ),
    Mutation(
        "a group that ended is not known before it is written",
        Workspace,
        "_enact",
        "self.recent.setdefault(decision.answers, answered)",
        "pass",
    ),
    Mutation(
        "low ignores what is not durably confirmed",
        Post,
        "_fly",
        "low = self.low",
        "low = messages[0].seq",
    ),
    Mutation(
        "the inbox is not pruned",
        Workspace,
        "_prune",
        "takewhile(low.__gt__, inbox)",
        "()",
    ),
    Mutation(
        "another body under the same id is taken for a repeat",
        Workspace,
        "_repeated",
        "if seen.fingerprint != fingerprint:",
        "if False:",
    ),
    Mutation(
        "ids are forgotten with the memory",
        Partition,
        "_load",
        "return await self._projection.known(self.journal.asking, unknown)",
        "return {}",
    ),
    Mutation(
        "a repeated command is a new one",
        Workspace,
        "_request",
        "if request.identities and self._repeated(turn, request, known):",
        "if False:",
    ),
    Mutation(
        "a group overwrites the answers of others",
        Workspace,
        "_repeated",
        "self._answer(turn, place, request.identities[:1], Rejection(ID_REUSED))",
        "self.recent.pop(part, None);"
        " self._answer(turn, place, request.identities[:1], Rejection(ID_REUSED))",
    ),
    Mutation(
        "a conflict is remembered as the answer of the id",
        Workspace,
        "_request",
        "if decision.code == ID_REUSED:",
        "if False:",
    ),
    Mutation(
        "refusals are not remembered",
        Workspace,
        "_remember",
        "if not self.remembers(reply):",
        'if not self.remembers(reply) and not hasattr(reply, "code"):',
    ),
    Mutation(
        "a checkpoint is taken with an open turn",
        Partition,
        "_turns",
        "if self._commit is None and turn.size:",
        "if self._checkpoint_due():\n"
        "            self._saving = self._background(self._save(*self._copy()))\n"
        "        if self._commit is None and turn.size:",
    ),
    Mutation(
        "a stop takes its checkpoint with an open turn",
        Partition,
        "stop",
        "self._stopping = True",
        "await self._save(*self._copy()); self._stopping = True",
    ),
    Mutation(
        "entities are not marked as changed",
        Workspace,
        "_enact",
        "entity.dirty = True",
        "pass",
    ),
    Mutation(
        "entities are dropped before they are stored",
        Workspace,
        "rest",
        "if not entity.dirty and entity.used < self.round - 2",
        "if True",
    ),
    Mutation(
        "replay forgets what was confirmed",
        Workspace,
        "replay",
        "self._arrived(seq)",
        "pass",
    ),
    Mutation(
        "confirmations are not written down",
        Workspace,
        "_confirmed",
        "turn.record.acknowledged.append(item.seq)",
        "pass",
    ),
    Mutation(
        "what was on its way is not sent again after a crash",
        Partition,
        "_recover",
        "self._post.send(sent)",
        "pass",
    ),
    Mutation(
        "the memory is kept after a failure",
        Partition,
        "_drop_everything",
        "self._work = self._new_workspace()",
        "pass",
    ),
    Mutation(
        "who waits is not told of a failure",
        Intake,
        "interrupt",
        'future.set_result([Unavailable("interrupted")] * size)',
        "pass",
    ),
    Mutation(
        "unbalanced books are written",
        Partition,
        "_turns",
        "self._work.balance(turn)",
        "pass",
    ),
    Mutation(
        "a fenced partition goes on",
        Partition,
        "_run",
        "except (Fenced, Imbalance, Corrupt, Diverged) as error:",
        "except (Imbalance, Corrupt, Diverged) as error:",
    ),
    Mutation(
        "time follows the wall clock back",
        Partition,
        "_now",
        "self._at = max(self._clock(), self._at, self._work.partition.at)",
        "self._at = self._clock()",
    ),
    Mutation(
        "a voided group keeps its promises",
        LinkedDecisions,
        "_void_group",
        "if leg.transfer in group.prepared",
        "if False",
    ),
]


def checks() -> Iterator[tuple[str, Callable[[], object]]]:
    """The scenarios, then some runs of chaos."""
    for module in (test_partition, test_ids, test_messages):
        for told in module.scenario:
            yield f"{module.__name__.rpartition('.')[2]}[{told.__name__}]", partial(play, told)
    for seed in range(8):
        yield f"test_chaos[{seed}]", partial(run_virtual, partial(run, seed))


def found_in_runtime(mutation: Mutation, patch: pytest.MonkeyPatch) -> str | None:
    """The first test that fails with the mutation in place."""
    patch.setattr(partition_module, "_WORTH_ITEMS", 1)
    mutation.apply(patch)
    with structlog.testing.capture_logs():
        return found_by(checks())


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.title)
def test_a_broken_runtime_is_found(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found_in_runtime(mutation, monkeypatch) is not None, "no test fails"
