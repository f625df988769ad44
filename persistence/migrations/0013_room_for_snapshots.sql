-- A checkpoint may change every row of a page. With as much room as there are rows, that stays on
-- the page and touches no index.
ALTER TABLE snapshots SET (fillfactor = 45);
