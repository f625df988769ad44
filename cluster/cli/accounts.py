"""What an operator does to customers' accounts from the command line: look, freeze, set limits.

Commands go to the running platform like anybody else's; they are durable when they return.
"""

from __future__ import annotations

import asyncio
import os
from typing import Annotated, Any

import typer

from cluster.cli.main import Json, settings, show
from cluster.errors import Exit, StartError
from domain.accounts.commands import (
    AccountReply,
    AccountStatus,
    Command,
    CustomerView,
    ReadCustomer,
    Reply,
    SetAccountStatus,
    SetDailyLimit,
)
from domain.accounts.numbers import parse_account, parse_customer
from domain.durable import Rejection, Unavailable
from domain.money import CURRENCIES, AmountError, format_amount, parse_amount

app = typer.Typer(help="Look at customers' accounts, freeze them, set limits.")

Account = Annotated[str, typer.Argument(help="Account number, 14 digits.")]
Customer = Annotated[str, typer.Argument(help="Customer number, 10 digits.")]


def carry_out(command: Command) -> Reply:
    """Send a command to the running platform; a refusal is one line and an exit code."""
    from actors.accounts import AccountsClient
    from cluster.datafolder import DataFolder
    from cluster.servers import embedded_postgres
    from persistence.database import OUTAGES, DatabaseUnavailable

    chosen = settings()
    url = (
        embedded_postgres(DataFolder(chosen.data_dir)).url()
        if chosen.database_url is None
        else chosen.database_url.get_secret_value()
    )

    async def ask() -> Reply:
        client = await AccountsClient.connect(url, name="kontor accounts")
        try:
            return await client.call(command)
        finally:
            await client.close()

    try:
        reply = asyncio.run(ask())
    except (DatabaseUnavailable, LookupError, *OUTAGES) as error:
        raise StartError(f"The platform cannot be reached: {error}", Exit.NOT_RUNNING) from None
    if isinstance(reply, Unavailable):
        raise StartError("The platform does not answer: is it up?", Exit.NOT_RUNNING)
    if isinstance(reply, Rejection):
        fields = ", ".join(f"{name} {value}" for name, value in reply.fields.items())
        raise typer.BadParameter(f"{reply.code}: {fields}" if fields else reply.code)
    return reply


def _account(text: str) -> int:
    number = parse_account(text)
    if number is None:
        raise typer.BadParameter(f"{text} is not an account number: 14 digits with check digits")
    return number


def _customer(text: str) -> int:
    number = parse_customer(text)
    if number is None:
        raise typer.BadParameter(f"{text} is not a customer number: 10 digits")
    return number


def _plain(view: CustomerView) -> dict[str, Any]:
    return {
        "customer": str(view.customer),
        "accounts": [
            {
                "id": str(account.id),
                "currency": account.currency,
                "name": account.name,
                "status": account.status.name.lower(),
                "balance": format_amount(account.posted, account.currency),
                "available": format_amount(account.available, account.currency),
            }
            for account in view.accounts
        ],
        "limits": [
            {
                "currency": limit.currency,
                "limit": format_amount(limit.limit, limit.currency),
                "used_today": format_amount(limit.used, limit.currency),
            }
            for limit in view.limits
        ],
    }


def _show_customer(customer: int, as_json: bool) -> None:
    view = carry_out(ReadCustomer(customer))
    assert isinstance(view, CustomerView)
    plain = _plain(view)
    if as_json:
        show(plain)
        return
    for account in plain["accounts"]:
        typer.echo(
            f"{account['id']}  {account['balance']:>16} {account['currency']}"
            f"  available {account['available']:>16}  {account['status']:<6}  {account['name']}"
        )
    for limit in plain["limits"]:
        typer.echo(
            f"limit of the day {limit['limit']:>16} {limit['currency']},"
            f" used today {limit['used_today']}"
        )


@app.command("show")
def show_customer(customer: Customer, as_json: Json = False) -> None:
    """Show a customer's accounts and limits."""
    _show_customer(_customer(customer), as_json)


def _set_status(account: str, status: AccountStatus, as_json: bool) -> None:
    number = _account(account)
    reply = carry_out(SetAccountStatus(os.urandom(16), b"operator", number, status))
    assert isinstance(reply, AccountReply)
    if as_json:
        show({"id": str(number), "status": reply.account.status.name.lower()})
    else:
        typer.echo(f"{number} is {reply.account.status.name.lower()}.")


@app.command()
def freeze(account: Account, as_json: Json = False) -> None:
    """Freeze an account: it receives, but nothing leaves it."""
    _set_status(account, AccountStatus.FROZEN, as_json)


@app.command()
def unfreeze(account: Account, as_json: Json = False) -> None:
    """Take the freeze off an account."""
    _set_status(account, AccountStatus.OPEN, as_json)


@app.command()
def limit(
    customer: Customer,
    currency: Annotated[str, typer.Argument(help="USD, CNY or EUR.")],
    amount: Annotated[str, typer.Argument(help="Limit of the day, such as 250.00.")],
    as_json: Json = False,
) -> None:
    """Give a customer a limit of the day of its own for transfers to others."""
    number = _customer(customer)
    if currency not in CURRENCIES:
        raise typer.BadParameter(f"{currency} is not one of {', '.join(CURRENCIES)}")
    try:
        minor = parse_amount(amount, currency)
    except AmountError as error:
        raise typer.BadParameter(str(error)) from None
    carry_out(SetDailyLimit(os.urandom(16), b"operator", number, currency, minor))
    _show_customer(number, as_json)
