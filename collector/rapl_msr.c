/* SPDX-License-Identifier: Apache-2.0 */
/* RAPL through the model-specific registers, <msr_root>/N/msr, for kernels without powercap and perf's power
 * PMU (Intel SDM volume 4; AMD PPR, Core::X86::Msr::RAPL_PWR_UNIT). Counters have 32 bits. Intel's are read
 * on the first CPU of each die; AMD's package counter on the first CPU of a socket, and its core counters on
 * each core, whose sum is the socket's. */
#include "collector/power.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include "collector/counter.h"
#include "collector/processor.h"
#include "common/file.h"

#define MSR_COUNTERS_MAX 2048
#define MSR_MODULUS      (UINT64_C(1) << 32)
#define MSR_FILE_STRIDE  8 /* bytes of a register in a plain file; the device takes its number as offset */

enum msr_scope { MSR_PER_DIE, MSR_PER_SOCKET, MSR_PER_CORE };

struct msr_domain {
        uint32_t address;
        const char *component;
        enum msr_scope scope;
};

struct msr_maker {
        uint32_t unit_address;
        struct msr_domain domains[5]; /* ends with an empty one */
};
static const struct msr_maker intel = { 0x606,
                                        { { 0x611, "package", MSR_PER_DIE },
                                          { 0x619, "dram", MSR_PER_DIE },
                                          { 0x639, "core", MSR_PER_DIE },
                                          { 0x641, "uncore", MSR_PER_DIE } } };
static const struct msr_maker amd = {
        0xC0010299, { { 0xC001029B, "package", MSR_PER_SOCKET }, { 0xC001029A, "core", MSR_PER_CORE } }
};

/* Servers whose DRAM counter has units of 2^-16 J whatever 0x606 says: Haswell to Ice Lake, Xeon Phi. */
static const int dram_fixed_unit[] = { 0x3F, 0x4F, 0x55, 0x56, 0x57, 0x6A, 0x6C, 0x85 };
/* Silvermont and Airmont count in other units. */
static const int other_units[] = { 0x37, 0x4A, 0x4C, 0x4D, 0x5A, 0x5D };

struct msr_sensor {
        const char *component;
        char unit[SENSOR_TEXT_MAX];
};

struct msr_counter {
        int fd; /* one a counter: a machine has few packages, and AMD's cores have one counter each */
        uint32_t address;
        int sensor, error;
        struct counter counter;
};

struct power_source {
        struct msr_sensor sensors[SENSORS_MAX];
        int n_sensors;
        struct msr_counter *counters; /* owned [MSR_COUNTERS_MAX] */
        int n_counters;
        uint64_t polled_ns;
        enum provenance provenance;
        int stride; /* bytes from register to register */
};

static void msr_close(struct power_source *s)
{
        for (int i = 0; i < s->n_counters; i++)
                (void)close(s->counters[i].fd);
        free(s->counters);
        free(s);
}
CLEANUP_DEFINE(struct power_source *, msr_close);

static bool has_model(const int *models, size_t n, int model)
{
        for (size_t i = 0; i < n; i++)
                if (models[i] == model)
                        return true;
        return false;
}

static int read_msr(const struct power_source *s, int fd, uint32_t address, uint64_t *ret)
{
        ssize_t n = pread(fd, ret, sizeof(*ret), (off_t)address * s->stride);

        if (n < 0)
                return -errno;
        return n == (ssize_t)sizeof(*ret) ? 0 : -EIO;
}

static int open_msr(const char *root, int cpu, char ret_path[PATH_MAX])
{
        char name[32];
        int fd;

        (void)snprintf(name, sizeof(name), "%d/msr", cpu);
        if (path_join(ret_path, PATH_MAX, root, name) < 0)
                return -ENAMETOOLONG;
        fd = open(ret_path, O_RDONLY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

static double count_uj(const struct processor *cpu, const struct msr_domain *domain, uint64_t unit)
{
        int shift = (int)(unit >> 8 & 0x1F);

        if (cpu->intel && !strcmp(domain->component, "dram") &&
            has_model(dram_fixed_unit, ARRAY_SIZE(dram_fixed_unit), cpu->model))
                shift = 16;
        return 1e6 / (double)(UINT64_C(1) << shift);
}

static int find_sensor(struct power_source *s, const char *component, const char *unit)
{
        for (int i = 0; i < s->n_sensors; i++)
                if (!strcmp(s->sensors[i].component, component) && !strcmp(s->sensors[i].unit, unit))
                        return i;
        if (s->n_sensors == SENSORS_MAX)
                return -ENOSPC;
        s->sensors[s->n_sensors].component = component;
        (void)snprintf(s->sensors[s->n_sensors].unit, SENSOR_TEXT_MAX, "%s", unit);
        return s->n_sensors++;
}

/* Whether a CPU before this one reads the same counter. */
static bool counted_before(const struct processor_cpu *cpus, size_t i, enum msr_scope scope)
{
        for (size_t j = 0; j < i; j++)
                if (cpus[j].package == cpus[i].package &&
                    (scope == MSR_PER_SOCKET || cpus[j].die == cpus[i].die) &&
                    (scope != MSR_PER_CORE || cpus[j].core == cpus[i].core))
                        return true;
        return false;
}

/* A counter that always reads 0, or whose register is not there, is no counter. */
static int add_counter(struct power_source *s, const char *root, const struct processor *cpu,
                       const struct processor_cpu *where, const struct msr_maker *maker,
                       const struct msr_domain *domain, bool dies)
{
        CLEANUP(closep) int fd = -1;
        char path[PATH_MAX], unit[SENSOR_TEXT_MAX];
        uint64_t units, value;
        int sensor;

        fd = open_msr(root, where->cpu, path);
        if (fd < 0)
                return fd;
        if (read_msr(s, fd, maker->unit_address, &units) < 0 ||
            read_msr(s, fd, domain->address, &value) < 0 || value == 0)
                return -ENODEV;
        processor_unit(where, dies && domain->scope == MSR_PER_DIE, unit, sizeof(unit));
        sensor = find_sensor(s, domain->component, unit);
        if (sensor < 0 || s->n_counters == MSR_COUNTERS_MAX)
                return -ENOSPC;
        s->counters[s->n_counters++] = (struct msr_counter){
                .fd = TAKE_FD(fd),
                .address = domain->address,
                .sensor = sensor,
                .counter = { .count_uj = count_uj(cpu, domain, units), .modulus = MSR_MODULUS },
        };
        return 0;
}

/* All counters of one domain, or none: a part of a sum is not the sum. */
static int add_domain(struct power_source *s, const char *root, const struct processor *cpu,
                      const struct processor_cpu *cpus, size_t n, const struct msr_maker *maker,
                      const struct msr_domain *domain)
{
        int sensors = s->n_sensors, counters = s->n_counters, r = 0;
        bool dies = false;

        for (size_t i = 0; i < n; i++)
                dies = dies || cpus[i].die != cpus[0].die;
        for (size_t i = 0; r == 0 && i < n; i++)
                if (!counted_before(cpus, i, domain->scope))
                        r = add_counter(s, root, cpu, &cpus[i], maker, domain, dies);
        if (r == 0)
                return 0;
        while (s->n_counters > counters)
                (void)close(s->counters[--s->n_counters].fd);
        s->n_sensors = sensors;
        return r;
}

/* A plain file in place of the device is a simulation. */
static void look_at_device(struct power_source *s, const char *root, const struct processor *cpu, int number)
{
        char path[PATH_MAX];
        struct stat st;
        int fd = open_msr(root, number, path);
        bool device = fd < 0 || fstat(fd, &st) < 0 || S_ISCHR(st.st_mode);

        if (fd >= 0)
                (void)close(fd);
        s->stride = device ? 1 : MSR_FILE_STRIDE;
        s->provenance = !device           ? PROVENANCE_SIMULATED
                        : cpu->hypervisor ? PROVENANCE_VIRTUAL
                                          : PROVENANCE_MEASURED;
}

static int tell_failure(int r, const char *root, struct err *e)
{
        if (r == -EACCES || r == -EPERM)
                return err_set(e, -EACCES, "'%s/0/msr' may be read by root only: run as root", root);
        if (r == -ENODEV)
                return err_set(e, -ENOENT, "this processor has no RAPL registers");
        if (r == -ENOENT)
                return err_set(e, r, "no '%s/0/msr': the kernel module msr is not loaded", root);
        return err_set(e, r, "cannot read '%s/0/msr': %s", root, strerror(-r));
}

static int msr_open(const struct power_source_options *options, struct power_source **ret, struct err *e)
{
        CLEANUP(msr_closep) struct power_source *s = calloc(1, sizeof(*s));
        CLEANUP(freep) struct processor_cpu *cpus = calloc(PROCESSOR_CPUS_MAX, sizeof(*cpus));
        const struct msr_maker *maker;
        int refused = -ENODEV;
        struct processor cpu;
        size_t n;

        if (s)
                s->counters = calloc(MSR_COUNTERS_MAX, sizeof(s->counters[0]));
        if (!s || !cpus || !s->counters)
                return err_set(e, -ENOMEM, "out of memory");
        processor_read(options->procfs_root, &cpu);
        if ((!cpu.intel && !cpu.amd) || (cpu.amd && cpu.family < 0x17))
                return err_set(e, -ENOENT, "this processor has no RAPL registers");
        if (cpu.intel && has_model(other_units, ARRAY_SIZE(other_units), cpu.model))
                return err_set(e, -ENOENT,
                               "this processor's registers count in a unit that is not supported");
        n = processor_cpus(options->sysfs_root, cpus, PROCESSOR_CPUS_MAX);
        maker = cpu.intel ? &intel : &amd;
        look_at_device(s, options->msr_root, &cpu, cpus[0].cpu);
        for (const struct msr_domain *d = maker->domains; d->address; d++) {
                int r = add_domain(s, options->msr_root, &cpu, cpus, n, maker, d);

                if (r < 0 && r != -ENODEV)
                        refused = r;
        }
        if (s->n_sensors == 0)
                return tell_failure(refused, options->msr_root, e);
        *ret = TAKE(s);
        return 0;
}

/* ---- reading ---- */

static void look(struct power_source *s, uint64_t ns)
{
        for (int i = 0; i < s->n_counters; i++) {
                struct msr_counter *c = &s->counters[i];
                uint64_t value;

                counter_pass(&c->counter, ns);
                c->error = read_msr(s, c->fd, c->address, &value);
                value &= MSR_MODULUS - 1; /* the upper half is reserved */
                if (c->error == 0)
                        counter_advance(&c->counter, value, counter_judge(&c->counter, value));
        }
}

/* The sum of a sensor's counters; while one of them cannot be read, all keep what they have. */
static void tell_sensor(struct power_source *s, int which, struct power_reading *ret)
{
        bool known = true;

        (void)snprintf(ret->source, sizeof(ret->source), "rapl-msr");
        (void)snprintf(ret->component, sizeof(ret->component), "%s", s->sensors[which].component);
        memcpy(ret->unit, s->sensors[which].unit, sizeof(ret->unit));
        ret->provenance = s->provenance;
        ret->idle_uj = -1;
        for (int i = 0; i < s->n_counters; i++)
                if (s->counters[i].sensor == which && s->counters[i].error < 0)
                        ret->error = s->counters[i].error;
        for (int i = 0; ret->error == 0 && i < s->n_counters; i++) {
                uint64_t covered_ns = 0;
                double uj = 0;

                if (s->counters[i].sensor != which)
                        continue;
                known = counter_take(&s->counters[i].counter, &uj, &covered_ns) && known;
                ret->energy_uj += uj;
                if (covered_ns > ret->covered_ns)
                        ret->covered_ns = covered_ns;
        }
        ret->valid = ret->error == 0 && known;
}

static void msr_poll(struct power_source *s, uint64_t ns)
{
        look(s, ns);
        s->polled_ns += ns;
}

static int msr_read(struct power_source *s, const struct power_context *context, struct power_reading *ret,
                    struct err *e)
{
        (void)e; /* a register that cannot be read is a gap, not a failure of the source */
        look(s, context->duration_ns > s->polled_ns ? context->duration_ns - s->polled_ns : 0);
        s->polled_ns = 0;
        for (int i = 0; i < s->n_sensors; i++)
                tell_sensor(s, i, &ret[i]);
        return s->n_sensors;
}

const struct power_source_ops power_source_rapl_msr = {
        .name = "rapl-msr",
        .group = "rapl",
        .counts = true,
        .open = msr_open,
        .read = msr_read,
        .close = msr_close,
        .poll = msr_poll,
};
