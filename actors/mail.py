"""Sending e-mail over SMTP: how a message is made, and what the server's answers mean.

Touches the network, and nothing else: what is sent and when is the courier's business. One
``Mailer`` is one connection, kept for as long as there is something to send.

What comes of a mail is ``Sent``, ``Later`` or ``Never``; that the server itself cannot be used at
the moment, whatever the mail, is the exception ``Away``.
"""

from __future__ import annotations

import asyncio
import ssl
import unicodedata
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from typing import Final, Literal

import aiosmtplib

from actors.sending import Away, Later, Never, Outcome, Sent, identifier, reason

Security = Literal["none", "starttls", "tls"]

MAILS_PER_CONNECTION: Final = 100
"""Servers close a connection that has brought many; ours ends first."""
DATA_TIMEOUT_MIN_S: Final = 60.0
"""A server may scan a mail before it answers: giving up too early sends it twice."""

# 7 bits: no server has to support anything for it, and no relay rewrites it.
_POLICY: Final = SMTP.clone(cte_type="7bit")


@dataclass(frozen=True, slots=True)
class SmtpSettings:
    """Which server, and as whom. Without a ``host`` no mail is sent.

    ``security``: ``starttls`` and ``tls`` (from the first byte) end the connection rather than
    go on without encryption or with a certificate that is not right; ``ca_file`` names further
    authorities to trust. ``sender`` is an address, ``sender_name`` what people see before it.
    """

    host: str = ""
    port: int = 587
    security: Security = "starttls"
    username: str = ""
    password: str = field(default="", repr=False)
    sender: str = "no-reply@localhost"
    sender_name: str = "Kontor"
    ca_file: str = ""
    timeout_s: float = 15.0


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail to one person. ``key`` identifies it for ever: a repeat has the same Message-ID.

    ``unsubscribe`` is an address for one click (RFC 8058), where mails of the kind can be
    switched off.
    """

    key: str
    to: str
    subject: str
    text: str
    html: str
    at: datetime
    to_name: str = ""
    language: str = "en"
    unsubscribe: str = ""


def message_id(key: str, sender: str) -> str:
    """The Message-ID of a mail: the same each time it is sent, unlike that of any other."""
    return f"<{identifier(key)}@{sender.rpartition('@')[2]}>"


def compose(mail: Mail, settings: SmtpSettings) -> bytes:
    """The mail as it goes over the wire, byte for byte the same each time.

    Raises ``ValueError`` when the recipient's address is none. No text of a customer can become
    a header: a line break in one is taken out, and the library refuses what is left of the kind.
    """
    message = EmailMessage(policy=_POLICY)
    message["From"] = Address(_line(settings.sender_name), addr_spec=settings.sender)
    message["To"] = Address(_line(mail.to_name), addr_spec=mail.to)
    message["Subject"] = _line(mail.subject)
    message["Date"] = mail.at
    message["Message-ID"] = message_id(mail.key, settings.sender)
    message["Content-Language"] = mail.language
    # Nobody's absence is to be told to us (RFC 3834).
    message["Auto-Submitted"] = "auto-generated"
    message["X-Auto-Response-Suppress"] = "All"
    if mail.unsubscribe:
        message["List-Unsubscribe"] = f"<{_line(mail.unsubscribe)}>"
        message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    message.set_content(mail.text)
    message.add_alternative(mail.html, subtype="html")
    message.set_boundary(f"=_{identifier(mail.key)}")
    return message.as_bytes()


def _line(text: str) -> str:
    """The text on one line, without anything that is not shown."""
    kept = (" " if unicodedata.category(char)[0] == "C" else char for char in text)
    return " ".join("".join(kept).split())


class Mailer:
    """A connection to the server; opened when the first mail is sent, ``close`` it in the end."""

    def __init__(self, settings: SmtpSettings) -> None:
        self.settings = settings
        self._tls: ssl.SSLContext | None = None
        self._client: aiosmtplib.SMTP | None = None
        self._carried = 0

    @property
    def connected(self) -> bool:
        """Whether a connection is open."""
        return self._client is not None and self._client.is_connected

    async def send(self, mail: Mail) -> Outcome:
        """Send one mail. Raises ``Away``; nothing of the mail has left then."""
        try:
            content = compose(mail, self.settings)
        except (ValueError, IndexError) as error:
            return Never(reason("The mail cannot be written", error))
        if self._carried >= MAILS_PER_CONNECTION:
            await self.close()
        kept = self.connected
        client = await self._connect()
        try:
            try:
                await client.mail(self.settings.sender)
            except (aiosmtplib.SMTPServerDisconnected, OSError):
                if not kept:
                    raise
                # It had gone to sleep between two mails.
                self._drop()
                client = await self._connect()
                await client.mail(self.settings.sender)
            await client.rcpt(mail.to)
        except aiosmtplib.SMTPRecipientRefused as error:
            return await self._refused(error)
        except aiosmtplib.SMTPSenderRefused as error:
            # Whom it takes mail from is not about this one: somebody may set that right.
            refused = await self._refused(error)
            return Later(refused.reason, refused.status)
        except (aiosmtplib.SMTPException, OSError) as error:
            self._drop()
            raise Away(reason("The connection was lost", error)) from error
        try:
            timeout = max(self.settings.timeout_s, DATA_TIMEOUT_MIN_S)
            answer = await client.data(content, timeout=timeout)
        except aiosmtplib.SMTPResponseException as error:
            return await self._refused(error)
        except (aiosmtplib.SMTPException, OSError) as error:
            self._drop()
            return Later(reason("The server's answer was lost", error))
        self._carried += 1
        return Sent(answer.code)

    async def close(self) -> None:
        """Say goodbye, if there is a connection."""
        client = self._client
        if client is not None and client.is_connected:
            with suppress(aiosmtplib.SMTPException, OSError):
                await client.quit(timeout=2)
        self._drop()

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
        self._client, self._carried = None, 0

    async def _connect(self) -> aiosmtplib.SMTP:
        """The connection; raises ``Away``."""
        if self.connected:
            assert self._client is not None
            return self._client
        settings = self.settings
        if not settings.host:
            raise Away("No mail server is set")
        try:
            encrypted = settings.security != "none"
            if encrypted and self._tls is None:
                self._tls = await asyncio.to_thread(_trust, settings.ca_file)
            client = aiosmtplib.SMTP(
                hostname=settings.host,
                port=settings.port,
                username=settings.username or None,
                password=settings.password if settings.username else None,
                local_hostname=settings.sender.rpartition("@")[2],
                use_tls=settings.security == "tls",
                start_tls=settings.security == "starttls",
                tls_context=self._tls,
                timeout=settings.timeout_s,
            )
            await client.connect()
        except aiosmtplib.SMTPAuthenticationError as error:
            raise Away(reason("The server does not let us in", error)) from error
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            raise Away(reason("There is no connection to the server", error)) from error
        self._client, self._carried = client, 0
        return client

    async def _refused(self, error: aiosmtplib.SMTPResponseException) -> Later | Never:
        """What the server's refusal means; the connection is made ready for the next mail."""
        assert self._client is not None
        told = reason(str(error.code), error.message)
        if error.code == 421:  # it goes away, whatever was asked
            self._drop()
            return Later(told, error.code)
        try:
            await self._client.rset()
        except (aiosmtplib.SMTPException, OSError):
            self._drop()
        kind = Never if 500 <= error.code < 600 else Later
        return kind(told, error.code)


def _trust(ca_file: str) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_file:
        context.load_verify_locations(ca_file)
    return context
