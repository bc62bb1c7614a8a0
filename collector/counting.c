/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/counting.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "common/log.h"

#define SNAPSHOT_TRIES 4

int counting_open(struct counting *c, const struct feature_source_options *options, struct err *e)
{
        enum definition definition = options->definition;
        struct err why = { "" };
        int r;

        *c = (struct counting){ .sysfs_root = options->sysfs_root };
        if (options->counters == COUNTERS_OFF) {
                feature_note(options->notes, "hardware counters", "features.counters is off");
                return 0;
        }
        c->definition = options->counters == COUNTERS_SOFTWARE ? DEFINITION_SOFTWARE : definition;
        r = counters_open(c->sysfs_root, c->definition, &c->counters, &why);
        if (r == -ENOMEM)
                return err_set(e, r, "%s", why.text);
        if (r < 0) {
                feature_note(options->notes, "hardware counters", "%s", why.text);
                return 0;
        }
        for (unsigned i = 0; i < COUNTERS_N; i++)
                if (!counters_has(c->counters, i))
                        feature_note(options->notes, features[FEATURE_CPU_CYCLES + i].column,
                                     "the processor has no such counter");
        return 0;
}

static size_t map_bytes(const struct counting *c)
{
        size_t page = (size_t)sysconf(_SC_PAGESIZE);

        return (c->cpus * sizeof(*c->running) + page - 1) / page * page;
}

static void forget(struct counting *c)
{
        counters_close(c->counters);
        c->counters = NULL;
}

int counting_attach(struct counting *c, const struct programs *p, struct err *e)
{
        void *map;

        if (c->counters && !p->links[PROGRAM_SWITCH])
                forget(c);
        if (!c->counters)
                return 0;
        c->cpus = (unsigned)p->cpus;
        c->last = calloc(c->cpus, sizeof(*c->last));
        if (!c->last)
                return err_set(e, -ENOMEM, "out of memory");
        map = mmap(NULL, map_bytes(c), PROT_READ, MAP_SHARED, bpf_map__fd(p->skel->maps.running), 0);
        if (map == MAP_FAILED)
                return err_sys(e, "cannot map what the CPUs are doing");
        c->running = map;
        memcpy(c->text, counters_text(c->counters), sizeof(c->text));
        return 0;
}

void counting_close(struct counting *c)
{
        if (c->running)
                (void)munmap((void *)(uintptr_t)c->running, map_bytes(c));
        counters_close(c->counters);
        free(c->last);
}

/* What a CPU is doing and what its counters show, as of one moment: no switch came between. */
static bool snapshot(const struct counting *c, unsigned cpu, struct cpu_running *ret,
                     struct counters_value *value)
{
        const struct cpu_running *slot = &c->running[cpu];

        for (int i = 0; i < SNAPSHOT_TRIES; i++) {
                uint32_t before = __atomic_load_n(&slot->sequence, __ATOMIC_ACQUIRE);

                *ret = *slot;
                if (!counters_read(c->counters, cpu, value))
                        return false;
                __atomic_thread_fence(__ATOMIC_ACQUIRE);
                if (!(before & 1) && __atomic_load_n(&slot->sequence, __ATOMIC_RELAXED) == before)
                        return true;
        }
        return false; /* it switches all the time: what is missed is little, and comes with the next read */
}

/* CPUs have come or gone. The counters start again, and the program takes no difference across that: an event
 * that is not there when it looks makes the next reading a first one. */
static void reopen(struct counting *c, struct programs *p)
{
        struct counters *fresh = NULL;
        struct err e = { "" };

        c->lost = counters_open(c->sysfs_root, c->definition, &fresh, &e) < 0;
        if (!c->lost)
                c->lost =
                        strcmp(counters_text(fresh), c->text) != 0 || programs_set_counters(p, fresh, &e) < 0;
        if (c->lost)
                log_warning("CPUs have come or gone, and the hardware counters cannot be opened again: %s",
                            e.text);
        if (fresh) {
                counters_close(c->counters);
                c->counters = fresh;
        }
        memset(c->last, 0, c->cpus * sizeof(*c->last));
}

static void add_to(struct process_table *table, const struct cpu_running *on,
                   const struct counters_value *value)
{
        struct process *p = on->tgid ? process_table_find(table, on->tgid, on->start_ns) : NULL;

        if (!p || p->pass != table->pass)
                return;
        for (unsigned i = 0; i < COUNTERS_N; i++)
                if (on->valid & 1u << i && value->counter[i] > on->last[i])
                        p->now[FEATURE_CPU_CYCLES + i] += value->counter[i] - on->last[i];
}

void counting_add_running(struct counting *c, struct programs *p, struct process_table *table)
{
        uint64_t enabled_ns = 0, running_ns = 0;

        if (!c->counters || c->lost)
                return;
        if (counters_stale(c->counters))
                reopen(c, p);
        for (unsigned cpu = 0; cpu < c->cpus && !c->lost; cpu++) {
                struct counters_value value;
                struct cpu_running on;

                if (snapshot(c, cpu, &on, &value))
                        add_to(table, &on, &value);
                else if (!counters_read(c->counters, cpu, &value))
                        continue;
                enabled_ns += value.enabled_ns - c->last[cpu].enabled_ns;
                running_ns += value.running_ns - c->last[cpu].running_ns;
                c->last[cpu] = value;
        }
        c->part = enabled_ns ? (double)running_ns / (double)enabled_ns : 0;
}

void counting_scale(const struct counting *c, struct usage_set *set)
{
        if (!c->counters || c->part <= 0 || c->part >= 1)
                return;
        for (size_t i = 0; i < set->n; i++)
                for (unsigned k = 0; k < COUNTERS_N; k++) {
                        uint64_t *delta = &set->rows[i].delta[FEATURE_CPU_CYCLES + k];

                        *delta = (uint64_t)llround((double)*delta / c->part);
                }
}

bool counting_measures(const struct counting *c, unsigned counter)
{
        return c->counters && !c->lost && counters_has(c->counters, counter) &&
               (c->part > 0 || !c->last[0].enabled_ns);
}
