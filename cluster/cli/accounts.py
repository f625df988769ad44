"""What an operator does to customers' accounts from the command line: look, freeze, set limits."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from cluster.cli.desk import Desk, at_desk
from cluster.cli.main import Json, show
from cluster.cli.permissions import As, actor_for
from domain.accounts.commands import AccountView, CustomerView, ReadCustomer
from domain.accounts.numbers import parse_account, parse_customer
from domain.identity.permissions import Permission
from domain.money import CURRENCIES, format_amount
from persistence import audit

app = typer.Typer(help="Look at customers' accounts, freeze them, set limits.")

Account = Annotated[str, typer.Argument(help="Account number, 14 digits.")]
Customer = Annotated[str, typer.Argument(help="Customer number, 10 digits.")]
Reason = Annotated[str, typer.Option(help="Why; it is in the audit log.")]
NO_REASON: Final = "No reason was given"


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


def _tell(view: Any, as_json: bool) -> None:
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
def show_customer(customer: Customer, as_email: As = None, as_json: Json = False) -> None:
    """Show a customer's accounts and limits. That somebody looked is in the audit log."""
    number = _customer(customer)

    async def work(desk: Desk) -> Any:
        actor = await actor_for(desk.pool, Permission.CUSTOMERS_READ, as_email)
        await audit.record(desk.pool, actor.did("customers.look", f"customer:{number}"))
        return await desk.accounts.call(ReadCustomer(number))

    _tell(at_desk(work), as_json)


def _freeze(account: str, reason: str, as_email: str | None, as_json: bool, frozen: bool) -> None:
    from serve_apps import backoffice

    number = _account(account)

    async def work(desk: Desk) -> Any:
        actor = await actor_for(desk.pool, Permission.ACCOUNTS_FREEZE, as_email)
        return await backoffice.freeze(desk, actor, str(number), reason, frozen=frozen)

    changed = at_desk(work)
    assert isinstance(changed, AccountView)
    if as_json:
        show({"id": str(number), "status": changed.status.name.lower()})
    else:
        typer.echo(f"{number} is {changed.status.name.lower()}.")


@app.command()
def freeze(
    account: Account, reason: Reason = NO_REASON, as_email: As = None, as_json: Json = False
) -> None:
    """Freeze an account: it receives, but nothing leaves it."""
    _freeze(account, reason, as_email, as_json, True)


@app.command()
def unfreeze(
    account: Account, reason: Reason = NO_REASON, as_email: As = None, as_json: Json = False
) -> None:
    """Take the freeze off an account."""
    _freeze(account, reason, as_email, as_json, False)


@app.command()
def limit(
    customer: Customer,
    currency: Annotated[str, typer.Argument(help="USD, CNY or EUR.")],
    amount: Annotated[str, typer.Argument(help="Limit of the day, such as 250.00.")],
    as_email: As = None,
    as_json: Json = False,
) -> None:
    """Give a customer a limit of the day of its own for transfers to others."""
    from serve_apps import backoffice

    number = _customer(customer)
    if currency not in CURRENCIES:
        raise typer.BadParameter(f"{currency} is not one of {', '.join(CURRENCIES)}")

    async def work(desk: Desk) -> Any:
        actor = await actor_for(desk.pool, Permission.LIMITS_SET, as_email)
        return await backoffice.set_limit(desk, actor, str(number), currency, amount)

    _tell(at_desk(work), as_json)
