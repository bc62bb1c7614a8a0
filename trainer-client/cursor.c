/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer-client/cursor.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include "common/file.h"
#include "common/json.h"

#define CURSOR_FILE_MAX ((size_t)4096)
#define STATE_MODE      0750
#define CURSOR_MODE     0640
#define ACKS_MODE       0775 /* the collector runs in the same group */
#define ACK_MODE        0664

static int destination_path(const char *dir, const char *destination, char ret[PATH_MAX], struct err *e)
{
        if (snprintf(ret, PATH_MAX, "%s/%s.json", dir, destination) >= PATH_MAX)
                return err_set(e, -ENAMETOOLONG, "path '%.100s...' is too long", dir);
        return 0;
}

static int acks_dir(const char *store_path, char ret[PATH_MAX], struct err *e)
{
        const char *slash = strrchr(store_path, '/');
        int n = slash ? (int)(slash - store_path) : 1;

        if (snprintf(ret, PATH_MAX, "%.*s/acks", n, slash ? store_path : ".") >= PATH_MAX)
                return err_set(e, -ENAMETOOLONG, "path '%.100s...' is too long", store_path);
        return 0;
}

/* An atomic write that was killed leaves ".<destination>.json.XXXXXX" behind. We hold the lock: nobody is
 * writing. */
static void remove_leftovers(const char *state_path)
{
        CLEANUP(closedirp) DIR *dir = opendir(state_path);
        struct dirent *entry;

        while (dir && (entry = readdir(dir)))
                if (entry->d_name[0] == '.' && strstr(entry->d_name, ".json."))
                        (void)unlinkat(dirfd(dir), entry->d_name, 0); /* in the way of nothing */
}

int cursor_lock(const char *state_path, int *ret_fd, struct err *e)
{
        char path[PATH_MAX];
        int r;

        r = file_mkdirs(state_path, STATE_MODE, e);
        if (r < 0)
                return r;
        if (path_join(path, sizeof(path), state_path, "lock") < 0)
                return err_set(e, -ENAMETOOLONG, "state.path is too long");
        r = file_lock(path, ret_fd, e);
        if (r == -EWOULDBLOCK)
                return err_set(e, -EBUSY, "another wattloop-trainer-client is pushing ('%s' is locked)",
                               path);
        if (r < 0)
                return r;
        remove_leftovers(state_path);
        return 0;
}

static int copy_member(const json_t *object, const char *key, char ret[CURSOR_TEXT_MAX], struct err *e)
{
        const char *text;
        int r;

        r = json_get_string(object, key, &text, e);
        if (r < 0)
                return r;
        if (snprintf(ret, CURSOR_TEXT_MAX, "%s", text) >= CURSOR_TEXT_MAX)
                return err_set(e, -EBADMSG, "'%s' is too long", key);
        return 0;
}

static int int_member(const json_t *object, const char *key, int64_t *ret, struct err *e)
{
        long long v;
        int r;

        r = json_get_int(object, key, &v, e);
        if (r < 0)
                return r;
        if (v < 0)
                return err_set(e, -EBADMSG, "'%s' is negative", key);
        *ret = v;
        return 0;
}

static int parse(const json_t *object, struct cursor *c, struct err *e)
{
        int r;

        r = copy_member(object, "destination", c->destination, e);
        if (r == 0)
                r = copy_member(object, "epoch", c->epoch, e);
        if (r == 0)
                r = int_member(object, "interval_id", &c->interval_id, e);
        if (r == 0)
                r = int_member(object, "end_ms", &c->end_ms, e);
        if (r == 0)
                r = int_member(object, "acked_ms", &c->acked_ms, e);
        return r;
}

static int load_file(const char *path, struct cursor *ret, struct err *e)
{
        CLEANUP(json_decrefp) json_t *object = NULL;
        struct cursor c = { 0 };
        int r;

        r = json_parse_file(path, CURSOR_FILE_MAX, &object, e);
        if (r == 0)
                r = parse(object, &c, e);
        if (r == -ENOENT && object)
                r = -EBADMSG; /* a member is missing, not the file */
        if (r < 0)
                return r;
        *ret = c;
        return 0;
}

int cursor_load(const char *state_path, const char *destination, struct cursor *ret, struct err *e)
{
        char path[PATH_MAX];
        struct cursor c;
        int r;

        r = destination_path(state_path, destination, path, e);
        if (r == 0)
                r = load_file(path, &c, e);
        if (r == -EFBIG || r == -EISDIR || r == -EINVAL)
                r = -EBADMSG;
        if (r == -EBADMSG)
                return err_prefix(e, r, "cursor '%s' is damaged", path);
        if (r < 0)
                return r;
        if (strcmp(c.destination, destination) != 0)
                return err_set(e, -EBADMSG, "cursor '%s' belongs to destination '%s'", path, c.destination);
        *ret = c;
        return 0;
}

static int write_cursor(const char *path, const struct cursor *c, mode_t mode, struct err *e)
{
        CLEANUP(buf_done) struct buf text;

        buf_init(&text, CURSOR_FILE_MAX);
        (void)buf_puts(&text, "{\"destination\": ");
        (void)json_write_string(&text, c->destination);
        (void)buf_printf(&text, ", \"interval_id\": %lld, \"epoch\": ", (long long)c->interval_id);
        (void)json_write_string(&text, c->epoch);
        (void)buf_printf(&text, ", \"end_ms\": %lld, \"acked_ms\": %lld}\n", (long long)c->end_ms,
                         (long long)c->acked_ms);
        if (text.failed)
                return err_set(e, text.failed, "cannot write '%s': %s", path, strerror(-text.failed));
        return file_write_atomic(path, text.data, text.size, mode, e);
}

int cursor_save(const char *state_path, const struct cursor *c, struct err *e)
{
        char path[PATH_MAX];
        int r;

        r = destination_path(state_path, c->destination, path, e);
        return r < 0 ? r : write_cursor(path, c, CURSOR_MODE, e);
}

int cursor_acknowledge(const char *store_path, const struct cursor *c, struct err *e)
{
        char dir[PATH_MAX], path[PATH_MAX];
        int r;

        r = acks_dir(store_path, dir, e);
        if (r == 0)
                r = destination_path(dir, c->destination, path, e);
        if (r == 0)
                r = file_mkdirs(dir, ACKS_MODE, e);
        return r < 0 ? r : write_cursor(path, c, ACK_MODE, e);
}

bool cursor_is_acknowledged(const char *store_path, const struct cursor *c)
{
        char dir[PATH_MAX], path[PATH_MAX];
        struct cursor there;

        return acks_dir(store_path, dir, NULL) == 0 &&
               destination_path(dir, c->destination, path, NULL) == 0 && load_file(path, &there, NULL) == 0 &&
               there.interval_id == c->interval_id && strcmp(there.epoch, c->epoch) == 0;
}
