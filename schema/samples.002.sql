-- samples.db, version 2: how each energy total came about, and who is behind an entity. Columns that version 1 did not
-- have are NULL or '' in its rows.

-- energy_uj is the sensor's total at the end of the interval: a counter is read a moment later, at a stamp of its own, and
-- its total is taken back to the interval's end by its power of then.
ALTER TABLE power ADD COLUMN raw_uj INTEGER;      -- what the sensor has counted up to its own stamp
ALTER TABLE power ADD COLUMN lag_ns INTEGER;      -- how long after the interval's end that stamp is
-- Idle watts by two rules, in microwatts; idle_uj follows the one that was configured. NULL: not known (yet).
ALTER TABLE power ADD COLUMN idle_min_uw INTEGER; -- the lowest power within the sliding window
ALTER TABLE power ADD COLUMN idle_fit_uw INTEGER; -- intercept of power over the node's CPU time, by regression

-- key of a process: 'PID-START', START in ns since boot; it has a row in each interval in which it did something.
ALTER TABLE entity ADD COLUMN command TEXT NOT NULL DEFAULT '';

-- end_ms strictly grows within an epoch. A clock that was set back by more than a minute begins a new one.
DROP INDEX interval_end;
CREATE UNIQUE INDEX interval_end ON interval (epoch_id, end_ms);
