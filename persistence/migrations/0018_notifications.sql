-- What people are told, how far each has been told, and what is still to be sent elsewhere.

-- The last number given to a person. Whoever writes a notification holds this row until the
-- commit, so numbers become visible in their order and without gaps.
create table notification_heads (
    user_id bigint primary key references users (id) on delete cascade,
    last    bigint not null default 0
) with (fillfactor = 50);

-- seq is the person's own numbering of what the application shows; what is for other channels
-- alone has none. key makes the same thing, told twice, count once.
create table notifications (
    id      bigint      generated always as identity primary key,
    user_id bigint      not null references users (id) on delete cascade,
    seq     bigint      check (seq > 0),
    kind    text        not null,
    key     text        not null check (length(key) between 1 and 200),
    details jsonb       not null,
    at      timestamptz not null default now(),
    read_at timestamptz,
    unique (user_id, key)
);
create unique index notifications_seq on notifications (user_id, seq) where seq is not null;
create index notifications_unread on notifications (user_id, seq)
    where read_at is null and seq is not null;

-- What differs from the table of kinds.
create table notification_preferences (
    user_id bigint  not null references users (id) on delete cascade,
    kind    text    not null,
    channel text    not null check (channel in ('app', 'email', 'webhook')),
    wanted  boolean not null,
    primary key (user_id, kind, channel)
);
create index notification_preferences_wanted on notification_preferences (kind) where wanted;

-- Where customers' programs are told. Secrets are sealed by whoever writes them.
create table webhook_endpoints (
    id              bigint      generated always as identity primary key,
    user_id         bigint      not null references users (id) on delete cascade,
    label           text        not null default '' check (length(label) <= 80),
    url             text        not null check (length(url) between 1 and 2000),
    -- empty: all
    kinds           text[]      not null default '{}',
    secret          bytea       not null,
    previous_secret bytea,
    previous_until  timestamptz,
    created_at      timestamptz not null default now(),
    failing_since   timestamptz,
    last_ok_at      timestamptz,
    disabled_at     timestamptz,
    disabled_reason text        not null default '',
    deleted_at      timestamptz
);
create index webhook_endpoints_user on webhook_endpoints (user_id) where deleted_at is null;

-- What is to be sent, one row for each address. A delivery that was given up stays as 'dead' until
-- somebody has it sent again. secret is for the message alone and goes when that is sent.
create table deliveries (
    id              bigint      generated always as identity primary key,
    -- null for a test of an endpoint
    notification_id bigint      references notifications (id) on delete cascade,
    user_id         bigint      not null references users (id) on delete cascade,
    channel         text        not null check (channel in ('email', 'webhook')),
    -- an e-mail address as it was then, or the number of an endpoint
    target          text        not null,
    urgent          boolean     not null default false,
    secret          jsonb,
    state           text        not null default 'pending'
        check (state in ('pending', 'sent', 'dead')),
    attempts        integer     not null default 0,
    next_at         timestamptz not null default now(),
    claimed_until   timestamptz,
    claimed_by      text,
    last_error      text,
    last_status     integer,
    created_at      timestamptz not null default now(),
    done_at         timestamptz
);
create index deliveries_due on deliveries (channel, urgent desc, next_at)
    where state = 'pending';
create index deliveries_dead on deliveries (done_at) where state = 'dead';
create index deliveries_notification on deliveries (notification_id);

-- How far the notifier has read each stream of the journal. What was there before is told nobody.
create table notified (
    stream text        primary key references streams,
    seq    bigint      not null,
    at     timestamptz
);
insert into notified (stream, seq, at)
select stream, max(seq), max(at) from journal group by stream;
