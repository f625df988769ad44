"""A real SMTP server in the test's own process, which misbehaves on demand; and a certificate."""

from __future__ import annotations

import asyncio
import datetime
import email
import ipaddress
import ssl
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from actors.mail import SmtpSettings


class PostOffice:
    """Keeps what it takes. ``answers`` are given first, one to each recipient or mail in turn.

    ``lose`` is how many mails it takes and then drops the connection instead of answering.
    """

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.recipients: list[str] = []
        self.answers_to_recipients: list[str] = []
        self.answers_to_mails: list[str] = []
        self.answers_to_senders: list[str] = []
        self.lose = 0
        self.encrypted: list[bool] = []
        self.on_mail: Callable[[], None] = lambda: None
        self._sessions: list[Session] = []
        self._servers: list[SMTP] = []

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """What is said to a sender."""
        if self.answers_to_senders:
            return self.answers_to_senders.pop(0)
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """What is said to a recipient."""
        if self.answers_to_recipients:
            return self.answers_to_recipients.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        """What is said to a mail."""
        if self.answers_to_mails:
            return self.answers_to_mails.pop(0)
        assert isinstance(envelope.content, bytes)
        message = email.message_from_bytes(envelope.content, policy=default)
        assert isinstance(message, EmailMessage)
        self.mails.append(message)
        self.recipients += envelope.rcpt_tos
        assert server.transport is not None
        self.encrypted.append(server.transport.get_extra_info("ssl_object") is not None)
        if session not in self._sessions:
            self._sessions.append(session)
            self._servers.append(server)
        self.on_mail()
        if self.lose:
            self.lose -= 1
            _abort(server)
        return "250 OK"

    @property
    def connections(self) -> int:
        """Over how many connections mails have come."""
        return len(self._sessions)

    def hang_up(self) -> None:
        """End all connections without a word."""
        for server in self._servers:
            _abort(server)

    def subjects(self) -> list[str]:
        """What has come, in order."""
        return [str(mail["subject"]) for mail in self.mails]

    @asynccontextmanager
    async def open(
        self,
        *,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        implicit: bool = False,
        password: str = "",
    ) -> AsyncIterator[SmtpSettings]:
        """Listen; gives the settings of somebody who does not encrypt and is not known."""
        options: dict[str, Any] = {}
        if tls is not None and not implicit:
            options = {"tls_context": tls, "require_starttls": True}
        if password:
            options |= {"authenticator": _allow(password), "auth_required": True}
            options |= {"auth_require_tls": tls is not None and not implicit}
        loop = asyncio.get_running_loop()

        def session() -> SMTP:
            with warnings.catch_warnings():  # of passwords over what it takes for plain text
                warnings.simplefilter("ignore", UserWarning)
                return SMTP(self, loop=loop, hostname="post.test", **options)

        server = await loop.create_server(
            session,
            "127.0.0.1",
            port,
            ssl=tls if implicit else None,
        )
        try:
            number: int = server.sockets[0].getsockname()[1]
            yield SmtpSettings(
                host="127.0.0.1",
                port=number,
                security="none",
                sender="no-reply@bank.test",
                timeout_s=5,
            )
        finally:
            server.close()


def _abort(server: SMTP) -> None:
    if isinstance(server.transport, asyncio.WriteTransport):
        server.transport.abort()


def _allow(password: str) -> Callable[..., AuthResult]:
    def check(
        server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        assert isinstance(data, LoginPassword)
        return AuthResult(success=data.password == password.encode(), handled=False)

    return check


def make_certificate(folder: Path, host: str = "") -> tuple[ssl.SSLContext, Path]:
    """A certificate for ``host``, or for 127.0.0.1: the server's context, and what to trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Kontor's tests")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName(host) if host else x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    public = folder / "certificate.pem"
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = folder / "key.pem"
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return context, public
