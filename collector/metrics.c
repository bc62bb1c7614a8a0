/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/metrics.h"

#include "collector/metrics_internal.h"

#include <math.h>
#include <string.h>
#include "collector/attribution.h"

const char *metrics_source(const struct sensor *s)
{
        return wire_source(s->reading.source, s->reading.provenance);
}

const struct sensor *metrics_split_sensor(const struct window *w, enum split_component c)
{
        if (w->split[c].source >= 0)
                return &w->sensors[w->split[c].source];
        for (size_t i = 0; i < w->n_sensors; i++)
                if (!strcmp(w->sensors[i].reading.component, split_names[c]))
                        return &w->sensors[i];
        return NULL;
}

bool metrics_first_of_its_labels(const struct window *w, size_t sensor)
{
        const struct sensor *b = &w->sensors[sensor];

        for (size_t i = 0; i < sensor; i++) {
                const struct sensor *a = &w->sensors[i];

                if (!strcmp(a->reading.component, b->reading.component) &&
                    !strcmp(a->reading.unit, b->reading.unit) &&
                    !strcmp(metrics_source(a), metrics_source(b)))
                        return false;
        }
        return true;
}

const struct entity *metrics_next(const struct window *w, enum entity_kind kind, size_t *i)
{
        while (*i < w->n) {
                const struct entity *entity = w->entities[(*i)++];

                if (entity->kind == kind && entity->shown)
                        return entity;
        }
        if (*i == w->n && kind == ENTITY_CONTAINER && (w->n_hidden || w->rest.total[FEATURE_CPU_TIME])) {
                (*i)++;
                return &w->rest;
        }
        return NULL;
}

const char *metrics_pid(const struct entity *entity, char ret[METRICS_PID_MAX])
{
        (void)snprintf(ret, METRICS_PID_MAX, "%.*s", (int)strcspn(entity->key, "-"), entity->key);
        return ret;
}

const struct entity_names *metrics_names(const struct entity *entity)
{
        static const struct entity_names unknown,
                system = { .pod_name = ENTITY_SYSTEM,
                           .container_name = ENTITY_SYSTEM,
                           .container_namespace = "system" },
                kernel = { .pod_name = ENTITY_KERNEL,
                           .container_name = ENTITY_KERNEL,
                           .container_namespace = "kernel" },
                rest = { .pod_name = ENTITY_REST, .container_name = ENTITY_REST };

        if (!strcmp(entity->key, ENTITY_SYSTEM))
                return &system;
        if (!strcmp(entity->key, ENTITY_KERNEL))
                return &kernel;
        if (!strcmp(entity->key, ENTITY_REST))
                return &rest;
        return entity->names ? entity->names : &unknown;
}

static void write_node_watts(struct buf *out, const struct window *w)
{
        prom_family(out, "wattloop_node_watts", "gauge", "Power of the last interval, by sensor");
        for (size_t i = 0; i < w->n_sensors; i++) {
                const struct sensor *s = &w->sensors[i];
                const struct prom_label labels[] = { { "component", s->reading.component },
                                                     { "source", metrics_source(s) },
                                                     { "unit", s->reading.unit },
                                                     { NULL, NULL } };

                if (s->valid && metrics_first_of_its_labels(w, i)) /* a gap is a gap, never a zero */
                        prom_sample(out, "wattloop_node_watts", labels, round(s->watts * 1e6) / 1e6);
        }
}

static void write_node_usage(struct buf *out, const struct window *w)
{
        prom_family(out, "wattloop_node_usage_total", "counter",
                    "Usage of the whole node since recording began, in the feature's wire unit");
        for (int f = 0; f < FEATURE_N; f++) {
                const struct prom_label labels[] = { { "feature", features[f].name }, { NULL, NULL } };

                if (w->measured[f])
                        prom_sample(out, "wattloop_node_usage_total", labels,
                                    (double)w->total[f] * features[f].wire_scale);
        }
}

/* Kepler's models know the frequency as a feature of the node. */
static void write_frequency(struct buf *out, const struct window *w)
{
        static const char cpu_name[] = "kepler_node_cpu_scaling_frequency_hertz";
        static const char band_name[] = "wattloop_node_frequency_band_seconds_total";
        char text[24];
        const struct prom_label cpu[] = { { "cpu", text }, { NULL, NULL } };
        const struct prom_label band[] = { { "hertz", text }, { NULL, NULL } };

        if (w->frequency.n_cpus)
                prom_family(out, cpu_name, "gauge", "Frequency of each CPU in the last interval");
        for (size_t i = 0; i < w->frequency.n_cpus; i++) {
                (void)snprintf(text, sizeof(text), "%u", w->frequency.cpus[i].cpu);
                prom_sample(out, cpu_name, cpu, (double)w->frequency.cpus[i].hertz);
        }
        if (w->n_bands)
                prom_family(out, band_name, "counter",
                            "Time that all CPUs together have spent at a frequency");
        for (size_t i = 0; i < w->n_bands; i++) {
                (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)w->bands[i].hertz);
                prom_sample(out, band_name, band, (double)w->bands[i].time_ns / 1e9);
        }
}

/* What the containers do not have of the node, and by which rule they have the rest. */
static void write_attribution(struct buf *out, const struct window *w)
{
        static const char name[] = "wattloop_unattributed_joules_total", info[] = "wattloop_attribution_info";

        prom_family(
                out, name, "counter",
                "Energy of the node that belongs to no container: idle energy, and dynamic energy without "
                "activity, since the collector started");
        for (int c = 0; c < SPLIT_N; c++) {
                const struct sensor *s = metrics_split_sensor(w, (enum split_component)c);
                struct prom_label labels[] = { { "attribution", attribution_rule_names[w->split[c].rule] },
                                               { "component", split_names[c] },
                                               { "mode", "dynamic" },
                                               { "source", s ? metrics_source(s) : NULL },
                                               { NULL, NULL } };

                if (!s)
                        continue;
                prom_sample(out, name, labels, JOULES(w->split[c].ownerless_total_uj));
                labels[2].value = "idle";
                prom_sample(out, name, labels, JOULES(w->split[c].idle_total_uj));
        }
        prom_family(out, info, "gauge",
                    "The rule by which a component's energy was divided in the last interval");
        for (int c = 0; c < SPLIT_N; c++) {
                const struct split *split = &w->split[c];
                const struct prom_label labels[] = {
                        { "component", split_names[c] },
                        { "feature", split->rule == ATTRIBUTION_RATIO ? features[split->feature].name : "" },
                        { "rule", attribution_rule_names[split->rule] },
                        { NULL, NULL }
                };

                if (split->source >= 0)
                        prom_sample(out, info, labels, 1);
        }
        prom_family(out, "wattloop_attribution_error_watts", "gauge",
                    "Difference between the node and the sum of its parts in the last interval");
        prom_sample(out, "wattloop_attribution_error_watts", NULL, attribution_error(w));
}

static void write_estimate_info(struct buf *out, const struct window *w)
{
        for (size_t i = 0; i < w->n_sensors; i++) {
                const struct sensor *s = &w->sensors[i];
                char model[sizeof(s->reading.model)];
                struct prom_label labels[] = { { "id", "" },
                                               { "model", model },
                                               { "provenance", s->reading.model_provenance },
                                               { NULL, NULL } };
                char *space;

                if (!s->valid || s->reading.provenance != PROVENANCE_ESTIMATED)
                        continue;
                memcpy(model, s->reading.model, sizeof(model));
                space = strrchr(model, ' ');
                if (space) {
                        *space = '\0';
                        labels[0].value = space + 1;
                }
                prom_family(out, "wattloop_estimate_info", "gauge",
                            "The model behind estimated power, and what it was trained on");
                prom_sample(out, "wattloop_estimate_info", labels, 1);
                return; /* one model answers for all components */
        }
}

static void single(struct buf *out, const char *name, const char *type, const char *help, double value)
{
        prom_family(out, name, type, help);
        prom_sample(out, name, NULL, value);
}

static void write_idle(struct buf *out, const struct window *w)
{
        static const char name[] = "wattloop_node_idle_watts";

        prom_family(out, name, "gauge", "Idle power of a sensor by either rule, where it is known");
        for (size_t i = 0; i < w->n_sensors; i++) {
                const struct sensor *s = &w->sensors[i];
                struct prom_label labels[] = { { "component", s->reading.component },
                                               { "rule", "minimum" },
                                               { "source", metrics_source(s) },
                                               { "unit", s->reading.unit },
                                               { NULL, NULL } };

                if (!s->valid || !metrics_first_of_its_labels(w, i))
                        continue;
                if (!isnan(s->idle_min_watts))
                        prom_sample(out, name, labels, round(s->idle_min_watts * 1e6) / 1e6);
                labels[1].value = "regression";
                if (!isnan(s->idle_fit_watts))
                        prom_sample(out, name, labels, round(s->idle_fit_watts * 1e6) / 1e6);
        }
}

static void write_overhead(struct buf *out, const struct collector_stats *s)
{
        static const char seconds[] = "wattloop_collector_bpf_run_seconds_total",
                          runs[] = "wattloop_collector_bpf_runs_total";
        const struct {
                const char *part;
                uint64_t ns;
        } parts[] = { { "features", s->features_ns },
                      { "power", s->power_ns },
                      { "publish", s->publish_ns },
                      { "store", s->store_ns } };

        prom_family(out, "wattloop_collector_part_seconds", "gauge",
                    "Time that the parts of the last tick took; publishing: the time before this one");
        for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
                const struct prom_label labels[] = { { "part", parts[i].part }, { NULL, NULL } };

                prom_sample(out, "wattloop_collector_part_seconds", labels, (double)parts[i].ns / 1e9);
        }
        single(out, "wattloop_collector_cpu_seconds_total", "counter", "CPU time of the collector itself",
               s->overhead.cpu_seconds);
        single(out, "wattloop_collector_resident_bytes", "gauge", "Memory of the collector itself",
               (double)s->overhead.resident_bytes);
        for (int family = 0; family < 2 && s->overhead.n; family++) {
                prom_family(out, family ? runs : seconds, "counter",
                            family ? "Runs of the collector's BPF programs"
                                   : "Run time of the collector's BPF programs");
                for (size_t i = 0; i < s->overhead.n; i++) {
                        const struct bpf_run *run = &s->overhead.programs[i];
                        const struct prom_label labels[] = { { "program", run->name }, { NULL, NULL } };

                        prom_sample(out, family ? runs : seconds, labels,
                                    family ? (double)run->runs : (double)run->run_ns / 1e9);
                }
        }
}

static void write_kubelet(struct buf *out, const struct kubelet_stats *k)
{
        if (!k)
                return;
        single(out, "wattloop_collector_kubelet_answers_total", "counter", "Lists of pods from the kubelet",
               (double)k->answers);
        single(out, "wattloop_collector_kubelet_errors_total", "counter",
               "Requests to the kubelet that failed", (double)k->errors);
        single(out, "wattloop_collector_kubelet_pods", "gauge", "Pods in the last list", (double)k->pods);
        if (k->answers)
                single(out, "wattloop_collector_kubelet_age_seconds", "gauge", "Age of the last list",
                       (double)k->age_ns / 1e9);
}

static void write_collector(struct buf *out, const struct window *w, const struct collector_stats *s)
{
        const struct prom_label source[] = { { "source", s->feature_source }, { NULL, NULL } };

        if (s->ticks) {
                single(out, "wattloop_collector_interval_end_seconds", "gauge",
                       "Unix time at which the last interval ended", (double)w->end_ms / 1e3);
                single(out, "wattloop_collector_interval_seconds", "gauge", "Duration of the last interval",
                       (double)w->last_ns / 1e9);
        }
        single(out, "wattloop_collector_ticks_total", "counter", "Intervals sampled", (double)s->ticks);
        single(out, "wattloop_collector_missed_ticks_total", "counter",
               "Ticks that passed while an earlier one was at work; their time went into the next interval",
               (double)s->missed_ticks);
        single(out, "wattloop_collector_feature_errors_total", "counter",
               "Ticks at which features could not be read; their time went into the next interval",
               (double)s->feature_errors);
        single(out, "wattloop_collector_power_errors_total", "counter",
               "Failed reads of a whole power source", (double)s->power_errors);
        single(out, "wattloop_collector_store_errors_total", "counter",
               "Ticks that could not be stored; their time went into the next stored interval",
               (double)s->store_errors);
        single(out, "wattloop_collector_dropped_events_total", "counter",
               "Events that the feature source lost", (double)s->dropped_events);
        single(out, "wattloop_collector_overflowed_total", "counter",
               "Activities counted as system_processes because there were too many containers",
               (double)w->overflowed);
        single(out, "wattloop_collector_overflowed_deaths_total", "counter",
               "Deaths that went through the feature source's overflow table; nothing of them is lost",
               (double)s->overflowed_deaths);
        single(out, "wattloop_collector_processes", "gauge", "Processes seen by the last tick",
               (double)s->processes);
        single(out, "wattloop_collector_hidden_containers", "gauge",
               "Containers without series of their own (metrics.containers)", (double)w->n_hidden);
        single(out, "wattloop_collector_attribution_errors_total", "counter",
               "Ticks whose parts did not add up to the node", (double)s->attribution_errors);
        single(out, "wattloop_collector_tick_late_seconds", "gauge", "How late the last tick began",
               (double)s->late_ns / 1e9);
        single(out, "wattloop_collector_tick_late_seconds_total", "counter",
               "How late all ticks began, together; divided by the ticks it is the mean jitter",
               (double)s->late_total_ns / 1e9);
        single(out, "wattloop_collector_tick_seconds", "gauge", "Time that the last tick's work took",
               (double)s->tick_ns / 1e9);
        prom_family(out, "wattloop_collector_feature_source", "gauge", "Where usage comes from");
        prom_sample(out, "wattloop_collector_feature_source", source, 1);
}

void metrics_write(const struct window *w, const struct machine *machine, const struct collector_stats *stats,
                   enum metrics_style style, struct buf *out)
{
        if (style == METRICS_KEPLER_010)
                metrics_kepler10(w, machine, stats, out);
        else
                metrics_kepler07(w, machine, out);
        write_node_watts(out, w);
        write_idle(out, w);
        write_node_usage(out, w);
        write_frequency(out, w);
        write_attribution(out, w);
        write_estimate_info(out, w);
        write_collector(out, w, stats);
        write_overhead(out, stats);
        write_kubelet(out, stats->kubelet);
        metrics_estimator(stats->estimator, out);
}
