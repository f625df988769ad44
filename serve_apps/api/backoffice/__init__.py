"""Operations of the back office: each needs a permission, and to others it is not there."""

from typing import Final

from serve_apps.api.backoffice import adjustments, auditing, customers, roles

OPERATIONS: Final = (
    *customers.OPERATIONS,
    *adjustments.OPERATIONS,
    *roles.OPERATIONS,
    *auditing.OPERATIONS,
)
