"""What the API reads where requests are rare: pydantic models, from JSON or a form alike."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from serve_apps.confirmation import Proof


class Form(BaseModel):
    """Unknown fields are refused: a mistyped name must not be overlooked."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=False)


class SignUpForm(Form):
    """A new user."""

    email: Annotated[str, Field(max_length=1_000, description="Address to log in with")]
    name: Annotated[str, Field(max_length=1_000, description="1 to 100 characters")]
    password: Annotated[str, Field(max_length=10_000, description="8 to 256 characters")]


Email = Annotated[str, Field(max_length=1_000)]
Password = Annotated[str, Field(max_length=10_000)]
Token = Annotated[str, Field(max_length=200, description="What stands in the link after `token=`")]
Code = Annotated[
    str, Field(max_length=40, description="Code of the second factor, or a recovery code")
]
Confirmed = Annotated[
    str, Field(max_length=40, description="Id of a confirmation that was given its code")
]


class LoginForm(Form):
    """An e-mail address and a password; with a second factor, its code at once or later."""

    email: Email
    password: Password
    code: Code = ""


class CompleteForm(Form):
    """The second half of a login."""

    ticket: Annotated[str, Field(max_length=200, description="From `second_factor_required`")]
    code: Code


class EmailForm(Form):
    """An e-mail address."""

    email: Email


class LinkForm(Form):
    """A link that came by e-mail."""

    token: Token


class ResetForm(Form):
    """A link that came by e-mail, and a new password."""

    token: Token
    password: Annotated[str, Field(max_length=10_000, description="8 to 256 characters")]


class ProofForm(Form):
    """What shows that the owner of the second factor is there; empty if there is none."""

    code: Code = ""
    confirmation: Confirmed = ""

    @property
    def proof(self) -> Proof:
        """The same as the use cases take it."""
        return Proof(self.code, self.confirmation)


class OwnPasswordForm(Form):
    """One's present password."""

    password: Password


class ProvenForm(ProofForm):
    """One's present password, and a proof where there is a second factor."""

    password: Password


class NewPasswordForm(ProvenForm):
    """One's present password and another one."""

    new_password: Annotated[str, Field(max_length=10_000, description="8 to 256 characters")]


class NewEmailForm(ProvenForm):
    """Another e-mail address."""

    email: Email


class CodeForm(Form):
    """A code of the second factor."""

    code: Code


class ProfileForm(Form):
    """What a user may change of the profile."""

    name: Annotated[str, Field(max_length=1_000, description="1 to 100 characters")]


class AccountForm(Form):
    """A new account."""

    currency: Annotated[str, Field(description="ISO 4217 code")]
    name: Annotated[str, Field(description="1 to 40 characters; empty: the currency's name")] = ""


class HoldForm(Form):
    """Funds to be put aside."""

    account: Annotated[str, Field(description="Account number")]
    amount: Annotated[str, Field(description="Decimal string")]
    expires_in: Annotated[int, Field(gt=0, lt=10**9, description="Seconds from now")] = 7 * 86_400
    purpose: Annotated[str, Field(max_length=140, description="What it is for")] = ""


class HoldPostForm(Form):
    """A held amount, or a part of it, to be moved to an account of the same currency."""

    to: Annotated[str, Field(description="Account number")]
    amount: Annotated[str, Field(description="Decimal string")]
    reference: Annotated[str, Field(max_length=140)] = ""
    release: Annotated[
        bool, Field(description="Whether what is left of the hold is given back at once")
    ] = True
    confirmation: Confirmed = ""


class BrokerageForm(Form):
    """Money to be moved between a current account and the brokerage."""

    account: Annotated[str, Field(description="Own account number")]
    amount: Annotated[str, Field(description="Decimal string of the account's currency")]


class QuoteForm(Form):
    """Two currencies or accounts, and an amount to see fee and result for."""

    source: Annotated[str, Field(alias="from", description="Currency, or own account number")]
    destination: Annotated[str, Field(alias="to", description="Currency or account number")]
    amount: Annotated[str, Field(description="Decimal string of the source's currency")] = ""
