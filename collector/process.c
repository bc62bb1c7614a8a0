/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/process.h"

#include <stdlib.h>
#include <string.h>
#include "common/clock.h"

#define PROCESSES_MIN  256
#define MISSING_MAX_NS (5 * NS_PER_S) /* a death is told within an RCU grace period, part of a second */
#define DIP_MAX_NS     (5 * NS_PER_S) /* a thread that ends is missed for an instant only */
#define PAGE_SHIFT     12             /* of the feature's unit, whatever the machine's pages are */

static uint64_t key_of(uint32_t tgid, uint64_t start)
{
        return start * UINT64_C(0x9e3779b97f4a7c15) + tgid;
}

/* In the feature's unit. */
static uint64_t units(int feature, uint64_t total)
{
        return feature == FEATURE_PAGE_CACHE ? total >> PAGE_SHIFT : total;
}

/* The BPF programs keep counts with the leader: after an execve() by another thread that is a new one, and
 * they start again. CPU time and writes are the kernel's own and go on. */
void process_table_lead(struct process *p, uint64_t leader)
{
        if (p->leader && p->leader != leader)
                for (int i = 0; i < FEATURE_N; i++)
                        if (i != FEATURE_CPU_TIME && i != FEATURE_PAGE_CACHE)
                                p->last[i] = 0;
        p->leader = leader;
}

static void charge(struct usage_set *set, uint64_t cgroup_id, bool kernel, const uint64_t *total,
                   const uint64_t *last)
{
        struct cgroup_usage *row = NULL;

        for (int i = 0; i < FEATURE_N; i++) {
                uint64_t have = last ? units(i, last[i]) : 0;
                uint64_t want = units(i, total[i]);

                if (want <= have)
                        continue;
                if (!row)
                        row = usage_set_row(set, kernel ? 0 : cgroup_id, kernel);
                row->delta[i] += want - have;
        }
}

/* The same for its own row, where rows of processes are wanted. */
static void charge_process(struct usage_set *set, const struct process_usage *who, const uint64_t *total,
                           const uint64_t *last)
{
        struct process_usage *row = NULL;

        for (int i = 0; i < FEATURE_N && set->by_process; i++) {
                uint64_t have = last ? units(i, last[i]) : 0;
                uint64_t want = units(i, total[i]);

                if (want <= have)
                        continue;
                if (!row)
                        row = usage_set_process(set, who);
                if (row)
                        row->delta[i] += want - have;
        }
}

void process_table_begin(struct process_table *table, uint64_t boot_ns)
{
        table->pass++;
        table->seen = 0;
        if (!table->base_ns)
                table->base_ns = boot_ns ? boot_ns : 1;
}

struct process *process_table_find(struct process_table *table, uint32_t tgid, uint64_t start)
{
        uint32_t i = index_find(&table->index, key_of(tgid, start));
        struct process *p = i == INDEX_NONE ? NULL : &table->processes[i];

        return p && p->tgid == tgid && p->start == start ? p : NULL;
}

static struct process *append(struct process_table *table, uint32_t tgid, uint64_t start)
{
        struct process *p;

        if (table->n == MAX_PROCESSES || index_find(&table->index, key_of(tgid, start)) != INDEX_NONE)
                return NULL; /* the latter: two processes, one hash */
        if (table->n == table->cap) {
                uint32_t cap = table->cap ? table->cap * 2 : PROCESSES_MIN;

                p = realloc(table->processes, cap * sizeof(*p));
                if (!p)
                        return NULL;
                table->processes = p;
                table->cap = cap;
        }
        if (index_put(&table->index, key_of(tgid, start), table->n) < 0)
                return NULL;
        p = &table->processes[table->n++];
        *p = (struct process){ .tgid = tgid, .start = start };
        return p;
}

static void remove_at(struct process_table *table, uint32_t i)
{
        struct process *p = &table->processes[i], *last = &table->processes[--table->n];

        index_remove(&table->index, key_of(p->tgid, p->start));
        if (p == last)
                return;
        *p = *last;
        (void)index_put(&table->index, key_of(p->tgid, p->start), i); /* it is there: only moved */
}

struct process *process_table_get(struct process_table *table, uint32_t tgid, uint64_t start, bool *ret_first)
{
        struct process *p = process_table_find(table, tgid, start);

        if (!p) {
                p = append(table, tgid, start);
                if (!p) {
                        table->incomplete = true;
                        table->dropped++;
                        return NULL;
                }
        }
        *ret_first = p->pass != table->pass;
        if (*ret_first) {
                p->pass = table->pass;
                memset(p->now, 0, sizeof(p->now));
                table->seen++;
        }
        return p;
}

/* A death that was not seen alive counts in full when it was born after the base was read; before that its
 * total is history: it was dying while the base was read. */
void process_table_end(struct process_table *table, const struct process_end *end, struct usage_set *set)
{
        struct process *p = process_table_find(table, end->tgid, end->start);
        struct process_usage who = {
                .tgid = end->tgid, .start = end->start, .cgroup_id = end->cgroup_id, .kernel = end->kernel
        };

        if (p) {
                if (!end->placed && p->placed)
                        who.cgroup_id = p->cgroup_id;
                who.vm = p->vm;
                process_table_lead(p, end->leader);
                if (set)
                        charge(set, who.cgroup_id, end->kernel, end->total, p->last);
                if (set)
                        charge_process(set, &who, end->total, p->last);
                if (set && p->vm)
                        charge(set, p->vm, false, end->total, p->last);
                remove_at(table, (uint32_t)(p - table->processes));
        } else if (set && end->start > table->base_ns) {
                charge(set, end->cgroup_id, end->kernel, end->total, NULL);
                charge_process(set, &who, end->total, NULL);
        }
}

static struct process_pool *pool_for(const struct process *p, struct process_pool *pools, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if ((pools[i].anywhere || pools[i].cgroup_id == p->cgroup_id) && pools[i].deaths > 0 &&
                    pools[i].total[FEATURE_CPU_TIME] >= p->last[FEATURE_CPU_TIME])
                        return &pools[i];
        return NULL;
}

/* A sum holds whole lives. Which of the vanished processes are in it is not known; it need not be: one that
 * is taken for part of the sum, and is not, will tell of its death later and be charged in full then, since
 * its `last` has become zero here. Either way each life is charged once. */
void process_table_settle(struct process_table *table, struct process_pool *pools, size_t n,
                          struct usage_set *set)
{
        for (uint32_t i = 0; n > 0 && i < table->n; i++) {
                struct process *p = &table->processes[i];
                struct process_pool *pool;

                if (p->pass == table->pass || p->settled || !p->placed)
                        continue;
                pool = pool_for(p, pools, n);
                if (!pool)
                        continue;
                pool->deaths--;
                for (int f = 0; f < FEATURE_N; f++)
                        pool->total[f] -= p->last[f] < pool->total[f] ? p->last[f] : pool->total[f];
                memset(p->last, 0, sizeof(p->last));
                p->settled = true;
        }
        for (size_t i = 0; set && i < n; i++)
                charge(set, pools[i].cgroup_id, false, pools[i].total, NULL);
}

/* True when a process that was not seen in this pass is to be forgotten. */
static bool given_up(struct process_table *table, struct process *p, uint64_t boot_ns)
{
        if (table->deaths_told && !p->missing_ns)
                p->missing_ns = boot_ns;
        if (table->deaths_told && boot_ns - p->missing_ns < MISSING_MAX_NS)
                return false;
        table->dropped += !p->settled;
        return true;
}

/* Writes are known for good only by task: an execve() by another thread than the leader takes the leader's
 * away, and without task storage every ended thread's are gone. A dip that stays is the new level, or the
 * process would not be charged until it has written all that again. */
static void follow_dip(struct process *p, uint64_t boot_ns)
{
        uint64_t now = p->now[FEATURE_PAGE_CACHE];

        if (now >= p->last[FEATURE_PAGE_CACHE]) {
                p->dip_ns = 0;
                return;
        }
        if (!p->dip_ns || now < p->dip_low)
                p->dip_low = now;
        if (!p->dip_ns)
                p->dip_ns = boot_ns;
        if (boot_ns - p->dip_ns < DIP_MAX_NS)
                return;
        p->last[FEATURE_PAGE_CACHE] = p->dip_low;
        p->dip_ns = 0;
}

/* The totals of a process may dip, as a thread that is reaped during the pass is missed by it: then the mark
 * stays where it was until they have passed it again. */
static void fold_one(struct process_table *table, struct process *p, uint64_t boot_ns, struct usage_set *set)
{
        /* Met for the first time it was born since the last pass, unless that could not take all. */
        bool old = !set || (table->incomplete && p->start <= table->base_ns && !p->charged);
        const struct process_usage who = { .tgid = p->tgid,
                                           .start = p->start,
                                           .cgroup_id = p->cgroup_id,
                                           .vm = p->vm,
                                           .kernel = p->kernel };

        p->charged = true;
        p->missing_ns = 0;
        follow_dip(p, boot_ns);
        if (!old)
                charge(set, p->cgroup_id, p->kernel, p->now, p->last);
        if (!old)
                charge_process(set, &who, p->now, p->last);
        if (!old && p->vm)
                charge(set, p->vm, false, p->now, p->last);
        for (int i = 0; i < FEATURE_N; i++)
                if (p->now[i] > p->last[i])
                        p->last[i] = p->now[i];
}

void process_table_fold(struct process_table *table, uint64_t boot_ns, struct usage_set *set)
{
        for (uint32_t i = 0; i < table->n;) {
                struct process *p = &table->processes[i];

                if (p->pass != table->pass && given_up(table, p, boot_ns)) {
                        remove_at(table, i);
                        continue;
                }
                if (p->pass == table->pass && p->placed)
                        fold_one(table, p, boot_ns, set);
                i++;
        }
}

void process_table_done(struct process_table *table)
{
        free(table->processes);
        index_done(&table->index);
        *table = (struct process_table){ 0 };
}
