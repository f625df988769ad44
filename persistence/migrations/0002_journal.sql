-- The durable runtime: who owns what, what was decided, and where each entity stands.

-- One row for each partition; whoever holds the epoch may write, and listens at host and port
-- for callers who prove that they know the token.
CREATE TABLE streams (
    stream text PRIMARY KEY,
    kind   text   NOT NULL,
    epoch  bigint NOT NULL DEFAULT 0,
    host   text,
    port   integer,
    token  bytea
);

CREATE TABLE slots (
    kind   text     NOT NULL,
    slot   smallint NOT NULL CHECK (slot BETWEEN 0 AND 4095),
    stream text     NOT NULL REFERENCES streams,
    PRIMARY KEY (kind, slot)
);

-- One row a turn, chained by hash. Never updated, never deleted.
CREATE TABLE journal (
    stream        text        NOT NULL REFERENCES streams,
    seq           bigint      NOT NULL,
    epoch         bigint      NOT NULL,
    at            timestamptz NOT NULL,
    entries       bytea STORAGE EXTERNAL NOT NULL,
    previous_hash bytea       NOT NULL,
    hash          bytea       NOT NULL,
    PRIMARY KEY (stream, seq)
);

CREATE TABLE checkpoints (
    stream text   PRIMARY KEY REFERENCES streams,
    seq    bigint NOT NULL,
    hash   bytea  NOT NULL,
    state  bytea  NOT NULL,
    crc    bigint NOT NULL
);

CREATE TABLE snapshots (
    kind  text     NOT NULL,
    key   text     NOT NULL,
    slot  smallint NOT NULL,
    state bytea    NOT NULL,
    crc   bigint   NOT NULL,
    PRIMARY KEY (kind, key)
) WITH (fillfactor = 80);

-- What each command was answered, for ever, where no other table tells.
CREATE TABLE commands (
    kind        text        NOT NULL,
    id          uuid        NOT NULL,
    fingerprint bytea       NOT NULL,
    reply       bytea       NOT NULL,
    at          timestamptz NOT NULL,
    PRIMARY KEY (kind, id)
);
