/* SPDX-License-Identifier: Apache-2.0 */
#include "estimator/store_watch.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "estimator/store.h"

#define EVENTS (IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ONLYDIR)

/* What is there is watched; a directory that was watched already stays so. True when it is there. */
static bool add(const struct store_watch *w, const char *path)
{
        return inotify_add_watch(w->fd, path, EVENTS) >= 0;
}

/* Everything down to the directories of `current`. Each directory is watched before it is looked into, so
 * that what appears meanwhile makes an event. */
static void add_store(const struct store_watch *w)
{
        char path[PATH_MAX];

        for (size_t slot = 0; slot < models_slots(); slot++) {
                const char *parts[] = { models_slot_source(slot), models_slot_output_type(slot) };
                size_t n = (size_t)snprintf(path, sizeof(path), "%s", w->store);

                for (size_t i = 0; i < ARRAY_SIZE(parts) && n < sizeof(path) && add(w, path); i++)
                        n += (size_t)snprintf(path + n, sizeof(path) - n, "/%s", parts[i]);
                for (size_t f = 0; n < sizeof(path) && add(w, path) && models_form(f); f++) {
                        (void)snprintf(path + n, sizeof(path) - n, "/%s", models_form(f));
                        (void)add(w, path);
                        path[n] = '\0';
                }
        }
}

/* Of a store that is not there yet, the nearest directory above. */
static void add_above(const struct store_watch *w)
{
        char path[PATH_MAX];
        char *slash;

        (void)snprintf(path, sizeof(path), "%s", w->store);
        while (!add(w, path) && strcmp(path, "/") && (slash = strrchr(path, '/')))
                slash[slash == path] = '\0'; /* "/" stays */
}

int store_watch_open(const char *store, struct store_watch *ret, struct err *e)
{
        struct store_watch w = { .fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK), .store = store };

        if (w.fd < 0)
                return err_sys(e, "cannot watch the store '%s'", store);
        add_above(&w);
        add_store(&w);
        *ret = w;
        return 0;
}

void store_watch_close(struct store_watch *w)
{
        if (w->fd >= 0)
                (void)close(TAKE_FD(w->fd));
}

/* Files that an updater stages come and go; what counts is a link `current`, or a directory in which there
 * may be one. */
static bool matters(const struct inotify_event *event)
{
        return event->mask & (IN_ISDIR | IN_Q_OVERFLOW | IN_IGNORED) ||
               (event->len > 0 && !strcmp(event->name, "current"));
}

bool store_watch_changed(struct store_watch *w)
{
        _Alignas(struct inotify_event) char events[4096];
        bool changed = false;
        ssize_t n;

        while ((n = read(w->fd, events, sizeof(events))) > 0)
                for (char *p = events; p < events + n;) {
                        const struct inotify_event *event = (const struct inotify_event *)(const void *)p;

                        changed |= matters(event);
                        p += sizeof(*event) + event->len;
                }
        if (changed) {
                add_above(w);
                add_store(w);
        }
        return changed;
}
