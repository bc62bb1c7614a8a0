/* SPDX-License-Identifier: Apache-2.0 */
/* RAPL through the powercap tree: <sysfs_root>/class/powercap/intel-rapl:N and its sub-zones
 * (Documentation/power/powercap/powercap.rst, drivers/powercap/intel_rapl_common.c). Zones are known by their
 * names (package-0, dram, psys), never by their numbers. Counters are cumulative: a zone that cannot be read
 * for a moment is a gap, and the next good reading carries the energy of the gap as well, so that totals stay
 * exact; a counter that was reset loses its gap. On a real sysfs the counters stay open, so that they can be
 * read after privileges were dropped, and are opened anew when their zone is gone, because it may return. In
 * a simulated tree they are opened each time: it may replace them by rename. */
#include "collector/power.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include "collector/counter.h"
#include "collector/processor.h"
#include "common/file.h"
#include "common/num.h"

#define RAPL_DEPTH_MAX 3

struct rapl_zone {
        char dir[PATH_MAX];
        char id[SENSOR_TEXT_MAX];   /* "intel-rapl:0:1" */
        char name[SENSOR_TEXT_MAX]; /* "dram" */
        char component[SENSOR_TEXT_MAX];
        char unit[SENSOR_TEXT_MAX];
        enum provenance provenance;
        int fd;                 /* energy_uj; -1: not held open */
        struct counter counter; /* in microjoules */
        struct rapl_zone *twin; /* a zone that shows the same counter and is read instead; or NULL */
        /* of the last look */
        unsigned long long now_uj;
        int error;
        enum counter_step step;
};

struct power_source {
        struct rapl_zone *zones[SENSORS_MAX]; /* owned */
        int n;
        uint64_t polled_ns; /* the part of the running interval that polls have covered */
};

static void zone_free(struct rapl_zone *z)
{
        closep(&z->fd);
        free(z);
}
CLEANUP_DEFINE(struct rapl_zone *, zone_free);

static void rapl_close(struct power_source *s)
{
        for (int i = 0; i < s->n; i++)
                zone_free(s->zones[i]);
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
        CLEANUP(zone_freep) struct rapl_zone *z = NULL;
        unsigned long long range_uj = 0;
        char path[PATH_MAX];

        if (s->n == SENSORS_MAX || strlen(id) >= SENSOR_TEXT_MAX || find_zone(s, id))
                return 0; /* seen already, through another link */
        z = calloc(1, sizeof(*z));
        if (!z)
                return -ENOMEM;
        z->fd = -1;
        (void)snprintf(z->id, sizeof(z->id), "%s", id);
        if (snprintf(z->dir, sizeof(z->dir), "%s", dir) >= (int)sizeof(z->dir))
                return 0;
        if (path_join(path, sizeof(path), dir, "name") < 0 ||
            file_read_small(AT_FDCWD, path, z->name, sizeof(z->name)) <= 0)
                return 0; /* no zone */
        if (path_join(path, sizeof(path), dir, "max_energy_range_uj") < 0 ||
            file_read_u64(AT_FDCWD, path, &range_uj) < 0)
                range_uj = 0;
        z->counter = (struct counter){ .count_uj = 1, .modulus = range_uj };
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

/* What a zone measures, from its name; else why it is not used. */
static const char *name_zone(const struct power_source *s, const struct processor *cpu, struct rapl_zone *z)
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
                return "the meaning of this zone is not known";
        if (cpu->amd && !strcmp(component, "core"))
                return "on this processor it counts one core only, not the socket's";
        (void)snprintf(z->component, sizeof(z->component), "%s", component);
        (void)snprintf(z->unit, sizeof(z->unit), "%s", unit);
        return NULL;
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
static void name_zones(struct power_source *s, const struct processor *cpu, struct power_notes *notes)
{
        int kept = 0;

        qsort(s->zones, (size_t)s->n, sizeof(s->zones[0]), compare_zones);
        for (int i = 0; i < s->n; i++) {
                const char *why = name_zone(s, cpu, s->zones[i]);

                if (!why)
                        continue;
                s->zones[i]->component[0] = '\0';
                power_note(notes, "rapl", s->zones[i]->name, "%s: %s", s->zones[i]->id, why);
        }
        for (int i = 0; i < s->n; i++) {
                if (s->zones[i]->component[0])
                        s->zones[kept++] = s->zones[i];
                else
                        zone_free(s->zones[i]);
        }
        s->n = kept;
        make_units_unique(s);
}

static int read_held(int fd, unsigned long long *ret_uj)
{
        char text[32];
        ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
        uint64_t uj;
        int r;

        if (n < 0)
                return -errno;
        text[n] = '\0';
        text[strcspn(text, "\n")] = '\0';
        r = num_parse_u64(text, &uj);
        if (r == 0)
                *ret_uj = uj;
        return r;
}

/* A zone that is gone (ENODEV) may be back under its path; any other failure is the zone's own. */
static int read_energy(struct rapl_zone *z, unsigned long long *ret_uj)
{
        char path[PATH_MAX];
        int r;

        if (z->fd >= 0) {
                r = read_held(z->fd, ret_uj);
                if (r != -ENODEV)
                        return r;
                closep(&z->fd);
                z->fd = -1;
        }
        r = path_join(path, sizeof(path), z->dir, "energy_uj");
        if (r == 0 && z->provenance != PROVENANCE_SIMULATED) {
                z->fd = open(path, O_RDONLY | O_CLOEXEC);
                return z->fd < 0 ? -errno : read_held(z->fd, ret_uj);
        }
        return r < 0 ? r : file_read_u64(AT_FDCWD, path, ret_uj);
}

/* ---- dies that show one counter ---- */

/* Read between two readings of the other, a twin shows a value between theirs. Two tries, because the counter
 * may wrap just then. False also when one of them cannot be read. */
static bool shows_the_same(struct rapl_zone *a, struct rapl_zone *b)
{
        for (int i = 0; i < 2; i++) {
                unsigned long long before, value, after;

                if (read_energy(a, &before) < 0 || read_energy(b, &value) < 0 || read_energy(a, &after) < 0)
                        return false;
                if (before <= value && value <= after)
                        return true;
        }
        return false;
}

/* Zones of the same part of the same socket, on different dies. */
static bool are_dies(const struct rapl_zone *a, const struct rapl_zone *b)
{
        size_t socket = strspn(a->unit, "0123456789");

        return !strcmp(a->component, b->component) && !strncmp(a->unit, b->unit, socket) &&
               !strncmp(a->unit + socket, "-die-", 5) && !strncmp(b->unit + socket, "-die-", 5);
}

/* Kernels before 6.12 have a zone for each die of an AMD socket, but all of them show the socket's counter:
 * taken for dies they would count its energy several times. */
static void find_twins(struct power_source *s, struct power_notes *notes)
{
        for (int i = 0; i < s->n; i++) {
                struct rapl_zone *z = s->zones[i];

                for (int j = 0; j < i && !z->twin; j++)
                        if (!s->zones[j]->twin && are_dies(s->zones[j], z) && shows_the_same(s->zones[j], z))
                                z->twin = s->zones[j];
                if (z->twin)
                        power_note(notes, "rapl", z->name, "%s shows the same counter as %s", z->id,
                                   z->twin->id);
        }
}

/* Twins that part are none: what they have counted since the start is then told. */
static void check_twin(struct rapl_zone *z)
{
        unsigned long long uj;

        if (z->twin && z->error == 0 && read_energy(z->twin, &uj) == 0 && !shows_the_same(z->twin, z))
                z->twin = NULL;
}

/* ---- opening ---- */

/* At least one counter must be readable; which one is not is told by its readings. */
static int check_access(struct power_source *s, const struct processor *cpu, struct err *e)
{
        const struct rapl_zone *refused = NULL;
        int readable = 0, error = -ENOENT;

        for (int i = 0; i < s->n; i++) {
                struct rapl_zone *z = s->zones[i];
                unsigned long long uj;
                int r;

                z->provenance = power_path_provenance(z->dir);
                if (z->provenance == PROVENANCE_MEASURED && cpu->hypervisor)
                        z->provenance = PROVENANCE_VIRTUAL; /* made up from CPU time */
                r = read_energy(z, &uj);
                if (r < 0)
                        error = r, refused = z;
                else
                        readable++;
        }
        if (readable || !refused)
                return 0;
        if (error == -EACCES || error == -EPERM)
                return err_set(e, -EACCES,
                               "'%.150s/energy_uj' may be read by root only: run as root, or give the "
                               "collector's group read access to it",
                               refused->dir);
        return err_set(e, error, "cannot read '%.150s/energy_uj': %s", refused->dir, strerror(-error));
}

static int rapl_open(const struct power_source_options *options, struct power_source **ret, struct err *e)
{
        CLEANUP(rapl_closep) struct power_source *s = NULL;
        struct processor cpu;
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
        processor_read(options->procfs_root, &cpu);
        name_zones(s, &cpu, options->notes);
        if (s->n == 0)
                return err_set(e, -ENOENT, "no RAPL zones in '%s'", base);
        r = check_access(s, &cpu, e);
        if (r < 0)
                return r;
        find_twins(s, options->notes);
        *ret = TAKE(s);
        return 0;
}

/* ---- reading ---- */

/* A reset (resume from suspend, a firmware's doing) resets all counters of a socket: of those that went down,
 * one that was near its end only looks as if it had wrapped. */
static bool socket_was_reset(const struct power_source *s, const struct rapl_zone *z)
{
        size_t socket = strspn(z->unit, "0123456789");

        for (int i = 0; i < s->n; i++)
                if (s->zones[i]->error == 0 && s->zones[i]->step == COUNTER_RESET &&
                    !strncmp(s->zones[i]->unit, z->unit, socket) &&
                    strspn(s->zones[i]->unit, "0123456789") == socket)
                        return true;
        return false;
}

/* Looks at all counters, first reading them one after the other. */
static void look(struct power_source *s, uint64_t ns)
{
        for (int i = 0; i < s->n; i++) {
                struct rapl_zone *z = s->zones[i];

                counter_pass(&z->counter, ns);
                z->error = read_energy(z, &z->now_uj);
                if (z->error == 0)
                        z->step = counter_judge(&z->counter, z->now_uj);
        }
        for (int i = 0; i < s->n; i++) {
                struct rapl_zone *z = s->zones[i];

                if (z->error < 0)
                        continue;
                if (z->step == COUNTER_WRAPPED && socket_was_reset(s, z))
                        counter_advance(&z->counter, z->now_uj, COUNTER_RESET);
                else
                        counter_advance(&z->counter, z->now_uj, z->step);
        }
}

static void tell_zone(struct rapl_zone *z, struct power_reading *ret)
{
        (void)snprintf(ret->source, sizeof(ret->source), "rapl-sysfs");
        memcpy(ret->component, z->component, sizeof(ret->component));
        memcpy(ret->unit, z->unit, sizeof(ret->unit));
        ret->provenance = z->provenance;
        ret->idle_uj = -1;
        ret->error = z->error;
        if (z->error == 0)
                ret->valid = counter_take(&z->counter, &ret->energy_uj, &ret->covered_ns);
}

static void rapl_poll(struct power_source *s, uint64_t ns)
{
        look(s, ns);
        s->polled_ns += ns;
}

static int rapl_read(struct power_source *s, const struct power_context *context, struct power_reading *ret,
                     struct err *e)
{
        int n = 0;

        (void)e; /* a zone that fails is a gap, not a failure of the source */
        look(s, context->duration_ns > s->polled_ns ? context->duration_ns - s->polled_ns : 0);
        s->polled_ns = 0;
        for (int i = 0; i < s->n; i++) {
                check_twin(s->zones[i]);
                if (!s->zones[i]->twin)
                        tell_zone(s->zones[i], &ret[n++]);
        }
        return n;
}

const struct power_source_ops power_source_rapl = {
        .name = "rapl",
        .group = "rapl",
        .counts = true,
        .open = rapl_open,
        .read = rapl_read,
        .close = rapl_close,
        .poll = rapl_poll,
};
