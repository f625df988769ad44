"""The mails that development's mail server has caught: files in a folder, read for a page.

May read that folder, nothing else.
"""

from __future__ import annotations

import email
import re
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Final

import msgspec

SHOWN: Final = 100
_NAME: Final = re.compile(r"[0-9]{20}")


class Caught(msgspec.Struct, frozen=True):
    """A mail that was caught; ``name`` is its file's."""

    name: str
    at: datetime
    to: str
    sender: str
    subject: str
    text: str = ""
    html: str = ""
    headers: list[tuple[str, str]] = []


def latest(folder: str, to: str = "") -> list[Caught]:
    """The latest mails, newest first, without what they say; ``to`` one address alone."""
    found: list[Caught] = []
    for path in sorted(Path(folder).glob("*.eml"), reverse=True):
        if len(found) == SHOWN:
            break
        mail = _read(path, whole=False)
        if mail is not None and to.strip().lower() in mail.to.lower():
            found.append(mail)
    return found


def find(folder: str, name: str) -> Caught | None:
    """One mail with all that it says."""
    if _NAME.fullmatch(name) is None:
        return None
    return _read(Path(folder) / f"{name}.eml", whole=True)


def _read(path: Path, *, whole: bool) -> Caught | None:
    if _NAME.fullmatch(path.stem) is None:
        return None
    try:
        message = email.message_from_bytes(path.read_bytes(), policy=default)
    except OSError:  # it has just been cleared away
        return None
    assert isinstance(message, EmailMessage)
    mail = Caught(
        path.stem,
        datetime.fromtimestamp(int(path.stem) / 1e9, UTC),
        str(message.get("to", "")),
        str(message.get("from", "")),
        str(message.get("subject", "")),
    )
    if not whole:
        return mail
    return msgspec.structs.replace(
        mail,
        text=_body(message, "plain"),
        html=_body(message, "html"),
        headers=[(name, str(value)) for name, value in message.items()],
    )


def _body(message: EmailMessage, form: str) -> str:
    part = message.get_body((form,))
    if part is None:
        return ""
    content = part.get_content()
    return content if isinstance(content, str) else ""
