/* SPDX-License-Identifier: Apache-2.0 */
/* A samples.db made by hand, for the tests of this folder. */
#pragma once

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <stdio.h>
#include "common/db.h"
#include "common/file.h"
#include "samples_sql.h"
#include "schema/samples.h"

struct samples {
        char dir[64];
        char path[128];
        sqlite3 *db;
};

/* Tables with the columns that tests fill. */
#define INTERVAL                                                                                             \
        "interval (interval_id, epoch_id, start_ms, end_ms, duration_ns, measured_ns, feature_source, "      \
        "definition)"
#define POWER  "power (interval_id, sensor_id, energy_uj, idle_uj, model)"
#define ENTITY "entity (entity_id, kind, key, cgroup, pod_name, container_name, container_namespace)"
#define USAGE                                                                                                \
        "usage (interval_id, entity_id, cpu_time_ns, page_cache_pages, net_tx_irq, net_rx_irq, block_irq, "  \
        "cpu_cycles, cpu_instructions, cache_miss)"

static int samples_setup(void **state)
{
        static const struct db_migrations migrations = { samples_migrations, ARRAY_SIZE(samples_migrations),
                                                         SAMPLES_APPLICATION_ID };
        struct samples *s = calloc(1, sizeof(*s));
        struct err e = { "" };

        assert_non_null(s);
        (void)snprintf(s->dir, sizeof(s->dir), "/tmp/wattloop_test.XXXXXX");
        assert_non_null(mkdtemp(s->dir));
        (void)snprintf(s->path, sizeof(s->path), "%s/samples.db", s->dir);
        if (db_open(s->path, DB_OWNER, &migrations, 1000, &s->db, NULL, &e) < 0)
                fail_msg("%s", e.text);
        *state = s;
        return 0;
}

static int samples_teardown(void **state)
{
        struct samples *s = *state;

        db_close(s->db);
        (void)file_remove_tree(s->dir, NULL);
        free(s);
        return 0;
}

static inline void samples_exec(struct samples *s, const char *sql)
{
        struct err e = { "" };

        if (db_exec(s->db, sql, &e) < 0)
                fail_msg("%s: %s", e.text, sql);
}
