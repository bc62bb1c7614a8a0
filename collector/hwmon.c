/* SPDX-License-Identifier: Apache-2.0 */
/* Power meters of the hwmon class (Documentation/hwmon/sysfs-interface.rst): powerI_average or powerI_input,
 * in microwatts, of <sysfs_root>/class/hwmon/hwmonN. Two sources: `acpi` is the ACPI power meter, whose
 * firmware averages over powerI_average_interval; `hwmon` is what the table below knows to measure a whole
 * package or platform, and what the configuration names. All other meters are noted and not used: a rail, a
 * disk or a graphics card is not the machine. */
#include "collector/power.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include "collector/meter.h"
#include "collector/processor.h"
#include "common/clock.h"
#include "common/file.h"

#define HWMON_METERS_PER_DEVICE_MAX 32
#define HWMON_AVERAGE_MAX_MS        3600000
#define ACPI_NAME                   "power_meter"

/* What is known to measure the whole of something. */
static const struct hwmon_kind {
        const char *name;      /* of the device */
        const char *label;     /* NULL: any */
        const char *component; /* NULL: not used, because of `why` */
        bool prefer_input;     /* reading powerI_average would block */
        const char *why;
} kinds[] = {
        { "fam15h_power", NULL, "package", true, NULL }, /* AMD family 15h and 16h, which have no RAPL */
        { "apm_xgene", "CPU power", "package", false, NULL },
        { "ibmpowernv", "System", "platform", false, NULL },
        { "amdgpu", NULL, NULL, false, "a graphics card is not the machine" },
        { "nouveau", NULL, NULL, false, "a graphics card is not the machine" },
};

struct hwmon_meter {
        char path[PATH_MAX];
        const char *source; /* "acpi", "hwmon" */
        char component[SENSOR_TEXT_MAX], unit[SENSOR_TEXT_MAX];
        enum provenance provenance;
        uint64_t average_ns; /* 0: not averaged, or not known */
        struct meter meter;
};

struct power_source {
        struct hwmon_meter *meters[SENSORS_MAX]; /* owned */
        int n;
};

/* One search: what for, and where we are. */
struct search {
        struct power_source *found;
        const struct power_source_options *options;
        bool acpi;
        bool hypervisor;
        char device[SENSOR_TEXT_MAX]; /* name of the hwmon device */
};

static void hwmon_close(struct power_source *s)
{
        for (int i = 0; i < s->n; i++)
                free(s->meters[i]);
        free(s);
}
CLEANUP_DEFINE(struct power_source *, hwmon_close);

/* "NAME=COMPONENT" or "NAME:LABEL=COMPONENT" of the configuration; NULL when it is about another meter. */
static const char *configured_component(const char *use, const char *device, const char *label)
{
        const char *component = strrchr(use, '='), *colon = strchr(use, ':');
        size_t name = colon && colon < component ? (size_t)(colon - use) : (size_t)(component - use);

        if (strlen(device) != name || strncmp(use, device, name) != 0)
                return NULL;
        if (colon && colon < component &&
            (strlen(label) != (size_t)(component - colon - 1) ||
             strncmp(colon + 1, label, (size_t)(component - colon - 1)) != 0))
                return NULL;
        return component + 1;
}

int hwmon_use_check(const char *use, struct err *e)
{
        static const char *const components[] = { "package", "core", "uncore", "dram", "platform" };
        const char *component = strrchr(use, '=');

        for (size_t i = 0; component && component > use && i < ARRAY_SIZE(components); i++)
                if (!strcmp(component + 1, components[i]))
                        return 0;
        return err_set(
                e, -EINVAL,
                "hwmon.use: '%.80s' is not NAME=COMPONENT or NAME:LABEL=COMPONENT with one of package, "
                "core, uncore, dram and platform",
                use);
}

/* What a meter measures; NULL with the reason in ret_why when it is not used. */
static const char *component_of(const struct search *q, const char *label, const struct hwmon_kind **ret_kind,
                                const char **ret_why)
{
        *ret_kind = NULL;
        *ret_why = "not known to measure a whole package or platform; hwmon.use can say what it measures";
        for (size_t i = 0; i < q->options->n_hwmon_use; i++) {
                const char *component = configured_component(q->options->hwmon_use[i], q->device, label);

                if (component)
                        return component;
        }
        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
                const struct hwmon_kind *k = &kinds[i];

                if (strcmp(k->name, q->device) != 0 || (k->label && strcmp(k->label, label) != 0))
                        continue;
                *ret_kind = k;
                if (k->why)
                        *ret_why = k->why;
                return k->component;
        }
        return NULL;
}

/* Kepler's name for an ACPI meter; the device and the label for others, numbered if there are several. */
static void name_unit(const struct search *q, const char *label, struct hwmon_meter *m)
{
        const struct power_source *s = q->found;
        int same = 0;

        if (q->acpi) {
                (void)snprintf(m->unit, sizeof(m->unit), "energy%d", s->n + 1);
                return;
        }
        (void)snprintf(m->unit, sizeof(m->unit), "%.30s%s%.20s", q->device, *label ? "/" : "", label);
        for (int i = 0; i < s->n; i++)
                same += !strncmp(s->meters[i]->unit, m->unit, strlen(m->unit));
        if (same)
                (void)snprintf(m->unit + strlen(m->unit), sizeof(m->unit) - strlen(m->unit), "-%d", same + 1);
}

static int add_meter(const struct search *q, const char *path, const char *component, const char *label,
                     uint64_t average_ns)
{
        struct hwmon_meter *m;

        if (q->found->n == SENSORS_MAX)
                return 0;
        m = calloc(1, sizeof(*m));
        if (!m)
                return -ENOMEM;
        (void)snprintf(m->path, sizeof(m->path), "%s", path);
        (void)snprintf(m->component, sizeof(m->component), "%s", component);
        m->source = q->acpi ? "acpi" : "hwmon";
        m->average_ns = average_ns;
        m->provenance = power_path_provenance(path);
        if (m->provenance == PROVENANCE_MEASURED && q->hypervisor)
                m->provenance = PROVENANCE_VIRTUAL;
        name_unit(q, label, m);
        q->found->meters[q->found->n++] = m;
        return 0;
}

/* "<dir>/power<i>_<what>" when it is there. */
static bool find_file(const char *dir, int i, const char *what, char ret[PATH_MAX])
{
        char file[48];

        (void)snprintf(file, sizeof(file), "power%d_%s", i, what);
        return path_join(ret, PATH_MAX, dir, file) == 0 && access(ret, F_OK) == 0;
}

static uint64_t average_of(const char *dir, int i)
{
        unsigned long long ms;
        char path[PATH_MAX];

        if (!find_file(dir, i, "average_interval", path) || file_read_u64(AT_FDCWD, path, &ms) < 0 ||
            ms > HWMON_AVERAGE_MAX_MS)
                return 0;
        return ms * NS_PER_MS;
}

/* The I-th meter of a directory, when it has one. Returns 1, 0 (none), or a negative errno. */
static int look_at_meter(const struct search *q, const char *dir, int i)
{
        const struct hwmon_kind *kind = NULL;
        char path[PATH_MAX], average[PATH_MAX], label[SENSOR_TEXT_MAX] = "", sensor[2 * SENSOR_TEXT_MAX];
        bool has_average = find_file(dir, i, "average", average), has_input;
        const char *component = "platform", *why = NULL;
        int r;

        if (find_file(dir, i, "label", path) && file_read_small(AT_FDCWD, path, label, sizeof(label)) < 0)
                label[0] = '\0';
        has_input = !q->acpi && find_file(dir, i, "input", path);
        if (!has_average && !has_input)
                return 0;
        if (!q->acpi)
                component = component_of(q, label, &kind, &why);
        if (!component) {
                (void)snprintf(sensor, sizeof(sensor), "%s power%d %s", q->device, i, label);
                power_note(q->options->notes, "hwmon", sensor, "%s", why);
                return 1;
        }
        if (has_average && !(has_input && kind && kind->prefer_input))
                r = add_meter(q, average, component, label, average_of(dir, i));
        else
                r = add_meter(q, path, component, label, 0);
        return r < 0 ? r : 1;
}

static int look_at_meters(const struct search *q, const char *dir)
{
        int found = 0;

        for (int i = 1; i <= HWMON_METERS_PER_DEVICE_MAX; i++) {
                int r = look_at_meter(q, dir, i);

                if (r < 0)
                        return r;
                found += r;
        }
        return found;
}

/* The attributes are in the hwmon directory itself or, with older kernels, in its device. */
static int look_at_device(struct search *q, const char *dir)
{
        static const char *const places[] = { ".", "device" };
        char path[PATH_MAX], place[PATH_MAX];
        int r = 0;

        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(places); i++) {
                if (path_join(place, sizeof(place), dir, places[i]) < 0 ||
                    path_join(path, sizeof(path), place, "name") < 0)
                        continue;
                if (file_read_small(AT_FDCWD, path, q->device, sizeof(q->device)) <= 0 &&
                    (path_join(path, sizeof(path), dir, "name") < 0 ||
                     file_read_small(AT_FDCWD, path, q->device, sizeof(q->device)) <= 0))
                        continue;
                if (!strcmp(q->device, ACPI_NAME) == q->acpi)
                        r = look_at_meters(q, place);
        }
        return r < 0 ? r : 0;
}

static int only_hwmon(const struct dirent *entry)
{
        return !strncmp(entry->d_name, "hwmon", 5);
}

static int look_at_devices(struct search *q, const char *base, struct err *e)
{
        struct dirent **entries = NULL;
        int n = scandir(base, &entries, only_hwmon, versionsort), r = 0;

        if (n < 0)
                return err_sys(e, "no hwmon tree at '%s'", base);
        for (int i = 0; i < n; i++) {
                char path[PATH_MAX];

                if (r == 0 && path_join(path, sizeof(path), base, entries[i]->d_name) == 0)
                        r = look_at_device(q, path);
                free(entries[i]);
        }
        free(entries);
        return r < 0 ? err_set(e, r, "out of memory") : 0;
}

static int read_uw(const struct hwmon_meter *m, double *ret_uw)
{
        unsigned long long uw;
        int r = file_read_u64(AT_FDCWD, m->path, &uw);

        if (r < 0)
                return r;
        if ((double)uw > METER_WATTS_MAX * 1e6)
                return -ERANGE;
        *ret_uw = (double)uw;
        return 0;
}

static int check_access(const struct power_source *s, struct err *e)
{
        int r = -ENOENT;
        double uw;

        for (int i = 0; i < s->n; i++)
                if ((r = read_uw(s->meters[i], &uw)) == 0)
                        return 0;
        if (r == -EACCES || r == -EPERM)
                return err_set(e, -EACCES, "'%.180s' may be read by root only: run as root",
                               s->meters[s->n - 1]->path);
        return err_set(e, r, "cannot read '%.180s': %s", s->meters[s->n - 1]->path, strerror(-r));
}

static int open_meters(const struct power_source_options *options, bool acpi, struct power_source **ret,
                       struct err *e)
{
        CLEANUP(hwmon_closep) struct power_source *s = calloc(1, sizeof(*s));
        struct search q = { .found = s, .options = options, .acpi = acpi };
        struct processor cpu;
        char base[PATH_MAX];
        int r;

        if (!s)
                return err_set(e, -ENOMEM, "out of memory");
        processor_read(options->procfs_root, &cpu);
        q.hypervisor = cpu.hypervisor;
        r = path_join(base, sizeof(base), options->sysfs_root, "class/hwmon");
        if (r < 0)
                return err_set(e, r, "sysfs_root is too long");
        r = look_at_devices(&q, base, e);
        if (r < 0)
                return r;
        if (s->n == 0)
                return err_set(e, -ENOENT, "no %s in '%s'", acpi ? "power meter" : "meter to be used", base);
        r = check_access(s, e);
        if (r < 0)
                return r;
        *ret = TAKE(s);
        return 0;
}

static int acpi_open(const struct power_source_options *options, struct power_source **ret, struct err *e)
{
        return open_meters(options, true, ret, e);
}

static int hwmon_open(const struct power_source_options *options, struct power_source **ret, struct err *e)
{
        return open_meters(options, false, ret, e);
}

static void read_meter(struct hwmon_meter *m, uint64_t duration_ns, struct power_reading *ret)
{
        double uw = 0;

        (void)snprintf(ret->source, sizeof(ret->source), "%s", m->source);
        memcpy(ret->component, m->component, sizeof(ret->component));
        memcpy(ret->unit, m->unit, sizeof(ret->unit));
        ret->provenance = m->provenance;
        ret->idle_uj = -1;
        ret->error = read_uw(m, &uw);
        if (ret->error < 0) {
                meter_miss(&m->meter);
                return;
        }
        ret->valid = meter_energy(&m->meter, uw, m->average_ns, duration_ns, &ret->energy_uj);
        ret->covered_ns = ret->valid ? duration_ns : 0;
}

static int hwmon_read(struct power_source *s, const struct power_context *context, struct power_reading *ret,
                      struct err *e)
{
        (void)e; /* a meter that fails is a gap, not a failure of the source */
        for (int i = 0; i < s->n; i++)
                read_meter(s->meters[i], context->duration_ns, &ret[i]);
        return s->n;
}

const struct power_source_ops power_source_acpi = {
        .name = "acpi",
        .group = "platform",
        .open = acpi_open,
        .read = hwmon_read,
        .close = hwmon_close,
};

const struct power_source_ops power_source_hwmon = {
        .name = "hwmon",
        .open = hwmon_open,
        .read = hwmon_read,
        .close = hwmon_close,
};
