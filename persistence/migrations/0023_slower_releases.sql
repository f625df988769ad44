-- A canary may also be rolled back because it is slower than the version beside it.

-- So many times as long may its requests take; beyond, it is rolled back by itself.
alter table releases add column latency_ratio float8 check (latency_ratio > 1);
