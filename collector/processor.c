/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/processor.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include "common/cleanup.h"
#include "common/file.h"

/* The text behind "key   : " when the line has that key, else NULL. */
static const char *value_of(const char *line, const char *key)
{
        size_t n = strlen(key);

        if (strncmp(line, key, n) != 0)
                return NULL;
        line += n + strspn(line + n, " \t");
        return *line == ':' ? line + 1 + strspn(line + 1, " \t") : NULL;
}

void processor_read(const char *procfs_root, struct processor *ret)
{
        CLEANUP(fclosep) FILE *f = NULL;
        char path[PATH_MAX], line[8192];
        const char *value;

        memset(ret, 0, sizeof(*ret));
        if (path_join(path, sizeof(path), procfs_root, "cpuinfo") < 0 || !(f = fopen(path, "re")))
                return;
        while (fgets(line, sizeof(line), f) && *line != '\n') { /* the first processor tells */
                if ((value = value_of(line, "vendor_id"))) {
                        ret->intel = !strncmp(value, "GenuineIntel", 12);
                        ret->amd = !strncmp(value, "AuthenticAMD", 12) || !strncmp(value, "HygonGenuine", 12);
                } else if ((value = value_of(line, "cpu family"))) {
                        ret->family = (int)strtol(value, NULL, 10);
                } else if ((value = value_of(line, "model"))) {
                        ret->model = (int)strtol(value, NULL, 10);
                } else if ((value = value_of(line, "flags"))) {
                        ret->hypervisor = strstr(value, "hypervisor") != NULL;
                }
        }
}

static int read_id(const char *dir, const char *name, int fallback)
{
        unsigned long long id;
        char path[PATH_MAX];

        if (path_join(path, sizeof(path), dir, name) < 0 || file_read_u64(AT_FDCWD, path, &id) < 0 ||
            id > INT_MAX)
                return fallback;
        return (int)id;
}

static int only_cpus(const struct dirent *entry)
{
        return !strncmp(entry->d_name, "cpu", 3) && entry->d_name[3] >= '0' && entry->d_name[3] <= '9';
}

size_t processor_cpus(const char *sysfs_root, struct processor_cpu *ret, size_t max)
{
        struct dirent **entries = NULL;
        char base[PATH_MAX], dir[PATH_MAX], name[300];
        size_t found = 0;
        int n;

        if (path_join(base, sizeof(base), sysfs_root, "devices/system/cpu") < 0)
                return 0;
        n = scandir(base, &entries, only_cpus, versionsort);
        for (int i = 0; i < n; i++) {
                struct processor_cpu cpu = { .cpu = (int)strtol(entries[i]->d_name + 3, NULL, 10) };

                (void)snprintf(name, sizeof(name), "%s/topology", entries[i]->d_name);
                free(entries[i]);
                if (found == max || path_join(dir, sizeof(dir), base, name) < 0)
                        continue;
                cpu.package = read_id(dir, "physical_package_id", -1);
                cpu.die = read_id(dir, "die_id", 0);
                cpu.core = read_id(dir, "core_id", cpu.cpu);
                if (cpu.package >= 0) /* an offline CPU has no topology */
                        ret[found++] = cpu;
        }
        free(entries);
        return found;
}

void processor_unit(const struct processor_cpu *cpu, bool dies, char *ret, size_t size)
{
        if (dies)
                (void)snprintf(ret, size, "%d-die-%d", cpu->package, cpu->die);
        else
                (void)snprintf(ret, size, "%d", cpu->package);
}
