-- samples.db, version 3: virtual machines, page cache, what the counters counted, frequency.

-- kind 'vm': a virtual machine; key is its uuid, scope or id. Its usage is a part of the rows of the containers its
-- processes are in: only the containers' rows (system_processes and kernel_processes included) add up to the node's.
ALTER TABLE entity ADD COLUMN vm_name    TEXT NOT NULL DEFAULT '';
ALTER TABLE entity ADD COLUMN hypervisor TEXT NOT NULL DEFAULT '';

-- Pages of 4 KiB; page_cache_pages are those written.
ALTER TABLE usage ADD COLUMN page_cache_read_pages  INTEGER; -- asked for by read(), cached or not
ALTER TABLE usage ADD COLUMN page_cache_added_pages INTEGER; -- that were not there: read from a device, or new

-- What the hardware counters counted: 'cpu_cycles=cycles cpu_instructions=instructions cache_miss=cache-misses';
-- '': there are none, and usage's columns are NULL.
ALTER TABLE interval ADD COLUMN counters TEXT NOT NULL DEFAULT '';
-- The part of the interval for which they were counting. Below 1 they shared the processor's registers with others
-- (multiplexing), and what was counted has been divided by this. NULL: no counters.
ALTER TABLE interval ADD COLUMN counters_running REAL;

-- Mean frequency of a CPU in an interval. No row: not known.
CREATE TABLE cpu_frequency (
    interval_id INTEGER NOT NULL REFERENCES interval ON DELETE CASCADE,
    cpu         INTEGER NOT NULL,
    cpu_scaling_frequency_hertz INTEGER NOT NULL,
    PRIMARY KEY (interval_id, cpu)
) STRICT, WITHOUT ROWID;

-- Time that all CPUs together have spent at a frequency (cpufreq's time_in_state), total since the epoch began.
CREATE TABLE frequency_band (
    interval_id INTEGER NOT NULL REFERENCES interval ON DELETE CASCADE,
    band_hertz  INTEGER NOT NULL,
    time_ns     INTEGER NOT NULL,
    PRIMARY KEY (interval_id, band_hertz)
) STRICT, WITHOUT ROWID;

DROP VIEW usage_delta;
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
       cache_miss       - ifnull(lag(cache_miss) OVER w, base) AS cache_miss,
       page_cache_read_pages  - ifnull(lag(page_cache_read_pages) OVER w, base) AS page_cache_read_pages,
       page_cache_added_pages - ifnull(lag(page_cache_added_pages) OVER w, base) AS page_cache_added_pages
FROM total
WINDOW w AS (PARTITION BY epoch_id, entity_id ORDER BY interval_id);

-- What the collector that writes now does not measure, and why: for people.
CREATE TABLE missing (
    what TEXT PRIMARY KEY,
    why  TEXT NOT NULL
) STRICT, WITHOUT ROWID;
