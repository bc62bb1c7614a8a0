/* SPDX-License-Identifier: Apache-2.0 */
/* The families of Kepler since 0.10, after its docs/user/metrics.md. Its zones are our components, but for
 * the platform, which has a family of its own; its active energy is our dynamic one. */
#include "collector/metrics_internal.h"

#include <math.h>
#include <string.h>
#include <sys/utsname.h>
#include "collector/cgroup_name.h"
#include "collector/pod.h"
#include "config/cli.h"

/* Kepler keeps the energy of what ended for a while; ours is gone from the window. */
#define STATE "running"

static const char *const zones[] = { "package", "core", "uncore", "dram", "psys" };

static double watts(double uj, const struct window *w)
{
        return w->last_ns ? round(uj * 1e9 / (double)w->last_ns) / 1e6 : 0;
}

/* ---- node ---- */

/* All units of the first source that reads the zone, as Kepler adds them up. */
struct zone {
        char path[3 * SENSOR_TEXT_MAX];
        size_t units, read; /* how many there are, and were read in the last sample */
        double energy_uj, idle_uj, watts, idle_watts;
};

static bool sum_zone(const struct window *w, const char *name, struct zone *ret)
{
        const struct sensor *first = NULL;

        *ret = (struct zone){ 0 };
        for (size_t i = 0; i < w->n_sensors; i++) {
                const struct sensor *s = &w->sensors[i];

                if (strcmp(s->reading.component, name) != 0)
                        continue;
                if (!first)
                        first = s;
                if (strcmp(metrics_source(first), metrics_source(s)) != 0 ||
                    strcmp(first->reading.source, s->reading.source) != 0)
                        continue;
                ret->units++;
                ret->energy_uj += (double)s->energy_uj;
                ret->idle_uj += (double)s->idle_uj;
                ret->read += s->valid;
                ret->watts += s->valid ? s->watts : 0;
                ret->idle_watts += s->valid ? s->idle_watts : 0;
        }
        if (ret->units > 1)
                (void)snprintf(ret->path, sizeof(ret->path), "aggregated-%s", name);
        else if (first)
                (void)snprintf(ret->path, sizeof(ret->path), "%s/%s-%s", metrics_source(first), name,
                               first->reading.unit);
        return first;
}

/* One family of the node, by zone. */
static void node_family(struct buf *out, const struct window *w, const struct machine *machine,
                        const char *name, const char *type, const char *help,
                        double (*value)(const struct zone *))
{
        bool begun = false, gauge = !strcmp(type, "gauge");

        for (size_t z = 0; z < ARRAY_SIZE(zones); z++) {
                struct zone zone;
                const struct prom_label labels[] = { { "node_name", machine->node_name },
                                                     { "path", zone.path },
                                                     { "zone", zones[z] },
                                                     { NULL, NULL } };

                if (!sum_zone(w, zones[z], &zone) || (gauge && zone.read < zone.units))
                        continue; /* a gap is a gap, never a zero */
                if (!begun)
                        prom_family(out, name, type, help);
                begun = true;
                prom_sample(out, name, labels, value(&zone));
        }
}

static double joules_of(const struct zone *z)
{
        return JOULES(z->energy_uj);
}

static double active_joules_of(const struct zone *z)
{
        return JOULES(z->energy_uj - z->idle_uj);
}

static double idle_joules_of(const struct zone *z)
{
        return JOULES(z->idle_uj);
}

static double watts_of(const struct zone *z)
{
        return round(z->watts * 1e6) / 1e6;
}

static double active_watts_of(const struct zone *z)
{
        return round((z->watts - z->idle_watts) * 1e6) / 1e6;
}

static double idle_watts_of(const struct zone *z)
{
        return round(z->idle_watts * 1e6) / 1e6;
}

static const struct {
        const char *name, *type, *help;
        double (*value)(const struct zone *);
} node_families[] = {
        { "kepler_node_cpu_joules_total", "counter", "Energy consumption of cpu at node level in joules",
          joules_of },
        { "kepler_node_cpu_watts", "gauge", "Power consumption of cpu at node level in watts", watts_of },
        { "kepler_node_cpu_active_joules_total", "counter",
          "Energy consumption of cpu in active state at node level in joules", active_joules_of },
        { "kepler_node_cpu_active_watts", "gauge",
          "Power consumption of cpu in active state at node level in watts", active_watts_of },
        { "kepler_node_cpu_idle_joules_total", "counter",
          "Energy consumption of cpu in idle state at node level in joules", idle_joules_of },
        { "kepler_node_cpu_idle_watts", "gauge",
          "Power consumption of cpu in idle state at node level in watts", idle_watts_of },
};

static void write_usage_ratio(struct buf *out, const struct window *w, const struct machine *machine)
{
        static const char name[] = "kepler_node_cpu_usage_ratio";
        const struct prom_label labels[] = { { "node_name", machine->node_name }, { NULL, NULL } };
        double all = (double)w->last_ns * machine->spec.cores;

        if (!w->measured[FEATURE_CPU_TIME] || !(all > 0))
                return;
        prom_family(out, name, "gauge", "CPU usage ratio of a node (value between 0.0 and 1.0)");
        prom_sample(out, name, labels, fmin((double)w->delta[FEATURE_CPU_TIME] / all, 1));
}

static void write_platform(struct buf *out, const struct window *w, const struct machine *machine)
{
        static const char name[] = "kepler_platform_watts";
        bool begun = false;

        for (size_t i = 0; i < w->n_sensors; i++) {
                const struct sensor *s = &w->sensors[i];
                const struct prom_label labels[] = { { "bmc_id", "" },
                                                     { "chassis_id", s->reading.unit },
                                                     { "node_name", machine->node_name },
                                                     { "power_control_id", "" },
                                                     { "power_control_name", "" },
                                                     { "source", metrics_source(s) },
                                                     { NULL, NULL } };

                if (!s->valid || strcmp(s->reading.component, "platform") != 0 ||
                    !metrics_first_of_its_labels(w, i))
                        continue;
                if (!begun)
                        prom_family(out, name, "gauge", "Current platform power in watts");
                begun = true;
                prom_sample(out, name, labels, watts_of(&(struct zone){ .watts = s->watts }));
        }
}

/* ---- containers, virtual machines, processes, pods ---- */

/* One series of an entity. */
typedef void entity_sample(struct buf *out, const char *name, const struct entity *entity, const char *zone,
                           const char *node, double value);

static bool is_zone(enum split_component c)
{
        return c != SPLIT_PLATFORM;
}

static void container_sample(struct buf *out, const char *name, const struct entity *entity, const char *zone,
                             const char *node, double value)
{
        const struct prom_label labels[] = { { "container_id", entity->key },
                                             { "container_name", metrics_names(entity)->container_name },
                                             { "node_name", node },
                                             { "pod_id", entity->pod_id },
                                             { "runtime", cgroup_path_runtime(entity->cgroup) },
                                             { "state", STATE },
                                             { "zone", zone },
                                             { NULL, NULL } };

        prom_sample(out, name, labels, value);
}

static void vm_sample(struct buf *out, const char *name, const struct entity *entity, const char *zone,
                      const char *node, double value)
{
        const struct prom_label labels[] = { { "hypervisor", entity->hypervisor ? entity->hypervisor : "" },
                                             { "node_name", node },
                                             { "state", STATE },
                                             { "vm_id", entity->key },
                                             { "vm_name", entity->name },
                                             { "zone", zone },
                                             { NULL, NULL } };

        prom_sample(out, name, labels, value);
}

/* The command stands for the path of the program, which is not read. */
static void process_sample(struct buf *out, const char *name, const struct entity *entity, const char *zone,
                           const char *node, double value)
{
        bool contained = strcmp(entity->container, ENTITY_SYSTEM) && strcmp(entity->container, ENTITY_KERNEL);
        const char *type = *entity->vm ? "vm" : contained ? "container" : "regular";
        char pid[METRICS_PID_MAX];
        const struct prom_label labels[] = { { "comm", entity->name },
                                             { "container_id", contained ? entity->container : "" },
                                             { "exe", entity->name },
                                             { "node_name", node },
                                             { "pid", metrics_pid(entity, pid) },
                                             { "state", zone ? STATE : NULL },
                                             { "type", type },
                                             { "vm_id", entity->vm },
                                             { "zone", zone },
                                             { NULL, NULL } };

        prom_sample(out, name, labels, value);
}

static entity_sample *const samples[ENTITY_KINDS] = { container_sample, vm_sample, process_sample };

/* The energy and the power family of a kind. */
static void write_entities(struct buf *out, const struct window *w, const struct machine *machine,
                           enum entity_kind kind, bool power)
{
        char name[METRIC_NAME_MAX], help[96];
        const char *word = entity_kind_names[kind];
        const struct entity *entity;
        size_t first = 0;

        if (!metrics_next(w, kind, &first))
                return;
        (void)snprintf(name, sizeof(name), "kepler_%s_cpu_%s", word, power ? "watts" : "joules_total");
        (void)snprintf(help, sizeof(help), "%s consumption of cpu at %s level in %s",
                       power ? "Power" : "Energy", word, power ? "watts" : "joules");
        prom_family(out, name, power ? "gauge" : "counter", help);
        for (int c = 0; c < SPLIT_N; c++) {
                if (!is_zone((enum split_component)c) || !metrics_split_sensor(w, (enum split_component)c) ||
                    (power && w->split[c].source < 0))
                        continue;
                for (size_t i = 0; (entity = metrics_next(w, kind, &i));)
                        samples[kind](out, name, entity, split_names[c], machine->node_name,
                                      power ? watts(entity->energy_uj[c], w)
                                            : JOULES(entity->energy_total_uj[c]));
        }
}

/* Kepler counts from the start of the process, this from when it was first seen. */
static void write_process_time(struct buf *out, const struct window *w, const struct machine *machine)
{
        static const char name[] = "kepler_process_cpu_seconds_total";
        const struct entity *entity;
        size_t first = 0;

        if (!w->measured[FEATURE_CPU_TIME] || !metrics_next(w, ENTITY_PROCESS, &first))
                return;
        prom_family(out, name, "counter", "Total user and system time of cpu at process level in seconds");
        for (size_t i = 0; (entity = metrics_next(w, ENTITY_PROCESS, &i));)
                process_sample(out, name, entity, NULL, machine->node_name,
                               (double)entity->total[FEATURE_CPU_TIME] / 1e9);
}

static void write_pods(struct buf *out, const struct window *w, const struct machine *machine, bool power)
{
        const char *name = power ? "kepler_pod_cpu_watts" : "kepler_pod_cpu_joules_total";

        if (w->n_pods == 0)
                return;
        prom_family(out, name, power ? "gauge" : "counter",
                    power ? "Power consumption of cpu at pod level in watts"
                          : "Energy consumption of cpu at pod level in joules");
        for (int c = 0; c < SPLIT_N; c++) {
                if (!is_zone((enum split_component)c) || !metrics_split_sensor(w, (enum split_component)c) ||
                    (power && w->split[c].source < 0))
                        continue;
                for (size_t i = 0; i < w->n_pods; i++) {
                        const struct pod *pod = &w->pods[i];
                        const struct prom_label labels[] = {
                                { "node_name", machine->node_name },
                                { "pod_id", pod->id },
                                { "pod_name", pod->names ? pod->names->pod_name : "" },
                                { "pod_namespace", pod->names ? pod->names->container_namespace : "" },
                                { "state", STATE },
                                { "zone", split_names[c] },
                                { NULL, NULL }
                        };

                        prom_sample(out, name, labels,
                                    power ? watts(pod->energy_uj[c], w) : JOULES(pod->energy_total_uj[c]));
                }
        }
}

static void write_info(struct buf *out, const struct collector_stats *stats)
{
        struct utsname uts;
        const struct prom_label build[] = { { "arch", uname(&uts) == 0 ? uts.machine : "" },
                                            { "branch", "" },
                                            { "goversion", "" },
                                            { "revision", "" },
                                            { "version", WATTLOOP_VERSION },
                                            { NULL, NULL } };

        prom_family(out, "kepler_build_info", "gauge",
                    "A metric with a constant '1' value labeled with version information");
        prom_sample(out, "kepler_build_info", build, 1);
        if (stats->cpu_info && *stats->cpu_info) {
                prom_family(out, "kepler_node_cpu_info", "gauge", "CPU information from procfs");
                (void)buf_puts(out, stats->cpu_info); /* failure is sticky */
        }
}

void metrics_kepler10(const struct window *w, const struct machine *machine,
                      const struct collector_stats *stats, struct buf *out)
{
        write_info(out, stats);
        for (size_t i = 0; i < ARRAY_SIZE(node_families); i++)
                node_family(out, w, machine, node_families[i].name, node_families[i].type,
                            node_families[i].help, node_families[i].value);
        write_usage_ratio(out, w, machine);
        write_platform(out, w, machine);
        write_process_time(out, w, machine);
        for (int power = 0; power <= 1; power++) {
                for (int kind = ENTITY_CONTAINER; kind < ENTITY_KINDS; kind++)
                        write_entities(out, w, machine, (enum entity_kind)kind, power);
                write_pods(out, w, machine, power);
        }
}
