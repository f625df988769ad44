"""Proves trading history: what the projector wrote agrees with itself.

Only what is written in one transaction is compared, so that it holds while the projector is behind.
"""

from __future__ import annotations

from typing import Final

from cluster.audit import Findings
from persistence.database import Connection
from persistence.trading.projector import LEVELS

_GAPS: Final = """
SELECT symbol, count(*) AS trades, min(id) AS first, max(id) AS last FROM trades
GROUP BY symbol HAVING count(*) <> max(id) OR min(id) <> 1 ORDER BY symbol"""

_CANDLES: Final = """
SELECT symbol, seconds FROM (
    SELECT symbol, sum(quantity) AS volume, sum(price::numeric * quantity) AS quote,
        max(id) AS last, coalesce(sum(quantity) FILTER (WHERE side = 1), 0) AS bought
    FROM trades GROUP BY symbol) AS t
CROSS JOIN unnest($1::integer[]) AS s (seconds)
FULL JOIN (
    SELECT symbol, seconds, sum(volume) AS volume, sum(quote) AS quote, max(last) AS last,
        sum(bought) AS bought, sum(last - first + 1) AS trades
    FROM candles GROUP BY symbol, seconds) AS c USING (symbol, seconds)
WHERE (t.volume, t.quote, t.last, t.bought, t.last)
    IS DISTINCT FROM (c.volume, c.quote, c.last, c.bought, c.trades)
ORDER BY symbol, seconds"""

_ORDERS: Final = """
SELECT customer, ref FROM orders o
FULL JOIN (
    SELECT customer, ref, sum(quantity) AS filled, sum(fee) AS fee,
        sum(price::numeric * quantity) AS quote
    FROM fills GROUP BY customer, ref) AS f USING (customer, ref)
WHERE o.symbol IS NULL OR o.fee <> coalesce(f.fee, 0)
    OR o.filled < coalesce(f.filled, 0) OR o.quote < coalesce(f.quote, 0)
ORDER BY customer, ref LIMIT 100"""

_FILLS: Final = """
SELECT f.customer, f.ref, f.symbol, f.trade FROM fills f
JOIN (SELECT symbol, max(id) AS last FROM trades GROUP BY symbol) AS m USING (symbol)
LEFT JOIN trades t ON t.symbol = f.symbol AND t.id = f.trade
WHERE f.trade <= m.last AND (t.id IS NULL OR (t.price, t.quantity) <> (f.price, f.quantity)
    OR f.customer << 29 | f.ref NOT IN (t.maker, t.taker))
ORDER BY f.symbol, f.trade LIMIT 100"""

_AHEAD: Final = """
SELECT p.stream FROM projected p
WHERE p.seq > coalesce((SELECT max(seq) FROM journal j WHERE j.stream = p.stream), 0)
ORDER BY p.stream"""


async def audit_history(connection: Connection, findings: Findings) -> None:
    """Compare trades, candles, orders, fills and positions."""
    for row in await connection.fetch(_GAPS):
        findings.found(
            f"History has {row['trades']} trades of {row['symbol']}, from {row['first']} to"
            f" {row['last']}."
        )
    for row in await connection.fetch(_CANDLES, list(LEVELS)):
        findings.found(
            f"Candles of {row['symbol']} ({row['seconds']} s) are not what its trades say."
        )
    for row in await connection.fetch(_ORDERS):
        findings.found(f"Order {row['ref']} of {row['customer']} is not what its fills say.")
    for row in await connection.fetch(_FILLS):
        findings.found(
            f"A fill of order {row['ref']} of {row['customer']} is not trade {row['trade']} of"
            f" {row['symbol']}."
        )
    for row in await connection.fetch(_AHEAD):
        findings.found(f"History has read more of {row['stream']} than there is.")
    counted = await connection.fetchrow(
        "SELECT (SELECT count(*) FROM trades) AS trades, (SELECT count(*) FROM orders) AS orders"
    )
    assert counted is not None
    findings.counts["trades in history"] += counted["trades"]
    findings.counts["orders in history"] += counted["orders"]
