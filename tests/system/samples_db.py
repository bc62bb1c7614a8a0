#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes and extends a samples.db as a collector would: samples_db.py FILE INTERVALS [EPOCH [CONTAINERS]].

Totals grow by known amounts, so a test can say what a server must have got."""
import os
import sqlite3
import sys

APPLICATION_ID = 0x574C5331
SCHEMA = os.path.join(os.path.dirname(__file__), "..", "..", "schema", "samples.001.sql")
MACHINE = '{"processor":"acme_z1","cores":8,"chips":1,"memory":31,"frequency":3100,"cpu_architecture":"Zed Lake"}'


def open_db(path):
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    if db.execute("PRAGMA user_version").fetchone()[0] == 0:
        with open(SCHEMA, encoding="utf-8") as schema:
            db.executescript("BEGIN;" + schema.read() + f"PRAGMA application_id = {APPLICATION_ID};"
                             "PRAGMA user_version = 1; COMMIT;")
    return db


def one(db, sql, *args):
    return db.execute(sql, args).fetchone()


def main():
    path, count = sys.argv[1], int(sys.argv[2])
    epoch = sys.argv[3] if len(sys.argv) > 3 else "a" * 32
    containers = int(sys.argv[4]) if len(sys.argv) > 4 else 2
    db = open_db(path)
    db.execute("BEGIN IMMEDIATE")
    last_ms = one(db, "SELECT ifnull(max(end_ms), 1700000000000) FROM interval")[0]
    db.execute("INSERT OR IGNORE INTO epoch (epoch, boot_id, node_id, node_name, started_ms, machine)"
               " VALUES (?, 'boot', 'node', 'n1', ?, ?)", (epoch, last_ms, MACHINE))
    epoch_id = one(db, "SELECT epoch_id FROM epoch WHERE epoch = ?", epoch)[0]
    done = one(db, "SELECT count(*) FROM interval WHERE epoch_id = ?", epoch_id)[0]
    for i in range(containers):
        db.execute("INSERT OR IGNORE INTO entity (kind, key) VALUES ('container', ?)", (f"{i:064x}",))
    db.execute("INSERT OR IGNORE INTO sensor (source, component, unit, provenance)"
               " VALUES ('rapl-sysfs', 'package', '0', 'simulated')")
    for n in range(done + 1, done + count + 1):
        cursor = db.execute("INSERT INTO interval (epoch_id, start_ms, end_ms, duration_ns, measured_ns, feature_source,"
                            " definition) VALUES (?, ?, ?, 1000000000, ?, 'bpf', 'exact')",
                            (epoch_id, last_ms, last_ms + 1000, n * 1000000000))
        last_ms += 1000
        db.executemany("INSERT INTO usage SELECT ?, entity_id, ?, ?, ?, ?, ?, NULL, NULL, NULL FROM entity WHERE key = ?",
                       [(cursor.lastrowid, n * 250000000, n * 10, n, n, n, f"{i:064x}") for i in range(containers)])
        db.execute("INSERT INTO power SELECT ?, sensor_id, ?, ?, '' FROM sensor",
                   (cursor.lastrowid, n * 40000000, n * 10000000))
    db.execute("COMMIT")


main()
