/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/window.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include "collector/attribution.h"
#include "collector/pod.h"

const char *const split_names[SPLIT_N] = { "package", "core", "uncore", "dram", "platform" };
const char *const entity_kind_names[ENTITY_KINDS] = { "container", "vm", "process" };

#define STAMP_TOLERANCE_MS 100 /* the two clocks are read one after the other */
#define NS_IN_MS           1000000
#define SENSOR_WATTS_MAX   1e6 /* a reading above is nonsense, and its total might not fit the database */

int window_new(struct window **ret)
{
        struct window *w = calloc(1, sizeof(*w));

        if (!w)
                return -ENOMEM;
        for (int c = 0; c < SPLIT_N; c++)
                w->split[c].source = -1;
        w->idle_window_ns = IDLE_WINDOW_NS;
        (void)snprintf(w->rest.key, sizeof(w->rest.key), "%s", ENTITY_REST);
        *ret = w;
        return 0;
}

static void entity_free(struct entity *entity)
{
        free(entity->names);
        free(entity);
}

void window_free(struct window *w)
{
        if (!w)
                return;
        for (size_t i = 0; i < w->n; i++)
                entity_free(w->entities[i]);
        free(w->entities);
        free(w->pods);
        free(w->bands);
        free(w);
}

void window_start(struct window *w, int64_t wall_ms)
{
        w->base_ms = wall_ms > w->base_ms ? wall_ms : w->base_ms;
        w->pending_ns = 0;
}

void window_reset(struct window *w)
{
        for (size_t i = 0; i < w->n; i++)
                entity_free(w->entities[i]);
        w->n = w->n_shown = w->n_processes = 0;
        w->n_sensors = 0;
        w->n_bands = 0;
        for (int c = 0; c < SPLIT_N; c++)
                w->split[c].source = -1;
        memset(w->total, 0, sizeof(w->total));
        w->node_store_id = 0;
        w->measured_ns = 0;
}

/* Index of the key, or of where it would be. */
static size_t position(const struct window *w, enum entity_kind kind, const char *key, bool *ret_found)
{
        size_t low = 0, high = w->n;

        while (low < high) {
                size_t middle = (low + high) / 2;
                const struct entity *entity = w->entities[middle];
                int order = entity->kind == kind ? strcmp(entity->key, key) : (int)entity->kind - (int)kind;

                if (order == 0) {
                        *ret_found = true;
                        return middle;
                }
                if (order < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        *ret_found = false;
        return low;
}

const struct entity *window_find(const struct window *w, const char *key)
{
        bool found;
        size_t i = position(w, ENTITY_CONTAINER, key, &found);

        return found ? w->entities[i] : NULL;
}

static int grow(struct window *w)
{
        size_t cap = w->cap ? w->cap * 2 : 64;
        struct entity **entities = realloc(w->entities, cap * sizeof(*entities));

        if (!entities)
                return -ENOMEM;
        w->entities = entities;
        w->cap = cap;
        return 0;
}

/* The two entities that are no containers always fit. */
static bool is_reserved(enum entity_kind kind, const char *key)
{
        return kind == ENTITY_CONTAINER && (!strcmp(key, ENTITY_SYSTEM) || !strcmp(key, ENTITY_KERNEL));
}

static int add_entity(struct window *w, enum entity_kind kind, const char *key, const char *cgroup,
                      struct entity **ret)
{
        struct entity *entity;
        bool found;
        size_t i = position(w, kind, key, &found);

        if (found) {
                *ret = w->entities[i];
                return 0;
        }
        if (w->n >= WINDOW_ENTITIES_MAX && !is_reserved(kind, key))
                return -ENOSPC;
        if (w->n == w->cap && grow(w) < 0)
                return -ENOMEM;
        entity = calloc(1, sizeof(*entity));
        if (!entity)
                return -ENOMEM;
        entity->kind = kind;
        (void)snprintf(entity->key, sizeof(entity->key), "%s", key); /* a key is at most 64 characters */
        (void)snprintf(entity->cgroup, sizeof(entity->cgroup), "%s", cgroup);
        (void)cgroup_path_pod(cgroup, entity->pod_id); /* "" when it is in none */
        if (kind == ENTITY_PROCESS) {
                entity->shown = w->n_processes < w->processes_max;
                w->n_processes += entity->shown;
        } else {
                entity->shown = is_reserved(kind, key) || !w->shown_max || w->n_shown < w->shown_max;
                w->n_shown += entity->shown && !is_reserved(kind, key);
        }
        memmove(&w->entities[i + 1], &w->entities[i], (w->n - i) * sizeof(w->entities[0]));
        w->entities[i] = entity;
        w->n++;
        *ret = entity;
        return 1;
}

int window_restore_entity(struct window *w, enum entity_kind kind, const char *key, const char *cgroup,
                          const uint64_t total[FEATURE_N])
{
        struct entity *entity;
        int r = add_entity(w, kind, key, cgroup, &entity);

        if (r < 0)
                return r;
        memcpy(entity->total, total, sizeof(entity->total));
        return 0;
}

static void restore(struct entity *entity, const struct window_lookup *lookup)
{
        if (lookup->restore_entity)
                (void)lookup->restore_entity(lookup->restore_context, entity->kind, entity->key,
                                             entity->total); /* unknown: from zero */
}

/* NULL: not known, or there is no room. */
static struct entity *vm_entity(struct window *w, uint64_t id, const struct window_lookup *lookup)
{
        const struct vm *vm = lookup->vm ? lookup->vm(lookup->cgroup_context, id) : NULL;
        struct entity *entity = NULL;
        int r = vm ? add_entity(w, ENTITY_VM, vm->key, "", &entity) : -ENOENT;

        if (r < 0) {
                w->overflowed += vm != NULL;
                return NULL;
        }
        if (r > 0)
                restore(entity, lookup);
        (void)snprintf(entity->name, sizeof(entity->name), "%s", vm->name);
        entity->hypervisor = vm->hypervisor;
        return entity;
}

/* The entity that a cgroup's activity belongs to; NULL when not even system_processes fits. */
static struct entity *entity_of(struct window *w, const struct cgroup_usage *row,
                                const struct window_lookup *lookup)
{
        const struct cgroup_info *info = NULL;
        const char *key = row->kernel ? ENTITY_KERNEL : ENTITY_SYSTEM, *cgroup = "";
        struct entity *entity = NULL;
        int r;

        if (!row->kernel)
                info = lookup->cgroup(lookup->cgroup_context, row->cgroup_id);
        if (info && *info->container) {
                key = info->container;
                cgroup = info->path;
        }
        r = add_entity(w, ENTITY_CONTAINER, key, cgroup, &entity);
        if (r < 0 && !is_reserved(ENTITY_CONTAINER, key)) {
                key = ENTITY_SYSTEM;
                w->overflowed++;
                r = add_entity(w, ENTITY_CONTAINER, key, "", &entity);
        }
        if (r > 0)
                restore(entity, lookup);
        return r < 0 ? NULL : entity;
}

static void fold_usage(struct window *w, const struct sample *sample, const struct window_lookup *lookup)
{
        memset(w->delta, 0, sizeof(w->delta));
        for (size_t i = 0; i < w->n; i++) {
                memset(w->entities[i]->delta, 0, sizeof(w->entities[i]->delta));
                w->entities[i]->idle_ns += sample->duration_ns;
        }
        for (size_t i = 0; i < sample->usage->n; i++) {
                const struct cgroup_usage *row = &sample->usage->rows[i];
                bool vm = usage_is_vm(row->cgroup_id);
                struct entity *entity = vm ? vm_entity(w, row->cgroup_id, lookup) : entity_of(w, row, lookup);

                if (!entity)
                        continue; /* out of memory: not counted in the node either, so sums stay equal */
                for (int f = 0; f < FEATURE_N; f++) {
                        if (!row->delta[f] || !sample->measured[f])
                                continue;
                        entity->delta[f] += row->delta[f];
                        entity->total[f] += row->delta[f];
                        entity->idle_ns = 0;
                        if (vm)
                                continue;
                        w->delta[f] += row->delta[f];
                        w->total[f] += row->delta[f];
                }
        }
        memcpy(w->measured, sample->measured, sizeof(w->measured));
        (void)snprintf(w->counters, sizeof(w->counters), "%s", sample->counters ? sample->counters : "");
        w->counters_running = *w->counters ? sample->counters_running : (double)NAN;
}

/* What a process is a part of. */
static void place_process(struct entity *entity, const struct process_usage *row,
                          const struct window_lookup *lookup)
{
        const struct cgroup_info *info =
                row->kernel ? NULL : lookup->cgroup(lookup->cgroup_context, row->cgroup_id);
        const struct vm *vm = row->vm && lookup->vm ? lookup->vm(lookup->cgroup_context, row->vm) : NULL;
        const char *key = row->kernel ? ENTITY_KERNEL : ENTITY_SYSTEM;

        if (info && *info->container)
                key = info->container;
        (void)snprintf(entity->container, sizeof(entity->container), "%s", key);
        (void)snprintf(entity->vm, sizeof(entity->vm), "%s", vm ? vm->key : "");
}

/* Processes have rows beside those of the cgroups that they are in, where that is asked for. */
static void fold_processes(struct window *w, const struct sample *sample, const struct window_lookup *lookup)
{
        for (size_t i = 0; i < sample->usage->n_processes; i++) {
                const struct process_usage *row = &sample->usage->processes[i];
                struct entity *entity;
                char key[ENTITY_KEY_MAX];
                int r;

                (void)snprintf(key, sizeof(key), "%u-%llu", row->tgid, (unsigned long long)row->start);
                r = add_entity(w, ENTITY_PROCESS, key, "", &entity);
                if (r < 0)
                        continue;
                if (r > 0 && lookup->restore_entity)
                        (void)lookup->restore_entity(lookup->restore_context, ENTITY_PROCESS, key,
                                                     entity->total);
                if (r > 0)
                        place_process(entity, row, lookup);
                if (r > 0 && lookup->command)
                        lookup->command(lookup->cgroup_context, row->tgid, entity->name);
                for (int f = 0; f < FEATURE_N; f++) {
                        entity->delta[f] += sample->measured[f] ? row->delta[f] : 0;
                        entity->total[f] += sample->measured[f] ? row->delta[f] : 0;
                }
                entity->idle_ns = 0;
        }
}

static int add_band(struct window *w, uint64_t hertz, uint64_t time_ns)
{
        struct frequency_band *bands;

        for (size_t i = 0; i < w->n_bands; i++)
                if (w->bands[i].hertz == hertz) {
                        w->bands[i].time_ns += time_ns;
                        return 0;
                }
        bands = realloc(w->bands, (w->n_bands + 1) * sizeof(*bands));
        if (!bands)
                return -ENOMEM;
        w->bands = bands;
        w->bands[w->n_bands++] = (struct frequency_band){ hertz, time_ns };
        return 0;
}

int window_restore_band(struct window *w, uint64_t hertz, uint64_t time_ns)
{
        return add_band(w, hertz, time_ns);
}

static void fold_frequency(struct window *w, const struct sample *sample)
{
        w->frequency = sample->frequency;
        for (size_t i = 0; i < sample->frequency.n_bands; i++)
                (void)add_band(w, sample->frequency.bands[i].hertz,
                               sample->frequency.bands[i].time_ns); /* no memory: it is missing */
}

static bool same_sensor(const struct power_reading *a, const struct power_reading *b)
{
        return a->provenance == b->provenance && !strcmp(a->source, b->source) &&
               !strcmp(a->component, b->component) && !strcmp(a->unit, b->unit);
}

static struct sensor *sensor_of(struct window *w, const struct power_reading *reading,
                                const struct window_lookup *lookup)
{
        struct sensor_past past = { .idle_min_watts = NAN };
        struct sensor *s;

        for (size_t i = 0; i < w->n_sensors; i++)
                if (same_sensor(&w->sensors[i].reading, reading))
                        return &w->sensors[i];
        if (w->n_sensors == SENSORS_MAX)
                return NULL;
        s = &w->sensors[w->n_sensors++];
        if (lookup->restore_sensor)
                (void)lookup->restore_sensor(lookup->restore_context, reading,
                                             &past); /* unknown: from zero */
        *s = (struct sensor){ .reading = *reading,
                              .energy_uj = past.energy_uj,
                              .idle_uj = past.idle_uj,
                              .raw_uj = past.raw_uj,
                              .idle_fit_watts = NAN };
        idle_init(&s->idle, past.idle_min_watts);
        return s;
}

static bool is_plausible(const struct power_reading *reading, double seconds)
{
        return reading->valid && seconds > 0 && reading->energy_uj >= 0 &&
               reading->energy_uj <= SENSOR_WATTS_MAX * 1e6 * seconds; /* false for NaN, too */
}

/* The idle watts: what the source knows, else by the rule; by regression only once that tells. */
static double idle_of(const struct window *w, const struct sensor *s, double known_uj, double seconds)
{
        double watts = s->idle_min_watts;

        if (known_uj >= 0)
                watts = known_uj / 1e6 / seconds;
        else if (w->idle_rule == IDLE_REGRESSION && !isnan(s->idle_fit_watts))
                watts = s->idle_fit_watts;
        return fmin(watts, s->watts);
}

/* Energy totals at the end of the interval. */
static void advance(struct sensor *s, double energy_uj, double seconds)
{
        int64_t before_uj = s->energy_uj, idle_uj;

        s->raw_uj += llround(energy_uj);
        s->energy_uj = s->raw_uj - llround(s->watts * (double)s->lag_ns / 1e3);
        if (s->energy_uj < before_uj)
                s->energy_uj = before_uj;
        s->interval_uj = (double)(s->energy_uj - before_uj);
        idle_uj = llround(s->idle_watts * seconds * 1e6);
        if (idle_uj > s->energy_uj - before_uj)
                idle_uj = s->energy_uj - before_uj;
        s->idle_uj += idle_uj;
        s->interval_idle_uj = (double)idle_uj;
}

static void fold_reading(struct window *w, struct sensor *s, const struct power_reading *reading,
                         const struct sample *sample)
{
        uint64_t own_ns = sample->duration_ns, stamp_ns = s->stamp_ns;
        double seconds, interval, cpus = NAN;

        s->reading = *reading;
        s->stamp_ns = reading->stamp_ns;
        if (stamp_ns && reading->stamp_ns > stamp_ns)
                own_ns = reading->stamp_ns - stamp_ns;
        seconds = (double)(reading->covered_ns ? reading->covered_ns : own_ns) / 1e9;
        interval = (double)(reading->covered_ns ? reading->covered_ns : sample->duration_ns) / 1e9;
        s->valid = is_plausible(reading, seconds);
        if (!s->valid)
                return;
        s->lag_ns = 0;
        if (reading->stamp_ns > sample->stamp_ns &&
            reading->stamp_ns - sample->stamp_ns < sample->duration_ns)
                s->lag_ns = (int64_t)(reading->stamp_ns - sample->stamp_ns);
        s->watts = reading->energy_uj / 1e6 / seconds;
        if (w->measured[FEATURE_CPU_TIME] && sample->duration_ns)
                cpus = (double)w->delta[FEATURE_CPU_TIME] / (double)sample->duration_ns;
        idle_fold(&s->idle, s->watts, cpus, sample->duration_ns, w->idle_window_ns);
        s->idle_min_watts = idle_minimum(&s->idle);
        s->idle_fit_watts = idle_intercept(&s->idle);
        s->idle_watts = idle_of(w, s, reading->idle_uj, seconds);
        advance(s, reading->energy_uj, interval);
}

static void fold_power(struct window *w, const struct sample *sample, const struct window_lookup *lookup)
{
        for (size_t i = 0; i < w->n_sensors; i++)
                w->sensors[i].valid = false;
        for (size_t i = 0; i < sample->n_readings; i++) {
                struct sensor *s = sensor_of(w, &sample->readings[i], lookup);

                if (s)
                        fold_reading(w, s, &sample->readings[i], sample);
        }
}

/* Containers beyond those with series of their own are shown as one, by what they did since. */
static void fold_rest(struct window *w)
{
        w->n_hidden = 0;
        memset(w->rest.energy_uj, 0, sizeof(w->rest.energy_uj));
        for (size_t i = 0; i < w->n; i++) {
                const struct entity *entity = w->entities[i];

                if (entity->shown || entity->kind != ENTITY_CONTAINER)
                        continue;
                w->n_hidden++;
                for (int f = 0; f < FEATURE_N; f++)
                        w->rest.total[f] += entity->delta[f];
                for (int c = 0; c < SPLIT_N; c++) {
                        w->rest.energy_uj[c] += entity->energy_uj[c];
                        w->rest.energy_total_uj[c] += entity->energy_uj[c];
                }
                w->rest.other_uj += attribution_other(w, entity);
        }
}

void window_stamp(int64_t base_ms, int64_t wall_ms, uint64_t duration_ns, int64_t *ret_start_ms,
                  int64_t *ret_end_ms)
{
        int64_t duration_ms = (int64_t)(duration_ns / NS_IN_MS), expected = base_ms + duration_ms;
        int64_t tolerance = duration_ms / 4 < STAMP_TOLERANCE_MS ? duration_ms / 4 : STAMP_TOLERANCE_MS;

        *ret_start_ms = base_ms;
        *ret_end_ms = wall_ms;
        if (wall_ms > expected + tolerance)
                *ret_start_ms = wall_ms - duration_ms;
        else if (wall_ms < expected - tolerance)
                *ret_end_ms = expected;
        if (*ret_end_ms <= *ret_start_ms) /* shorter than a millisecond */
                *ret_end_ms = *ret_start_ms + 1;
}

bool window_clock_went_back(const struct window *w, const struct sample *sample)
{
        return !w->pending_ns &&
               sample->wall_ms < w->base_ms + (int64_t)(sample->duration_ns / NS_IN_MS) - CLOCK_BACK_MS;
}

void window_fold(struct window *w, const struct sample *sample, const struct window_lookup *lookup)
{
        fold_usage(w, sample, lookup);
        fold_processes(w, sample, lookup);
        fold_power(w, sample, lookup);
        fold_frequency(w, sample);
        w->last_ns = sample->duration_ns;
        attribute(w, w->model);
        pods_fold(w);
        fold_rest(w);
        w->pending_ns += sample->duration_ns;
        window_stamp(w->base_ms, sample->wall_ms, w->pending_ns, &w->start_ms, &w->end_ms);
}

void window_stored(struct window *w)
{
        size_t kept = 0;

        w->base_ms = w->end_ms;
        w->measured_ns += w->pending_ns;
        w->pending_ns = 0;
        for (size_t i = 0; i < w->n; i++) {
                struct entity *entity = w->entities[i];

                uint64_t forget_ns = entity->kind == ENTITY_PROCESS ? PROCESS_FORGET_NS : ENTITY_FORGET_NS;

                if (entity->idle_ns <= forget_ns || is_reserved(entity->kind, entity->key)) {
                        w->entities[kept++] = entity;
                        continue;
                }
                *(entity->kind == ENTITY_PROCESS ? &w->n_processes : &w->n_shown) -= entity->shown;
                entity_free(entity);
        }
        w->n = kept;
}
