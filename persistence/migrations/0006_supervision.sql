-- What the supervisor knows: the nodes of the cluster, and what it found and did.

-- ``draining`` is an operator's wish; everything else is what the supervisor saw last.
CREATE TABLE nodes (
    node       text        PRIMARY KEY,
    address    text        NOT NULL,
    name       text        NOT NULL,
    head       boolean     NOT NULL,
    alive      boolean     NOT NULL,
    draining   boolean     NOT NULL DEFAULT false,
    partitions int         NOT NULL DEFAULT 0,
    seen       timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE incidents (
    id     bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at     timestamptz NOT NULL DEFAULT now(),
    event  text        NOT NULL,
    stream text,
    node   text,
    what   text        NOT NULL
);
