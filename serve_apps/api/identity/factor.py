"""Operations on the second factor, and confirmations that are given with it."""

from __future__ import annotations

from typing import Final

from domain.durable import Rejection
from domain.identity.rules import IdentityCode
from serve_apps import confirmation
from serve_apps.api.bodies import DoneBody, EnrolmentBody, RecoveryCodesBody, SecondFactorBody
from serve_apps.api.forms import CodeForm, OwnPasswordForm, ProofForm, ProvenForm
from serve_apps.api.identity.links import DONE, PASSWORD_CODES, PROOF_CODES
from serve_apps.api.routing import Answer, Call, Operation, Outcome
from serve_apps.identity import steps


async def show(call: Call) -> Outcome:
    """How things stand."""
    view = await steps.second_factor(call.services, call.principal)
    return Answer(SecondFactorBody(view.on, view.pending, view.since, view.recovery_left))


async def set_up(call: Call) -> Outcome:
    """Make a secret."""
    form: OwnPasswordForm = call.body
    made = await steps.set_up(call.services, call.principal, form.password, call.client)
    return made if isinstance(made, Rejection) else Answer(EnrolmentBody(made.secret, made.uri))


async def switch_on(call: Call) -> Outcome:
    """Take the secret into use."""
    form: CodeForm = call.body
    codes = await steps.switch_on(call.services, call.principal, form.code, call.client)
    return codes if isinstance(codes, Rejection) else Answer(RecoveryCodesBody(codes))


async def switch_off(call: Call) -> Outcome:
    """Do without from now on."""
    form: ProvenForm = call.body
    refused = await steps.switch_off(
        call.services,
        call.principal,
        form.password,
        form.proof,
        call.client,
    )
    return refused or DONE


async def renew(call: Call) -> Outcome:
    """Make new recovery codes."""
    form: ProofForm = call.body
    codes = await steps.renew_recovery_codes(
        call.services,
        call.principal,
        form.proof,
        call.client,
    )
    return codes if isinstance(codes, Rejection) else Answer(RecoveryCodesBody(codes))


async def confirm(call: Call) -> Outcome:
    """Give a confirmation its code."""
    form: CodeForm = call.body
    refused = await confirmation.confirm(
        call.services,
        call.principal,
        call.params["confirmation"],
        form.code,
        call.client,
    )
    return refused or DONE


_CODES_EXAMPLE: Final = {"recovery_codes": ["4f7k-9q2m-x0wd", "b8tn-3c5v-yh1e"]}

OPERATIONS: Final = (
    Operation(
        name="second_factor",
        method="GET",
        path="/api/user/{user}/second-factor/",
        handler=show,
        summary="How things stand with the second factor",
        tag="Identity",
        answer=SecondFactorBody,
        answer_example={
            "on": True,
            "pending": False,
            "since": "2026-11-20T09:30:00+00:00",
            "recovery_codes": 10,
        },
    ),
    Operation(
        name="set_up_second_factor",
        method="POST",
        path="/api/user/{user}/second-factor/",
        handler=set_up,
        summary="Begin with a second factor",
        description="A secret for an authenticator (TOTP, RFC 6238: SHA-1, six digits, thirty"
        " seconds). It counts for nothing until a first code was sent to `confirm/`.",
        tag="Identity",
        body=OwnPasswordForm,
        body_example={"password": "correct horse battery"},
        answer=EnrolmentBody,
        answer_example={
            "secret": "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP",
            "uri": "otpauth://totp/Kontor:ann%40example.com"
            "?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP&issuer=Kontor",
        },
        codes=(*PASSWORD_CODES, IdentityCode.SECOND_FACTOR_ON),
    ),
    Operation(
        name="switch_second_factor_on",
        method="POST",
        path="/api/user/{user}/second-factor/confirm/",
        handler=switch_on,
        summary="Take the second factor into use",
        description="From now on the login asks for a code, and so do payments to somebody new."
        " The recovery codes are shown this once.",
        tag="Identity",
        body=CodeForm,
        body_example={"code": "492039"},
        answer=RecoveryCodesBody,
        answer_example=_CODES_EXAMPLE,
        codes=(
            IdentityCode.TOO_MANY_ATTEMPTS,
            IdentityCode.CODE_INVALID,
            IdentityCode.CODE_USED,
            IdentityCode.SECOND_FACTOR_ON,
            IdentityCode.SECOND_FACTOR_OFF,
        ),
    ),
    Operation(
        name="switch_second_factor_off",
        method="POST",
        path="/api/user/{user}/second-factor/off/",
        handler=switch_off,
        summary="Do without a second factor",
        tag="Identity",
        body=ProvenForm,
        body_example={"password": "correct horse battery", "code": "492039"},
        answer=DoneBody,
        answer_example={"done": True},
        codes=(*PASSWORD_CODES, IdentityCode.SECOND_FACTOR_OFF, *PROOF_CODES),
    ),
    Operation(
        name="renew_recovery_codes",
        method="POST",
        path="/api/user/{user}/second-factor/recovery/",
        handler=renew,
        summary="New recovery codes",
        description="The old ones count no more.",
        tag="Identity",
        body=ProofForm,
        body_example={"code": "492039"},
        answer=RecoveryCodesBody,
        answer_example=_CODES_EXAMPLE,
        codes=(
            IdentityCode.TOO_MANY_ATTEMPTS,
            IdentityCode.SECOND_FACTOR_OFF,
            *PROOF_CODES,
        ),
    ),
    Operation(
        name="confirm",
        method="POST",
        path="/api/user/{user}/confirmation/{confirmation}/",
        handler=confirm,
        summary="Confirm something with a code of the second factor",
        description="`confirmation_required` names the confirmation in its fields. It is good for"
        " exactly what was asked for, for the session that asked, once, for ten minutes. After its"
        " code was given here, ask again with `confirmation` in the body. Five wrong codes lock"
        " it.",
        tag="Identity",
        body=CodeForm,
        body_example={"code": "492039"},
        answer=DoneBody,
        answer_example={"done": True},
        codes=(
            IdentityCode.TOO_MANY_ATTEMPTS,
            IdentityCode.CODE_INVALID,
            IdentityCode.CODE_USED,
            IdentityCode.CONFIRMATION_UNKNOWN,
            IdentityCode.CONFIRMATION_LOCKED,
            IdentityCode.CONFIRMATION_EXPIRED,
        ),
    ),
)
