/* SPDX-License-Identifier: Apache-2.0 */
/* RAPL through the powercap tree: <sysfs_root>/class/powercap/intel-rapl:N and its sub-zones. Zones are known
 * by their names (package-0, dram, psys), never by their numbers. Counters are cumulative: a zone that cannot
 * be read for a moment is a gap, and the next good reading carries the energy of the gap as well, so that
 * totals stay exact; a counter that was reset loses its gap. Files are opened anew each time, because a zone
 * may vanish and return, and a simulated tree may replace them by rename. */
#include "collector/power.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include "common/clock.h"
#include "common/file.h"

#define RAPL_DEPTH_MAX 3
/* No zone draws more: a counter that went down counts as wrapped only when that implies less than this, else
 * as reset. Also bounds the gap that a zone can bridge before it may have wrapped unseen. */
#define RAPL_WATTS_MAX 2000.0

struct rapl_zone {
        char dir[PATH_MAX];
        char id[SENSOR_TEXT_MAX];   /* "intel-rapl:0:1" */
        char name[SENSOR_TEXT_MAX]; /* "dram" */
        char component[SENSOR_TEXT_MAX];
        char unit[SENSOR_TEXT_MAX];
        enum provenance provenance;
        unsigned long long range_uj; /* the counter's largest value; 0 unknown */
        unsigned long long last_uj;
        bool based;          /* last_uj is a reading */
        uint64_t elapsed_ns; /* since last_uj was read */
};

struct power_source {
        struct rapl_zone *zones[SENSORS_MAX]; /* owned */
        int n;
};

static void rapl_close(struct power_source *s)
{
        for (int i = 0; i < s->n; i++)
                free(s->zones[i]);
        free(s);
}
CLEANUP_DEFINE(struct power_source *, rapl_close);

static struct rapl_zone *find_zone(const struct power_source *s, const char *id)
{
        for (int i = 0; i < s->n; i++)
                if (!strcmp(s->zones[i]->id, id))
                        return s->zones[i];
        return NULL;
}

/* "intel-rapl:0", "intel-rapl:0:1", and "intel-rapl", the control type that holds them on some trees; not
 * intel-rapl-mmio, which shows the same counters again. */
static bool is_rapl_name(const char *name)
{
        size_t n = strlen("intel-rapl");

        return !strncmp(name, "intel-rapl", n) && (name[n] == '\0' || name[n] == ':');
}

static int add_zone(struct power_source *s, const char *dir, const char *id)
{
        CLEANUP(freep) struct rapl_zone *z = NULL;
        char path[PATH_MAX];

        if (s->n == SENSORS_MAX || strlen(id) >= SENSOR_TEXT_MAX || find_zone(s, id))
                return 0; /* seen already, through another link */
        z = calloc(1, sizeof(*z));
        if (!z)
                return -ENOMEM;
        (void)snprintf(z->id, sizeof(z->id), "%s", id);
        if (snprintf(z->dir, sizeof(z->dir), "%s", dir) >= (int)sizeof(z->dir))
                return 0;
        if (path_join(path, sizeof(path), dir, "name") < 0 ||
            file_read_small(AT_FDCWD, path, z->name, sizeof(z->name)) <= 0)
                return 0; /* no zone */
        if (path_join(path, sizeof(path), dir, "max_energy_range_uj") < 0 ||
            file_read_u64(AT_FDCWD, path, &z->range_uj) < 0)
                z->range_uj = 0;
        s->zones[s->n++] = TAKE(z);
        return 0;
}

static int walk(struct power_source *s, const char *dir, int depth, struct err *e)
{
        CLEANUP(closedirp) DIR *d = opendir(dir);
        struct dirent *entry;
        char path[PATH_MAX];
        int r = 0;

        if (!d)
                return depth > 0 ? 0 : err_sys(e, "no powercap tree at '%s'", dir);
        while (r == 0 && (entry = readdir(d))) {
                if (!is_rapl_name(entry->d_name) || path_join(path, sizeof(path), dir, entry->d_name) < 0)
                        continue;
                if (strchr(entry->d_name, ':'))
                        r = add_zone(s, path, entry->d_name);
                if (r == 0 && depth + 1 < RAPL_DEPTH_MAX)
                        r = walk(s, path, depth + 1, e);
        }
        return r < 0 ? err_set(e, r, "out of memory") : 0;
}

/* The zone around "intel-rapl:0:1": "intel-rapl:0". */
static const struct rapl_zone *parent_of(const struct power_source *s, const struct rapl_zone *z)
{
        char id[SENSOR_TEXT_MAX];

        (void)snprintf(id, sizeof(id), "%s", z->id);
        *strrchr(id, ':') = '\0';
        return find_zone(s, id);
}

/* Socket of a package zone: "0" in "package-0", "0-die-1" in "package-0-die-1"; NULL for other zones. */
static const char *package_unit(const struct rapl_zone *z)
{
        size_t n = strlen("package-");

        return !strncmp(z->name, "package-", n) && isdigit((unsigned char)z->name[n]) ? z->name + n : NULL;
}

/* What a zone measures, from its name; false for a zone that we have no word for. */
static bool name_zone(const struct power_source *s, struct rapl_zone *z)
{
        static const char *const parts[] = { "core", "uncore", "dram" };
        const struct rapl_zone *parent = parent_of(s, z);
        const char *unit = package_unit(z), *component = NULL;

        if (unit)
                component = "package";
        else if (!strcmp(z->name, "psys"))
                component = "psys", unit = "0";
        for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
                if (!strcmp(z->name, parts[i]) && parent && package_unit(parent))
                        component = parts[i], unit = package_unit(parent);
        if (!component)
                return false;
        (void)snprintf(z->component, sizeof(z->component), "%s", component);
        (void)snprintf(z->unit, sizeof(z->unit), "%s", unit);
        return true;
}

/* Two zones of one name (dies before Linux 5.3 told them apart, psys of two sockets) must not share a series.
 */
static void make_units_unique(struct power_source *s)
{
        for (int i = 0; i < s->n; i++) {
                for (int j = 0; j < i; j++) {
                        char unit[SENSOR_TEXT_MAX];

                        if (strcmp(s->zones[i]->component, s->zones[j]->component) != 0 ||
                            strcmp(s->zones[i]->unit, s->zones[j]->unit) != 0)
                                continue;
                        (void)snprintf(unit, sizeof(unit), "%.40s-zone%.16s", s->zones[i]->unit,
                                       strchr(s->zones[i]->id, ':'));
                        memcpy(s->zones[i]->unit, unit, sizeof(unit));
                        break;
                }
        }
}

static int compare_zones(const void *a, const void *b)
{
        return strcmp((*(struct rapl_zone *const *)a)->id, (*(struct rapl_zone *const *)b)->id);
}

/* Keep the zones that mean something to us, in a stable order. */
static void name_zones(struct power_source *s)
{
        int kept = 0;

        qsort(s->zones, (size_t)s->n, sizeof(s->zones[0]), compare_zones);
        for (int i = 0; i < s->n; i++)
                if (!name_zone(s, s->zones[i]))
                        s->zones[i]->component[0] = '\0';
        for (int i = 0; i < s->n; i++) {
                if (s->zones[i]->component[0])
                        s->zones[kept++] = s->zones[i];
                else
                        free(s->zones[i]);
        }
        s->n = kept;
        make_units_unique(s);
}

/* A RAPL that a hypervisor shows is derived from CPU time, not measured. */
static bool under_hypervisor(const char *procfs_root)
{
        CLEANUP(fclosep) FILE *f = NULL;
        char path[PATH_MAX], line[4096];

        if (path_join(path, sizeof(path), procfs_root, "cpuinfo") < 0 || !(f = fopen(path, "re")))
                return false;
        while (fgets(line, sizeof(line), f))
                if (!strncmp(line, "flags", 5))
                        return strstr(line, " hypervisor") != NULL;
        return false;
}

static int energy_path(const struct rapl_zone *z, char ret[PATH_MAX])
{
        return path_join(ret, PATH_MAX, z->dir, "energy_uj");
}

/* At least one counter must be readable; which one is not is told by its readings. */
static int check_access(struct power_source *s, const char *procfs_root, struct err *e)
{
        bool virtual = under_hypervisor(procfs_root);
        int readable = 0, refused = -ENOENT;
        char path[PATH_MAX];

        for (int i = 0; i < s->n; i++) {
                struct rapl_zone *z = s->zones[i];
                unsigned long long uj;
                int r = energy_path(z, path);

                if (r == 0)
                        r = file_read_u64(AT_FDCWD, path, &uj);
                z->provenance = power_path_provenance(path);
                if (z->provenance == PROVENANCE_MEASURED && virtual)
                        z->provenance = PROVENANCE_VIRTUAL;
                if (r < 0)
                        refused = r;
                else
                        readable++;
        }
        if (readable)
                return 0;
        if (refused == -EACCES || refused == -EPERM)
                return err_set(e, -EACCES,
                               "'%s' may be read by root only: run as root, or give the collector's "
                               "group read access to it",
                               path);
        return err_set(e, refused, "cannot read '%s': %s", path, strerror(-refused));
}

static int rapl_open(const struct power_source_options *options, struct power_source **ret, struct err *e)
{
        CLEANUP(rapl_closep) struct power_source *s = NULL;
        char base[PATH_MAX];
        int r;

        s = calloc(1, sizeof(*s));
        if (!s)
                return err_set(e, -ENOMEM, "out of memory");
        r = path_join(base, sizeof(base), options->sysfs_root, "class/powercap");
        if (r < 0)
                return err_set(e, r, "sysfs_root is too long");
        r = walk(s, base, 0, e);
        if (r < 0)
                return r;
        name_zones(s);
        if (s->n == 0)
                return err_set(e, -ENOENT, "no RAPL zones in '%s'", base);
        r = check_access(s, options->procfs_root, e);
        if (r < 0)
                return r;
        *ret = TAKE(s);
        return 0;
}

/* Energy between two readings of a counter; negative errno when it cannot be known. */
static int counter_delta(const struct rapl_zone *z, unsigned long long now_uj, double *ret_uj)
{
        double seconds = (double)z->elapsed_ns / 1e9, delta;

        if (now_uj >= z->last_uj) {
                *ret_uj = (double)(now_uj - z->last_uj);
                return 0;
        }
        if (z->last_uj > z->range_uj)
                return -ENODATA; /* the range is unknown or wrong */
        delta = (double)(z->range_uj - z->last_uj) + (double)now_uj;
        if (seconds <= 0 || delta / 1e6 / seconds > RAPL_WATTS_MAX)
                return -ENODATA; /* that was no wrap but a reset */
        *ret_uj = delta;
        return 0;
}

/* After a gap the counter may have wrapped more than once. A single interval is trusted: the reader chose it.
 */
static bool gap_too_long(const struct rapl_zone *z, uint64_t duration_ns)
{
        return z->elapsed_ns > duration_ns && z->range_uj &&
               (double)z->elapsed_ns / 1e9 * RAPL_WATTS_MAX > (double)z->range_uj / 1e6;
}

static void read_zone(struct rapl_zone *z, uint64_t duration_ns, struct power_reading *ret)
{
        unsigned long long now_uj = 0;
        char path[PATH_MAX];
        double delta_uj = 0;
        int r = energy_path(z, path);

        (void)snprintf(ret->source, sizeof(ret->source), "rapl-sysfs");
        memcpy(ret->component, z->component, sizeof(ret->component));
        memcpy(ret->unit, z->unit, sizeof(ret->unit));
        ret->provenance = z->provenance;
        ret->idle_uj = -1;

        z->elapsed_ns += duration_ns;
        if (r == 0)
                r = file_read_u64(AT_FDCWD, path, &now_uj);
        if (r < 0) {
                ret->error = r;
                return;
        }
        if (z->based && !gap_too_long(z, duration_ns) && counter_delta(z, now_uj, &delta_uj) == 0) {
                ret->valid = true;
                ret->energy_uj = delta_uj;
                ret->covered_ns = z->elapsed_ns;
        }
        z->based = true;
        z->last_uj = now_uj;
        z->elapsed_ns = 0;
}

static int rapl_read(struct power_source *s, const struct power_context *context, struct power_reading *ret,
                     struct err *e)
{
        (void)e; /* a zone that fails is a gap, not a failure of the source */
        for (int i = 0; i < s->n; i++)
                read_zone(s->zones[i], context->duration_ns, &ret[i]);
        return s->n;
}

const struct power_source_ops power_source_rapl = {
        .name = "rapl",
        .open = rapl_open,
        .read = rapl_read,
        .close = rapl_close,
};
