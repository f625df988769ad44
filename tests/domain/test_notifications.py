"""The table of kinds: whole, and with what cannot be switched off."""

from __future__ import annotations

import pytest

from domain.notifications import KINDS, Channel, Group, Kind, check, may_choose, wanted

APP, EMAIL, WEBHOOK = Channel


@pytest.mark.parametrize("kind", Kind)
def test_each_kind_has_a_rule_that_agrees_with_itself(kind: Kind) -> None:
    rule = KINDS[kind]
    assert rule.fixed <= rule.offered
    assert rule.default <= rule.offered
    assert rule.fixed <= rule.default
    assert rule.label
    # A secret goes by e-mail alone.
    assert not rule.secret or rule.offered == {EMAIL}
    check(kind, rule.example, rule.secret, "a")


def test_security_reaches_everybody_whatever_they_chose() -> None:
    for kind, rule in KINDS.items():
        off = {(kind, channel): False for channel in Channel}
        assert wanted(kind, off) == rule.fixed
        if rule.group is Group.SECURITY:
            assert EMAIL in wanted(kind, off)


@pytest.mark.parametrize(
    ("kind", "choices", "channels"),
    [
        (Kind.TRANSFER_RECEIVED, {}, {APP, WEBHOOK}),
        (Kind.TRANSFER_RECEIVED, {APP: False}, {WEBHOOK}),
        (Kind.TRANSFER_RECEIVED, {APP: False, WEBHOOK: False}, set()),
        (Kind.TRANSFER_RECEIVED, {EMAIL: True}, {APP, EMAIL, WEBHOOK}),
        (Kind.ORDER_FILLED, {}, set()),
        (Kind.ORDER_FILLED, {APP: True}, {APP}),
        (Kind.WELCOME, {WEBHOOK: True}, {APP}),
        (Kind.PASSWORD_CHANGED, {APP: False, EMAIL: False, WEBHOOK: True}, {APP, EMAIL, WEBHOOK}),
    ],
)
def test_choices(kind: Kind, choices: dict[Channel, bool], channels: set[Channel]) -> None:
    chosen = {(kind, channel): on for channel, on in choices.items()}
    assert wanted(kind, chosen) == channels


def test_what_may_be_chosen() -> None:
    assert may_choose(Kind.TRANSFER_RECEIVED, APP)
    assert not may_choose(Kind.PASSWORD_CHANGED, APP)
    assert may_choose(Kind.PASSWORD_CHANGED, WEBHOOK)
    assert not may_choose(Kind.EMAIL_VERIFY, APP)


@pytest.mark.parametrize(
    ("values", "secret", "key", "says"),
    [
        ({}, {}, "a", "needs name"),
        ({"name": "Ann", "more": ""}, {}, "a", "was given name, more"),
        ({"name": "Ann"}, {"link": "x"}, "a", "was given name, link"),
        ({"name": "Ann"}, {}, "", "a key of 0"),
        ({"name": "Ann"}, {}, "x" * 201, "a key of 201"),
        ({"name": "x" * 1_001}, {}, "a", "name of welcome has 1001"),
    ],
)
def test_what_does_not_fit_is_a_bug(
    values: dict[str, str], secret: dict[str, str], key: str, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        check(Kind.WELCOME, values, secret, key)
