-- The model server's database, version 3: samples lie in chunks, and a row knows the batch that completed it.

-- Up to 120 samples of one series within an hour, packed (model-server/ingest/chunk.h). Chunks of a series do
-- not overlap; (series, timestamp) stays the natural key, now kept by the store, which is the only writer. No
-- reference to series: it would be looked up with every write.
CREATE TABLE chunk (
    chunk_id  INTEGER PRIMARY KEY AUTOINCREMENT, -- in order of appearance: a node's open chunks lie together,
                                           -- and retention takes from the front
    series_id INTEGER NOT NULL,
    first_ms  INTEGER NOT NULL,            -- its first sample
    n         INTEGER NOT NULL,            -- samples in it
    data      BLOB NOT NULL,
    CHECK (n > 0)
) STRICT;
CREATE UNIQUE INDEX chunk_series ON chunk (series_id, first_ms);

-- Moved into chunks when the database is opened, and then dropped.
ALTER TABLE sample RENAME TO sample_2;

-- series.last_ms is from now on rounded up to ten minutes, so that it seldom changes.
UPDATE series SET last_ms = (last_ms / 600000 + 1) * 600000;

-- A stored upload that brought something new. Retention counts from here, not from the samples' time stamps:
-- a recording of last year is kept as long as one of today. Models name the hashes of the batches that they
-- were trained on, so nothing refers to these rows.
CREATE TABLE batch (
    batch_id    INTEGER PRIMARY KEY AUTOINCREMENT,
    received_ms INTEGER NOT NULL,          -- server's wall clock
    name        TEXT NOT NULL,             -- header Wattloop-Batch; '' when absent
    hash        BLOB NOT NULL CHECK (length(hash) = 32), -- SHA-256 of the body as transported
    samples     INTEGER NOT NULL DEFAULT 0, -- new ones
    rows        INTEGER NOT NULL DEFAULT 0, -- completed by it
    last_chunk  INTEGER NOT NULL DEFAULT 0, -- the newest chunk and row when it was stored
    last_row    INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX batch_received ON batch (received_ms);
ALTER TABLE row ADD COLUMN batch_id INTEGER; -- the batch that completed it; NULL: before version 3
