-- The answer to a batch of orders is some kilobytes of MessagePack. Compressing it costs a turn
-- more time than writing it as it is; the journal is not compressed either (decision 0013).
alter table commands alter column reply set storage external;
