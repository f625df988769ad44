"""A courier in a process of its own, to be killed: ``python -m ... DATABASE_URL SMTP_PORT``."""

from __future__ import annotations

import asyncio
import sys

from actors.mail import SmtpSettings
from persistence.database import open_pool
from tests.actors.post import make_courier


async def main(database_url: str, port: int) -> None:
    """Send until killed; each claim lasts a second."""
    pool = await open_pool(database_url, name="a courier")
    smtp = SmtpSettings(host="127.0.0.1", port=port, security="none", sender="no-reply@bank.test")
    await make_courier(pool, smtp, lease_s=1.0).run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
