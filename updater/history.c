/* SPDX-License-Identifier: Apache-2.0 */
#include "updater/history.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include "common/buf.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/json.h"
#include "common/log.h"
#include "config/cli.h"
#include "updater/options.h"

#define HISTORY_DIR      ".state"
#define HISTORY_FILE     "history.jsonl"
#define HISTORY_OLD      "history.1.jsonl"
#define HISTORY_LINE_MAX ((size_t)8 << 10)
#define ID_SHOWN         12

static int path_of(const char *store_path, const char *name, char ret[PATH_MAX], struct err *e)
{
        if (snprintf(ret, PATH_MAX, "%s/%s/%s", store_path, HISTORY_DIR, name) >= PATH_MAX)
                return err_set(e, -ENAMETOOLONG, "path '%.100s...' is too long", store_path);
        return 0;
}

static int read_all(const char *store_path, const char *name, struct buf *ret, struct err *e)
{
        char path[PATH_MAX];
        int r;

        r = path_of(store_path, name, path, e);
        if (r == 0)
                r = file_read(path, ret, e);
        return r == -ENOENT ? 0 : r;
}

/* ---- appending ---- */

static void write_line(const struct event *event, struct buf *out)
{
        const struct {
                const char *key, *value;
        } members[] = { { "slot", event->slot },
                        { "event", event->what },
                        { "id", event->id },
                        { "model", event->model },
                        { "words", event->words } };

        for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
                (void)buf_printf(out, ", \"%s\": ", members[i].key);
                (void)json_write_string(out, members[i].value);
        }
        (void)buf_puts(out, "}\n");
}

/* Is this what the slot's last line says, time aside? */
static bool is_repeated(const struct buf *text, const char *slot, const struct buf *line)
{
        char mark[SLOT_TEXT_MAX + 16];
        const char *last = NULL, *end;

        (void)snprintf(mark, sizeof(mark), ", \"slot\": \"%s\"", slot);
        for (const char *p = text->data; p && (p = strstr(p, mark)); p++)
                last = p;
        end = last ? strchr(last, '\n') : NULL;
        return end && (size_t)(end + 1 - last) == line->size && memcmp(last, line->data, line->size) == 0;
}

int history_append(const char *store_path, const struct event *event, struct err *e)
{
        CLEANUP(buf_done) struct buf text, line, stamped;
        char path[PATH_MAX], old[PATH_MAX], dir[PATH_MAX];
        CLEANUP(closep) int fd = -1;
        int r;

        buf_init(&text, 2 * HISTORY_MAX);
        buf_init(&line, HISTORY_LINE_MAX);
        buf_init(&stamped, HISTORY_LINE_MAX);
        write_line(event, &line);
        (void)buf_printf(&stamped, "{\"time_ms\": %" PRId64, clock_wall_ms());
        if (line.failed || buf_append(&stamped, line.data, line.size) < 0)
                return err_set(e, -E2BIG, "an event is too long for the history");
        r = path_of(store_path, "", dir, e);
        if (r == 0)
                r = path_of(store_path, HISTORY_FILE, path, e);
        if (r == 0)
                r = path_of(store_path, HISTORY_OLD, old, e);
        if (r == 0)
                r = file_mkdirs(dir, 0755, e);
        if (r == 0)
                r = read_all(store_path, HISTORY_FILE, &text, e);
        if (r < 0)
                return r;
        if (is_repeated(&text, event->slot, &line))
                return 0;
        if (text.size + stamped.size > HISTORY_MAX && rename(path, old) < 0)
                return err_sys(e, "cannot rename '%s'", path);
        fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
        if (fd < 0)
                return err_sys(e, "cannot open '%s'", path);
        if (text.size > 0 && text.data[text.size - 1] != '\n') /* a line that a power cut has cut */
                (void)file_write_all(fd, "\n", 1);
        r = file_write_all(fd, stamped.data, stamped.size);
        return r < 0 ? err_set(e, r, "cannot write '%s': %s", path, strerror(-r)) : 0;
}

/* ---- showing ---- */

static void print_line(const json_t *event)
{
        const char *slot = "", *what = "", *id = "", *model = "", *words = "";
        char date[32] = "";
        long long ms = 0;
        struct tm tm;
        time_t s;

        (void)json_get_int(event, "time_ms", &ms, NULL);
        (void)json_get_string(event, "slot", &slot, NULL);
        (void)json_get_string(event, "event", &what, NULL);
        (void)json_get_string(event, "id", &id, NULL);
        (void)json_get_string(event, "model", &model, NULL);
        (void)json_get_string(event, "words", &words, NULL);
        s = (time_t)(ms / 1000);
        if (gmtime_r(&s, &tm))
                (void)strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", &tm);
        (void)printf("%s  %-28s %-11s %-12.*s %s%s%s\n", date, slot, what, ID_SHOWN, *id ? id : "-", model,
                     *words ? "  " : "", words);
}

/* Lines that are no JSON (a power cut) are passed over. */
static int each_line(const struct buf *text, int (*each)(const json_t *, const char *, size_t, void *),
                     void *arg)
{
        const char *p = text->data, *end = p ? p + text->size : p;
        int r = 0;

        while (r == 0 && p < end) {
                const char *eol = memchr(p, '\n', (size_t)(end - p));
                size_t size = (size_t)((eol ? eol : end) - p);
                json_t *event = NULL;

                if (json_parse(p, size, "history", &event, NULL) == 0) {
                        r = each(event, p, size, arg);
                        json_decref(event);
                }
                p += size + 1;
        }
        return r;
}

int history_each(const char *store_path, int (*each)(const json_t *, const char *, size_t, void *), void *arg,
                 struct err *e)
{
        static const char *const names[] = { HISTORY_OLD, HISTORY_FILE };
        int r = 0;

        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(names); i++) {
                CLEANUP(buf_done) struct buf text;

                buf_init(&text, 2 * HISTORY_MAX);
                r = read_all(store_path, names[i], &text, e);
                if (r == 0)
                        r = each_line(&text, each, arg);
        }
        return r;
}

struct printing {
        bool json;
        size_t n;
};

static int print_event(const json_t *event, const char *line, size_t size, void *arg)
{
        struct printing *p = arg;

        if (p->json)
                (void)printf("%.*s\n", (int)size, line);
        else
                print_line(event);
        p->n++;
        return 0;
}

int history_run(const void *options, int argc, char **argv)
{
        const struct options *o = options;
        struct printing p = { .json = o->json };
        struct err e = { "" };
        int r;

        (void)argc;
        (void)argv;
        r = history_each(o->store_path, print_event, &p, &e);
        if (r < 0)
                return log_error(r, "%s", e.text);
        if (p.n == 0 && !o->json)
                (void)printf("no history in '%s'\n", o->store_path);
        return p.n > 0 ? EXIT_DONE : EXIT_NOTHING;
}
