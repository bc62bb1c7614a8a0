/* SPDX-License-Identifier: Apache-2.0 */
/* The table of power sources, and reading all of those that this machine has. */
#include "collector/power.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <string.h>
#include <sys/vfs.h>
#include "common/clock.h"

static const struct power_source_ops *const sources[] = {
        &power_source_rapl,  &power_source_rapl_perf, &power_source_rapl_msr, &power_source_acpi,
        &power_source_hwmon, &power_source_ipmi,      &power_source_redfish,  &power_source_estimate,
};

enum provenance power_path_provenance(const char *path)
{
        struct statfs fs;

        if (statfs(path, &fs) == 0 && fs.f_type == SYSFS_MAGIC)
                return PROVENANCE_MEASURED;
        return PROVENANCE_SIMULATED;
}

const struct power_source_ops *power_source_find(const char *name)
{
        for (size_t i = 0; i < ARRAY_SIZE(sources); i++)
                if (!strcmp(sources[i]->name, name))
                        return sources[i];
        return NULL;
}

const char *power_source_nth(size_t i)
{
        return i < ARRAY_SIZE(sources) ? sources[i]->name : NULL;
}

void power_note(struct power_notes *notes, const char *source, const char *sensor, const char *fmt, ...)
{
        struct power_note *note;
        va_list ap;

        if (!notes || notes->n == POWER_NOTES_MAX)
                return;
        note = &notes->items[notes->n++];
        (void)snprintf(note->source, sizeof(note->source), "%s", source);
        (void)snprintf(note->sensor, sizeof(note->sensor), "%s", sensor);
        va_start(ap, fmt);
        (void)vsnprintf(note->why, sizeof(note->why), fmt, ap);
        va_end(ap);
}

static bool has_source(const struct power_set *set, const struct power_source_ops *ops)
{
        for (size_t i = 0; i < set->n; i++)
                if (set->states[i].ops == ops)
                        return true;
        return false;
}

/* The source that already reads what `ops` would read, or NULL. */
static const char *taken_by(const struct power_set *set, const struct power_source_ops *ops)
{
        for (size_t i = 0; ops->group && i < set->n; i++)
                if (set->states[i].source && set->states[i].ops->group &&
                    !strcmp(set->states[i].ops->group, ops->group))
                        return set->states[i].ops->name;
        return NULL;
}

/* Opens one more source, unless it is there already. */
static void open_source(struct power_set *set, const struct power_source_ops *ops,
                        const struct power_source_options *options, bool fallback)
{
        struct power_state *s = &set->states[set->n];
        const char *taken;

        if (!ops || set->n == POWER_SOURCES_MAX || has_source(set, ops))
                return;
        s->ops = ops;
        s->fallback = fallback;
        taken = taken_by(set, ops);
        if (taken)
                s->result = err_set(&s->error, -ENOENT, "%s is used instead", taken);
        else
                s->result = ops->open(options, &s->source, &s->error);
        if (s->result < 0)
                s->source = NULL;
        set->n++;
}

void power_open(const char *const *names, size_t n, const struct power_source_options *options,
                struct power_set *ret)
{
        struct power_source_options with_notes = *options;

        memset(ret, 0, sizeof(*ret));
        with_notes.notes = &ret->notes;
        for (size_t i = 0; i < n; i++)
                open_source(ret, power_source_find(names[i]), &with_notes, false);
        if (!power_usable(ret) && (*options->estimator_socket || *options->estimate_weight))
                open_source(ret, &power_source_estimate, &with_notes, true);
}

size_t power_usable(const struct power_set *set)
{
        size_t usable = 0;

        for (size_t i = 0; i < set->n; i++)
                usable += set->states[i].source != NULL;
        return usable;
}

int power_read(struct power_set *set, const struct power_context *context,
               struct power_reading ret[SENSORS_MAX], int *ret_failed, struct err *e)
{
        int n = 0, failed = 0;

        for (size_t i = 0; i < set->n; i++) {
                struct power_reading part[SENSORS_MAX];
                struct power_state *s = &set->states[i];
                uint64_t begin_ns = clock_monotonic_ns(), end_ns;
                int r;

                if (!s->source)
                        continue;
                memset(part, 0, sizeof(part));
                r = s->ops->read(s->source, context, part, e);
                end_ns = clock_monotonic_ns();
                s->read_ns = end_ns - begin_ns;
                if (r < 0) {
                        failed++;
                        continue;
                }
                for (int j = 0; j < r && n < SENSORS_MAX; j++) {
                        ret[n] = part[j];
                        if (s->ops->counts)
                                ret[n].stamp_ns = begin_ns + (end_ns - begin_ns) / 2;
                        n++;
                }
        }
        set->errors += (uint64_t)failed;
        *ret_failed = failed;
        return n;
}

void power_poll(struct power_set *set, uint64_t ns)
{
        for (size_t i = 0; i < set->n; i++)
                if (set->states[i].source && set->states[i].ops->poll)
                        set->states[i].ops->poll(set->states[i].source, ns);
}

void power_close(struct power_set *set)
{
        for (size_t i = 0; i < set->n; i++)
                if (set->states[i].source)
                        set->states[i].ops->close(set->states[i].source);
        memset(set, 0, sizeof(*set));
}
