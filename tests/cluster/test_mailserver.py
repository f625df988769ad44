"""Development's mail server, over a real connection; and whom the courier is told to send to."""

from __future__ import annotations

import smtplib
from pathlib import Path

import pytest

from cluster.errors import StartError
from cluster.mailserver import DevelopmentMail, Folder
from cluster.settings import Settings
from tests.cluster.running import free_port


def test_every_mail_is_kept_and_it_starts_again(tmp_path: Path) -> None:
    folder, port = tmp_path / "mail", free_port()
    server = DevelopmentMail(folder, port)
    server.start()
    try:
        for subject in ("One", "Two"):
            with smtplib.SMTP("127.0.0.1", port, timeout=5) as client:
                text = f"Subject: {subject}\r\n\r\nHello\r\n"
                client.sendmail("no-reply@bank.test", ["ann@example.com"], text)
            server.restart()
            assert server.alive()
    finally:
        server.stop()
    assert not server.alive()
    kept = [path.read_bytes() for path in sorted(folder.iterdir())]
    assert [text.splitlines()[0] for text in kept] == [b"Subject: One", b"Subject: Two"]
    with pytest.raises(ConnectionRefusedError):
        smtplib.SMTP("127.0.0.1", port, timeout=5)


def test_the_latest_are_kept(tmp_path: Path) -> None:
    folder = Folder(tmp_path, kept_max=3)
    for number in range(5):
        folder.keep(f"{number}".encode())
    kept = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    assert kept == [b"2", b"3", b"4"]


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    first = DevelopmentMail(tmp_path, free_port())
    first.start()
    try:
        with pytest.raises(StartError, match="mail server"):
            DevelopmentMail(tmp_path, first.port).start()
    finally:
        first.stop()


@pytest.mark.parametrize(
    ("url", "sender", "expected"),
    [
        ("https://bank.example/", "", "no-reply@bank.example"),
        ("https://bank.example/", "post@kontor.example", "post@kontor.example"),
        ("http://[::1]:8080", "", "no-reply@localhost"),
        ("", "", "no-reply@localhost"),
    ],
)
def test_whom_mails_come_from(url: str, sender: str, expected: str) -> None:
    assert Settings(public_url=url, mail_from=sender).mail_sender == expected


def test_mail_is_caught_in_development_and_sent_where_a_server_is_set() -> None:
    assert Settings().catches_mail
    assert not Settings(smtp_host="smtp.bank.example").catches_mail
    production = Settings.model_validate({"mode": "production", "secret_key": "x" * 32})
    assert not production.catches_mail
    assert not production.private_webhooks
    assert Settings().private_webhooks


def test_a_password_is_not_sent_unencrypted() -> None:
    with pytest.raises(ValueError, match="SMTP_SECURITY"):
        Settings(smtp_host="a.example", smtp_username="kontor", smtp_security="none")
    with pytest.raises(ValueError, match="MAIL_FROM"):
        Settings(mail_from="nobody")
