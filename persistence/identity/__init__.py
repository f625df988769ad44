"""Who may come in, in Postgres: users, sessions, attempts that failed, proofs of who one is.

Each function takes a pool or a connection first. Secrets come in hashed or sealed; nothing here
can tell a password or a token.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from persistence.database import Connection, Pool
from persistence.identity.attempts import FailureKind, count_attempt, forgive, uncount
from persistence.identity.confirmations import (
    add_confirmation,
    find_confirmation,
    lock_confirmation,
    mark_used,
    open_confirmation,
    settle_confirmation,
    try_confirmation,
    unmark_used,
    unpaid,
)
from persistence.identity.factors import (
    FactorRow,
    begin_factor,
    confirm_factor,
    drop_factor,
    replace_recovery_codes,
    second_factor,
    take_step,
    use_recovery_code,
)
from persistence.identity.sessions import (
    EndedSession,
    NewSession,
    SessionKind,
    SessionRow,
    add_session,
    live_sessions,
    revoke_session,
    revoke_sessions,
    revoked_since,
    sessions_of,
    touch_sessions,
    was_here,
)
from persistence.identity.tokens import (
    Purpose,
    ResetRequest,
    TokenRow,
    add_token,
    ask_for_reset,
    drop_tokens,
    find_token,
    take_reset,
    try_token,
    untry_token,
    use_token,
)
from persistence.identity.users import (
    EmailTaken,
    UserRow,
    add_user,
    change_email,
    change_password,
    close_user,
    mark_opened,
    mark_verified,
    rename_user,
    replace_password_hash,
    security_changed,
    unopened_users,
    user_by_email,
    user_by_id,
    user_names,
)

Database = Pool | Connection

__all__ = [
    "EmailTaken",
    "EndedSession",
    "FactorRow",
    "FailureKind",
    "NewSession",
    "Purpose",
    "ResetRequest",
    "SessionKind",
    "SessionRow",
    "TokenRow",
    "UserRow",
    "add_confirmation",
    "add_session",
    "add_token",
    "add_user",
    "ask_for_reset",
    "begin_factor",
    "change_email",
    "change_password",
    "close_user",
    "confirm_factor",
    "count_attempt",
    "drop_factor",
    "drop_tokens",
    "find_confirmation",
    "find_token",
    "forgive",
    "live_sessions",
    "lock_confirmation",
    "mark_opened",
    "mark_used",
    "mark_verified",
    "open_confirmation",
    "purge",
    "rename_user",
    "replace_password_hash",
    "replace_recovery_codes",
    "revoke_session",
    "revoke_sessions",
    "revoked_since",
    "second_factor",
    "security_changed",
    "sessions_of",
    "settle_confirmation",
    "take_reset",
    "take_step",
    "touch_sessions",
    "try_confirmation",
    "try_token",
    "uncount",
    "unmark_used",
    "unopened_users",
    "unpaid",
    "untry_token",
    "use_recovery_code",
    "use_token",
    "user_by_email",
    "user_by_id",
    "user_names",
    "was_here",
]


async def purge(database: Database, now: datetime) -> None:
    """Forget sessions that ended a month ago; attempts, tokens, confirmations of a day ago."""
    month, day = now - timedelta(days=30), now - timedelta(days=1)
    await database.execute("delete from sessions where expires_at < $1 or revoked_at < $1", month)
    await database.execute("delete from login_failures where last_at < $1", day)
    await database.execute("delete from identity_tokens where expires_at < $1", day)
    await database.execute("delete from confirmations where expires_at < $1", day)
