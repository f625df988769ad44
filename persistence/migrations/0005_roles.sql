-- Who may do more than look after their own accounts. More roles are more rows here.
create table roles (
    name    text primary key check (name ~ '^[a-z]{1,40}$'),
    meaning text not null
);
insert into roles (name, meaning) values
    ('operator', 'sees how the platform runs: partitions, slots, nodes, incidents');

-- What was granted stays here when it is taken back, with who did both.
create table user_roles (
    user_id    bigint      not null references users (id) on delete cascade,
    role       text        not null references roles (name),
    granted_at timestamptz not null default now(),
    granted_by text        not null,
    revoked_at timestamptz,
    revoked_by text
);
create unique index user_roles_held on user_roles (user_id, role) where revoked_at is null;
create index user_roles_granted on user_roles (granted_at);
create index user_roles_revoked on user_roles (revoked_at) where revoked_at is not null;
