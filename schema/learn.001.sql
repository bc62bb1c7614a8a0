-- learn.db, version 1: what the model server makes of the rows in server.db. All of it can be made again from
-- them; it is a file of its own, with a writer of its own, so that learning never holds an import up.

-- How far the rows are learned, and what was accepted then; when that changes, everything is learned again.
CREATE TABLE progress (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    row_id   INTEGER NOT NULL,
    settings TEXT NOT NULL
) STRICT;
INSERT INTO progress VALUES (1, 0, '');

-- The recursive learners of one kind of machine.
CREATE TABLE online (
    node_type INTEGER PRIMARY KEY,
    state     BLOB NOT NULL            -- versioned; model-server/learn/online.c owns the format
) STRICT;

-- Errors of each row before it was learned: per trainer, feature group and component.
CREATE TABLE score (
    node_id   TEXT PRIMARY KEY,
    node_type INTEGER NOT NULL,
    rows      INTEGER NOT NULL,
    state     BLOB NOT NULL            -- versioned; model-server/learn/score.c owns the format
) STRICT, WITHOUT ROWID;

-- Every model that was trained. The archive is kept while it can still be published.
CREATE TABLE model (
    model_id      INTEGER PRIMARY KEY AUTOINCREMENT,
    energy_source TEXT NOT NULL,
    output_type   TEXT NOT NULL,
    feature_group TEXT NOT NULL,
    node_type     INTEGER NOT NULL,
    trainer       TEXT NOT NULL,
    fit           TEXT NOT NULL,       -- batch | online
    role          TEXT NOT NULL CHECK (role IN ('champion', 'challenger', 'retired', 'rejected', 'withdrawn')),
    reason        TEXT NOT NULL,       -- first | growth | drift: why it was trained
    content_id    TEXT NOT NULL,
    metadata      TEXT NOT NULL,
    archive       BLOB,
    last_row      INTEGER NOT NULL,    -- it has seen no row after this one
    rows_seen     INTEGER NOT NULL,    -- rows that there were for it when it was trained, taken or not
    trained_ms    INTEGER NOT NULL,
    decided_ms    INTEGER,             -- when it became what it is
    trial_rows    INTEGER NOT NULL DEFAULT 0, -- rows that neither it nor its rival had seen
    trial_mae     REAL,                -- its error on them: the worst component's, W
    rival_mae     REAL                 -- the champion's on the same rows
) STRICT;
CREATE INDEX model_role ON model (role);
CREATE INDEX model_content ON model (content_id);
