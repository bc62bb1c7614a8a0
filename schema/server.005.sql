-- The model server's database, version 5: what nodes say became of their updates.

-- Each report as it came; the same one again adds nothing. Retention takes the oldest by received_ms.
CREATE TABLE report (
    node_id     TEXT NOT NULL,
    slot        TEXT NOT NULL,             -- energy_source/output_type/form
    time_ms     INTEGER NOT NULL,          -- the node's wall clock
    outcome     TEXT NOT NULL CHECK (outcome IN ('installed', 'refused', 'rolled-back')),
    id          TEXT NOT NULL,             -- the model that it is about; '' unknown
    model       TEXT NOT NULL,
    why         TEXT NOT NULL,
    received_ms INTEGER NOT NULL,          -- server's wall clock
    PRIMARY KEY (node_id, slot, time_ms, outcome)
) STRICT, WITHOUT ROWID;
CREATE INDEX report_received ON report (received_ms);

-- Where each node stands: folded from its reports in the order of their times.
CREATE TABLE fleet (
    node_id       TEXT NOT NULL,
    slot          TEXT NOT NULL,
    node_name     TEXT NOT NULL,
    id            TEXT NOT NULL,           -- what it serves; '' unknown
    model         TEXT NOT NULL,
    since_ms      INTEGER NOT NULL,        -- it does; 0 unknown
    outcome       TEXT NOT NULL,           -- of its last report
    outcome_id    TEXT NOT NULL,
    outcome_model TEXT NOT NULL,
    outcome_ms    INTEGER NOT NULL,
    why           TEXT NOT NULL,
    received_ms   INTEGER NOT NULL,
    PRIMARY KEY (node_id, slot)
) STRICT, WITHOUT ROWID;
CREATE INDEX fleet_outcome ON fleet (outcome_id);
