-- Who may come in: users, their sessions and API tokens, and the memory of failed attempts.

create table users (
    id            bigint primary key check (id between 1000000000 and 9999999999),
    email         text not null check (length(email) <= 254),
    name          text not null check (length(name) between 1 and 100),
    password_hash text not null,
    created_at    timestamptz not null default now(),
    -- null until the accounts are open and the welcome bonus is credited
    opened_at     timestamptz
);

create unique index users_email on users (lower(email));
create index users_unopened on users (created_at) where opened_at is null;

-- Browser sessions and API tokens. Only the hash of the secret is kept.
create table sessions (
    id           bigint generated always as identity primary key,
    token_hash   bytea not null unique check (length(token_hash) = 32),
    kind         text not null check (kind in ('browser', 'api')),
    user_id      bigint not null references users (id) on delete cascade,
    csrf         text not null,
    created_at   timestamptz not null default now(),
    last_seen_at timestamptz not null default now(),
    -- the end whatever happens, and how long it lives unused
    expires_at   timestamptz not null,
    idle_s       integer not null check (idle_s > 0),
    ip           text not null default '',
    user_agent   text not null default '',
    revoked_at   timestamptz
);

create index sessions_user on sessions (user_id, created_at desc);
create index sessions_revoked on sessions (revoked_at) where revoked_at is not null;
create index sessions_expires on sessions (expires_at);

-- Attempts to log in that have not succeeded, by account and by address.
create table login_failures (
    kind          text not null check (kind in ('account', 'address')),
    key           text not null,
    failures      integer not null,
    last_at       timestamptz not null,
    blocked_until timestamptz not null,
    primary key (kind, key)
);

create index login_failures_last on login_failures (last_at);
