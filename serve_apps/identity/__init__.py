"""Who somebody is: sign-up, login, second factor, links by e-mail, and leaving.

The use cases that pages and API share.
"""

from serve_apps.identity.entry import (
    LoggedIn,
    check_own_password,
    client_of,
    complete,
    finish_openings,
    login,
    logout,
    open_customer,
    payee_name,
    payee_names,
    purge,
    rename,
    renew_session,
    signup,
)
from serve_apps.identity.links import ask_reset, ask_verification, reset, send_resets, verify
from serve_apps.identity.telling import Client

__all__ = [
    "Client",
    "LoggedIn",
    "ask_reset",
    "ask_verification",
    "check_own_password",
    "client_of",
    "complete",
    "finish_openings",
    "login",
    "logout",
    "open_customer",
    "payee_name",
    "payee_names",
    "purge",
    "rename",
    "renew_session",
    "reset",
    "send_resets",
    "signup",
    "verify",
]
