"""``kontor mail``: what could not be delivered, and whether the mail server answers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, cast

import msgspec
import typer

from cluster.cli.asking import ask
from cluster.cli.main import Json, settings, show
from cluster.cli.moves import refuse
from cluster.cli.permissions import console
from cluster.settings import Settings
from persistence import deliveries
from persistence.database import Connection, Pool
from persistence.deliveries import Dead

app = typer.Typer(help="Undelivered messages, and a test of the mail server.")

Channel = Annotated[str, typer.Option(help="email or webhook (default: both).")]
Number = Annotated[int, typer.Argument(help="Number of the message, as `kontor mail list` shows.")]


@app.command("list")
def list_messages(
    channel: Channel = "",
    limit: Annotated[int, typer.Option(help="How many at most.", min=1, max=1_000)] = 50,
    as_json: Json = False,
) -> None:
    """Show what was given up, newest first."""
    if channel not in ("", "email", "webhook"):
        refuse(f"There is no channel {channel}.")

    async def work(pool: Pool) -> list[Dead]:
        return await deliveries.dead(pool, channel=channel, limit=limit)

    rows = ask(settings(), work)
    if as_json:
        show(msgspec.to_builtins(rows))
        return
    for row in rows:
        what = f"{row.channel}  {row.kind or 'ping'}  {row.target}"
        typer.echo(f"{row.id}  {row.done_at:%Y-%m-%d %H:%M}  {what}  {row.last_error}")
    if not rows:
        typer.echo("Everything has been delivered.")


@app.command()
def resend(number: Number, as_json: Json = False) -> None:
    """Have a message that was given up sent again, at once."""
    from serve_apps.mail import resend_on

    async def work(pool: Pool) -> bool:
        async with pool.acquire() as proxy, proxy.transaction():
            return await resend_on(cast(Connection, proxy), console(), number)

    if not ask(settings(), work):
        refuse(f"No message {number} was given up.")
    if as_json:
        show({"message": number, "resent": True})
    else:
        typer.echo(f"Message {number} is sent again.")


@app.command("test")
def send_test(
    address: Annotated[str, typer.Argument(help="Whom to send a mail to.")], as_json: Json = False
) -> None:
    """Send a mail by the server that is set, and show what it answers."""
    answer = asyncio.run(_send(settings(), address))
    if as_json:
        show({"to": address, "sent": not answer, "answer": answer})
    elif not answer:
        typer.echo(f"The server has taken a mail to {address}.")
    if answer:
        refuse(answer)


async def _send(chosen: Settings, address: str) -> str:
    """Send a mail; nothing, or why it was not taken."""
    from actors.mail import Mail, Mailer
    from actors.sending import Away, Sent
    from cluster import addresses
    from cluster.kept import smtp_settings

    port = addresses.read(chosen).mail_port if chosen.catches_mail else 0
    now = datetime.now(UTC)
    mail = Mail(
        key=f"test/{address}/{now.isoformat()}",
        to=address,
        subject="A test of Kontor's mail",
        text="If you can read this, Kontor can send mail.\n",
        html="<p>If you can read this, Kontor can send mail.</p>",
        at=now,
    )
    mailer = Mailer(smtp_settings(chosen, port))
    try:
        outcome = await mailer.send(mail)
    except Away as away:
        return f"{away}."
    finally:
        await mailer.close()
    return "" if isinstance(outcome, Sent) else f"The server says: {outcome.reason}"
