/* SPDX-License-Identifier: Apache-2.0 */
/* RAPL through perf: the PMUs power and power_core (arch/x86/events/rapl.c), for kernels whose powercap tree
 * is missing or refused. <sysfs_root>/bus/event_source/devices/PMU has the type, the events with scale and
 * unit, and in cpumask the CPUs that stand for a package, a die or a core. The kernel follows the counters'
 * wraps, so these are 64 bits wide. */
#include "collector/power.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/perf_event.h>
#include <string.h>
#include <sys/syscall.h>
#include "collector/processor.h"
#include "common/file.h"
#include "common/num.h"

#define PERF_EVENTS_MAX 1024 /* a core PMU has one a core */

static const struct perf_kind {
        const char *pmu, *event, *component;
} kinds[] = {
        { "power", "energy-pkg", "package" }, { "power", "energy-cores", "core" },
        { "power", "energy-gpu", "uncore" },  { "power", "energy-ram", "dram" },
        { "power", "energy-psys", "psys" },   { "power_core", "energy-core", "core" },
};

struct perf_sensor {
        const char *component;
        char unit[SENSOR_TEXT_MAX];
        double count_uj;     /* microjoules of one count */
        uint64_t last_sum;   /* of its events */
        bool based;          /* last_sum is a reading */
        uint64_t elapsed_ns; /* since then */
};

struct perf_counter {
        int fd, sensor;
};

struct power_source {
        struct perf_sensor sensors[SENSORS_MAX];
        int n_sensors;
        struct perf_counter counters[PERF_EVENTS_MAX];
        int n_counters;
        enum provenance provenance;
        struct processor_cpu cpus[PROCESSOR_CPUS_MAX];
        size_t n_cpus;
};

static void perf_close(struct power_source *s)
{
        for (int i = 0; i < s->n_counters; i++)
                (void)close(s->counters[i].fd);
        free(s);
}
CLEANUP_DEFINE(struct power_source *, perf_close);

/* ---- what sysfs says ---- */

/* Reads "<devices>/<pmu>/<name>". */
static int read_pmu(const char *devices, const char *pmu, const char *name, char *ret, size_t size)
{
        char dir[PATH_MAX], path[PATH_MAX];

        if (path_join(dir, sizeof(dir), devices, pmu) < 0 || path_join(path, sizeof(path), dir, name) < 0)
                return -ENAMETOOLONG;
        return file_read_small(AT_FDCWD, path, ret, size);
}

/* The event's number, from "event=0x02" or "config=0x02", and microjoules a count. */
static int read_event(const char *devices, const struct perf_kind *k, uint64_t *ret_config, double *ret_uj)
{
        char name[64], text[128], *end;
        const char *number;
        double scale;

        (void)snprintf(name, sizeof(name), "events/%s", k->event);
        if (read_pmu(devices, k->pmu, name, text, sizeof(text)) <= 0)
                return -ENOENT;
        number = !strncmp(text, "event=", 6) ? text + 6 : !strncmp(text, "config=", 7) ? text + 7 : NULL;
        if (!number)
                return -EPROTO;
        errno = 0;
        *ret_config = strtoull(number, &end, 0);
        if (errno || end == number || *end)
                return -EPROTO;
        (void)snprintf(name, sizeof(name), "events/%s.unit", k->event);
        if (read_pmu(devices, k->pmu, name, text, sizeof(text)) <= 0 || strcmp(text, "Joules") != 0)
                return -EPROTO;
        (void)snprintf(name, sizeof(name), "events/%s.scale", k->event);
        if (read_pmu(devices, k->pmu, name, text, sizeof(text)) <= 0 || num_parse_double(text, &scale) < 0 ||
            scale <= 0)
                return -EPROTO;
        *ret_uj = scale * 1e6;
        return 0;
}

static const struct processor_cpu *find_cpu(const struct power_source *s, long cpu)
{
        for (size_t i = 0; i < s->n_cpus; i++)
                if (s->cpus[i].cpu == cpu)
                        return &s->cpus[i];
        return NULL;
}

/* The CPUs of a mask such as "0,18" or "0-3"; those whose place in the machine is not known are left out. */
static size_t parse_mask(const struct power_source *s, const char *mask, const struct processor_cpu **ret,
                         size_t max)
{
        size_t n = 0;

        while (*mask) {
                char *end;
                long first = strtol(mask, &end, 10), last = first;

                if (end == mask || first < 0)
                        return 0;
                if (*end == '-')
                        last = strtol(end + 1, &end, 10);
                for (long cpu = first; cpu <= last && cpu < PROCESSOR_CPUS_MAX && n < max; cpu++) {
                        ret[n] = find_cpu(s, cpu);
                        n += ret[n] != NULL;
                }
                mask = *end == ',' ? end + 1 : "";
        }
        return n;
}

/* ---- opening ---- */

/* The sensor to which a CPU's event belongs; -ENOSPC when there are too many. */
static int find_sensor(struct power_source *s, const char *component, const struct processor_cpu *cpu,
                       bool dies, double count_uj)
{
        char unit[SENSOR_TEXT_MAX];

        processor_unit(cpu, dies, unit, sizeof(unit));
        for (int i = 0; i < s->n_sensors; i++)
                if (!strcmp(s->sensors[i].component, component) && !strcmp(s->sensors[i].unit, unit))
                        return i;
        if (s->n_sensors == SENSORS_MAX)
                return -ENOSPC;
        s->sensors[s->n_sensors] = (struct perf_sensor){ .component = component, .count_uj = count_uj };
        memcpy(s->sensors[s->n_sensors].unit, unit, sizeof(unit));
        return s->n_sensors++;
}

static int open_counter(uint32_t type, uint64_t config, int cpu)
{
        struct perf_event_attr attr = { .type = type, .size = sizeof(attr), .config = config };
        long fd = syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);

        return fd < 0 ? -errno : (int)fd;
}

/* A CPU for each package, for each die, or (power_core) for each core, whose counters add up. */
static int open_event(struct power_source *s, const char *devices, const struct perf_kind *k)
{
        const struct processor_cpu *cpus[PERF_EVENTS_MAX];
        char text[4096];
        uint64_t config, type;
        double count_uj;
        bool dies = false;
        size_t n;
        int r = read_event(devices, k, &config, &count_uj);

        if (r < 0)
                return r;
        if (read_pmu(devices, k->pmu, "type", text, sizeof(text)) <= 0 || num_parse_u64(text, &type) < 0 ||
            read_pmu(devices, k->pmu, "cpumask", text, sizeof(text)) <= 0)
                return -EPROTO;
        n = parse_mask(s, text, cpus, ARRAY_SIZE(cpus));
        for (size_t i = 1; i < n && !strcmp(k->pmu, "power"); i++)
                dies = dies || cpus[i]->package == cpus[i - 1]->package;
        for (size_t i = 0; i < n; i++) {
                int sensor = find_sensor(s, k->component, cpus[i], dies, count_uj), fd;

                if (sensor < 0 || s->n_counters == PERF_EVENTS_MAX)
                        return -ENOSPC;
                fd = open_counter((uint32_t)type, config, cpus[i]->cpu);
                if (fd < 0)
                        return fd;
                s->counters[s->n_counters++] = (struct perf_counter){ fd, sensor };
        }
        return n > 0 ? 0 : -ENODEV;
}

/* An event that could be opened on some CPUs only would be a part of its sensor: forget it. */
static void drop_event(struct power_source *s, int n_sensors, int n_counters)
{
        while (s->n_counters > n_counters)
                (void)close(s->counters[--s->n_counters].fd);
        s->n_sensors = n_sensors;
}

static int perf_open(const struct power_source_options *options, struct power_source **ret, struct err *e)
{
        CLEANUP(perf_closep) struct power_source *s = calloc(1, sizeof(*s));
        char devices[PATH_MAX];
        struct processor cpu;
        int refused = -ENOENT;

        if (!s)
                return err_set(e, -ENOMEM, "out of memory");
        if (path_join(devices, sizeof(devices), options->sysfs_root, "bus/event_source/devices") < 0)
                return err_set(e, -ENAMETOOLONG, "sysfs_root is too long");
        processor_read(options->procfs_root, &cpu);
        s->n_cpus = processor_cpus(options->sysfs_root, s->cpus, ARRAY_SIZE(s->cpus));
        s->provenance = power_path_provenance(devices);
        if (s->provenance == PROVENANCE_MEASURED && cpu.hypervisor)
                s->provenance = PROVENANCE_VIRTUAL;
        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
                int sensors = s->n_sensors, counters = s->n_counters, r = open_event(s, devices, &kinds[i]);

                if (r == 0 || r == -ENOENT)
                        continue;
                drop_event(s, sensors, counters);
                refused = r;
                power_note(options->notes, "rapl-perf", kinds[i].event, "%s", strerror(-r));
        }
        if (s->n_sensors == 0 && (refused == -EACCES || refused == -EPERM))
                return err_set(e, -EACCES,
                               "perf refuses the energy events: run as root, or with CAP_PERFMON");
        if (s->n_sensors == 0)
                return err_set(e, refused, "no energy events in '%s/power'%s%s", devices,
                               refused == -ENOENT ? "" : ": ", refused == -ENOENT ? "" : strerror(-refused));
        *ret = TAKE(s);
        return 0;
}

/* ---- reading ---- */

static void tell_sensor(struct power_source *s, int which, uint64_t duration_ns, struct power_reading *ret)
{
        struct perf_sensor *sensor = &s->sensors[which];
        uint64_t sum = 0;

        (void)snprintf(ret->source, sizeof(ret->source), "rapl-perf");
        (void)snprintf(ret->component, sizeof(ret->component), "%s", sensor->component);
        memcpy(ret->unit, sensor->unit, sizeof(ret->unit));
        ret->provenance = s->provenance;
        ret->idle_uj = -1;
        sensor->elapsed_ns += duration_ns;
        for (int i = 0; i < s->n_counters; i++) {
                uint64_t value;
                ssize_t n;

                if (s->counters[i].sensor != which)
                        continue;
                n = read(s->counters[i].fd, &value, sizeof(value));
                if (n != (ssize_t)sizeof(value)) { /* 0: the event is in error */
                        ret->error = n < 0 ? -errno : -EIO;
                        return;
                }
                sum += value;
        }
        if (sensor->based && sum >= sensor->last_sum) {
                ret->valid = true;
                ret->energy_uj = (double)(sum - sensor->last_sum) * sensor->count_uj;
                ret->covered_ns = sensor->elapsed_ns;
        }
        sensor->based = true;
        sensor->last_sum = sum;
        sensor->elapsed_ns = 0;
}

static int perf_read(struct power_source *s, const struct power_context *context, struct power_reading *ret,
                     struct err *e)
{
        (void)e; /* an event that fails is a gap, not a failure of the source */
        for (int i = 0; i < s->n_sensors; i++)
                tell_sensor(s, i, context->duration_ns, &ret[i]);
        return s->n_sensors;
}

const struct power_source_ops power_source_rapl_perf = {
        .name = "rapl-perf",
        .group = "rapl",
        .counts = true,
        .open = perf_open,
        .read = perf_read,
        .close = perf_close,
};
