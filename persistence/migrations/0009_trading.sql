-- The exchange as people read it: what is listed, what was traded and ordered, and how far the
-- projector has read the journal. Prices are ticks, quantities lots, fees 10^-8 of an asset.

-- Written in the turn of the book that lists, halts or changes.
CREATE TABLE instruments (
    symbol       text        PRIMARY KEY,
    type         text        NOT NULL,
    name         text        NOT NULL,
    description  text        NOT NULL,
    base         text        NOT NULL,
    quote        text        NOT NULL,
    tick         bigint      NOT NULL CHECK (tick > 0),
    lot          bigint      NOT NULL CHECK (lot > 0),
    notional_min bigint      NOT NULL,
    quantity_max bigint      NOT NULL,
    price_max    bigint      NOT NULL,
    band_up      bigint      NOT NULL,
    band_down    bigint      NOT NULL,
    orders_max   integer     NOT NULL,
    reference    bigint      NOT NULL,
    maker        integer     NOT NULL,
    taker        integer     NOT NULL,
    issued       bigint      NOT NULL,
    issuer       bigint      NOT NULL,
    status       text        NOT NULL
        CHECK (status IN ('trading', 'halted', 'auction', 'delisted')),
    reason       text        NOT NULL DEFAULT '',
    until        timestamptz,
    listed_at    timestamptz NOT NULL,
    changed_at   timestamptz NOT NULL,
    words        tsvector    GENERATED ALWAYS AS (
        setweight(to_tsvector('simple', symbol || ' ' || base || ' ' || quote), 'A')
        || setweight(to_tsvector('simple', name), 'B')
        || setweight(to_tsvector('simple', description), 'D')
    ) STORED
);
CREATE INDEX instruments_words ON instruments USING gin (words);

-- Replicas keep copies of the catalogue and hear of each change when it is committed.
CREATE FUNCTION instruments_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('kontor_instruments', NEW.symbol);
    RETURN NULL;
END $$;
CREATE TRIGGER instruments_changed AFTER INSERT OR UPDATE ON instruments
FOR EACH ROW EXECUTE FUNCTION instruments_changed();

-- How far each stream of the journal has been read. What was there before trading was has none
-- of it, and is not read.
CREATE TABLE projected (
    stream text        PRIMARY KEY REFERENCES streams,
    seq    bigint      NOT NULL,
    at     timestamptz
);
INSERT INTO projected (stream, seq, at)
SELECT stream, max(seq), max(at) FROM journal GROUP BY stream;

-- Ids are per symbol, from 1, without gaps. side is the taker's: 1 buy, 2 sell. maker and taker
-- are orders: customer * 2^29 + ref.
CREATE TABLE trades (
    symbol    text        NOT NULL,
    id        bigint      NOT NULL,
    at        timestamptz NOT NULL,
    price     bigint      NOT NULL,
    quantity  bigint      NOT NULL,
    side      smallint    NOT NULL,
    maker     bigint      NOT NULL,
    taker     bigint      NOT NULL,
    maker_fee bigint      NOT NULL,
    taker_fee bigint      NOT NULL,
    PRIMARY KEY (symbol, id)
);

-- Of 60, 900, 3,600 and 86,400 seconds; other lengths are made of these. bought and bought_quote
-- are those parts of volume and quote in which the taker bought; quote is in ticks x lots.
CREATE TABLE candles (
    symbol       text        NOT NULL,
    seconds      integer     NOT NULL,
    at           timestamptz NOT NULL,
    open         bigint      NOT NULL,
    high         bigint      NOT NULL,
    low          bigint      NOT NULL,
    close        bigint      NOT NULL,
    volume       numeric     NOT NULL,
    quote        numeric     NOT NULL,
    bought       numeric     NOT NULL,
    bought_quote numeric     NOT NULL,
    first        bigint      NOT NULL,
    last         bigint      NOT NULL,
    PRIMARY KEY (symbol, seconds, at)
) WITH (fillfactor = 80);

-- One row an order, numbered per customer. life is each status that it has had and when, in
-- microseconds since the epoch: status, time, status, time ... fee is the sum over its trades, in
-- the asset received.
CREATE TABLE orders (
    customer      bigint        NOT NULL,
    ref           bigint        NOT NULL,
    symbol        text          NOT NULL,
    client        text          NOT NULL,
    side          smallint      NOT NULL,
    type          smallint      NOT NULL,
    time_in_force smallint      NOT NULL,
    price         bigint        NOT NULL,
    quantity      bigint        NOT NULL,
    trigger       bigint        NOT NULL,
    display       bigint        NOT NULL,
    budget        bigint        NOT NULL,
    self_trade    smallint      NOT NULL,
    expires_at    timestamptz,
    previous      text          NOT NULL,
    status        smallint      NOT NULL,
    filled        bigint        NOT NULL,
    quote         bigint        NOT NULL,
    fee           bigint        NOT NULL,
    code          text          NOT NULL,
    placed_at     timestamptz   NOT NULL,
    updated_at    timestamptz   NOT NULL,
    life          bigint[]      NOT NULL,
    PRIMARY KEY (customer, ref)
) WITH (fillfactor = 80);
CREATE INDEX orders_symbol ON orders (customer, symbol, ref);
CREATE INDEX orders_client ON orders (customer, client, ref);

-- What an order traded, as its owner sees it. fee is in the asset received.
CREATE TABLE fills (
    customer bigint      NOT NULL,
    ref      bigint      NOT NULL,
    trade    bigint      NOT NULL,
    symbol   text        NOT NULL,
    side     smallint    NOT NULL,
    price    bigint      NOT NULL,
    quantity bigint      NOT NULL,
    fee      bigint      NOT NULL,
    maker    boolean     NOT NULL,
    at       timestamptz NOT NULL,
    PRIMARY KEY (customer, ref, trade)
);
CREATE INDEX fills_symbol ON fills (customer, symbol, trade);
CREATE INDEX fills_time ON fills (customer, at);
