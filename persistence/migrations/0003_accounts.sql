-- What customers read of their accounts; written in the turn that makes it true.

CREATE TABLE accounts (
    id        bigint      PRIMARY KEY,
    customer  bigint      NOT NULL,
    currency  text        NOT NULL,
    name      text        NOT NULL,
    status    smallint    NOT NULL,
    opened_at timestamptz NOT NULL,
    closed_at timestamptz
);
CREATE INDEX accounts_customer ON accounts (customer);

-- kind: 1 transfer, 2 welcome bonus, 3 posted hold. status: 1 pending, 2 completed, 3 returned.
-- fee is in currency, on top of amount; rate is destination units per source unit times 1e9.
CREATE TABLE transfers (
    id                   uuid        PRIMARY KEY,
    kind                 smallint    NOT NULL,
    status               smallint    NOT NULL,
    source               bigint,
    destination          bigint      NOT NULL,
    source_customer      bigint,
    destination_customer bigint      NOT NULL,
    amount               bigint      NOT NULL CHECK (amount > 0),
    fee                  bigint      NOT NULL CHECK (fee >= 0),
    currency             text        NOT NULL,
    credited             bigint      NOT NULL CHECK (credited > 0),
    credited_currency    text        NOT NULL,
    rate                 bigint,
    reference            text        NOT NULL,
    reason               text        NOT NULL DEFAULT '',
    fingerprint          bytea       NOT NULL,
    at                   timestamptz NOT NULL,
    completed_at         timestamptz,
    stream               text        NOT NULL,
    seq                  bigint      NOT NULL
) WITH (fillfactor = 90);
CREATE INDEX transfers_source ON transfers (source_customer, at);
CREATE INDEX transfers_destination ON transfers (destination_customer, at);

CREATE TABLE holds (
    id         uuid        PRIMARY KEY,
    customer   bigint      NOT NULL,
    slot       smallint    NOT NULL,
    account    bigint      NOT NULL,
    amount     bigint      NOT NULL,
    purpose    text        NOT NULL,
    expires_at timestamptz NOT NULL,
    active     boolean     NOT NULL DEFAULT true
);
CREATE INDEX holds_due ON holds (expires_at) WHERE active;
