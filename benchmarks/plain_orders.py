"""The plain alternative to order books in memory: a database transaction for each order.

Holdings, orders and trades are tables, the book is an index, and matching is a function of the
database's own, so that an order is one round trip. The row of the instrument is locked first:
price and time priority leave no other way. Driven by pgbench, without any Python in its way.
"""

from __future__ import annotations

import asyncio
import tempfile
from typing import Any, Final
from urllib.parse import urlsplit

from benchmarks.peers import pgbench
from persistence.database import connection

_DATABASE: Final = "kontor_bench_orders"

_SCHEMA: Final = """
CREATE TABLE books (symbol text PRIMARY KEY, last_price bigint NOT NULL);
CREATE TABLE holdings (
    customer bigint, asset text, total bigint NOT NULL, held bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (customer, asset), CHECK (held >= 0 AND held <= total)
);
CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, symbol text NOT NULL,
    customer bigint NOT NULL, side smallint NOT NULL, price bigint NOT NULL,
    quantity bigint NOT NULL, filled bigint NOT NULL DEFAULT 0,
    open boolean NOT NULL DEFAULT true, at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX orders_asks ON orders (symbol, price, id) WHERE open AND side = 2;
CREATE INDEX orders_bids ON orders (symbol, price DESC, id) WHERE open AND side = 1;
CREATE INDEX orders_customer ON orders (customer, at);
CREATE TABLE trades (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, symbol text NOT NULL, price bigint NOT NULL,
    quantity bigint NOT NULL, maker bigint NOT NULL, taker bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);

CREATE FUNCTION place(s text, who bigint, way smallint, p bigint, q bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    number bigint; remaining bigint := q; took bigint; other record;
BEGIN
    PERFORM 1 FROM books WHERE symbol = s FOR UPDATE;
    IF way = 1 THEN
        UPDATE holdings SET held = held + p * q
        WHERE customer = who AND asset = 'USD' AND total - held >= p * q;
    ELSE
        UPDATE holdings SET held = held + q
        WHERE customer = who AND asset = s AND total - held >= q;
    END IF;
    IF NOT FOUND THEN RETURN 0; END IF;
    INSERT INTO orders (symbol, customer, side, price, quantity)
    VALUES (s, who, way, p, q) RETURNING id INTO number;
    WHILE remaining > 0 LOOP
        IF way = 1 THEN
            SELECT * INTO other FROM orders WHERE symbol = s AND open AND side = 2 AND price <= p
            ORDER BY price, id LIMIT 1;
        ELSE
            SELECT * INTO other FROM orders WHERE symbol = s AND open AND side = 1 AND price >= p
            ORDER BY price DESC, id LIMIT 1;
        END IF;
        EXIT WHEN NOT FOUND;
        took := least(remaining, other.quantity - other.filled);
        UPDATE orders SET filled = filled + took, open = filled + took < quantity
        WHERE id = other.id;
        INSERT INTO trades (symbol, price, quantity, maker, taker)
        VALUES (s, other.price, took, other.id, number);
        IF way = 1 THEN
            PERFORM settle(who, other.customer, s, took, other.price, p, other.price);
        ELSE
            PERFORM settle(other.customer, who, s, took, other.price, other.price, p);
        END IF;
        remaining := remaining - took;
    END LOOP;
    IF remaining < q THEN
        UPDATE orders SET filled = q - remaining, open = remaining > 0 WHERE id = number;
        UPDATE books SET last_price = other_price.price FROM (
            SELECT price FROM trades WHERE symbol = s ORDER BY id DESC LIMIT 1) AS other_price
        WHERE symbol = s;
    END IF;
    RETURN number;
END $$;

CREATE FUNCTION settle(
    buyer bigint, seller bigint, s text, took bigint, paid bigint, bid bigint, ask bigint
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE holdings SET total = total - took * paid, held = held - took * bid
    WHERE customer = buyer AND asset = 'USD';
    UPDATE holdings SET total = total + took WHERE customer = buyer AND asset = s;
    UPDATE holdings SET total = total - took, held = held - took
    WHERE customer = seller AND asset = s;
    UPDATE holdings SET total = total + took * paid WHERE customer = seller AND asset = 'USD';
END $$;
"""

_ORDER: Final = r"""\set who random(1, :traders)
\set side random(1, 2)
\set price random(9990, 10010)
\set quantity random(1, 100)
SELECT place('PLAIN', :who, :side::smallint, :price, :quantity);
"""


async def measure(
    database_url: str, binaries: str, *, traders: int, connections: int, seconds: float
) -> dict[str, Any]:
    """Orders a second, each in a transaction of its own, on one book; the mean in milliseconds."""
    async with connection(database_url, name="bench") as admin:
        await admin.execute(f"DROP DATABASE IF EXISTS {_DATABASE}")
        await admin.execute(f"CREATE DATABASE {_DATABASE}")
    url = urlsplit(database_url)._replace(path=f"/{_DATABASE}").geturl()
    try:
        async with connection(url, name="bench") as plain:
            await plain.execute(_SCHEMA)
            await plain.execute("INSERT INTO books VALUES ('PLAIN', 10000)")
            await plain.execute(
                "INSERT INTO holdings SELECT n, asset, 1000000000000, 0"
                " FROM generate_series(1, $1) AS n, unnest('{USD,PLAIN}'::text[]) AS asset",
                traders,
            )
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
            script.write(_ORDER)
            script.flush()
            command = ["-c", str(connections), "-j", "1", "-T", str(int(seconds))]
            command += ["-f", script.name, "-D", f"traders={traders}", url]
            rate = await asyncio.to_thread(pgbench, binaries, command)
        async with connection(url, name="bench") as plain:
            trades = await plain.fetchval("SELECT count(*) FROM trades")
            orders = await plain.fetchval("SELECT count(*) FROM orders")
        return {**rate, "orders": orders, "trades": trades}
    finally:
        async with connection(database_url, name="bench") as admin:
            await admin.execute(f"DROP DATABASE IF EXISTS {_DATABASE} WITH (FORCE)")
