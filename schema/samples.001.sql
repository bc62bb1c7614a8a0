-- samples.db, version 1: what one machine did and what that cost. The collector writes, the trainer-client reads.
-- Totals are cumulative since the epoch began, monotone, the dead included. Deltas are the view below.

-- A recording epoch: one boot of one machine in one database file. Totals restart with each epoch.
CREATE TABLE epoch (
    epoch_id    INTEGER PRIMARY KEY,
    epoch       TEXT NOT NULL UNIQUE,      -- 32 random hex digits, part of every batch's key
    boot_id     TEXT NOT NULL,
    node_id     TEXT NOT NULL,
    node_name   TEXT NOT NULL,
    started_ms  INTEGER NOT NULL,          -- wall clock, Unix ms
    machine     TEXT NOT NULL              -- JSON: machine spec and cpu_architecture
) STRICT;

-- One sampling interval. Where start_ms is later than the end_ms before it, nothing was recorded in between: a gap.
CREATE TABLE interval (
    interval_id    INTEGER PRIMARY KEY AUTOINCREMENT, -- never reused, grows with time
    epoch_id       INTEGER NOT NULL REFERENCES epoch,
    start_ms       INTEGER NOT NULL,       -- wall clock, Unix ms
    end_ms         INTEGER NOT NULL,       -- wall clock, Unix ms; strictly grows within the file
    duration_ns    INTEGER NOT NULL CHECK (duration_ns > 0),   -- monotonic
    measured_ns    INTEGER NOT NULL,       -- total of duration_ns in this epoch, this interval included
    feature_source TEXT NOT NULL,          -- bpf | proc
    definition     TEXT NOT NULL,          -- exact | kepler-0.7
    CHECK (end_ms > start_ms)
) STRICT;
CREATE UNIQUE INDEX interval_end ON interval (end_ms);

-- What used resources. key: '' for the node; for a container its id (64 hex digits as a rule), or
-- 'system_processes' and 'kernel_processes' for what is in none. The containers' rows add up to the node's.
CREATE TABLE entity (
    entity_id  INTEGER PRIMARY KEY,
    kind       TEXT NOT NULL CHECK (kind IN ('node', 'container', 'vm', 'process')),
    key        TEXT NOT NULL,
    cgroup     TEXT NOT NULL DEFAULT '',   -- path of the cgroup when it was first seen
    pod_name            TEXT NOT NULL DEFAULT '',
    container_name      TEXT NOT NULL DEFAULT '',
    container_namespace TEXT NOT NULL DEFAULT '',
    UNIQUE (kind, key)
) STRICT;

-- Totals at the end of an interval. NULL: this machine or this feature source cannot measure it.
CREATE TABLE usage (
    interval_id      INTEGER NOT NULL REFERENCES interval ON DELETE CASCADE,
    entity_id        INTEGER NOT NULL REFERENCES entity,
    cpu_time_ns      INTEGER,
    page_cache_pages INTEGER,
    net_tx_irq       INTEGER,
    net_rx_irq       INTEGER,
    block_irq        INTEGER,
    cpu_cycles       INTEGER,
    cpu_instructions INTEGER,
    cache_miss       INTEGER,
    PRIMARY KEY (interval_id, entity_id)
) STRICT, WITHOUT ROWID;

-- A place where power is read (or estimated): one row per source, component and unit.
CREATE TABLE sensor (
    sensor_id  INTEGER PRIMARY KEY,
    source     TEXT NOT NULL,              -- rapl-sysfs | acpi | estimate
    component  TEXT NOT NULL,              -- package | core | uncore | dram | platform | psys
    unit       TEXT NOT NULL,              -- socket ("0"), meter ("energy1")
    provenance TEXT NOT NULL CHECK (provenance IN ('measured', 'estimated', 'simulated', 'virtual')),
    UNIQUE (source, component, unit, provenance)
) STRICT;

-- Energy totals at the end of an interval. A sensor that could not be read in an interval has no row: a gap.
-- idle_uj is the part of energy_uj at the lowest power seen so far; the rest is dynamic.
CREATE TABLE power (
    interval_id INTEGER NOT NULL REFERENCES interval ON DELETE CASCADE,
    sensor_id   INTEGER NOT NULL REFERENCES sensor,
    energy_uj   INTEGER NOT NULL,
    idle_uj     INTEGER NOT NULL,
    model       TEXT NOT NULL DEFAULT '',  -- estimated only: name and id of the model, 'NAME ID'
    PRIMARY KEY (interval_id, sensor_id),
    CHECK (idle_uj BETWEEN 0 AND energy_uj)
) STRICT, WITHOUT ROWID;

-- Retention has reached up to here; a reader whose cursor is behind it has lost intervals and says so.
CREATE TABLE retention (
    one              INTEGER PRIMARY KEY CHECK (one = 1),
    removed_up_to    INTEGER NOT NULL,     -- interval_id
    removed_unsent   INTEGER NOT NULL      -- intervals removed that a destination had not acknowledged
) STRICT;
INSERT INTO retention VALUES (1, 0, 0);

-- Deltas: what each entity used in each interval. An entity's first interval counts from zero; where retention removed
-- what came before, the oldest interval left has no deltas (NULL).
CREATE VIEW usage_delta AS
WITH left_over AS (
    SELECT min(interval_id) AS interval_id FROM interval GROUP BY epoch_id
), total AS (
    SELECT i.interval_id, i.epoch_id, i.start_ms, i.end_ms, i.duration_ns, u.*,
           CASE WHEN i.measured_ns > i.duration_ns AND i.interval_id IN left_over THEN NULL ELSE 0 END AS base
    FROM usage u JOIN interval i USING (interval_id)
)
SELECT interval_id, epoch_id, start_ms, end_ms, duration_ns, entity_id,
       cpu_time_ns      - ifnull(lag(cpu_time_ns) OVER w, base) AS cpu_time_ns,
       page_cache_pages - ifnull(lag(page_cache_pages) OVER w, base) AS page_cache_pages,
       net_tx_irq       - ifnull(lag(net_tx_irq) OVER w, base) AS net_tx_irq,
       net_rx_irq       - ifnull(lag(net_rx_irq) OVER w, base) AS net_rx_irq,
       block_irq        - ifnull(lag(block_irq) OVER w, base) AS block_irq,
       cpu_cycles       - ifnull(lag(cpu_cycles) OVER w, base) AS cpu_cycles,
       cpu_instructions - ifnull(lag(cpu_instructions) OVER w, base) AS cpu_instructions,
       cache_miss       - ifnull(lag(cache_miss) OVER w, base) AS cache_miss
FROM total
WINDOW w AS (PARTITION BY epoch_id, entity_id ORDER BY interval_id);
