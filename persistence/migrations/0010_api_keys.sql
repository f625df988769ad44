-- Keys with which programs trade. A program signs its requests, so the secret of an HMAC key must
-- be readable: it is stored encrypted under a key that only the ingress has. Of an Ed25519 key we
-- have the public half alone.
create table api_keys (
    id           bigint      generated always as identity primary key,
    user_id      bigint      not null references users (id) on delete cascade,
    key          text        not null unique check (length(key) = 64),
    kind         text        not null check (kind in ('hmac', 'ed25519')),
    secret       bytea       not null check (octet_length(secret) between 1 and 1000),
    label        text        not null check (length(label) between 1 and 80),
    scopes       text[]      not null check (scopes <@ array['read', 'trade']),
    networks     text[]      not null default '{}',
    created_at   timestamptz not null,
    last_used_at timestamptz,
    revoked_at   timestamptz
);
create index api_keys_user on api_keys (user_id, created_at desc);
create index api_keys_revoked on api_keys (revoked_at) where revoked_at is not null;
