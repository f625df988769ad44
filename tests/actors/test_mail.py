"""Mails through real SMTP connections: taken, refused, put off, lost; encrypted and with a name."""

from __future__ import annotations

import dataclasses
import email
from datetime import UTC, datetime
from pathlib import Path

import pytest

from actors.mail import Mail, Mailer, SmtpSettings, compose
from actors.sending import Away, Later, Never, Sent
from tests.actors.postoffice import PostOffice, make_certificate

AT = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
ANN = Mail("delivery/1", "ann@example.com", "You have got 5.00 USD", "Hello", "<p>Hello</p>", AT)


def other(number: int) -> Mail:
    return dataclasses.replace(ANN, key=f"delivery/{number}", subject=f"Mail {number}")


async def test_a_mail_arrives_as_it_was_written() -> None:
    office = PostOffice()
    mail = dataclasses.replace(
        ANN, to_name="Änn, the 1st", subject="Überweisung: 5,00 €", text="Grüße 👋\n" * 50,
        unsubscribe="https://bank.test/unsubscribe?t=1",
    )  # fmt: skip
    async with office.open() as settings:
        mailer = Mailer(settings)
        assert await mailer.send(mail) == Sent(250)
        await mailer.close()
    (message,) = office.mails
    assert office.recipients == ["ann@example.com"]
    assert message["subject"] == "Überweisung: 5,00 €"
    assert message["to"].addresses[0].display_name == "Änn, the 1st"
    assert message["from"].addresses[0].addr_spec == "no-reply@bank.test"
    assert message["date"].datetime == AT
    assert message["auto-submitted"] == "auto-generated"
    assert message["list-unsubscribe"] == "<https://bank.test/unsubscribe?t=1>"
    assert message["list-unsubscribe-post"] == "List-Unsubscribe=One-Click"
    plain, html = message.get_body(("plain",)), message.get_body(("html",))
    assert plain is not None
    assert plain.get_content().splitlines() == ["Grüße 👋"] * 50
    assert html is not None
    assert html.get_content().strip() == "<p>Hello</p>"


def test_a_mail_is_the_same_bytes_each_time_and_differs_from_others() -> None:
    settings = SmtpSettings(sender="no-reply@bank.test")
    assert compose(ANN, settings) == compose(ANN, settings)
    first = email.message_from_bytes(compose(ANN, settings))["message-id"]
    second = email.message_from_bytes(compose(other(2), settings))["message-id"]
    assert first.endswith("@bank.test>")
    assert first != second


@pytest.mark.parametrize("text", ["a\r\nBcc: eve@example.com", "a\nX: y", "a\x0bb\x00\u2028c"])
def test_no_text_becomes_a_header(text: str) -> None:
    mail = dataclasses.replace(ANN, subject=text, to_name=text, unsubscribe=text)
    message = email.message_from_bytes(compose(mail, SmtpSettings(sender="no-reply@bank.test")))
    assert message["bcc"] is None
    assert message["x"] is None
    assert "\n" not in message["subject"].replace("\n ", "")


@pytest.mark.parametrize("to", ["", "ann", "ann@", "ann@example.com>\r\nRCPT TO:<eve@b.test"])
async def test_an_address_that_is_none_is_never_tried(to: str) -> None:
    office = PostOffice()
    async with office.open() as settings:
        mailer = Mailer(settings)
        assert isinstance(await mailer.send(dataclasses.replace(ANN, to=to)), Never)
        assert await mailer.send(other(2)) == Sent(250)
        await mailer.close()
    assert office.recipients == ["ann@example.com"]


async def test_a_batch_goes_over_one_connection() -> None:
    office = PostOffice()
    async with office.open() as settings:
        mailer = Mailer(settings)
        for number in range(3):
            assert await mailer.send(other(number)) == Sent(250)
        await mailer.close()
    assert office.connections == 1


@pytest.mark.parametrize(
    ("where", "answer", "kind"),
    [
        ("answers_to_recipients", "550 5.1.1 Nobody here", Never),
        ("answers_to_recipients", "450 4.2.0 Greylisted, come back", Later),
        ("answers_to_mails", "554 5.7.1 Looks like spam", Never),
        ("answers_to_mails", "452 4.3.1 The disk is full", Later),
        ("answers_to_mails", "421 Going down", Later),
        ("answers_to_senders", "553 Who are you?", Later),
    ],
)
async def test_refusals_for_ever_and_for_now(where: str, answer: str, kind: type) -> None:
    office = PostOffice()
    getattr(office, where).append(answer)
    async with office.open() as settings:
        mailer = Mailer(settings)
        outcome = await mailer.send(ANN)
        assert isinstance(outcome, kind)
        assert isinstance(outcome, Later | Never)
        assert outcome.status == int(answer[:3])
        assert answer[4:] in outcome.reason
        # The next one is not held responsible for it.
        assert await mailer.send(other(2)) == Sent(250)
        await mailer.close()
    assert office.subjects() == ["Mail 2"]


async def test_a_lost_answer_is_tried_again_with_the_same_message_id() -> None:
    office = PostOffice()
    office.lose = 1
    async with office.open() as settings:
        mailer = Mailer(settings)
        assert isinstance(await mailer.send(ANN), Later)
        assert await mailer.send(ANN) == Sent(250)
        await mailer.close()
    first, second = office.mails
    assert first["message-id"] == second["message-id"]
    assert first.as_bytes() == second.as_bytes()


async def test_a_connection_that_fell_asleep_is_opened_again() -> None:
    office = PostOffice()
    async with office.open() as settings:
        mailer = Mailer(settings)
        assert await mailer.send(ANN) == Sent(250)
        office.hang_up()
        assert await mailer.send(other(2)) == Sent(250)
        await mailer.close()
    assert office.connections == 2


async def test_no_server_is_nobodys_fault() -> None:
    office = PostOffice()
    async with office.open() as settings:
        pass
    with pytest.raises(Away, match="no connection"):
        await Mailer(settings).send(ANN)
    with pytest.raises(Away, match="No mail server"):
        await Mailer(SmtpSettings()).send(ANN)


@pytest.mark.parametrize("implicit", [False, True])
async def test_encrypted_with_a_name_and_password(tmp_path: Path, implicit: bool) -> None:
    office = PostOffice()
    tls, trusted = make_certificate(tmp_path)
    async with office.open(tls=tls, implicit=implicit, password="sesame") as bare:
        known = dataclasses.replace(
            bare,
            security="tls" if implicit else "starttls",
            ca_file=str(trusted),
            username="kontor",
            password="sesame",
        )
        mailer = Mailer(known)
        assert await mailer.send(ANN) == Sent(250)
        await mailer.close()
        assert office.encrypted == [True]
        with pytest.raises(Away, match="does not let us in"):
            await Mailer(dataclasses.replace(known, password="open")).send(ANN)
        with pytest.raises(Away, match="certificate"):
            await Mailer(dataclasses.replace(known, ca_file="")).send(ANN)
    assert len(office.mails) == 1


async def test_a_server_without_encryption_gets_neither_password_nor_mail() -> None:
    office = PostOffice()
    async with office.open(password="sesame") as bare:
        settings = dataclasses.replace(
            bare, security="starttls", username="kontor", password="sesame"
        )
        with pytest.raises(Away):
            await Mailer(settings).send(ANN)
    assert office.mails == []
