-- What goes to the brokerage (kind 4) has no destination among the accounts, and what comes back
-- from there (kind 5) no source: the other side of both is the same customer's brokerage.
ALTER TABLE transfers
    ALTER COLUMN destination DROP NOT NULL,
    ALTER COLUMN destination_customer DROP NOT NULL,
    ADD CONSTRAINT transfers_parties CHECK (source IS NOT NULL OR destination IS NOT NULL);
