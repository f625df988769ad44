"""Operations to end sessions, to take one's data away, and to leave."""

from __future__ import annotations

from typing import Final

from domain.identity.rules import IdentityCode
from serve_apps.api.bodies import DoneBody, EndedBody, ExportBody
from serve_apps.api.forms import ProvenForm
from serve_apps.api.identity.links import DONE, PASSWORD_CODES, PROOF_CODES
from serve_apps.api.routing import Answer, Call, Operation, Outcome
from serve_apps.identity import leaving, steps


async def end_others(call: Call) -> Outcome:
    """End all sessions and tokens but the one in use."""
    return Answer(
        EndedBody(await steps.end_other_sessions(call.services, call.principal, call.client))
    )


async def export(call: Call) -> Outcome:
    """Everything that is held about the user."""
    file = await leaving.export(call.services, call.principal, call.client)
    return Answer(leaving.pieces(file))


async def close(call: Call) -> Outcome:
    """Leave for good."""
    form: ProvenForm = call.body
    refused = await leaving.close(
        call.services,
        call.principal,
        form.password,
        form.proof,
        call.client,
    )
    return refused or DONE


OPERATIONS: Final = (
    Operation(
        name="end_other_sessions",
        method="DELETE",
        path="/api/user/{user}/session/",
        handler=end_others,
        summary="End all sessions and tokens but the one in use",
        tag="Identity",
        answer=EndedBody,
        answer_example={"ended": 2},
    ),
    Operation(
        name="export_data",
        method="POST",
        path="/api/user/{user}/export/",
        handler=export,
        summary="Everything that is held about the user",
        description="One JSON document with a list for each subject. Amounts are in the smallest"
        " unit of their currency. You are told of it, as it is a lot to fall into wrong hands.",
        tag="Identity",
        answer=ExportBody,
        answer_example={
            "made_at": "2026-11-20T09:30:00+00:00",
            "customer": "4820193756",
            "units": "Amounts are in the smallest unit of their currency.",
            "user": [{"email": "ann@example.com"}],
        },
    ),
    Operation(
        name="close",
        method="POST",
        path="/api/user/{user}/close/",
        handler=close,
        summary="Leave for good",
        description="Only with no money, hold, open order or payment on its way. All accounts are"
        " closed, all sessions, tokens and keys end; what was booked stays in the books.",
        tag="Identity",
        body=ProvenForm,
        body_example={"password": "correct horse battery"},
        answer=DoneBody,
        answer_example={"done": True},
        codes=(
            *PASSWORD_CODES,
            *PROOF_CODES,
            IdentityCode.ACCOUNTS_IN_USE,
            IdentityCode.ROLES_HELD,
            "account_frozen",
        ),
    ),
)
