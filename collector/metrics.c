/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/metrics.h"

#include <math.h>
#include <string.h>
#include <sys/utsname.h>
#include "common/prom.h"
#include "config/cli.h"

#define JOULES(uj) ((double)(uj) / 1e6)

static const char *source_of(const struct sensor *s)
{
        return wire_source(s->reading.source, s->reading.provenance);
}

/* ---- node ---- */

static void node_sample(struct buf *out, const char *name, const struct sensor *s, const char *instance,
                        const char *mode, int64_t uj)
{
        const struct prom_label labels[] = { { "instance", instance },
                                             { "mode", mode },
                                             { "package", s->reading.unit },
                                             { "source", source_of(s) },
                                             { NULL, NULL } };

        prom_sample(out, name, labels, JOULES(uj));
}

static void write_node_energy(struct buf *out, const struct window *w, const struct machine *machine)
{
        for (int c = 0; c < SPLIT_N; c++) {
                char name[METRIC_NAME_MAX];
                bool begun = false;

                if (metric_node_energy(name, split_names[c]) < 0)
                        continue;
                for (size_t i = 0; i < w->n_sensors; i++) {
                        const struct sensor *s = &w->sensors[i];

                        if (strcmp(s->reading.component, split_names[c]) != 0)
                                continue;
                        if (!begun)
                                prom_family(out, name, "counter", "Energy of the node since recording began");
                        begun = true;
                        node_sample(out, name, s, machine->node_name, "dynamic", s->energy_uj - s->idle_uj);
                        node_sample(out, name, s, machine->node_name, "idle", s->idle_uj);
                }
        }
}

static void write_node_watts(struct buf *out, const struct window *w)
{
        prom_family(out, "wattloop_node_watts", "gauge", "Power of the last interval, by sensor");
        for (size_t i = 0; i < w->n_sensors; i++) {
                const struct sensor *s = &w->sensors[i];
                const struct prom_label labels[] = { { "component", s->reading.component },
                                                     { "source", source_of(s) },
                                                     { "unit", s->reading.unit },
                                                     { NULL, NULL } };

                if (s->valid) /* a gap is a gap, never a zero */
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

/* ---- containers ---- */

/* Kepler's container labels. What is in no container has Kepler's names for that. */
struct container_labels {
        const char *id, *name, *name_space, *pod;
};

static struct container_labels labels_of(const struct entity *entity)
{
        bool system = !strcmp(entity->key, ENTITY_SYSTEM), kernel = !strcmp(entity->key, ENTITY_KERNEL);
        const char *name = system || kernel ? entity->key : "";

        return (struct container_labels){ entity->key, name,
                                          system   ? "system"
                                          : kernel ? "kernel"
                                                   : "",
                                          name };
}

static void container_sample(struct buf *out, const char *name, const struct entity *entity, const char *mode,
                             const char *source, double value)
{
        const struct container_labels l = labels_of(entity);
        const struct prom_label labels[] = { { "container_id", l.id },
                                             { "container_name", l.name },
                                             { "container_namespace", l.name_space },
                                             { "mode", mode },
                                             { "pod_name", l.pod },
                                             { "source", source },
                                             { NULL, NULL } };

        prom_sample(out, name, labels, value);
}

static void write_container_usage(struct buf *out, const struct window *w)
{
        for (int f = 0; f < FEATURE_N; f++) {
                char name[METRIC_NAME_MAX];

                if (!w->measured[f] || metric_container_feature(name, features[f].name) < 0)
                        continue;
                prom_family(out, name, "counter", "Usage of the container since recording began");
                for (size_t i = 0; i < w->n; i++)
                        container_sample(out, name, w->entities[i], NULL, "bpf",
                                         (double)w->entities[i]->total[f] * features[f].wire_scale);
        }
}

/* The sensor whose source a component's split has had; NULL when it never was read. */
static const struct sensor *split_sensor(const struct window *w, enum split_component c)
{
        if (w->split[c].source >= 0)
                return &w->sensors[w->split[c].source];
        for (size_t i = 0; i < w->n_sensors; i++)
                if (!strcmp(w->sensors[i].reading.component, split_names[c]))
                        return &w->sensors[i];
        return NULL;
}

static void write_container_energy(struct buf *out, const struct window *w)
{
        for (int c = 0; c < SPLIT_N; c++) {
                const struct sensor *s = split_sensor(w, (enum split_component)c);
                char name[METRIC_NAME_MAX];

                if (!s)
                        continue;
                (void)snprintf(name, sizeof(name), "kepler_container_%s_joules_total", split_names[c]);
                prom_family(out, name, "counter",
                            "Dynamic energy of the container since the collector started");
                for (size_t i = 0; i < w->n; i++)
                        container_sample(out, name, w->entities[i], "dynamic", source_of(s),
                                         JOULES(w->entities[i]->energy_total_uj[c]));
        }
}

/* Kepler's sum of a container: package, dram and what the platform draws beyond them. Idle energy is
 * nobody's. */
static void write_container_joules(struct buf *out, const struct window *w)
{
        static const char name[] = "kepler_container_joules_total";

        prom_family(out, name, "counter", "Energy of the container since the collector started");
        for (size_t i = 0; i < w->n; i++) {
                const double *uj = w->entities[i]->energy_total_uj;

                container_sample(out, name, w->entities[i], "dynamic", "",
                                 JOULES(fmax(uj[SPLIT_PACKAGE] + uj[SPLIT_DRAM], uj[SPLIT_PLATFORM])));
                container_sample(out, name, w->entities[i], "idle", "", 0);
        }
}

static void write_unattributed(struct buf *out, const struct window *w)
{
        static const char name[] = "wattloop_unattributed_joules_total";

        prom_family(out, name, "counter",
                    "Energy of the node that belongs to no container: idle energy, and dynamic energy "
                    "without activity");
        for (int c = 0; c < SPLIT_N; c++) {
                const struct sensor *s = split_sensor(w, (enum split_component)c);
                const struct prom_label labels[] = { { "attribution", "ratio" },
                                                     { "component", split_names[c] },
                                                     { "source", s ? source_of(s) : NULL },
                                                     { NULL, NULL } };

                if (s)
                        prom_sample(out, name, labels, JOULES(w->split[c].unattributed_total_uj));
        }
}

/* ---- information ---- */

/* Kepler's name for where power comes from: the sensor, "estimator", or ours where it is simulated or
 * virtual. */
static const char *power_source_name(const struct window *w, enum split_component c)
{
        const struct sensor *s = split_sensor(w, c);

        if (!s)
                return "none";
        return s->reading.provenance == PROVENANCE_ESTIMATED ? "estimator" : source_of(s);
}

static void write_info(struct buf *out, const struct window *w, const struct machine *machine)
{
        struct utsname uts;
        const struct prom_label node[] = { { "components_power_source", power_source_name(w, SPLIT_PACKAGE) },
                                           { "cpu_architecture", machine->cpu_architecture },
                                           { "platform_power_source", power_source_name(w, SPLIT_PLATFORM) },
                                           { "source", "os" },
                                           { NULL, NULL } };
        const struct prom_label build[] = { { "arch", uname(&uts) == 0 ? uts.machine : "" },
                                            { "branch", "" },
                                            { "os", "linux" },
                                            { "revision", "" },
                                            { "version", WATTLOOP_VERSION },
                                            { NULL, NULL } };

        prom_family(out, "kepler_node_info", "counter", "What the node is");
        prom_sample(out, "kepler_node_info", node, 1);
        prom_family(out, "kepler_exporter_build_info", "gauge", "What the exporter is");
        prom_sample(out, "kepler_exporter_build_info", build, 1);
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
        single(out, "wattloop_collector_tick_seconds", "gauge", "Time that the last tick's work took",
               (double)s->tick_ns / 1e9);
        prom_family(out, "wattloop_collector_feature_source", "gauge", "Where usage comes from");
        prom_sample(out, "wattloop_collector_feature_source", source, 1);
}

void metrics_write(const struct window *w, const struct machine *machine, const struct collector_stats *stats,
                   struct buf *out)
{
        write_info(out, w, machine);
        write_node_energy(out, w, machine);
        write_node_watts(out, w);
        write_node_usage(out, w);
        write_container_usage(out, w);
        write_container_energy(out, w);
        write_container_joules(out, w);
        write_unattributed(out, w);
        write_estimate_info(out, w);
        write_collector(out, w, stats);
}
