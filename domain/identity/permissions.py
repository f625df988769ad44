"""What may be done, and which role may do it: the one table.

Pages, REST, websockets and the command line all ask it, through ``serve_apps.permissions`` where a
person asks. Pure: it knows neither requests nor the database.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from typing import Final


class Permission(StrEnum):
    """Something that not everybody may do."""

    OWN = "own.use"
    """Use what is one's own: profile, sessions, accounts, transfers, orders, keys."""
    CUSTOMERS_READ = "customers.read"
    """Find customers, accounts and transfers, and look at them."""
    CUSTOMERS_RECOVER = "customers.recover"
    """Switch off the second factor of a customer who has lost it."""
    ACCOUNTS_FREEZE = "accounts.freeze"
    """Freeze an account of a customer, and take the freeze off."""
    LIMITS_SET = "limits.set"
    """Give a customer a limit of the day of its own."""
    ADJUSTMENTS_READ = "adjustments.read"
    """See adjustments: those that wait for a decision, and those that were decided."""
    ADJUSTMENTS_PROPOSE = "adjustments.propose"
    """Be the maker of an adjustment."""
    ADJUSTMENTS_APPROVE = "adjustments.approve"
    """Be the checker of an adjustment that somebody else has made."""
    ROLES_READ = "roles.read"
    """See who holds which role."""
    ROLES_GRANT = "roles.grant"
    """Give roles to others, and take them."""
    AUDIT_READ = "audit.read"
    """Read, search and verify the audit log."""
    AUDIT_EXPORT = "audit.export"
    """Take the audit log away as a file."""
    OPERATIONS_SEE = "operations.see"
    """See how the platform runs: partitions, slots, nodes, incidents."""
    PLATFORM_RUN = "platform.run"
    """Start, stop, move, rebuild, back up and measure the platform."""
    CANARY_RUN = "canary.run"
    """Start a canary release, promote it, roll it back."""
    MARKET_ADMINISTER = "market.administer"
    """List instruments, halt, resume and delist them."""
    MAIL_READ = "mail.read"
    """See messages that could not be delivered, and what each kind of message looks like."""
    MAIL_RESEND = "mail.resend"
    """Have a message that could not be delivered sent again."""


_P: Final = Permission

CUSTOMER: Final = "customer"
SUPPLIER: Final = "supplier"
SUPPORT: Final = "support"
OPERATOR: Final = "operator"
AUDITOR: Final = "auditor"
ADMINISTRATOR: Final = "administrator"
CONSOLE: Final = "console"

ROLES: Final[Mapping[str, frozenset[Permission]]] = {
    CUSTOMER: frozenset({_P.OWN}),
    SUPPLIER: frozenset({_P.OWN}),
    SUPPORT: frozenset(
        {_P.CUSTOMERS_READ, _P.ACCOUNTS_FREEZE, _P.ADJUSTMENTS_READ, _P.ADJUSTMENTS_PROPOSE}
    ),
    OPERATOR: frozenset({_P.OPERATIONS_SEE, _P.CANARY_RUN, _P.MAIL_READ, _P.MAIL_RESEND}),
    AUDITOR: frozenset(
        {_P.CUSTOMERS_READ, _P.ADJUSTMENTS_READ, _P.ROLES_READ, _P.AUDIT_READ, _P.AUDIT_EXPORT}
    ),
    ADMINISTRATOR: frozenset(
        {
            _P.CUSTOMERS_READ, _P.CUSTOMERS_RECOVER, _P.ACCOUNTS_FREEZE, _P.LIMITS_SET,
            _P.ADJUSTMENTS_READ,
            _P.ADJUSTMENTS_PROPOSE, _P.ADJUSTMENTS_APPROVE, _P.ROLES_READ, _P.ROLES_GRANT,
            _P.AUDIT_READ, _P.AUDIT_EXPORT, _P.MARKET_ADMINISTER,
        }
    ),
    CONSOLE: frozenset(
        {
            _P.CUSTOMERS_READ, _P.CUSTOMERS_RECOVER, _P.ACCOUNTS_FREEZE, _P.LIMITS_SET,
            _P.ADJUSTMENTS_READ,
            _P.ROLES_READ, _P.ROLES_GRANT, _P.AUDIT_READ, _P.AUDIT_EXPORT, _P.OPERATIONS_SEE,
            _P.PLATFORM_RUN, _P.CANARY_RUN, _P.MARKET_ADMINISTER, _P.MAIL_READ, _P.MAIL_RESEND,
        }
    ),
}  # fmt: skip
"""What each role permits. Everybody who has signed up is a customer; ``console`` is whoever may
run the command line on the machine, and no person: it makes and checks no adjustment.
"""

GIVEN: Final = tuple(role for role in ROLES if role not in (CUSTOMER, CONSOLE))
"""The roles that are given to people, beside the customer's that everybody has."""


class RoleCode(StrEnum):
    """Why a role is neither given nor taken, in order of precedence."""

    ROLE_UNKNOWN = "role_unknown"
    """There is no such role, or it is not one that is given."""
    USER_UNKNOWN = "user_unknown"
    """Nobody has signed up with this address or number."""
    ROLE_OWN = "role_own"
    """Nobody gives a role to themselves."""
    ROLE_HELD = "role_held"
    """They hold the role already."""
    ROLE_NOT_HELD = "role_not_held"
    """They do not hold the role."""
    ADMINISTRATOR_EXISTS = "administrator_exists"
    """There is an administrator already, who gives the role to others."""
    LAST_ADMINISTRATOR = "last_administrator"
    """There would be no administrator left."""


@cache
def granted(roles: frozenset[str]) -> frozenset[Permission]:
    """What somebody with these roles may do; a role that is not known permits nothing."""
    return frozenset().union(*(ROLES.get(role, frozenset()) for role in roles))
