/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/report.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <time.h>

static int print_json(json_t *object)
{
        int r;

        if (!object)
                return -ENOMEM;
        r = json_dumpf(object, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
        json_decref(object);
        return r < 0 || putchar('\n') < 0 || fflush(stdout) != 0 ? -EIO : 0;
}

static double milli(double v)
{
        return round(v * 1000) / 1000;
}

/* ---- once ---- */

static json_t *usage_json(const bool measured[FEATURE_N], const uint64_t delta[FEATURE_N])
{
        json_t *usage = json_object();

        for (int f = 0; f < FEATURE_N; f++)
                (void)json_object_set_new(usage, features[f].column,
                                          measured[f] ? json_integer((json_int_t)delta[f]) : json_null());
        return usage;
}

static json_t *entity_json(const struct window *w, const struct entity *entity)
{
        json_t *object = entity->kind == ENTITY_VM
                                 ? json_pack("{s:s, s:s, s:s}", "key", entity->key, "name", entity->name,
                                             "hypervisor", entity->hypervisor ? entity->hypervisor : "")
                                 : json_pack("{s:s, s:s}", "key", entity->key, "cgroup", entity->cgroup);
        json_t *watts = json_object();

        for (int c = 0; c < SPLIT_N; c++)
                if (w->split[c].source >= 0)
                        (void)json_object_set_new(
                                watts, split_names[c],
                                json_real(milli(entity->energy_uj[c] * 1e3 / (double)w->last_ns)));
        (void)json_object_set_new(object, "usage", usage_json(w->measured, entity->delta));
        (void)json_object_set_new(object, "dynamic_watts", watts);
        return object;
}

static json_t *power_json(const struct power_reading *reading, double watts, double idle_watts)
{
        json_t *object =
                json_pack("{s:s, s:s, s:s, s:s}", "source", reading->source, "component", reading->component,
                          "unit", reading->unit, "provenance", provenance_names[reading->provenance]);

        (void)json_object_set_new(object, "watts", isnan(watts) ? json_null() : json_real(milli(watts)));
        if (!isnan(idle_watts))
                (void)json_object_set_new(object, "idle_watts", json_real(milli(idle_watts)));
        if (*reading->model)
                (void)json_object_set_new(object, "model", json_string(reading->model));
        return object;
}

static json_t *frequency_json(const struct window *w)
{
        json_t *object = json_object();
        char cpu[16];

        for (size_t i = 0; i < w->frequency.n_cpus; i++) {
                (void)snprintf(cpu, sizeof(cpu), "%u", w->frequency.cpus[i].cpu);
                (void)json_object_set_new(object, cpu, json_integer((json_int_t)w->frequency.cpus[i].hertz));
        }
        return object;
}

static json_t *bands_json(const struct window *w)
{
        json_t *array = json_array();

        for (size_t i = 0; i < w->n_bands; i++)
                (void)json_array_append_new(array,
                                            json_pack("{s:I, s:I}", "hertz", (json_int_t)w->bands[i].hertz,
                                                      "time_ns", (json_int_t)w->bands[i].time_ns));
        return array;
}

int report_once(const struct window *w, const struct machine *machine, const char *feature_source)
{
        json_t *entities = json_array(), *vms = json_array(), *power = json_array();

        for (size_t i = 0; i < w->n; i++)
                (void)json_array_append_new(w->entities[i]->kind == ENTITY_VM ? vms : entities,
                                            entity_json(w, w->entities[i]));
        for (size_t i = 0; i < w->n_sensors; i++) {
                const struct sensor *s = &w->sensors[i];

                (void)json_array_append_new(power, power_json(&s->reading, s->valid ? s->watts : (double)NAN,
                                                              s->valid ? s->idle_watts : (double)NAN));
        }
        return print_json(json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o}",
                                    "node_name", machine->node_name, "node_id", machine->node_id,
                                    "feature_source", feature_source, "start_ms", (json_int_t)w->start_ms,
                                    "end_ms", (json_int_t)w->end_ms, "duration_ns", (json_int_t)w->last_ns,
                                    "node", usage_json(w->measured, w->delta), "entities", entities, "vms",
                                    vms, "power", power, "cpu_scaling_frequency_hertz", frequency_json(w),
                                    "frequency_bands", bands_json(w)));
}

/* ---- status ---- */

static long long number(const json_t *object, const char *key)
{
        return json_integer_value(json_object_get(object, key));
}

static const char *text(const json_t *object, const char *key)
{
        const char *s = json_string_value(json_object_get(object, key));

        return s ? s : "";
}

static void print_time(const char *label, long long ms)
{
        time_t t = (time_t)(ms / 1000);
        char stamp[32];
        struct tm tm;

        (void)gmtime_r(&t, &tm);
        (void)strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%SZ", &tm);
        printf("%s%s", label, stamp);
}

int report_status(const json_t *status, bool as_json)
{
        const json_t *file = json_object_get(status, "file"), *last = json_object_get(status, "last");
        const json_t *retention = json_object_get(status, "retention"), *row;
        size_t i;

        if (as_json)
                return print_json(json_incref((json_t *)(uintptr_t)status));
        printf("file:      %lld intervals, %lld usage rows, %lld power rows, %lld entities, %lld bytes\n",
               number(file, "intervals"), number(file, "usage_rows"), number(file, "power_rows"),
               number(file, "entities"), number(file, "bytes"));
        printf("retention: removed up to interval %lld, %lld of them unsent\n",
               number(retention, "removed_up_to"), number(retention, "removed_unsent"));
        if (last) {
                print_time("last:      ended ", number(last, "end_ms"));
                printf(" (%.1f s ago), %.3f s long, features from %s\n", (double)number(last, "age_ms") / 1e3,
                       (double)number(last, "duration_ns") / 1e9, text(last, "feature_source"));
                if (*text(last, "counters"))
                        printf("counters:  %s, counting %.0f %% of the time\n", text(last, "counters"),
                               100 * json_number_value(json_object_get(last, "counters_running")));
        }
        json_array_foreach (json_object_get(status, "epochs"), i, row) {
                print_time("epoch:     ", number(row, "started_ms"));
                printf(" %s, %lld intervals\n", text(row, "epoch"), number(row, "intervals"));
        }
        json_array_foreach (json_object_get(status, "sensors"), i, row) {
                printf("sensor:    %s %s %s (%s)%s\n", text(row, "source"), text(row, "component"),
                       text(row, "unit"), text(row, "provenance"),
                       number(row, "in_last") ? "" : ", not in the last interval");
        }
        json_array_foreach (json_object_get(status, "missing"), i, row) {
                printf("missing:   %s: %s\n", text(row, "what"), text(row, "why"));
        }
        return fflush(stdout) != 0 ? -EIO : 0;
}

/* ---- sensors ---- */

static double watts_of(const struct power_reading *reading, uint64_t duration_ns)
{
        uint64_t ns = reading->covered_ns ? reading->covered_ns : duration_ns;

        return reading->valid && ns ? reading->energy_uj * 1e3 / (double)ns : (double)NAN;
}

static const char *why_not(const struct power_reading *reading)
{
        return reading->error ? strerror(-reading->error) : "the counter was reset";
}

static int print_sensors_json(const struct power_set *power, const struct sample *sample)
{
        json_t *found = json_array(), *refused = json_array(), *unused = json_array();

        for (size_t i = 0; i < sample->n_readings; i++) {
                const struct power_reading *reading = &sample->readings[i];
                json_t *object = power_json(reading, watts_of(reading, sample->duration_ns), (double)NAN);

                if (!reading->valid)
                        (void)json_object_set_new(object, "error", json_string(why_not(reading)));
                (void)json_array_append_new(found, object);
        }
        for (size_t i = 0; i < power->n; i++)
                if (!power->states[i].source)
                        (void)json_array_append_new(refused, json_pack("{s:s, s:s}", "source",
                                                                       power->states[i].ops->name, "error",
                                                                       power->states[i].error.text));
        for (size_t i = 0; i < power->notes.n; i++) {
                const struct power_note *note = &power->notes.items[i];

                (void)json_array_append_new(unused, json_pack("{s:s, s:s, s:s}", "source", note->source,
                                                              "sensor", note->sensor, "why", note->why));
        }
        return print_json(
                json_pack("{s:o, s:o, s:o}", "sensors", found, "refused", refused, "unused", unused));
}

int report_sensors(const struct power_set *power, const struct sample *sample, bool as_json)
{
        if (as_json)
                return print_sensors_json(power, sample);
        for (size_t i = 0; i < sample->n_readings; i++) {
                const struct power_reading *reading = &sample->readings[i];

                printf("%-10s %-8s %-12s %-9s ", reading->source, reading->component, reading->unit,
                       provenance_names[reading->provenance]);
                if (reading->valid)
                        printf("%.3f W%s%s\n", watts_of(reading, sample->duration_ns),
                               *reading->model ? " by " : "", reading->model);
                else
                        printf("no reading: %s\n", why_not(reading));
        }
        for (size_t i = 0; i < power->n; i++)
                if (!power->states[i].source)
                        printf("%-10s not used: %s\n", power->states[i].ops->name,
                               power->states[i].error.text);
        for (size_t i = 0; i < power->notes.n; i++) {
                const struct power_note *note = &power->notes.items[i];

                printf("%-10s %-21s not used: %s\n", note->source, note->sensor, note->why);
        }
        return fflush(stdout) != 0 ? -EIO : 0;
}
