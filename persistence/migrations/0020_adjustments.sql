-- Adjustments by the back office, as the customer's accounts have journalled them. Those that are
-- posted are transfers too (kind 6, same id): from the house to the account, or the other way.
-- status: 1 pending, 2 posted, 3 refused, 4 expired. amount is signed.
create table adjustments (
    id         uuid        primary key,
    customer   bigint      not null,
    account    bigint      not null,
    currency   text        not null,
    amount     bigint      not null check (amount <> 0),
    reason     text        not null,
    maker      bigint      not null,
    at         timestamptz not null,
    expires_at timestamptz not null,
    status     smallint    not null check (status between 1 and 4),
    checker    bigint,
    note       text        not null default '',
    decided_at timestamptz
);
create index adjustments_pending on adjustments (at) where status = 1;
create index adjustments_customer on adjustments (customer, at);
create index adjustments_at on adjustments (at);
