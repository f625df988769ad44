-- A transfer between partitions is inserted by the sender's and completed by the receiver's. With
-- room left on its page that is an update of the row alone, and of none of the three indexes.
ALTER TABLE transfers SET (fillfactor = 60);
