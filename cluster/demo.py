"""Demo users of development mode, signed up on the same path as anybody else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from domain.durable import Rejection

if TYPE_CHECKING:
    from serve_apps.services import AppConfig

log = structlog.get_logger("kontor.demo")


class Person(NamedTuple):
    """A demo user, with the roles that are granted beside the accounts of a customer."""

    name: str
    email: str
    password: str
    roles: tuple[str, ...] = ()


PEOPLE: Final = (
    Person("Ada Demo", "ada@example.com", "try-kontor-as-ada"),
    Person("Ben Demo", "ben@example.com", "try-kontor-as-ben"),
    Person("Sam Demo", "sam@example.com", "try-kontor-as-sam", ("support",)),
    Person("Olga Demo", "olga@example.com", "try-kontor-as-olga", ("operator", "administrator")),
)


async def sign_up(config: AppConfig) -> list[Person]:
    """Sign the demo users up unless they are already; who can log in is returned."""
    from persistence import roles
    from serve_apps import identity
    from serve_apps.services import Services

    services = Services(config)
    await services.open()
    try:
        ready = []
        for person in PEOPLE:
            outcome = await identity.signup(
                services, person.email, person.name, person.password, identity.Client()
            )
            if isinstance(outcome, Rejection) and outcome.code != "email_taken":
                log.warning("demo_sign_up_refused", email=person.email, code=outcome.code)
                continue
            ready.append(person)
            # Not to somebody else who took the address, with a password of their own.
            if not isinstance(outcome, Rejection):
                for role in person.roles:
                    await roles.grant(services.pool, outcome.user, role, "kontor up, for the demo")
        return ready
    finally:
        await services.close()
