/* SPDX-License-Identifier: Apache-2.0 */
#include "updater/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "common/clock.h"
#include "common/file.h"
#include "common/json.h"

#define STORE_MODE          0755
#define STORE_STAGING       ".staging"
#define STORE_LOCK          ".lock"
#define STORE_LOCK_WAIT_MS  2000
#define STORE_LOCK_PAUSE_MS 20
#define STORE_INFO          "wattloop.json"
#define STORE_INFO_MAX      ((size_t)16 << 10)
#define ID_LENGTH           (HASH_HEX_SIZE - 1)

struct store {
        char path[PATH_MAX];
        char staging[PATH_MAX];
        int lock_fd;
};

void store_close(struct store *s)
{
        if (!s)
                return;
        closep(&s->lock_fd);
        free(s);
}

const char *store_staging(const struct store *s)
{
        return s->staging;
}

static int join(char ret[PATH_MAX], const char *dir, const char *name, struct err *e)
{
        if (path_join(ret, PATH_MAX, dir, name) < 0)
                return err_set(e, -ENAMETOOLONG, "path '%.100s...' is too long", dir);
        return 0;
}

/* The sandbox's process of an updater that was killed holds the lock until it is gone too, which is soon. */
static int lock_soon(const char *path, int *ret_fd, struct err *e)
{
        const struct timespec pause = { .tv_nsec = STORE_LOCK_PAUSE_MS * (long)NS_PER_MS };
        uint64_t end_ns = clock_monotonic_ns() + STORE_LOCK_WAIT_MS * NS_PER_MS;
        int r;

        while (r = file_lock(path, ret_fd, e), r == -EWOULDBLOCK && clock_monotonic_ns() < end_ns)
                (void)nanosleep(&pause, NULL);
        return r;
}

static int prepare(struct store *s, const char *path, struct err *e)
{
        char lock[PATH_MAX];
        int r;

        r = join(s->path, path, "", e);
        if (r == 0)
                r = join(s->staging, path, STORE_STAGING, e);
        if (r == 0)
                r = join(lock, path, STORE_LOCK, e);
        if (r == 0)
                r = file_mkdirs(path, STORE_MODE, e);
        if (r == 0)
                r = lock_soon(lock, &s->lock_fd, e);
        if (r == -EWOULDBLOCK)
                return err_set(e, -EBUSY, "another wattloop-updater is at work ('%s' is locked)", lock);
        if (r == 0)
                r = file_remove_tree(s->staging, e);
        if (r == 0)
                r = file_mkdirs(s->staging, STORE_MODE, e);
        return r;
}

int store_open(const char *path, struct store **ret_store, struct err *e)
{
        CLEANUP(store_closep) struct store *s = calloc(1, sizeof(*s));
        int r;

        if (!s)
                return err_set(e, -ENOMEM, "out of memory");
        s->lock_fd = -1;
        r = prepare(s, path, e);
        if (r < 0)
                return r;
        *ret_store = TAKE(s);
        return 0;
}

/* ---- paths and links ---- */

static bool is_id(const char *name)
{
        return strlen(name) == ID_LENGTH && strspn(name, "0123456789abcdef") == ID_LENGTH;
}

static int slot_path(const char *store_path, const struct slot *slot, char ret[PATH_MAX], struct err *e)
{
        return join(ret, store_path, slot->text, e);
}

int store_model_path(const char *store_path, const struct slot *slot, const char *id, char ret[PATH_MAX],
                     struct err *e)
{
        char dir[PATH_MAX];
        int r;

        r = slot_path(store_path, slot, dir, e);
        return r < 0 ? r : join(ret, dir, id, e);
}

static void read_link(const char *store_path, const struct slot *slot, const char *name,
                      char ret[HASH_HEX_SIZE])
{
        char path[PATH_MAX];
        ssize_t n = -1;

        if (store_model_path(store_path, slot, name, path, NULL) == 0)
                n = readlink(path, ret, HASH_HEX_SIZE);
        ret[n > 0 && n < HASH_HEX_SIZE ? n : 0] = '\0';
        if (!is_id(ret))
                ret[0] = '\0';
}

void store_look(const char *store_path, const struct slot *slot, struct installed *ret)
{
        read_link(store_path, slot, "current", ret->current);
        read_link(store_path, slot, "previous", ret->previous);
}

/* Let a link name an id; no id: let there be no link. */
static int point(const char *dir, const char *name, const char *id, struct err *e)
{
        char path[PATH_MAX], temporary[PATH_MAX];
        int r;

        r = join(path, dir, name, e);
        if (r < 0)
                return r;
        if (snprintf(temporary, sizeof(temporary), "%s/.%s.new", dir, name) >= (int)sizeof(temporary))
                return err_set(e, -ENAMETOOLONG, "path '%.100s...' is too long", dir);
        if (unlink(temporary) < 0 && errno != ENOENT) /* of a killed run */
                return err_sys(e, "cannot remove '%s'", temporary);
        if (!*id)
                return unlink(path) < 0 && errno != ENOENT ? err_sys(e, "cannot remove '%s'", path) : 0;
        if (symlink(id, temporary) < 0)
                return err_sys(e, "cannot make link '%s'", temporary);
        if (rename(temporary, path) < 0) {
                r = err_sys(e, "cannot switch link '%s'", path);
                (void)unlink(temporary);
                return r;
        }
        return 0;
}

/* ---- changes ---- */

static int make_slot(struct store *s, const struct slot *slot, char ret[PATH_MAX], struct err *e)
{
        int r;

        r = slot_path(s->path, slot, ret, e);
        return r < 0 ? r : file_mkdirs(ret, STORE_MODE, e);
}

int store_place(struct store *s, const struct slot *slot, const char *staged, const char *id, struct err *e)
{
        char dir[PATH_MAX], target[PATH_MAX];
        int r;

        r = make_slot(s, slot, dir, e);
        if (r == 0)
                r = join(target, dir, id, e);
        if (r < 0)
                return r;
        if (rename(staged, target) < 0) {
                if (errno != EEXIST && errno != ENOTEMPTY)
                        return err_sys(e, "cannot move the model to '%s'", target);
                /* The same content, or what a disk made of it: in one step, as `current` may name it. */
                if (renameat2(AT_FDCWD, staged, AT_FDCWD, target, RENAME_EXCHANGE) < 0)
                        return err_sys(e, "cannot exchange the model in '%s'", target);
                r = file_remove_tree(staged, e);
                if (r < 0)
                        return r;
        }
        return file_sync_dir(dir, e);
}

/* `previous` first: should we be killed in between, both name the old model. Once `current` is renamed there
 * is no way back: a sync that fails costs at most the switch, should the power go. */
int store_switch(struct store *s, const struct slot *slot, const char *id, const struct installed *before,
                 struct err *e)
{
        char dir[PATH_MAX];
        int r;

        r = slot_path(s->path, slot, dir, e);
        if (r == 0 && *before->current && strcmp(before->current, id) != 0)
                r = point(dir, "previous", before->current, e);
        if (r == 0)
                r = point(dir, "current", id, e);
        if (r == 0)
                (void)file_sync_dir(dir, NULL);
        return r;
}

int store_restore(struct store *s, const struct slot *slot, const struct installed *before, struct err *e)
{
        char dir[PATH_MAX];
        int r;

        r = slot_path(s->path, slot, dir, e);
        if (r == 0)
                r = point(dir, "current", before->current, e);
        if (r == 0)
                r = point(dir, "previous", before->previous, e);
        return r < 0 ? r : file_sync_dir(dir, e);
}

/* By way of staging, so that there is never half a model under an id. */
static int remove_model(struct store *s, const char *dir, const char *id, struct err *e)
{
        char from[PATH_MAX], to[PATH_MAX];
        int r;

        r = join(from, dir, id, e);
        if (r == 0)
                r = join(to, s->staging, id, e);
        if (r < 0)
                return r;
        if (rename(from, to) < 0)
                return err_sys(e, "cannot remove the old model '%s'", from);
        return file_remove_tree(to, e);
}

int store_prune(struct store *s, const struct slot *slot, struct err *e)
{
        CLEANUP(closedirp) DIR *d = NULL;
        struct installed now;
        struct dirent *entry;
        char dir[PATH_MAX];
        int r;

        r = slot_path(s->path, slot, dir, e);
        if (r < 0)
                return r;
        store_look(s->path, slot, &now);
        d = opendir(dir);
        if (!d)
                return errno == ENOENT ? 0 : err_sys(e, "cannot read directory '%s'", dir);
        while (r == 0 && (entry = readdir(d)))
                if (is_id(entry->d_name) && strcmp(entry->d_name, now.current) != 0 &&
                    strcmp(entry->d_name, now.previous) != 0)
                        r = remove_model(s, dir, entry->d_name, e);
        return r;
}

/* ---- where a model came from ---- */

/* Models from before signatures, and unsigned ones, have none. */
static void read_signature(const json_t *object, struct store_info *ret)
{
        long long version = 0, time_s = 0;
        const char *signature = "";

        ret->version = 0;
        ret->time_s = 0;
        ret->signature[0] = '\0';
        if (json_get_string(object, "signature", &signature, NULL) < 0 ||
            json_get_int(object, "version", &version, NULL) < 0 || version < 0 ||
            json_get_int(object, "time_s", &time_s, NULL) < 0 ||
            snprintf(ret->signature, sizeof(ret->signature), "%s", signature) >= (int)sizeof(ret->signature))
                return;
        ret->version = (uint64_t)version;
        ret->time_s = time_s;
}

int store_read_info(const char *store_path, const struct slot *slot, const char *id, struct store_info *ret,
                    struct err *e)
{
        CLEANUP(json_decrefp) json_t *object = NULL;
        char dir[PATH_MAX], path[PATH_MAX];
        const char *name, *url;
        long long fetched_ms;
        int r;

        r = store_model_path(store_path, slot, id, dir, e);
        if (r == 0)
                r = join(path, dir, STORE_INFO, e);
        if (r == 0)
                r = json_parse_file(path, STORE_INFO_MAX, &object, e);
        if (r == 0)
                r = json_get_string(object, "model_name", &name, e);
        if (r == 0)
                r = json_get_string(object, "source_url", &url, e);
        if (r == 0)
                r = json_get_int(object, "fetched_ms", &fetched_ms, e);
        if (r < 0)
                return r;
        (void)snprintf(ret->model_name, sizeof(ret->model_name), "%s", name);
        (void)snprintf(ret->source_url, sizeof(ret->source_url), "%s", url);
        ret->fetched_ms = fetched_ms;
        read_signature(object, ret);
        return 0;
}
