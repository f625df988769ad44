"""Operations on passwords and e-mail addresses, and what links that came by e-mail are good for."""

from __future__ import annotations

from typing import Final

from domain.durable import Rejection
from domain.identity.rules import IdentityCode
from serve_apps import identity
from serve_apps.api.bodies import DoneBody, EndedBody
from serve_apps.api.forms import EmailForm, LinkForm, NewEmailForm, NewPasswordForm, ResetForm
from serve_apps.api.routing import Answer, Call, Operation, Outcome
from serve_apps.confirmation import CODES
from serve_apps.identity import steps

DONE: Final = Answer(DoneBody())
ACCEPTED: Final = Answer(DoneBody(), 202)
PASSWORD_CODES: Final = (
    IdentityCode.TOO_MANY_ATTEMPTS,
    IdentityCode.BUSY,
    IdentityCode.PASSWORD_WRONG,
)
PROOF_CODES: Final = (IdentityCode.CODE_INVALID, IdentityCode.CODE_USED, *CODES)
STAFF_CODES: Final = (
    IdentityCode.TOO_MANY_ATTEMPTS,
    IdentityCode.SECOND_FACTOR_MISSING,
    *PROOF_CODES,
)
_NEW_PASSWORD_CODES: Final = (
    IdentityCode.PASSWORD_TOO_SHORT,
    IdentityCode.PASSWORD_TOO_LONG,
    IdentityCode.PASSWORD_TOO_SIMPLE,
)


async def change_password(call: Call) -> Outcome:
    """Set another password."""
    form: NewPasswordForm = call.body
    ended = await steps.change_password(
        call.services,
        call.principal,
        form.password,
        form.new_password,
        form.proof,
        call.client,
    )
    return ended if isinstance(ended, Rejection) else Answer(EndedBody(ended))


async def ask_reset(call: Call) -> Outcome:
    """Have a link sent by which a new password can be set."""
    form: EmailForm = call.body
    refused = await identity.ask_reset(call.services, form.email, call.client)
    return refused or ACCEPTED


async def reset(call: Call) -> Outcome:
    """Set a new password by a link."""
    form: ResetForm = call.body
    return await identity.reset(call.services, form.token, form.password, call.client) or DONE


async def change_email(call: Call) -> Outcome:
    """Have a link sent to another address."""
    form: NewEmailForm = call.body
    email = await steps.change_email(
        call.services,
        call.principal,
        form.email,
        form.password,
        form.proof,
        call.client,
    )
    return email if isinstance(email, Rejection) else ACCEPTED


async def ask_verification(call: Call) -> Outcome:
    """Have the link sent once more that proves one's address."""
    return await identity.ask_verification(call.services, call.principal) or ACCEPTED


async def verify(call: Call) -> Outcome:
    """Prove an address by a link."""
    form: LinkForm = call.body
    return await identity.verify(call.services, form.token, call.client) or DONE


_DONE_EXAMPLE: Final = {"done": True}

OPERATIONS: Final = (
    Operation(
        name="change_password",
        method="POST",
        path="/api/user/{user}/password/",
        handler=change_password,
        summary="Change the password",
        description="All other sessions and tokens end. With a second factor its `code` is needed,"
        " or a `confirmation`.",
        tag="Identity",
        body=NewPasswordForm,
        body_example={
            "password": "correct horse battery",
            "new_password": "incorrect zebra socket",
        },
        answer=EndedBody,
        answer_example={"ended": 2},
        codes=(*PASSWORD_CODES, *_NEW_PASSWORD_CODES, *PROOF_CODES),
    ),
    Operation(
        name="ask_password_reset",
        method="POST",
        path="/api/password/reset/",
        handler=ask_reset,
        summary="Ask for a link to set a new password",
        description="The answer is the same for every address; a link is sent to known ones.",
        tag="Identity",
        access="anyone",
        body=EmailForm,
        body_example={"email": "ann@example.com"},
        status=202,
        answer=DoneBody,
        answer_example=_DONE_EXAMPLE,
        codes=(IdentityCode.TOO_MANY_ATTEMPTS, IdentityCode.EMAIL_INVALID),
    ),
    Operation(
        name="reset_password",
        method="POST",
        path="/api/password/reset/confirm/",
        handler=reset,
        summary="Set a new password by a link",
        description="The link is good for an hour. All sessions and tokens end; a second factor"
        " stays as it is.",
        tag="Identity",
        access="anyone",
        body=ResetForm,
        body_example={"token": "pQ4mB1xk", "password": "incorrect zebra socket"},
        answer=DoneBody,
        answer_example=_DONE_EXAMPLE,
        codes=(IdentityCode.BUSY, IdentityCode.LINK_INVALID, *_NEW_PASSWORD_CODES),
    ),
    Operation(
        name="change_email",
        method="POST",
        path="/api/user/{user}/email/",
        handler=change_email,
        summary="Change the e-mail address",
        description="A link is sent to the new address, which counts once it was followed. With a"
        " second factor its `code` is needed, or a `confirmation`.",
        tag="Identity",
        body=NewEmailForm,
        body_example={"email": "ann@new.example", "password": "correct horse battery"},
        status=202,
        answer=DoneBody,
        answer_example=_DONE_EXAMPLE,
        codes=(IdentityCode.EMAIL_INVALID, *PASSWORD_CODES, *PROOF_CODES),
    ),
    Operation(
        name="ask_email_verification",
        method="POST",
        path="/api/user/{user}/email/verification/",
        handler=ask_verification,
        summary="Send the link once more that proves the e-mail address",
        tag="Identity",
        status=202,
        answer=DoneBody,
        answer_example=_DONE_EXAMPLE,
        codes=(IdentityCode.TOO_MANY_ATTEMPTS,),
    ),
    Operation(
        name="verify_email",
        method="POST",
        path="/api/email/verify/",
        handler=verify,
        summary="Prove an e-mail address by a link",
        tag="Identity",
        access="anyone",
        body=LinkForm,
        body_example={"token": "pQ4mB1xk"},
        answer=DoneBody,
        answer_example=_DONE_EXAMPLE,
        codes=(IdentityCode.LINK_INVALID,),
    ),
)
