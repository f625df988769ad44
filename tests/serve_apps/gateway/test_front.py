"""Where a request comes from, whatever its sender says."""

from __future__ import annotations

import pytest

from serve_apps.gateway.front import Head, Reader, via_header

VIA = via_header(b"k" * 32)
LOCAL = ("127.0.0.1", 40_000)


def address(hops: int, *headers: tuple[str, str], via: str = VIA, client: object = LOCAL) -> str:
    """The address that is found."""
    sent = [(name.encode(), value.encode()) for name, value in headers]
    return Reader(via, hops).read(sent, client, bodiless=True)[2]


def test_our_own_haproxy_tells_the_address() -> None:
    assert address(0, (VIA, "203.0.113.9")) == "203.0.113.9"
    assert address(0, (VIA, "2001:DB8:0::1")) == "2001:db8::1"
    assert address(0, (VIA, "::ffff:203.0.113.9")) == "203.0.113.9"


@pytest.mark.parametrize("hops", [0, 1, 2])
def test_what_has_not_passed_haproxy_is_believed_nothing(hops: int) -> None:
    assert address(hops, ("x-forwarded-for", "203.0.113.9, 203.0.113.8")) == ""
    assert address(hops, client=("198.51.100.1", 1)) == ""
    other = via_header(b"x" * 32)
    assert address(hops, (other, "203.0.113.9"), ("x-forwarded-for", "203.0.113.9")) == ""


def test_what_a_client_says_of_itself_does_not_count() -> None:
    forged = ("x-forwarded-for", "1.1.1.1")
    assert address(0, forged, (VIA, "203.0.113.9")) == "203.0.113.9"
    assert address(0, (VIA, "1.1.1.1"), (VIA, "203.0.113.9")) == "203.0.113.9"
    balancer = (VIA, "10.0.0.2")
    assert address(1, ("x-forwarded-for", "1.1.1.1, 203.0.113.9"), balancer) == "203.0.113.9"
    assert address(1, forged, ("x-forwarded-for", "203.0.113.9"), balancer) == "203.0.113.9"
    assert address(2, ("x-forwarded-for", "1.1.1.1, 203.0.113.9, 10.0.0.3"), balancer) == (
        "203.0.113.9"
    )


def test_an_address_that_is_not_told_is_unknown() -> None:
    assert address(1, (VIA, "10.0.0.2")) == ""
    assert address(2, ("x-forwarded-for", "203.0.113.9"), (VIA, "10.0.0.2")) == ""
    assert address(1, ("x-forwarded-for", "localhost"), (VIA, "10.0.0.2")) == ""
    assert address(0, (VIA, "127.0.0.1")) == address(0, (VIA, "::1")) == ""


def test_without_a_haproxy_the_connection_stands_for_it() -> None:
    assert address(0, via="", client=("203.0.113.9", 1)) == "203.0.113.9"
    assert address(0, via="") == address(0, via="", client=None) == ""
    assert address(1, ("x-forwarded-for", "1.1.1.1, 203.0.113.9"), via="") == "203.0.113.9"


def test_the_name_of_the_header_is_a_secret() -> None:
    assert via_header(b"a" * 32) != via_header(b"b" * 32)
    assert len(VIA) == len("x-via-") + 32


def test_id_and_length() -> None:
    def head(*headers: tuple[bytes, bytes], bodiless: bool = False) -> Head:
        return Reader("", 0).read(headers, None, bodiless=bodiless)

    assert head() == (b"", None, "")
    assert head(bodiless=True)[1] == 0
    assert head((b"content-length", b"12"))[1] == 12
    assert head((b"content-length", b"-1"))[1] is None
    assert head((b"x-request-id", b"abc-1"))[0] == b"abc-1"
    assert head((b"x-request-id", b"a b"))[0] == b""
