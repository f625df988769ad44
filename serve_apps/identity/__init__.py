"""Who somebody is: sign-up, login, second factor, links by e-mail, and leaving.

The use cases that pages and API share.
"""

from serve_apps.identity.entry import (
    Client,
    LoggedIn,
    api_token,
    client_of,
    finish_openings,
    login,
    logout,
    open_customer,
    payee_name,
    payee_names,
    purge,
    rename,
    signup,
)

__all__ = [
    "Client",
    "LoggedIn",
    "api_token",
    "client_of",
    "finish_openings",
    "login",
    "logout",
    "open_customer",
    "payee_name",
    "payee_names",
    "purge",
    "rename",
    "signup",
]
