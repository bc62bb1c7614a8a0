/* SPDX-License-Identifier: Apache-2.0 */
/* Makes or extends a samples.db as a collector would have, fast: recording FILE INTERVALS ENTITIES
 * [KEY=VALUE…]
 *
 *   step_ms=3000    length of an interval          start_ms=…   end of the time before the first one
 * (default: such epochs=1        boots, equally long                         that the recording ends now)
 *   gap_every=0     intervals between gaps         churn=0      every so many intervals a container ends, one
 * begins measured=1      0: simulated power             counters=1   0: no hardware counters (NULL) seed=1 of
 * the values
 *
 * Prints how many rows of usage it wrote. Totals grow as counters do: by whole, irregular amounts. */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "common/clock.h"
#include "common/db.h"
#include "samples_sql.h"
#include "schema/samples.h"

#define CONTAINERS_MAX 100000
#define TRANSACTION    2000 /* intervals */
#define GAP_MS         60000
#define MACHINE                                                                                              \
        "{\"processor\":\"acme_z1\",\"cores\":8,\"chips\":1,\"memory\":31,\"frequency\":3100,"               \
        "\"cpu_architecture\":\"Zed Lake\"}"

struct recording {
        sqlite3 *db;
        sqlite3_stmt *interval, *usage, *power, *entity;
        int64_t step_ms, start_ms, epochs, gap_every, churn, measured, counters, seed;
        int64_t *total; /* of the running containers, 8 each */
        int64_t *id;    /* of the running containers */
        int64_t epoch_id, now_ms, measured_ns, rows, energy[3][2];
        int64_t entities, next_container;
};

static _Noreturn void fail(const char *what)
{
        (void)fprintf(stderr, "recording: %s\n", what);
        exit(1);
}

static uint64_t next_random(struct recording *r)
{
        uint64_t x = (uint64_t)r->seed;

        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        r->seed = (int64_t)x;
        return x >> 11;
}

static void run(struct recording *r, sqlite3_stmt *stmt, const int64_t *values, int n)
{
        for (int i = 0; i < n; i++)
                (void)sqlite3_bind_int64(stmt, i + 1, values[i]);
        if (sqlite3_step(stmt) != SQLITE_DONE)
                fail(sqlite3_errmsg(r->db));
        (void)sqlite3_reset(stmt);
}

static void exec(struct recording *r, const char *sql)
{
        struct err e = { "" };

        if (db_exec(r->db, sql, &e) < 0)
                fail(e.text);
}

static int64_t one(struct recording *r, const char *sql)
{
        sqlite3_stmt *stmt = NULL;
        int64_t value = 0;

        if (sqlite3_prepare_v2(r->db, sql, -1, &stmt, NULL) != SQLITE_OK)
                fail(sqlite3_errmsg(r->db));
        if (sqlite3_step(stmt) == SQLITE_ROW)
                value = sqlite3_column_int64(stmt, 0);
        (void)sqlite3_finalize(stmt);
        return value;
}

static void begin_container(struct recording *r, int64_t slot)
{
        char key[80], pod[32];

        (void)snprintf(key, sizeof(key), "%064" PRIx64, (uint64_t)(r->next_container * 0x9e3779b97f4a7c15u));
        (void)snprintf(pod, sizeof(pod), "pod-%" PRId64, r->next_container++);
        (void)sqlite3_bind_text(r->entity, 1, key, -1, SQLITE_TRANSIENT);
        (void)sqlite3_bind_text(r->entity, 2, pod, -1, SQLITE_TRANSIENT);
        if (sqlite3_step(r->entity) != SQLITE_DONE)
                fail(sqlite3_errmsg(r->db));
        (void)sqlite3_reset(r->entity);
        r->id[slot] = sqlite3_last_insert_rowid(r->db);
        memset(&r->total[8 * slot], 0, 8 * sizeof(r->total[0]));
}

static void begin_epoch(struct recording *r)
{
        char *sql = NULL;

        if (asprintf(&sql,
                     "INSERT INTO epoch (epoch, boot_id, node_id, node_name, started_ms, machine) VALUES "
                     "(lower(hex(randomblob(16))), 'boot-%" PRId64 "', 'node-1', 'n1', %" PRId64 ", '" MACHINE
                     "')",
                     r->now_ms, r->now_ms) < 0)
                fail("out of memory");
        exec(r, sql);
        free(sql);
        r->epoch_id = sqlite3_last_insert_rowid(r->db);
        r->measured_ns = 0;
        memset(r->total, 0, (size_t)r->entities * 8 * sizeof(r->total[0]));
        memset(r->energy, 0, sizeof(r->energy));
}

static void record_usage(struct recording *r, int64_t interval, int64_t slot)
{
        int64_t *t = &r->total[8 * slot];
        uint64_t x = next_random(r);
        int64_t ran_ns = (int64_t)(x % (uint64_t)(r->step_ms * 500000));
        const int64_t values[10] = { interval, r->id[slot] };
        int64_t row[10];

        t[0] += ran_ns;
        t[1] += (int64_t)(x >> 20 & 0x3ff);
        t[2] += (int64_t)(x >> 30 & 0xf);
        t[3] += (int64_t)(x >> 34 & 0x1f);
        t[4] += (int64_t)(x >> 39 & 0x3);
        t[5] += ran_ns * 3 + (int64_t)(x & 0xffff);
        t[6] += ran_ns * 4 + (int64_t)(x >> 4 & 0xffff);
        t[7] += ran_ns / 400;
        memcpy(row, values, sizeof(row));
        memcpy(row + 2, t, 8 * sizeof(row[0]));
        run(r, r->usage, row, r->counters ? 10 : 7);
        r->rows++;
}

static void record_interval(struct recording *r, int64_t n, bool gap)
{
        int64_t start_ms = r->now_ms + (gap ? GAP_MS : 0), end_ms = start_ms + r->step_ms, id;

        r->measured_ns += r->step_ms * 1000000;
        run(r, r->interval,
            (const int64_t[]){ r->epoch_id, start_ms, end_ms, r->step_ms * 1000000, r->measured_ns }, 5);
        id = sqlite3_last_insert_rowid(r->db);
        if (r->churn > 0 && n % r->churn == r->churn - 1)
                begin_container(r, (int64_t)(next_random(r) % (uint64_t)r->entities));
        for (int64_t slot = 0; slot < r->entities; slot++)
                record_usage(r, id, slot);
        for (int64_t sensor = 0; sensor < 3; sensor++) {
                r->energy[sensor][1] += r->step_ms * 5000;
                r->energy[sensor][0] += r->step_ms * 5000 + (int64_t)(next_random(r) % 90000000);
                run(r, r->power,
                    (const int64_t[]){ id, sensor + 1, r->energy[sensor][0], r->energy[sensor][1] }, 4);
        }
        r->now_ms = end_ms;
}

static void prepare(struct recording *r)
{
        static const struct {
                const char *sql;
                size_t offset;
        } statements[] = {
                { "INSERT INTO interval (epoch_id, start_ms, end_ms, duration_ns, measured_ns, "
                  "feature_source, "
                  "definition) VALUES (?1, ?2, ?3, ?4, ?5, 'bpf', 'exact')",
                  offsetof(struct recording, interval) },
                { "INSERT INTO usage (interval_id, entity_id, cpu_time_ns, page_cache_pages, net_tx_irq, "
                  "net_rx_irq, block_irq, "
                  "cpu_cycles, cpu_instructions, cache_miss) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, "
                  "?10)",
                  offsetof(struct recording, usage) },
                { "INSERT INTO power (interval_id, sensor_id, energy_uj, idle_uj) VALUES (?1, ?2, ?3, ?4)",
                  offsetof(struct recording, power) },
                { "INSERT INTO entity (kind, key, pod_name, container_name, container_namespace) VALUES "
                  "('container', ?1, ?2, 'main', 'default')",
                  offsetof(struct recording, entity) },
        };

        for (size_t i = 0; i < ARRAY_SIZE(statements); i++)
                if (sqlite3_prepare_v2(r->db, statements[i].sql, -1,
                                       (sqlite3_stmt **)(void *)((char *)r + statements[i].offset),
                                       NULL) != SQLITE_OK)
                        fail(sqlite3_errmsg(r->db));
}

static void read_arguments(struct recording *r, int argc, char **argv)
{
        const struct {
                const char *key;
                int64_t *value;
        } known[] = {
                { "step_ms", &r->step_ms },     { "start_ms", &r->start_ms }, { "epochs", &r->epochs },
                { "gap_every", &r->gap_every }, { "churn", &r->churn },       { "measured", &r->measured },
                { "counters", &r->counters },   { "seed", &r->seed },
        };

        for (int i = 0; i < argc; i++) {
                size_t n = strcspn(argv[i], "="), k = 0;

                while (k < ARRAY_SIZE(known) &&
                       (strncmp(known[k].key, argv[i], n) != 0 || known[k].key[n] != '\0'))
                        k++;
                if (k == ARRAY_SIZE(known) || argv[i][n] != '=')
                        fail("usage: recording FILE INTERVALS ENTITIES [KEY=VALUE...]");
                *known[k].value = strtoll(argv[i] + n + 1, NULL, 10);
        }
}

int main(int argc, char **argv)
{
        static const struct db_migrations migrations = { samples_migrations, ARRAY_SIZE(samples_migrations),
                                                         SAMPLES_APPLICATION_ID };
        struct recording r = { .step_ms = 3000, .epochs = 1, .measured = 1, .counters = 1, .seed = 1 };
        int64_t intervals = argc > 3 ? strtoll(argv[2], NULL, 10) : 0, last;
        struct err e = { "" };

        r.entities = argc > 3 ? strtoll(argv[3], NULL, 10) : 0;
        if (intervals < 1 || r.entities < 1 || r.entities > CONTAINERS_MAX)
                fail("usage: recording FILE INTERVALS ENTITIES [KEY=VALUE...]");
        read_arguments(&r, argc - 4, argv + 4);
        r.seed = r.seed * 2654435761 + 88172645463325252;
        if (db_open(argv[1], DB_OWNER, &migrations, 60000, &r.db, NULL, &e) < 0)
                fail(e.text);
        r.total = calloc((size_t)r.entities * 8, sizeof(*r.total));
        r.id = calloc((size_t)r.entities, sizeof(*r.id));
        if (!r.total || !r.id)
                fail("out of memory");
        exec(&r, "PRAGMA synchronous = OFF; PRAGMA cache_size = -65536");
        prepare(&r);
        exec(&r, "BEGIN IMMEDIATE");
        last = one(&r, "SELECT ifnull(max(end_ms), 0) FROM interval");
        r.now_ms = last > 0          ? last + GAP_MS
                   : r.start_ms != 0 ? r.start_ms
                                     : clock_wall_ms() - intervals * r.step_ms -
                                               (r.gap_every ? intervals / r.gap_every * GAP_MS : 0);
        r.next_container = one(&r, "SELECT count(*) + 1 FROM entity");
        exec(&r,
             r.measured
                     ? "INSERT OR IGNORE INTO sensor (sensor_id, source, component, unit, provenance) VALUES "
                       "(1, 'rapl-sysfs', 'package', '0', 'measured'), "
                       "(2, 'rapl-sysfs', 'dram', '0', 'measured'), "
                       "(3, 'acpi', 'platform', 'energy1', 'measured')"
                     : "INSERT OR IGNORE INTO sensor (sensor_id, source, component, unit, provenance) VALUES "
                       "(1, 'rapl-sysfs', 'package', '0', 'simulated'), "
                       "(2, 'rapl-sysfs', 'dram', '0', 'simulated'), "
                       "(3, 'acpi', 'platform', 'energy1', 'simulated')");
        for (int64_t slot = 0; slot < r.entities; slot++)
                begin_container(&r, slot);
        for (int64_t n = 0; n < intervals; n++) {
                if (n % ((intervals + r.epochs - 1) / r.epochs) == 0)
                        begin_epoch(&r);
                record_interval(&r, n, r.gap_every > 0 && n % r.gap_every == r.gap_every - 1);
                if (n % TRANSACTION == TRANSACTION - 1)
                        exec(&r, "COMMIT; BEGIN IMMEDIATE");
        }
        exec(&r, "COMMIT");
        (void)printf("%" PRId64 "\n", r.rows);
        (void)sqlite3_finalize(r.interval);
        (void)sqlite3_finalize(r.usage);
        (void)sqlite3_finalize(r.power);
        (void)sqlite3_finalize(r.entity);
        db_close(r.db);
        free(r.total);
        free(r.id);
        return 0;
}
