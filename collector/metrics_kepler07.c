/* SPDX-License-Identifier: Apache-2.0 */
/* The families of Kepler up to 0.9, with its names, labels and help. Idle energy is the node's only:
 * containers have none, but in their sum, which has both modes in Kepler, too. */
#include "collector/metrics_internal.h"

#include <string.h>
#include <sys/utsname.h>
#include "config/cli.h"

static void family(struct buf *out, const char *name, const char *what, const char *source)
{
        char help[160];

        (void)snprintf(help, sizeof(help), "Aggregated value in %s value from %s", what, source);
        prom_family(out, name, "counter", help);
}

/* ---- node ---- */

static void node_sample(struct buf *out, const char *name, const struct machine *machine, const char *package,
                        const char *source, double dynamic_uj, double idle_uj)
{
        struct prom_label labels[] = { { "instance", machine->node_name },
                                       { "mode", "dynamic" },
                                       { "package", package },
                                       { "source", source },
                                       { NULL, NULL } };

        prom_sample(out, name, labels, JOULES(dynamic_uj));
        labels[1].value = "idle";
        prom_sample(out, name, labels, JOULES(idle_uj));
}

static void write_node(struct buf *out, const struct window *w, const struct machine *machine)
{
        for (int c = 0; c < SPLIT_N; c++) {
                char name[METRIC_NAME_MAX];
                bool begun = false;

                if (metric_node_energy(name, split_names[c]) < 0)
                        continue;
                for (size_t i = 0; i < w->n_sensors; i++) {
                        const struct sensor *s = &w->sensors[i];

                        if (strcmp(s->reading.component, split_names[c]) != 0 ||
                            !metrics_first_of_its_labels(w, i))
                                continue;
                        if (!begun)
                                family(out, name, split_names[c], metrics_source(s));
                        begun = true;
                        node_sample(out, name, machine, s->reading.unit, metrics_source(s),
                                    (double)(s->energy_uj - s->idle_uj), (double)s->idle_uj);
                }
        }
}

/* What the platform draws beyond package and dram. */
static void write_node_other(struct buf *out, const struct window *w, const struct machine *machine)
{
        static const char name[] = "kepler_node_other_joules_total";
        const struct sensor *package = metrics_split_sensor(w, SPLIT_PACKAGE);

        if (!package || !metrics_split_sensor(w, SPLIT_PLATFORM))
                return;
        family(out, name, "other", metrics_source(package));
        node_sample(out, name, machine, "socket0", metrics_source(package), w->other_uj, w->other_idle_uj);
}

/* ---- containers, virtual machines, processes ---- */

static void entity_sample(struct buf *out, const char *name, const struct entity *entity, const char *mode,
                          const char *source, double value)
{
        const struct entity_names *names = metrics_names(entity);
        const struct prom_label container[] = { { "container_id", entity->key },
                                                { "container_name", names->container_name },
                                                { "container_namespace", names->container_namespace },
                                                { "mode", mode },
                                                { "pod_name", names->pod_name },
                                                { "source", source },
                                                { NULL, NULL } };
        const struct prom_label vm[] = {
                { "mode", mode }, { "source", source }, { "vm_id", entity->key }, { NULL, NULL }
        };
        char pid[METRICS_PID_MAX];
        const struct prom_label process[] = { { "command", entity->name },
                                              { "container_id", entity->container },
                                              { "mode", mode },
                                              { "pid", metrics_pid(entity, pid) },
                                              { "source", source },
                                              { "vm_id", entity->vm },
                                              { NULL, NULL } };
        const struct prom_label *const labels[ENTITY_KINDS] = { container, vm, process };

        prom_sample(out, name, labels[entity->kind], value);
}

static void write_usage(struct buf *out, const struct window *w, enum entity_kind kind)
{
        for (int f = 0; f < FEATURE_N; f++) {
                const struct entity *entity;
                char name[METRIC_NAME_MAX];
                size_t i = 0;

                if (!w->measured[f] || !(entity = metrics_next(w, kind, &i)))
                        continue;
                (void)snprintf(name, sizeof(name), "kepler_%s_%s_total", entity_kind_names[kind],
                               features[f].name);
                family(out, name, features[f].name, "bpf");
                for (; entity; entity = metrics_next(w, kind, &i))
                        entity_sample(out, name, entity, NULL, "bpf",
                                      (double)entity->total[f] * features[f].wire_scale);
        }
}

static void write_energy(struct buf *out, const struct window *w, enum entity_kind kind)
{
        for (int c = 0; c < SPLIT_N; c++) {
                const struct sensor *s = metrics_split_sensor(w, (enum split_component)c);
                const struct entity *entity;
                char name[METRIC_NAME_MAX];
                size_t i = 0;

                if (!s || !(entity = metrics_next(w, kind, &i)))
                        continue;
                (void)snprintf(name, sizeof(name), "kepler_%s_%s_joules_total", entity_kind_names[kind],
                               split_names[c]);
                family(out, name, split_names[c], metrics_source(s));
                for (; entity; entity = metrics_next(w, kind, &i))
                        entity_sample(out, name, entity, "dynamic", metrics_source(s),
                                      JOULES(entity->energy_total_uj[c]));
        }
}

static void write_other(struct buf *out, const struct window *w, enum entity_kind kind)
{
        const struct sensor *package = metrics_split_sensor(w, SPLIT_PACKAGE);
        const struct entity *entity;
        char name[METRIC_NAME_MAX];
        size_t i = 0;

        if (!package || !metrics_split_sensor(w, SPLIT_PLATFORM) || !(entity = metrics_next(w, kind, &i)))
                return;
        (void)snprintf(name, sizeof(name), "kepler_%s_other_joules_total", entity_kind_names[kind]);
        family(out, name, "other", metrics_source(package));
        for (; entity; entity = metrics_next(w, kind, &i))
                entity_sample(out, name, entity, "dynamic", metrics_source(package),
                              JOULES(entity->other_uj));
}

/* Kepler's sum of a container or process: package, dram and other. */
static void write_joules(struct buf *out, const struct window *w, enum entity_kind kind)
{
        const struct entity *entity;
        char name[METRIC_NAME_MAX];
        size_t first = 0;

        if (!metrics_next(w, kind, &first))
                return;
        (void)snprintf(name, sizeof(name), "kepler_%s_joules_total", entity_kind_names[kind]);
        prom_family(out, name, "counter", "Aggregated value in joules");
        for (size_t i = 0; (entity = metrics_next(w, kind, &i));) {
                const double *uj = entity->energy_total_uj;

                entity_sample(out, name, entity, "dynamic", "",
                              JOULES(uj[SPLIT_PACKAGE] + uj[SPLIT_DRAM] + entity->other_uj));
                entity_sample(out, name, entity, "idle", "", 0);
        }
}

/* ---- information ---- */

/* Kepler's name for where power comes from: the sensor, "estimator", or ours where it is simulated or
 * virtual.
 */
static const char *power_source_name(const struct window *w, enum split_component c)
{
        const struct sensor *s = metrics_split_sensor(w, c);

        if (!s)
                return "none";
        return s->reading.provenance == PROVENANCE_ESTIMATED ? "estimator" : metrics_source(s);
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

void metrics_kepler07(const struct window *w, const struct machine *machine, struct buf *out)
{
        write_info(out, w, machine);
        write_node(out, w, machine);
        write_node_other(out, w, machine);
        for (int kind = ENTITY_CONTAINER; kind < ENTITY_KINDS; kind++) {
                write_usage(out, w, (enum entity_kind)kind);
                write_energy(out, w, (enum entity_kind)kind);
                write_other(out, w, (enum entity_kind)kind);
        }
        write_joules(out, w, ENTITY_CONTAINER);
        write_joules(out, w, ENTITY_PROCESS);
}
