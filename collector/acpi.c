/* SPDX-License-Identifier: Apache-2.0 */
/* The ACPI power meter: <sysfs_root>/class/hwmon/hwmonN with the name "power_meter" and powerI_average in
 * microwatts, averaged by the firmware over powerI_average_interval. Energy is the trapezoid of two readings
 * over the time between them; a meter that could not be read starts anew, so the interval around the gap is
 * one too. */
#include "collector/power.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include "common/file.h"

#define ACPI_METERS_PER_DEVICE_MAX 8
#define ACPI_WATTS_MAX             1e6 /* a reading above is nonsense */

struct acpi_meter {
        char path[PATH_MAX];
        char unit[SENSOR_TEXT_MAX];
        enum provenance provenance;
        double last_uw;
        bool based; /* last_uw is the reading of the tick before */
};

struct power_source {
        struct acpi_meter *meters[SENSORS_MAX]; /* owned */
        int n;
};

static void acpi_close(struct power_source *s)
{
        for (int i = 0; i < s->n; i++)
                free(s->meters[i]);
        free(s);
}
CLEANUP_DEFINE(struct power_source *, acpi_close);

static int add_meter(struct power_source *s, const char *path)
{
        struct acpi_meter *m;

        if (s->n == SENSORS_MAX)
                return 0;
        m = calloc(1, sizeof(*m));
        if (!m)
                return -ENOMEM;
        (void)snprintf(m->path, sizeof(m->path), "%s", path);
        (void)snprintf(m->unit, sizeof(m->unit), "energy%d", s->n + 1); /* Kepler's name of a meter */
        m->provenance = power_path_provenance(path);
        s->meters[s->n++] = m;
        return 0;
}

/* power1_average, power2_average, … in one directory; returns how many are there, or a negative errno. */
static int add_meters(struct power_source *s, const char *dir)
{
        int found = 0;

        for (int i = 1; i <= ACPI_METERS_PER_DEVICE_MAX; i++) {
                char path[PATH_MAX], file[32];
                int r;

                (void)snprintf(file, sizeof(file), "power%d_average", i);
                if (path_join(path, sizeof(path), dir, file) < 0 || access(path, F_OK) < 0)
                        break;
                r = add_meter(s, path);
                if (r < 0)
                        return r;
                found++;
        }
        return found;
}

/* The attributes are in the hwmon directory itself or, with older kernels, in its device. */
static int add_device(struct power_source *s, const char *dir)
{
        static const char *const places[] = { ".", "device" };
        char path[PATH_MAX], name[64], place[PATH_MAX];
        int r = 0;

        for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
                if (path_join(place, sizeof(place), dir, places[i]) < 0 ||
                    path_join(path, sizeof(path), place, "name") < 0)
                        continue;
                if (file_read_small(AT_FDCWD, path, name, sizeof(name)) <= 0 &&
                    (path_join(path, sizeof(path), dir, "name") < 0 ||
                     file_read_small(AT_FDCWD, path, name, sizeof(name)) <= 0))
                        continue;
                if (!strcmp(name, "power_meter") && (r = add_meters(s, place)) != 0)
                        break;
        }
        return r < 0 ? r : 0;
}

static int only_hwmon(const struct dirent *entry)
{
        return !strncmp(entry->d_name, "hwmon", 5);
}

static int add_devices(struct power_source *s, const char *base, struct err *e)
{
        struct dirent **entries = NULL;
        int n = scandir(base, &entries, only_hwmon, versionsort), r = 0;

        if (n < 0)
                return err_sys(e, "no hwmon tree at '%s'", base);
        for (int i = 0; i < n; i++) {
                char path[PATH_MAX];

                if (r == 0 && path_join(path, sizeof(path), base, entries[i]->d_name) == 0)
                        r = add_device(s, path);
                free(entries[i]);
        }
        free(entries);
        return r < 0 ? err_set(e, r, "out of memory") : 0;
}

static int read_uw(const struct acpi_meter *m, double *ret_uw)
{
        unsigned long long uw;
        int r = file_read_u64(AT_FDCWD, m->path, &uw);

        if (r < 0)
                return r;
        if ((double)uw > ACPI_WATTS_MAX * 1e6)
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
                return err_set(e, -EACCES, "'%s' may be read by root only: run as root",
                               s->meters[s->n - 1]->path);
        return err_set(e, r, "cannot read '%s': %s", s->meters[s->n - 1]->path, strerror(-r));
}

static int acpi_open(const struct power_source_options *options, struct power_source **ret, struct err *e)
{
        CLEANUP(acpi_closep) struct power_source *s = NULL;
        char base[PATH_MAX];
        int r;

        s = calloc(1, sizeof(*s));
        if (!s)
                return err_set(e, -ENOMEM, "out of memory");
        r = path_join(base, sizeof(base), options->sysfs_root, "class/hwmon");
        if (r < 0)
                return err_set(e, r, "sysfs_root is too long");
        r = add_devices(s, base, e);
        if (r < 0)
                return r;
        if (s->n == 0)
                return err_set(e, -ENOENT, "no power meter in '%s'", base);
        r = check_access(s, e);
        if (r < 0)
                return r;
        *ret = TAKE(s);
        return 0;
}

static void read_meter(struct acpi_meter *m, uint64_t duration_ns, struct power_reading *ret)
{
        double uw = 0;
        int r = read_uw(m, &uw);

        (void)snprintf(ret->source, sizeof(ret->source), "acpi");
        (void)snprintf(ret->component, sizeof(ret->component), "platform");
        memcpy(ret->unit, m->unit, sizeof(ret->unit));
        ret->provenance = m->provenance;
        ret->idle_uj = -1;
        if (r < 0) {
                ret->error = r;
                m->based = false;
                return;
        }
        if (m->based) {
                ret->valid = true;
                ret->energy_uj = (m->last_uw + uw) / 2 * (double)duration_ns / 1e9;
                ret->covered_ns = duration_ns;
        }
        m->based = true;
        m->last_uw = uw;
}

static int acpi_read(struct power_source *s, const struct power_context *context, struct power_reading *ret,
                     struct err *e)
{
        (void)e; /* a meter that fails is a gap, not a failure of the source */
        for (int i = 0; i < s->n; i++)
                read_meter(s->meters[i], context->duration_ns, &ret[i]);
        return s->n;
}

const struct power_source_ops power_source_acpi = {
        .name = "acpi",
        .open = acpi_open,
        .read = acpi_read,
        .close = acpi_close,
};
