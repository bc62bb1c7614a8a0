/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/serve/watch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"
#include "model-server/serve/unpack.h"

#define WATCH_DEPTH 4 /* pipeline/source/output type/group/ and what lies there */
#define EVENTS      (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_CLOSE_WRITE | IN_ONLYDIR)

/* A pipeline as it was when last looked at. */
struct seen {
        char name[256];
        uint64_t print;
        bool present;
};

struct watch {
        struct server *server;
        pthread_t thread;
        int inotify_fd, stop_fd;
        struct seen seen[CATALOG_PIPELINES_MAX];
        size_t n;
};

static uint64_t mix(uint64_t hash, const void *data, size_t size)
{
        for (const unsigned char *p = data; size; p++, size--)
                hash = (hash ^ *p) * UINT64_C(0x100000001b3); /* FNV-1a */
        return hash;
}

/* What lies below a directory: names, sizes, times. A sum, because the order of a listing means nothing. */
static uint64_t fingerprint(struct watch *w, const char *dir, int depth)
{
        struct dirent *entry;
        uint64_t sum = 1;
        DIR *list;

        if (w->inotify_fd >= 0)
                (void)inotify_add_watch(w->inotify_fd, dir, EVENTS); /* without, the next look finds it */
        list = opendir(dir);
        if (!list)
                return 0;
        while ((entry = readdir(list))) {
                char path[CATALOG_PATH_MAX];
                uint64_t hash = UINT64_C(0xcbf29ce484222325);
                struct stat st;

                if (entry->d_name[0] == '.' || fstatat(dirfd(list), entry->d_name, &st, 0) < 0)
                        continue;
                hash = mix(hash, entry->d_name, strlen(entry->d_name));
                hash = mix(hash, &st.st_ino, sizeof(st.st_ino));
                hash = mix(hash, &st.st_size, sizeof(st.st_size));
                hash = mix(hash, &st.st_mtim, sizeof(st.st_mtim));
                if (S_ISDIR(st.st_mode) && depth < WATCH_DEPTH &&
                    path_join(path, sizeof(path), dir, entry->d_name) == 0) {
                        uint64_t below = fingerprint(w, path, depth + 1);

                        hash = mix(hash, &below, sizeof(below));
                }
                sum += hash;
        }
        (void)closedir(list);
        return sum;
}

static struct seen *find_seen(struct watch *w, const char *name)
{
        for (size_t i = 0; i < w->n; i++)
                if (!strcmp(w->seen[i].name, name))
                        return &w->seen[i];
        if (w->n == CATALOG_PIPELINES_MAX)
                return NULL;
        w->seen[w->n] = (struct seen){ 0 };
        (void)snprintf(w->seen[w->n].name, sizeof(w->seen[0].name), "%s", name);
        return &w->seen[w->n++];
}

static void reload(struct watch *w, const char *name)
{
        struct err e;
        int r = server_reload_pipeline(w->server, name, &e);

        if (r < 0 && r != -ENOENT)
                log_warning("%s; it is not served", e.text);
}

/* Reads what differs from the last time. */
static void look(struct watch *w, bool first)
{
        const char *models_path = w->server->options->models_path;
        DIR *list;

        unpack_pipelines(models_path, w->server->options->pipeline_name);
        if (w->inotify_fd >= 0)
                (void)inotify_add_watch(w->inotify_fd, models_path, EVENTS);
        list = opendir(models_path);
        for (size_t i = 0; i < w->n; i++)
                w->seen[i].present = false;
        for (struct dirent *entry; list && (entry = readdir(list));) {
                char path[CATALOG_PATH_MAX];
                struct seen *seen;
                struct stat st;
                uint64_t print;

                if (entry->d_name[0] == '.' || !strcmp(entry->d_name, w->server->options->pipeline_name) ||
                    path_join(path, sizeof(path), models_path, entry->d_name) < 0 || stat(path, &st) < 0 ||
                    !S_ISDIR(st.st_mode))
                        continue;
                seen = find_seen(w, entry->d_name);
                if (!seen)
                        continue; /* more than are served */
                seen->present = true;
                print = fingerprint(w, path, 1);
                if (print == seen->print)
                        continue;
                seen->print = print;
                if (!first)
                        reload(w, seen->name);
        }
        if (list)
                (void)closedir(list);
        for (size_t i = 0; i < w->n;) {
                if (w->seen[i].present) {
                        i++;
                        continue;
                }
                reload(w, w->seen[i].name);
                w->seen[i] = w->seen[--w->n];
        }
}

/* Waits for an event, the next look or the end; false: the end. */
static bool wait_for(struct watch *w, int timeout_ms, bool *ret_event)
{
        struct pollfd fds[2] = { { .fd = w->stop_fd, .events = POLLIN },
                                 { .fd = w->inotify_fd, .events = POLLIN } };
        char events[4096];

        *ret_event = false;
        if (poll(fds, 2, timeout_ms) < 0)
                return true;
        if (fds[1].revents) {
                *ret_event = true;
                while (read(w->inotify_fd, events, sizeof(events)) > 0)
                        ; /* what happened is seen by looking */
        }
        return !fds[0].revents;
}

static void *run(void *arg)
{
        struct watch *w = arg;
        bool event;

        while (wait_for(w, WATCH_LOOK_MS, &event)) {
                uint64_t until_ns = clock_monotonic_ns() + WATCH_WAIT_MS * NS_PER_MS;

                while (event && clock_monotonic_ns() < until_ns)
                        if (!wait_for(w, WATCH_QUIET_MS, &event))
                                return NULL;
                look(w, false);
        }
        return NULL;
}

int watch_start(struct server *server, struct watch **ret, struct err *e)
{
        struct watch *w = calloc(1, sizeof(*w));
        int r;

        if (!w)
                return err_set(e, -ENOMEM, "out of memory");
        w->server = server;
        w->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
        if (w->inotify_fd < 0)
                log_warning("cannot watch '%s': %s; it is looked at every %d s", server->options->models_path,
                            strerror(errno), WATCH_LOOK_MS / 1000);
        w->stop_fd = eventfd(0, EFD_CLOEXEC);
        look(w, true);
        r = w->stop_fd < 0 ? errno : pthread_create(&w->thread, NULL, run, w);
        if (r) {
                (void)close(w->inotify_fd);
                free(w);
                return err_set(e, -r, "cannot watch '%s': %s", server->options->models_path, strerror(r));
        }
        *ret = w;
        return 0;
}

void watch_stop(struct watch *w)
{
        uint64_t one = 1;

        if (!w)
                return;
        (void)!write(w->stop_fd, &one, sizeof(one)); /* cannot fail: it counts to more than one */
        (void)pthread_join(w->thread, NULL);
        (void)close(w->stop_fd);
        if (w->inotify_fd >= 0)
                (void)close(w->inotify_fd);
        free(w);
}
