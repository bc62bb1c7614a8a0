/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer-client/cursor.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/file.h"
#include "common/json.h"

#define CURSOR_FILE_MAX ((size_t)32768)
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

/* An atomic write that was killed leaves ".<destination>.json.XXXXXX" behind. We hold the destination's lock:
 * nobody is writing. */
static void remove_leftovers(const char *state_path, const char *destination)
{
        CLEANUP(closedirp) DIR *dir = opendir(state_path);
        char prefix[CURSOR_TEXT_MAX];
        struct dirent *entry;
        int n = snprintf(prefix, sizeof(prefix), ".%s.json.", destination);

        while (dir && n < (int)sizeof(prefix) && (entry = readdir(dir)))
                if (strncmp(entry->d_name, prefix, (size_t)n) == 0)
                        (void)unlinkat(dirfd(dir), entry->d_name, 0); /* in the way of nothing */
}

int cursor_lock(const char *state_path, const char *destination, int *ret_fd, struct err *e)
{
        char path[PATH_MAX];
        int r;

        r = file_mkdirs(state_path, STATE_MODE, e);
        if (r < 0)
                return r;
        if (snprintf(path, sizeof(path), "%s/%s.lock", state_path, destination) >= (int)sizeof(path))
                return err_set(e, -ENAMETOOLONG, "state.path is too long");
        r = file_lock(path, ret_fd, e);
        if (r == -EWOULDBLOCK)
                return err_set(e, -EBUSY, "another wattloop-trainer-client is sending to %s ('%s' is locked)",
                               destination, path);
        if (r < 0)
                return r;
        remove_leftovers(state_path, destination);
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

/* Members that came later: 0 when they are not there. */
static int later_member(const json_t *object, const char *key, int64_t *ret, struct err *e)
{
        *ret = 0;
        return json_object_get(object, key) ? int_member(object, key, ret, e) : 0;
}

static int parse_ranges(const json_t *array, struct cursor *c, struct err *e)
{
        const json_t *object;
        size_t i;
        int r = 0;

        json_array_foreach (array, i, object) {
                struct cursor_range *range = &c->ranges[c->n_ranges];

                if (c->n_ranges == CURSOR_RANGES_MAX)
                        return err_set(e, -EBADMSG, "there are more than %d ranges", CURSOR_RANGES_MAX);
                r = int_member(object, "first", &range->first_id, e);
                if (r == 0)
                        r = int_member(object, "last", &range->last_id, e);
                if (r == 0)
                        r = int_member(object, "end_ms", &range->end_ms, e);
                if (r == 0)
                        r = copy_member(object, "epoch", range->epoch, e);
                if (r < 0)
                        return r;
                c->n_ranges++;
        }
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
        if (r == 0)
                r = later_member(object, "sending_after", &c->sending_after, e);
        if (r == 0)
                r = later_member(object, "sending_last", &c->sending_last, e);
        if (r == 0)
                r = later_member(object, "refused_intervals", &c->refused_intervals, e);
        if (r == 0)
                r = later_member(object, "quarantined_batches", &c->quarantined_batches, e);
        if (r == 0)
                r = later_member(object, "next_bundle", &c->next_bundle, e);
        if (r == 0)
                r = parse_ranges(json_object_get(object, "ranges"), c, e);
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

/* What contract 7 says of a cursor, without the brace at the end. */
static void write_position(struct buf *text, const struct cursor *c)
{
        (void)buf_puts(text, "{\"destination\": ");
        (void)json_write_string(text, c->destination);
        (void)buf_printf(text, ", \"interval_id\": %lld, \"epoch\": ", (long long)c->interval_id);
        (void)json_write_string(text, c->epoch);
        (void)buf_printf(text, ", \"end_ms\": %lld, \"acked_ms\": %lld", (long long)c->end_ms,
                         (long long)c->acked_ms);
}

static int write_text(const char *path, const struct buf *text, mode_t mode, struct err *e)
{
        if (text->failed)
                return err_set(e, text->failed, "cannot write '%s': %s", path, strerror(-text->failed));
        return file_write_atomic(path, text->data, text->size, mode, e);
}

int cursor_save(const char *state_path, const struct cursor *c, struct err *e)
{
        CLEANUP(buf_done) struct buf text;
        char path[PATH_MAX];
        int r;

        buf_init(&text, CURSOR_FILE_MAX);
        r = destination_path(state_path, c->destination, path, e);
        if (r < 0)
                return r;
        write_position(&text, c);
        (void)buf_printf(&text,
                         ", \"sending_after\": %lld, \"sending_last\": %lld, \"refused_intervals\": %lld, "
                         "\"quarantined_batches\": %lld, \"next_bundle\": %lld, \"ranges\": [",
                         (long long)c->sending_after, (long long)c->sending_last,
                         (long long)c->refused_intervals, (long long)c->quarantined_batches,
                         (long long)c->next_bundle);
        for (size_t i = 0; i < c->n_ranges; i++) {
                (void)buf_printf(&text, "%s{\"first\": %lld, \"last\": %lld, \"end_ms\": %lld, \"epoch\": ",
                                 i > 0 ? ", " : "", (long long)c->ranges[i].first_id,
                                 (long long)c->ranges[i].last_id, (long long)c->ranges[i].end_ms);
                (void)json_write_string(&text, c->ranges[i].epoch);
                (void)buf_puts(&text, "}");
        }
        (void)buf_puts(&text, "]}\n");
        return write_text(path, &text, CURSOR_MODE, e);
}

int cursor_acknowledge(const char *store_path, const struct cursor *c, struct err *e)
{
        CLEANUP(buf_done) struct buf text;
        char dir[PATH_MAX], path[PATH_MAX];
        int r;

        buf_init(&text, CURSOR_FILE_MAX);
        r = acks_dir(store_path, dir, e);
        if (r == 0)
                r = destination_path(dir, c->destination, path, e);
        if (r == 0)
                r = file_mkdirs(dir, ACKS_MODE, e);
        if (r < 0)
                return r;
        write_position(&text, c);
        (void)buf_puts(&text, "}\n");
        return write_text(path, &text, ACK_MODE, e);
}

static void remove_range(struct cursor *c, size_t i)
{
        memmove(&c->ranges[i], &c->ranges[i + 1], (--c->n_ranges - i) * sizeof(c->ranges[0]));
}

/* Ranges that begin where everything before is done become part of that. */
static void absorb_ranges(struct cursor *c)
{
        while (c->n_ranges > 0 && c->ranges[0].first_id <= c->interval_id + 1) {
                const struct cursor_range *range = &c->ranges[0];

                if (range->last_id > c->interval_id) {
                        c->interval_id = range->last_id;
                        c->end_ms = range->end_ms;
                        (void)snprintf(c->epoch, sizeof(c->epoch), "%s", range->epoch);
                }
                remove_range(c, 0);
        }
}

int cursor_add(struct cursor *c, int64_t after_id, const struct cursor_range *range)
{
        struct cursor_range whole = *range;
        size_t at = 0;

        whole.first_id = after_id + 1;
        while (at < c->n_ranges && c->ranges[at].last_id < after_id)
                at++;
        if (at < c->n_ranges && c->ranges[at].last_id == after_id) { /* the one before ends where it begins */
                whole.first_id = c->ranges[at].first_id;
                remove_range(c, at);
        }
        if (at < c->n_ranges && c->ranges[at].first_id <= whole.last_id + 1) {
                c->ranges[at].first_id = whole.first_id;
        } else if (c->n_ranges == CURSOR_RANGES_MAX) {
                return -ENOSPC;
        } else {
                memmove(&c->ranges[at + 1], &c->ranges[at], (c->n_ranges++ - at) * sizeof(whole));
                c->ranges[at] = whole;
        }
        absorb_ranges(c);
        return 0;
}

bool cursor_gap(const struct cursor *c, int64_t newest, bool highest, int64_t *ret_after, int64_t *ret_last)
{
        bool found = false;

        for (size_t i = 0; i <= c->n_ranges && (highest || !found); i++) {
                int64_t after = i > 0 ? c->ranges[i - 1].last_id : c->interval_id;
                int64_t last = i < c->n_ranges ? c->ranges[i].first_id - 1 : newest;

                if (after >= last)
                        continue;
                *ret_after = after;
                *ret_last = last;
                found = true;
        }
        return found;
}

bool cursor_is_known(const char *store_path, const char *destination)
{
        char dir[PATH_MAX], path[PATH_MAX];

        return acks_dir(store_path, dir, NULL) == 0 && destination_path(dir, destination, path, NULL) == 0 &&
               access(path, F_OK) == 0;
}

bool cursor_is_acknowledged(const char *store_path, const struct cursor *c)
{
        char dir[PATH_MAX], path[PATH_MAX];
        struct cursor there;

        return acks_dir(store_path, dir, NULL) == 0 &&
               destination_path(dir, c->destination, path, NULL) == 0 && load_file(path, &there, NULL) == 0 &&
               there.interval_id == c->interval_id && strcmp(there.epoch, c->epoch) == 0;
}
