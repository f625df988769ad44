-- Slots move between streams while both run, and entities are woken by the clock.

-- Where a slot is to go; its owner takes it there. NULL: it stays.
ALTER TABLE slots ADD COLUMN target text REFERENCES streams;
ALTER TABLE slots DROP CONSTRAINT slots_slot_check;
ALTER TABLE slots ADD CONSTRAINT slots_slot_check CHECK (slot >= 0);
CREATE INDEX slots_moving ON slots (kind, stream) WHERE target IS NOT NULL;

-- Slots from 4096 on belong to one key each. In ``slots`` they exist once the key has been split
-- off the slot of its hash.
CREATE TABLE private_slots (
    kind text     NOT NULL,
    key  text     NOT NULL,
    slot smallint NOT NULL CHECK (slot >= 4096),
    target text   NOT NULL REFERENCES streams,
    PRIMARY KEY (kind, key),
    UNIQUE (kind, slot)
);

-- What a stream has released and its new owner has not adopted yet.
CREATE TABLE handovers (
    origin text        NOT NULL REFERENCES streams,
    seq    bigint      NOT NULL,
    stream text        NOT NULL REFERENCES streams,
    slots  smallint[]  NOT NULL,
    state  bytea       NOT NULL,
    crc    bigint      NOT NULL,
    at     timestamptz NOT NULL,
    PRIMARY KEY (origin, seq)
);
CREATE INDEX handovers_stream ON handovers (stream);

-- When an entity wants to be woken: at most one time each, the earliest.
CREATE TABLE timers (
    kind text        NOT NULL,
    key  text        NOT NULL,
    slot smallint    NOT NULL,
    due  timestamptz NOT NULL,
    PRIMARY KEY (kind, key)
);
CREATE INDEX timers_due ON timers (kind, due);
INSERT INTO timers (kind, key, slot, due)
SELECT 'accounts', customer::text, min(slot), min(expires_at) FROM holds WHERE active GROUP BY 1, 2;
