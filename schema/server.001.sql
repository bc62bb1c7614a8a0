-- The model server's database, version 1: samples as they came in, training rows folded from them, learners' state.

-- A series is its label set. labels: canonical JSON, keys sorted. Only series the server learns from are kept.
CREATE TABLE series (
    series_id INTEGER PRIMARY KEY,
    labels    TEXT NOT NULL UNIQUE,
    name      TEXT NOT NULL,               -- __name__
    node_id   TEXT NOT NULL,
    epoch     TEXT NOT NULL
) STRICT;
CREATE INDEX series_node ON series (node_id, epoch, name);

-- The natural key: sending twice adds nothing.
CREATE TABLE sample (
    series_id INTEGER NOT NULL REFERENCES series,
    ts_ms     INTEGER NOT NULL,
    value     REAL NOT NULL,
    PRIMARY KEY (series_id, ts_ms)
) STRICT, WITHOUT ROWID;

CREATE TABLE node_type (
    node_type INTEGER PRIMARY KEY,         -- 0, 1, 2, … in order of appearance
    spec      TEXT NOT NULL UNIQUE         -- machine spec as canonical JSON
) STRICT;

CREATE TABLE node (
    node_id      TEXT PRIMARY KEY,
    node_name    TEXT NOT NULL,
    node_type    INTEGER NOT NULL REFERENCES node_type,
    last_seen_ms INTEGER NOT NULL          -- server's wall clock
) STRICT, WITHOUT ROWID;

-- One training row per node, epoch and time stamp: per-second feature rates and watts over the interval that
-- ends there, as JSON objects. A row that was learned is never learned again.
CREATE TABLE row (
    node_id    TEXT NOT NULL,
    epoch      TEXT NOT NULL,
    ts_ms      INTEGER NOT NULL,
    seconds    REAL NOT NULL,
    provenance TEXT NOT NULL,
    features   TEXT NOT NULL,
    watts      TEXT NOT NULL,
    PRIMARY KEY (node_id, epoch, ts_ms)
) STRICT, WITHOUT ROWID;

-- State of one online learner.
CREATE TABLE learner (
    energy_source TEXT NOT NULL,
    output_type   TEXT NOT NULL,
    feature_group TEXT NOT NULL,
    node_type     INTEGER NOT NULL,
    component     TEXT NOT NULL,
    rows          INTEGER NOT NULL,
    state         BLOB NOT NULL,           -- versioned; model-server/train/ owns the format
    PRIMARY KEY (energy_source, output_type, feature_group, node_type, component)
) STRICT, WITHOUT ROWID;

CREATE TABLE publication (
    publication_id INTEGER PRIMARY KEY AUTOINCREMENT,
    published_ms   INTEGER NOT NULL,
    model          TEXT NOT NULL,          -- path below the pipeline: source/output/group/name
    content_id     TEXT NOT NULL,
    rows           INTEGER NOT NULL,
    mae            REAL NOT NULL
) STRICT;
