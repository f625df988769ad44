-- A customer looks at what was sent to an endpoint; an endpoint that is switched off gives up what
-- waits for it.
create index deliveries_endpoint on deliveries (target, id) where channel = 'webhook';
