"""Which page of the back office answers which address, and the permission that it takes."""

from __future__ import annotations

from typing import Final

from starlette.routing import BaseRoute, Route

from domain.identity.permissions import Permission
from serve_apps.pages.backoffice import adjustments, auditing, customers, roles
from serve_apps.pages.visit import Page, Pages

PLACE: Final = "/office/"


def routes(pages: Pages) -> list[BaseRoute]:
    """Looking and doing are permitted apart."""

    def get(path: str, permission: Permission, page: Page) -> BaseRoute:
        return Route(PLACE + path, pages.permitted(permission, page), methods=["GET"])

    def post(path: str, permission: Permission, page: Page) -> BaseRoute:
        return Route(PLACE + path, pages.permitted(permission, page), methods=["POST"])

    return [
        get("", Permission.CUSTOMERS_READ, customers.search),
        get("customer/{customer}/", Permission.CUSTOMERS_READ, customers.show),
        post("customer/{customer}/freeze", Permission.ACCOUNTS_FREEZE, customers.freeze),
        post("customer/{customer}/limit", Permission.LIMITS_SET, customers.set_limit),
        post("customer/{customer}/adjust", Permission.ADJUSTMENTS_PROPOSE, customers.adjust),
        get("adjustments/", Permission.ADJUSTMENTS_READ, adjustments.queue),
        post("adjustments/{adjustment}/decide", Permission.ADJUSTMENTS_APPROVE, adjustments.decide),
        get("roles/", Permission.ROLES_READ, roles.show),
        post("roles/", Permission.ROLES_GRANT, roles.give),
        post("roles/take", Permission.ROLES_GRANT, roles.take),
        get("audit/", Permission.AUDIT_READ, auditing.search),
        get("audit/export.csv", Permission.AUDIT_EXPORT, auditing.export),
    ]
