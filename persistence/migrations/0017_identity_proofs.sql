-- What proves who somebody is beside a password: an address that was written to, a second factor,
-- and a confirmation of one intent. Of tokens and recovery codes only hashes are kept.

alter table users
    add column email_verified_at   timestamptz,
    add column password_changed_at timestamptz,
    -- when something changed that replicas remember with a session
    add column security_changed_at timestamptz,
    -- whoever has left cannot log in; the address is free for another sign-up
    add column closed_at           timestamptz;

drop index users_email;
create unique index users_email on users (lower(email)) where closed_at is null;
create index users_security_changed on users (security_changed_at)
    where security_changed_at is not null;

-- The secret is encrypted under a key that only the ingress has. last_step is the time step of the
-- last code that was accepted: none counts twice.
create table second_factors (
    user_id      bigint      primary key references users (id) on delete cascade,
    secret       bytea       not null check (octet_length(secret) between 1 and 200),
    created_at   timestamptz not null,
    -- null until a first code has shown that the device has the secret
    confirmed_at timestamptz,
    last_step    bigint      not null default 0
);

create table recovery_codes (
    user_id   bigint not null references users (id) on delete cascade,
    code_hash bytea  not null check (length(code_hash) = 32),
    used_at   timestamptz,
    primary key (user_id, code_hash)
);

-- Links that were sent by e-mail, and tickets between the password and the code of a login.
create table identity_tokens (
    token_hash bytea       primary key check (length(token_hash) = 32),
    purpose    text        not null check (purpose in ('verify', 'change', 'reset', 'login')),
    user_id    bigint      not null references users (id) on delete cascade,
    -- the address that the token stands for; empty for a login
    email      text        not null,
    failures   integer     not null default 0,
    created_at timestamptz not null,
    expires_at timestamptz not null
);
create index identity_tokens_user on identity_tokens (user_id, purpose);
create index identity_tokens_expires on identity_tokens (expires_at);

-- Who wants to set a new password: taken down at once for every address, known or not, and looked
-- at afterwards, so that the answer tells nothing.
create table reset_requests (
    id         bigint      generated always as identity primary key,
    email      text        not null check (length(email) <= 254),
    ip         text        not null,
    user_agent text        not null,
    at         timestamptz not null
);

-- A code given for one intent, by its digest: a changed amount or payee is another intent.
create table confirmations (
    id           bytea       primary key check (length(id) = 16),
    user_id      bigint      not null references users (id) on delete cascade,
    session_id   bigint      not null,
    kind         text        not null check (length(kind) between 1 and 40),
    digest       bytea       not null check (length(digest) = 32),
    failures     integer     not null default 0,
    created_at   timestamptz not null,
    expires_at   timestamptz not null,
    confirmed_at timestamptz,
    -- what it was used for: the same thing may be asked for again, nothing else
    used_for     bytea
);
create index confirmations_user on confirmations (user_id, created_at);
create index confirmations_expires on confirmations (expires_at);

-- Accounts of others that a customer with a second factor has paid before.
create table payees (
    user_id bigint not null references users (id) on delete cascade,
    account bigint not null,
    primary key (user_id, account)
);

alter table login_failures drop constraint login_failures_kind_check;
alter table login_failures add constraint login_failures_kind_check
    check (kind in ('account', 'address', 'code', 'link'));
