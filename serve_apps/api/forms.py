"""What the API reads where requests are rare: pydantic models, from JSON or a form alike."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Form(BaseModel):
    """Unknown fields are refused: a mistyped name must not be overlooked."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=False)


class SignUpForm(Form):
    """A new user."""

    email: Annotated[str, Field(max_length=1_000, description="Address to log in with")]
    name: Annotated[str, Field(max_length=1_000, description="1 to 100 characters")]
    password: Annotated[str, Field(max_length=10_000, description="8 to 256 characters")]


class LoginForm(Form):
    """An e-mail address and a password."""

    email: Annotated[str, Field(max_length=1_000)]
    password: Annotated[str, Field(max_length=10_000)]


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


class BrokerageForm(Form):
    """Money to be moved between a current account and the brokerage."""

    account: Annotated[str, Field(description="Own account number")]
    amount: Annotated[str, Field(description="Decimal string of the account's currency")]


class QuoteForm(Form):
    """Two currencies or accounts, and an amount to see fee and result for."""

    source: Annotated[str, Field(alias="from", description="Currency, or own account number")]
    destination: Annotated[str, Field(alias="to", description="Currency or account number")]
    amount: Annotated[str, Field(description="Decimal string of the source's currency")] = ""
