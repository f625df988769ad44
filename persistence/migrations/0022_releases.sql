-- Versions of the application that ran beside the stable one, or in its place: canary releases.

-- Commands write what is wished for (weight, and the states that begin something); whoever runs the
-- platform carries it out and writes what came of it. settings are variables without secrets. base
-- is the code beside which it was tried; when that changes, a promoted one counts no more.
create table releases (
    id          bigint      generated always as identity primary key,
    state       text        not null default 'starting' check (state in (
        'starting', 'running', 'promoting', 'promoted', 'rolling_back', 'rolled_back', 'failed',
        'replaced'
    )),
    path        text        not null,
    settings    jsonb       not null,
    version     text        not null,
    base        text        not null,
    weight      int         not null check (weight between 0 and 100),
    replicas    int         not null check (replicas > 0),
    bound       float8      check (bound > 0 and bound < 100),
    step        text        not null default '',
    reason      text        not null default '',
    comparison  jsonb,
    started_by  text        not null,
    started_at  timestamptz not null default now(),
    changed_at  timestamptz not null default now()
);
create unique index releases_under_way on releases ((true))
    where state in ('starting', 'running', 'promoting', 'rolling_back');
create unique index releases_promoted on releases ((true)) where state = 'promoted';
