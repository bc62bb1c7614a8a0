-- The model server's database, version 2: containers come and go, so an epoch of months has series by the
-- hundred thousand. What an import needs of them all, the node's own, is found by name.
CREATE INDEX series_name ON series (epoch_id, name);
