/* SPDX-License-Identifier: Apache-2.0 */
/* What cgroups are: ids to paths, paths to containers, and the kernel's own CPU counter of a cgroup. Reads
 * <procfs_root>/mounts and the directories below the cgroup mounts; writes nothing. */
#include "collector/features.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "bpf/features.h"
#include "common/buf.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/num.h"

#define MAX_MOUNTS_TEXT ((size_t)4 << 20)
#define MAX_DEPTH       32                /* below the mount; Kubernetes in a container in a slice is 8 */
#define MAX_CGROUPS     65536             /* of all hierarchies; more are not told apart from unknown ones */
#define WALK_PAUSE_NS   (100 * NS_PER_MS) /* between two walks, however many ids are unknown */
#define KEEP_NS         (60 * NS_PER_S)   /* a path outlives its cgroup, an id stays unknown */
#define CONTAINER_HEX   64

enum { HIERARCHY_V2, HIERARCHY_V1, HIERARCHY_N = HIERARCHY_V1 + CGROUP_V1_N };

static const char *const controllers[CGROUP_V1_N] = {
        [CGROUP_V1_CPUACCT] = "cpuacct",
        [CGROUP_V1_CPU] = "cpu",
        [CGROUP_V1_MEMORY] = "memory",
        [CGROUP_V1_PIDS] = "pids",
};

struct cgroup {
        uint64_t id;
        uint64_t seen_ns; /* by the last walk that met it, or that did not find it */
        char *path;       /* owned, below the mount; NULL: not found */
        bool leaf;
        char container[CONTAINER_HEX + 1];
};

struct cgroup_table {
        char *mount[HIERARCHY_N]; /* owned; NULL: not mounted */
        uint64_t root_id;         /* of v2; 0 when it is not mounted */
        struct cgroup *cgroups;   /* owned; [n] */
        size_t n, cap;
        struct index index;
        uint64_t walked_ns;      /* 0: never */
        struct cgroup_info info; /* the last answer */
};

/* --- container ids in paths -------------------------------------------------------------------------- */

static size_t hex_run(const char *s)
{
        return strspn(s, "0123456789abcdef");
}

/* One component: "<64 hex>", or behind a prefix that ends in '-' or ':' ("docker-", "cri-containerd-",
 * "crio-", "libpod-", "nerdctl-"), maybe with ".scope" behind. The monitors beside a container carry its id
 * too. */
static const char *component_container(const char *s, size_t n)
{
        const char *id;

        if (n > 6 && !memcmp(s + n - 6, ".scope", 6))
                n -= 6;
        if (n < CONTAINER_HEX)
                return NULL;
        id = s + n - CONTAINER_HEX;
        if (hex_run(id) < CONTAINER_HEX || (id > s && id[-1] != '-' && id[-1] != ':'))
                return NULL;
        for (const char *p = s; p + 7 <= id; p++)
                if (!memcmp(p, "conmon-", 7))
                        return NULL;
        return id;
}

/* The innermost wins: a container's own sub-cgroups ("/container", "/init.scope") belong to it, and a
 * container in a container is itself. */
bool cgroup_path_container(const char *path, char ret[65])
{
        const char *found = NULL;

        while (*path) {
                size_t n = strcspn(path, "/");
                const char *id = component_container(path, n);

                if (id)
                        found = id;
                path += n;
                path += *path == '/';
        }
        if (!found)
                return false;
        memcpy(ret, found, CONTAINER_HEX);
        ret[CONTAINER_HEX] = '\0';
        return true;
}

/* --- mounts ------------------------------------------------------------------------------------------- */

static bool has_option(const char *options, const char *name)
{
        size_t n = strlen(name);

        for (; options; options = strchr(options, ',')) {
                options += *options == ',';
                if (!strncmp(options, name, n) && (options[n] == ',' || !options[n]))
                        return true;
                if (!*options)
                        break;
        }
        return false;
}

/* The kernel writes blanks in a path as \040 and the like. */
static void unescape(char *s)
{
        char *to = s;

        for (; *s; s++) {
                unsigned v;

                if (s[0] == '\\' && strspn(s + 1, "01234567") >= 3 && sscanf(s + 1, "%3o", &v) == 1) {
                        *to++ = (char)v;
                        s += 3;
                } else {
                        *to++ = *s;
                }
        }
        *to = '\0';
}

/* A sysfs root of one's own has the cgroup mounts in it too. */
static char *mount_path(const char *sysfs_root, const char *path)
{
        char *ret;

        if (strcmp(sysfs_root, "/sys") != 0 && !strncmp(path, "/sys/", 5)) {
                if (asprintf(&ret, "%s%s", sysfs_root, path + 4) < 0)
                        return NULL;
                return ret;
        }
        return strdup(path);
}

static int take_mount(char **slot, const char *sysfs_root, const char *path)
{
        if (*slot)
                return 0; /* the first one counts: the others are bind mounts of parts */
        *slot = mount_path(sysfs_root, path);
        return *slot ? 0 : -ENOMEM;
}

static int read_mount_line(struct cgroup_table *table, const char *sysfs_root, char *line)
{
        char *save = NULL, *path, *type, *options;

        if (!strtok_r(line, " ", &save))
                return 0;
        path = strtok_r(NULL, " ", &save);
        type = strtok_r(NULL, " ", &save);
        options = strtok_r(NULL, " ", &save);
        if (!options)
                return 0;
        unescape(path);
        if (!strcmp(type, "cgroup2"))
                return take_mount(&table->mount[HIERARCHY_V2], sysfs_root, path);
        if (strcmp(type, "cgroup") != 0)
                return 0;
        for (int i = 0; i < CGROUP_V1_N; i++) {
                int r = 0;

                if (has_option(options, controllers[i]))
                        r = take_mount(&table->mount[HIERARCHY_V1 + i], sysfs_root, path);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int read_mounts(struct cgroup_table *table, const char *procfs_root, const char *sysfs_root,
                       struct err *e)
{
        CLEANUP(buf_done) struct buf text;
        char path[PATH_MAX], *line, *save = NULL;
        struct stat st;
        int r;

        buf_init(&text, MAX_MOUNTS_TEXT);
        r = path_join(path, sizeof(path), procfs_root, "mounts");
        if (r < 0)
                return err_set(e, r, "path too long: '%s/mounts'", procfs_root);
        r = file_read(path, &text, e);
        if (r == -ENOENT)
                return 0; /* a recorded tree without: nothing can be told apart */
        if (r < 0)
                return r;
        for (line = text.data ? strtok_r(text.data, "\n", &save) : NULL; line;
             line = strtok_r(NULL, "\n", &save)) {
                r = read_mount_line(table, sysfs_root, line);
                if (r < 0)
                        return err_set(e, r, "out of memory");
        }
        if (table->mount[HIERARCHY_V2] && stat(table->mount[HIERARCHY_V2], &st) == 0)
                table->root_id = st.st_ino;
        return 0;
}

int cgroup_table_new(const char *procfs_root, const char *sysfs_root, struct cgroup_table **ret,
                     struct err *e)
{
        CLEANUP(cgroup_table_freep) struct cgroup_table *table = calloc(1, sizeof(*table));
        int r;

        if (!table)
                return err_set(e, -ENOMEM, "out of memory");
        r = read_mounts(table, procfs_root, sysfs_root, e);
        if (r < 0)
                return r;
        *ret = TAKE(table);
        return 0;
}

void cgroup_table_free(struct cgroup_table *table)
{
        if (!table)
                return;
        for (int i = 0; i < HIERARCHY_N; i++)
                free(table->mount[i]);
        for (size_t i = 0; i < table->n; i++)
                free(table->cgroups[i].path);
        free(table->cgroups);
        index_done(&table->index);
        free(table);
}

uint32_t cgroup_table_v1(const struct cgroup_table *table)
{
        uint32_t mask = 0;

        for (int i = 0; i < CGROUP_V1_N; i++)
                mask |= table->mount[HIERARCHY_V1 + i] ? 1u << i : 0;
        return mask;
}

/* --- ids to paths ------------------------------------------------------------------------------------- */

static int hierarchy_of(uint64_t id)
{
        if (!(id & CGROUP_V1))
                return HIERARCHY_V2;
        return HIERARCHY_V1 + (int)((id & ~CGROUP_V1) >> CGROUP_V1_SHIFT);
}

static uint64_t tagged(uint64_t inode, int hierarchy)
{
        if (hierarchy == HIERARCHY_V2)
                return inode;
        return CGROUP_V1 | (uint64_t)(hierarchy - HIERARCHY_V1) << CGROUP_V1_SHIFT |
               (inode & CGROUP_INODE_MASK);
}

static struct cgroup *find(const struct cgroup_table *table, uint64_t id)
{
        uint32_t i = index_find(&table->index, id);

        return i == INDEX_NONE ? NULL : &table->cgroups[i];
}

/* The entry of an id, made when it is not there. NULL when full or out of memory. */
static struct cgroup *entry(struct cgroup_table *table, uint64_t id)
{
        struct cgroup *c = find(table, id);

        if (c || table->n == MAX_CGROUPS)
                return c;
        if (table->n == table->cap) {
                size_t cap = table->cap ? table->cap * 2 : 64;

                c = realloc(table->cgroups, cap * sizeof(*c));
                if (!c)
                        return NULL;
                table->cgroups = c;
                table->cap = cap;
        }
        if (index_put(&table->index, id, (uint32_t)table->n) < 0)
                return NULL;
        c = &table->cgroups[table->n++];
        *c = (struct cgroup){ .id = id };
        return c;
}

static void remember(struct cgroup_table *table, uint64_t id, const char *path, bool leaf)
{
        struct cgroup *c = entry(table, id);

        if (!c)
                return;
        c->seen_ns = table->walked_ns;
        c->leaf = leaf;
        if (c->path && !strcmp(c->path, path))
                return;
        free(c->path);
        c->path = strdup(path);
        c->container[0] = '\0';
        (void)cgroup_path_container(path, c->container);
}

struct walk {
        struct cgroup_table *table;
        int hierarchy;
        char path[PATH_MAX]; /* below the mount, of the directory being read; "" at the root */
        size_t left;         /* directories it may still open */
};

/* Directories only; a name that does not fit is left out. Each level holds one descriptor. */
static void walk_directory(struct walk *w, int fd, size_t length, int depth)
{
        CLEANUP(closedirp) DIR *dir = fdopendir(fd);
        struct dirent *d;
        struct stat st;
        bool leaf = true;

        if (!dir) {
                close(fd);
                return;
        }
        while ((d = readdir(dir))) {
                int n, child;

                if (d->d_type != DT_DIR || !strcmp(d->d_name, ".") || !strcmp(d->d_name, ".."))
                        continue;
                leaf = false;
                n = snprintf(w->path + length, sizeof(w->path) - length, "/%s", d->d_name);
                if (n < 0 || length + (size_t)n >= sizeof(w->path) || depth == MAX_DEPTH || !w->left)
                        continue;
                w->left--;
                child = openat(dirfd(dir), d->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (child >= 0)
                        walk_directory(w, child, length + (size_t)n, depth + 1);
        }
        w->path[length] = '\0';
        if (fstat(dirfd(dir), &st) == 0)
                remember(w->table, tagged(st.st_ino, w->hierarchy), length ? w->path : "/", leaf);
}

/* What has not been met for a while makes room. */
static void forget_old(struct cgroup_table *table)
{
        for (size_t i = 0; i < table->n;) {
                struct cgroup *c = &table->cgroups[i];

                if (table->walked_ns - c->seen_ns <= KEEP_NS) {
                        i++;
                        continue;
                }
                index_remove(&table->index, c->id);
                free(c->path);
                *c = table->cgroups[--table->n];
                if (i < table->n)
                        (void)index_put(&table->index, c->id, (uint32_t)i); /* it is there: only moved */
        }
}

static void walk(struct cgroup_table *table)
{
        struct walk w = { .table = table, .left = MAX_CGROUPS };

        table->walked_ns = clock_monotonic_ns();
        for (w.hierarchy = 0; w.hierarchy < HIERARCHY_N; w.hierarchy++) {
                const char *mount = table->mount[w.hierarchy];
                int fd = mount ? open(mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

                w.path[0] = '\0';
                if (fd >= 0)
                        walk_directory(&w, fd, 0, 0);
        }
        forget_old(table);
}

/* NULL: not known, now or ever. An id that a walk did not find stays unknown for a while, without walking for
 * it. */
static struct cgroup *resolve(struct cgroup_table *table, uint64_t id)
{
        struct cgroup *c = find(table, id);
        uint64_t now_ns = clock_monotonic_ns();

        if (c && (c->path || now_ns - c->seen_ns < KEEP_NS))
                return c->path ? c : NULL;
        if (!id || (table->walked_ns && now_ns - table->walked_ns < WALK_PAUSE_NS))
                return NULL;
        walk(table);
        c = entry(table, id);
        if (c && !c->path)
                c->seen_ns = table->walked_ns;
        return c && c->path ? c : NULL;
}

const struct cgroup_info *cgroup_table_find(struct cgroup_table *table, uint64_t cgroup_id)
{
        const struct cgroup *c = resolve(table, cgroup_id);

        table->info = (struct cgroup_info){ 0 };
        if (c) {
                (void)snprintf(table->info.path, sizeof(table->info.path), "%s",
                               c->path); /* cut: for people */
                memcpy(table->info.container, c->container, sizeof(table->info.container));
        }
        return &table->info;
}

/* --- choosing ----------------------------------------------------------------------------------------- */

uint64_t cgroup_table_choose(struct cgroup_table *table, uint64_t v2, uint64_t v1)
{
        const struct cgroup *c;

        if (!v2 && !v1)
                return table->root_id;
        if (!v2 || !v1)
                return v2 ? v2 : v1;
        c = resolve(table, v2);
        if (c && c->container[0])
                return v2;
        c = resolve(table, v1);
        return c && c->container[0] ? v1 : v2;
}

/* The id of a path in a hierarchy; 0 for its root and when it is gone. */
static uint64_t path_id(const struct cgroup_table *table, int hierarchy, const char *path)
{
        char full[PATH_MAX];
        struct stat st;
        int n;

        if (!table->mount[hierarchy] || !strcmp(path, "/"))
                return 0;
        n = snprintf(full, sizeof(full), "%s%s", table->mount[hierarchy], path);
        if (n < 0 || (size_t)n >= sizeof(full) || stat(full, &st) < 0)
                return 0;
        return tagged(st.st_ino, hierarchy);
}

/* Where a process is, by hierarchy. */
struct places {
        uint64_t v2;
        uint64_t v1[CGROUP_V1_N];
};

/* "<number>:<controllers>:<path>"; v2's number is 0 and its controllers are empty. */
static void read_place(const struct cgroup_table *table, char *line, struct places *places)
{
        char *names = strchr(line, ':'), *path = names ? strchr(names + 1, ':') : NULL;

        if (!path)
                return;
        *names++ = '\0';
        *path++ = '\0';
        if (!*names && !strcmp(line, "0"))
                places->v2 = path_id(table, HIERARCHY_V2, path);
        for (int i = 0; i < CGROUP_V1_N; i++)
                if (has_option(names, controllers[i]))
                        places->v1[i] = path_id(table, HIERARCHY_V1 + i, path);
}

uint64_t cgroup_table_choose_text(struct cgroup_table *table, const char *text)
{
        struct places places = { 0 };
        char line[PATH_MAX];
        uint64_t v1 = 0;

        while (*text) {
                size_t n = strcspn(text, "\n");

                if (n < sizeof(line)) {
                        memcpy(line, text, n);
                        line[n] = '\0';
                        read_place(table, line, &places);
                }
                text += n;
                text += *text == '\n';
        }
        for (int i = 0; i < CGROUP_V1_N && !v1; i++)
                v1 = places.v1[i];
        return cgroup_table_choose(table, places.v2, v1);
}

/* --- the kernel's own counter ------------------------------------------------------------------------- */

static int read_usage_usec(const char *path, uint64_t *ret)
{
        char text[256];
        unsigned long long usec;
        ssize_t n;
        CLEANUP(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);

        if (fd < 0)
                return -errno;
        n = read(fd, text, sizeof(text) - 1);
        if (n < 0)
                return -errno;
        text[n] = '\0';
        if (sscanf(text, "usage_usec %llu", &usec) != 1) /* it is the first line */
                return -ENODATA;
        *ret = usec * 1000;
        return 0;
}

static int read_counter(const struct cgroup_table *table, int hierarchy, const char *cgroup, uint64_t *ret)
{
        bool v2 = hierarchy == HIERARCHY_V2;
        unsigned long long ns;
        char path[PATH_MAX];
        int n, r;

        n = snprintf(path, sizeof(path), "%s%s/%s", table->mount[hierarchy], cgroup,
                     v2 ? "cpu.stat" : "cpuacct.usage");
        if (n < 0 || (size_t)n >= sizeof(path))
                return -ENODATA;
        if (v2)
                return read_usage_usec(path, ret);
        r = file_read_u64(AT_FDCWD, path, &ns);
        if (r == 0)
                *ret = ns;
        return r;
}

/* Not the v2 root's: what that shows is sampled at the timer tick, and a whole process fits between two. */
int cgroup_table_cpu_ns(struct cgroup_table *table, uint64_t cgroup_id, uint64_t *ret)
{
        const int cpuacct = HIERARCHY_V1 + CGROUP_V1_CPUACCT;
        const struct cgroup *c;
        int hierarchy;

        if (cgroup_id == CGROUP_ROOT)
                return table->mount[cpuacct] ? read_counter(table, cpuacct, "", ret) : -ENODATA;
        hierarchy = hierarchy_of(cgroup_id);
        c = resolve(table, cgroup_id);
        if (!c || !c->leaf || cgroup_id == table->root_id ||
            (hierarchy != HIERARCHY_V2 && hierarchy != cpuacct))
                return -ENODATA;
        return read_counter(table, hierarchy, c->path, ret);
}
