"""The canary release for operators: how it compares with the stable version, and its fate.

It is started where its code is, by ``kontor canary start``.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec
import pydantic

from domain.durable import Rejection
from domain.identity.permissions import Permission
from persistence import releases
from persistence.releases import Refused, Release, Side
from serve_apps.api.bodies import moment_text
from serve_apps.api.operations import for_operators
from serve_apps.api.routing import Answer, Call, Outcome
from serve_apps.staff import actor_of


class SideBody(msgspec.Struct):
    """What the replicas of one version have measured since the canary began.

    ``errors`` are answers from 500 on, ``error_rate`` is percent, times are milliseconds.
    """

    requests: int
    errors: int
    error_rate: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


class ReleaseBody(msgspec.Struct):
    """A canary. ``weight`` is the percentage of clients that meet it.

    ``state`` is ``starting``, ``running``, ``promoting`` or ``rolling_back`` while it is under
    way, then ``promoted``, ``rolled_back``, ``failed``, or ``replaced`` by a later one. ``path``
    is empty for the same code with other ``settings``. It is rolled back by itself beyond
    ``error_rate_max`` percent of errors, and when its p95 is more than ``latency_ratio_max`` times
    the stable version's; ``null`` if it is not.
    """

    id: int
    state: str
    version: str
    path: str
    settings: dict[str, str]
    weight: int
    replicas: int
    error_rate_max: float | None
    latency_ratio_max: float | None
    step: str
    reason: str
    started_by: str
    started_at: str
    changed_at: str
    stable: SideBody
    canary: SideBody


class CanaryBody(msgspec.Struct):
    """The canary under way, or else the last one; ``null`` if there has been none."""

    canary: ReleaseBody | None


class SteerBody(pydantic.BaseModel, extra="forbid"):
    """What is to become of the canary; ``weight`` goes with the action of that name."""

    action: Literal["weight", "promote", "rollback"]
    weight: int | None = pydantic.Field(default=None, ge=0, le=100)


STATES: Final = {
    "weight": releases.RUNNING,
    "promote": releases.PROMOTING,
    "rollback": releases.ROLLING_BACK,
}


async def show(call: Call) -> Outcome:
    """The canary."""
    release = await releases.latest(call.services.pool)
    return Answer(CanaryBody(None if release is None else _body(release)))


async def steer(call: Call) -> Outcome:
    """Wish for another share, the promotion, or the end of the canary."""
    wish: SteerBody = call.body
    if (wish.weight is None) == (wish.action == "weight"):
        return Rejection("body_invalid", {"weight": "goes with the action weight, and only there"})
    actor = actor_of(call.principal, call.request)
    weight = -1 if wish.weight is None else wish.weight
    try:
        release = await releases.steer(
            call.services.pool, actor, state=STATES[wish.action], weight=weight
        )
    except Refused as error:
        return Rejection("canary_not_possible", {"reason": str(error)})
    return Answer(CanaryBody(_body(release)))


def _body(release: Release) -> ReleaseBody:
    return ReleaseBody(
        id=release.id,
        state=release.state,
        version=release.version,
        path=release.path,
        settings=release.settings,
        weight=release.weight,
        replicas=release.replicas,
        error_rate_max=release.bound,
        latency_ratio_max=release.latency_ratio,
        step=release.step,
        reason=release.reason,
        started_by=release.started_by,
        started_at=moment_text(release.started_at),
        changed_at=moment_text(release.changed_at),
        stable=_side(release.comparison.stable),
        canary=_side(release.comparison.canary),
    )


def _side(side: Side) -> SideBody:
    return SideBody(
        side.requests,
        side.errors,
        round(side.error_rate, 3),
        round(side.p50_s * 1_000, 3),
        round(side.p95_s * 1_000, 3),
        round(side.p99_s * 1_000, 3),
    )


def _side_example(requests: int, errors: int, p99_ms: float) -> dict[str, Any]:
    rate = round(100 * errors / requests, 3)
    return {
        "requests": requests, "errors": errors, "error_rate": rate, "p50_ms": 3.1,
        "p95_ms": 9.8, "p99_ms": p99_ms,
    }  # fmt: skip


_EXAMPLE: Final[dict[str, Any]] = {
    "canary": {
        "id": 7,
        "state": "running",
        "version": "0.2.0 (1f0c9d2e4b)",
        "path": "/srv/kontor-0.2.0",
        "settings": {},
        "weight": 10,
        "replicas": 1,
        "error_rate_max": 2.0,
        "latency_ratio_max": 1.5,
        "step": "",
        "reason": "",
        "started_by": "root on the command line",
        "started_at": "2026-11-20T09:30:00.125000Z",
        "changed_at": "2026-11-20T09:30:09.310000Z",
        "stable": _side_example(90_412, 3, 21.4),
        "canary": _side_example(10_066, 1, 22.9),
    }
}

OPERATIONS: Final = (
    for_operators(
        "canary", "canary/", show, "The canary beside the stable version",
        answer=CanaryBody, answer_example=_EXAMPLE,
    ),
    for_operators(
        "canary_steer", "canary/", steer, "Weigh, promote or roll back the canary",
        method="POST", permission=Permission.CANARY_RUN,
        description=(
            "The platform carries it out within seconds; asking again while it does changes"
            " nothing. A canary is started with `kontor canary start`."
        ),
        body=SteerBody, body_example={"action": "weight", "weight": 25},
        answer=CanaryBody, answer_example=_EXAMPLE, codes=("canary_not_possible",),
    ),
)  # fmt: skip
