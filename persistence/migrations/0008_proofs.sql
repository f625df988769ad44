-- When the books were proven from the database (`kontor check`), and with what result.
create table proofs (
    at       timestamptz not null default now(),
    ok       boolean     not null,
    findings integer     not null,
    seconds  real        not null
);
create index proofs_at on proofs (at);
