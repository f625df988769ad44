"""Webhooks through real HTTP: signed as the standard says, and never to where they must not go."""

from __future__ import annotations

import base64
import ipaddress
import ssl
from pathlib import Path

import httpx
import pytest

from actors.sending import Later, Never, Sent
from actors.webhooks import Refused, Webhooks, check_url, is_public, new_secret, secret_text, sign
from tests.actors.postoffice import make_certificate
from tests.actors.receiver import Receiver, verified

NOW = 1_795_000_000
BODY = b'{"type":"transfer_received"}'


def test_the_signature_is_that_of_the_standard() -> None:
    # The example that the standard's own libraries are tested with.
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    message, body = "msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}'
    right = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert sign([key], message, 1_614_265_330, body) == right
    assert sign([b"new", key], message, 1_614_265_330, body).split(" ")[1] == right


async def test_what_arrives_can_be_verified_and_nothing_else() -> None:
    receiver, secret = Receiver(), new_secret()
    async with receiver.open() as port:
        sender = Webhooks(private=True, clock=lambda: NOW)
        url = f"http://127.0.0.1:{port}/hooks?a=1"
        assert await sender.send(url, [secret], "msg_1", BODY) == Sent(204)
        await sender.close()
    (received,) = receiver.requests
    assert received.path == "/hooks?a=1"
    assert received.headers["host"] == f"127.0.0.1:{port}"
    assert received.headers["content-type"] == "application/json"
    assert verified(secret_text(secret), received, NOW + 299)
    assert not verified(secret_text(secret), received, NOW + 301)
    assert not verified(secret_text(new_secret()), received, NOW)
    received.body += b" "
    assert not verified(secret_text(secret), received, NOW)


async def test_while_a_secret_is_rotated_both_are_right() -> None:
    receiver, old, new = Receiver(), new_secret(), new_secret()
    async with receiver.open() as port:
        sender = Webhooks(private=True, clock=lambda: NOW)
        await sender.send(f"http://127.0.0.1:{port}/", [new, old], "msg_1", BODY)
        await sender.close()
    assert verified(secret_text(old), receiver.requests[0], NOW)
    assert verified(secret_text(new), receiver.requests[0], NOW)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("200 OK", Sent(200)),
        ("500 Oh no", Later("500 Internal Server Error", 500)),
        ("404 Not Found", Later("404 Not Found", 404)),
        ("302 Found\r\nLocation: /", Later("302: redirects are not followed", 302)),
        ("410 Gone", Never("410 Gone", 410, gone=True)),
        ("429 Slow\r\nRetry-After: 30", Later("429 Too Many Requests", 429, 30.0)),
        ("503 x\r\nRetry-After: 9999999", Later("503 Service Unavailable", 503, 86_400.0)),
        ("503 x\r\nRetry-After: soon", Later("503 Service Unavailable", 503)),
        ("299 x", Sent(299)),
        ("599 x", Later("599", 599)),
    ],
)
async def test_what_answers_mean(answer: str, expected: object) -> None:
    receiver = Receiver()
    receiver.answers.append(answer)
    async with receiver.open() as port:
        sender = Webhooks(private=True)
        assert await sender.send(f"http://127.0.0.1:{port}/", [b"k"], "m", BODY) == expected
        await sender.close()
    assert len(receiver.requests) == 1


async def test_who_says_nothing_is_not_waited_for() -> None:
    receiver = Receiver()
    receiver.slow = True
    async with receiver.open() as port:
        sender = Webhooks(private=True, timeout_s=0.1)
        outcome = await sender.send(f"http://127.0.0.1:{port}/", [b"k"], "m", BODY)
        assert outcome == Later("No answer within 0.1 seconds")
        await sender.close()


async def test_nobody_listens() -> None:
    async with Receiver().open() as port:
        pass
    sender = Webhooks(private=True)
    outcome = await sender.send(f"http://127.0.0.1:{port}/", [b"k"], "m", BODY)
    assert isinstance(outcome, Later)
    assert "request failed" in outcome.reason
    await sender.close()


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.7", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0",
        "100.64.0.1", "224.0.0.1", "255.255.255.255", "192.0.2.1", "::1", "::", "fe80::1",
        "fd00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1",
        "2002:7f00:1::", "2001:0:53aa:64c:0:0:80ff:fffe",
    ],
)  # fmt: skip
def test_addresses_that_are_not_of_the_open_internet(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))
    host = f"[{address}]" if ":" in address else address
    with pytest.raises(Refused, match="private"):
        check_url(f"https://{host}/", private=False)
    assert check_url(f"https://{host}/", private=True)


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "2606:2800:21f::1", "64:ff9b::5db8:d70e", "::ffff:93.184.215.14"]
)
def test_addresses_of_the_open_internet(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url",
    [
        "", "shop.example", "http://shop.example/", "ftp://shop.example/", "https://",
        "https://ann:sesame@shop.example/", "https://shop.example/#part", "javascript:alert(1)",
        "https://shop.example/\r\nx: y", "https://shop.example:99999/", "https://[::1",
        "https://shop.example/" + "x" * 2_000,
    ],
)  # fmt: skip
def test_addresses_that_cannot_be_endpoints(url: str) -> None:
    with pytest.raises(Refused):
        check_url(url, private=False)


@pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "0x7f.1", "meta.test"])
async def test_names_of_private_addresses_are_seen_through(host: str) -> None:
    async def resolve(name: str, port: int) -> list[ipaddress.IPv4Address]:
        return [ipaddress.IPv4Address("93.184.215.14"), ipaddress.IPv4Address("127.0.0.1")]

    receiver = Receiver()
    async with receiver.open() as port:
        sender = Webhooks(resolve=resolve) if host == "meta.test" else Webhooks()
        outcome = await sender.send(f"https://{host}:{port}/", [b"k"], "m", BODY)
        assert isinstance(outcome, Later)
        assert "private address" in outcome.reason
        await sender.close()
    assert receiver.requests == []


async def test_the_connection_goes_to_the_address_that_was_looked_at(tmp_path: Path) -> None:
    """With the certificate and the virtual host of the name."""
    asked: list[str] = []

    async def resolve(name: str, port: int) -> list[ipaddress.IPv4Address]:
        asked.append(name)
        return [ipaddress.IPv4Address("127.0.0.1")]

    receiver = Receiver()
    tls, trusted = make_certificate(tmp_path, "shop.example")
    trust = ssl.create_default_context(cafile=str(trusted))
    async with receiver.open(tls) as port:
        sender = Webhooks(private=True, resolve=resolve, trust=trust)
        url = f"https://shop.example:{port}/hooks"
        assert await sender.send(url, [b"k"], "m", BODY) == Sent(204)
        other = await sender.send(f"https://bank.example:{port}/", [b"k"], "m", BODY)
        await sender.close()
    assert asked == ["shop.example", "bank.example"]
    assert [request.headers["host"] for request in receiver.requests] == [f"shop.example:{port}"]
    assert isinstance(other, Later)
    assert "certificate" in other.reason


def test_hosts_in_other_forms_are_written_as_they_are_sent() -> None:
    assert str(httpx.URL("https://a.test/x").copy_with(host="::1")) == "https://[::1]/x"
    assert check_url("https://BÜCHER.example", private=False) == "https://xn--bcher-kva.example"
