-- Who did what to whom, from where: only ever added to, each row chained to the one before by hash.
-- before and after are canonical JSON, kept as text so that a changed byte is found. No foreign
-- keys: what was done stays written down when whoever did it has gone.
create table audit_log (
    seq           bigint      primary key,
    at            timestamptz not null,
    actor         bigint,
    by            text        not null,
    origin        text        not null,
    ip            text        not null,
    session       bigint,
    request       text        not null,
    action        text        not null,
    subject       text        not null,
    before        text        not null,
    after         text        not null,
    previous_hash bytea       not null,
    hash          bytea       not null
);
create index audit_log_actor on audit_log (actor, seq);
create index audit_log_subject on audit_log (subject, seq);
create index audit_log_action on audit_log (action, seq);
create index audit_log_at on audit_log (at);

-- Where the chain ends. Whoever appends holds this row until their transaction ends, so there is
-- one order; and rows that are taken off the end are missed.
create table audit_head (
    one  boolean primary key default true check (one),
    seq  bigint  not null,
    hash bytea   not null
);
insert into audit_head (seq, hash) values (0, decode(repeat('00', 32), 'hex'));

create function audit_log_is_append_only() returns trigger language plpgsql as $$
begin
    raise exception 'the audit log is only ever added to';
end $$;
create trigger audit_log_is_append_only before update or delete or truncate on audit_log
for each statement execute function audit_log_is_append_only();
create trigger audit_head_stays before delete or truncate on audit_head
for each statement execute function audit_log_is_append_only();
