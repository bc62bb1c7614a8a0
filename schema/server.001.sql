-- The model server's database, version 1: samples as they came in, training rows folded from them, learners' state.
-- One import is one transaction: its samples, the rows that they complete and what the learners make of them.

-- Machines of one kind. Models are trained per node type; a type's number is its entry in node_type_index.json.
CREATE TABLE node_type (
    node_type INTEGER PRIMARY KEY,         -- 0, 1, 2, … in order of appearance
    spec      TEXT NOT NULL UNIQUE         -- machine spec as canonical JSON
) STRICT;

CREATE TABLE node (
    node_id      TEXT PRIMARY KEY,
    node_name    TEXT NOT NULL,
    node_type    INTEGER REFERENCES node_type, -- NULL until a wattloop_node series says
    last_seen_ms INTEGER NOT NULL          -- server's wall clock
) STRICT, WITHOUT ROWID;

CREATE TABLE epoch (
    epoch_id   INTEGER PRIMARY KEY,
    node_id    TEXT NOT NULL REFERENCES node,
    epoch      TEXT NOT NULL,
    node_type  INTEGER REFERENCES node_type, -- NULL until known: nothing is folded before
    definition TEXT NOT NULL DEFAULT '',   -- exact | kepler-0.7
    UNIQUE (node_id, epoch)
) STRICT;

-- A series is its label set. Only series the server learns from are kept.
CREATE TABLE series (
    series_id INTEGER PRIMARY KEY,
    epoch_id  INTEGER NOT NULL REFERENCES epoch,
    labels    TEXT NOT NULL UNIQUE,        -- canonical JSON: compact, keys sorted
    name      TEXT NOT NULL,               -- __name__
    source    TEXT NOT NULL,               -- label; '' when absent
    last_ms   INTEGER NOT NULL             -- latest sample
) STRICT;
CREATE INDEX series_epoch ON series (epoch_id, last_ms);

-- The natural key: sending twice adds nothing.
CREATE TABLE sample (
    series_id INTEGER NOT NULL REFERENCES series,
    ts_ms     INTEGER NOT NULL,
    value     REAL NOT NULL,
    PRIMARY KEY (series_id, ts_ms)
) STRICT, WITHOUT ROWID;

-- One training row per epoch, provenance and interval; rows of one epoch and provenance never overlap, so no
-- joule is learned twice. row_id is the order in which the learners saw them.
CREATE TABLE row (
    row_id     INTEGER PRIMARY KEY,
    epoch_id   INTEGER NOT NULL REFERENCES epoch,
    provenance TEXT NOT NULL CHECK (provenance IN ('measured', 'simulated', 'virtual')),
    start_ms   INTEGER NOT NULL,
    end_ms     INTEGER NOT NULL,
    seconds    REAL NOT NULL,              -- measured seconds between the two; rates are per these
    node_type  INTEGER NOT NULL REFERENCES node_type,
    definition TEXT NOT NULL,
    features   TEXT NOT NULL,              -- JSON: feature -> wire units per second
    watts      TEXT NOT NULL,              -- JSON: component -> watts
    UNIQUE (epoch_id, provenance, end_ms),
    CHECK (end_ms > start_ms)
) STRICT;

-- Kept beside the rows so that the status page need not count them.
CREATE TABLE row_count (
    node_id    TEXT NOT NULL REFERENCES node,
    provenance TEXT NOT NULL,
    rows       INTEGER NOT NULL,
    PRIMARY KEY (node_id, provenance)
) STRICT, WITHOUT ROWID;

-- State of one online learner; rebuilt from the rows when the accepted provenances change.
CREATE TABLE learner (
    energy_source TEXT NOT NULL,
    output_type   TEXT NOT NULL,
    feature_group TEXT NOT NULL,
    node_type     INTEGER NOT NULL REFERENCES node_type,
    component     TEXT NOT NULL,
    provenance    TEXT NOT NULL,           -- the least trustworthy of its rows
    definition    TEXT NOT NULL,           -- of its rows; 'mixed' when they differ
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
CREATE INDEX publication_content ON publication (content_id);

CREATE TABLE setting (
    name  TEXT PRIMARY KEY,                -- samples: how many there are; provenance: what the learners accepted
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
