/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/serve/rollout_state.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/json.h"
#include "common/log.h"
#include "config/cli.h"
#include "model-server/options.h"
#include "model-server/serve/rollouts.h"

#define STATE_DIR    ".rollout"
#define STATE_MAX    ((size_t)256 << 10)
#define LOCK_TRIES   50 /* the other holds it for a few milliseconds */
#define LOCK_WAIT_MS 20

struct rollout_part *rollout_state_part(struct rollout_state *s, const char *name)
{
        for (size_t i = 0; i < s->n; i++)
                if (!strcmp(s->parts[i].name, name))
                        return &s->parts[i];
        if (s->n == CATALOG_PIPELINES_MAX || strlen(name) >= sizeof(s->parts[0].name))
                return NULL;
        s->parts[s->n] = (struct rollout_part){ 0 };
        (void)snprintf(s->parts[s->n].name, sizeof(s->parts[0].name), "%s", name);
        return &s->parts[s->n++];
}

void rollout_part_begin(struct rollout_part *part, const char *print, int64_t now_ms)
{
        (void)snprintf(part->print, sizeof(part->print), "%s", print);
        part->stage = 0;
        part->since_ms = part->counted_ms = now_ms;
        part->reports_before = 0;
        part->halted = false;
        part->why[0] = '\0';
}

static int lock(const struct rollout_state *s, int *ret_fd, struct err *e)
{
        int r = -EWOULDBLOCK;

        for (int i = 0; i < LOCK_TRIES && r == -EWOULDBLOCK; i++) {
                if (i)
                        (void)poll(NULL, 0, LOCK_WAIT_MS);
                r = file_lock(s->lock_path, ret_fd, e);
        }
        return r;
}

/* ---- the file ---- */

static int read_part(const char *name, const json_t *object, struct rollout_state *s, struct err *e)
{
        struct rollout_part *part = rollout_state_part(s, name);
        const char *print, *why;
        long long stage, since_ms, counted_ms;
        int r = part ? json_get_string(object, "print", &print, e) : err_set(e, -E2BIG, "too many pipelines");

        if (r == 0)
                r = json_get_string(object, "why", &why, e);
        if (r == 0)
                r = json_get_int(object, "stage", &stage, e);
        if (r == 0)
                r = json_get_int(object, "since_ms", &since_ms, e);
        if (r == 0)
                r = json_get_int(object, "counted_ms", &counted_ms, e);
        if (r < 0)
                return r;
        (void)snprintf(part->print, sizeof(part->print), "%s", print);
        (void)snprintf(part->why, sizeof(part->why), "%s", why);
        part->stage = stage < 0 || stage > UINT16_MAX ? 0 : (unsigned int)stage;
        part->since_ms = since_ms;
        part->counted_ms = counted_ms;
        part->reports_before = (uint64_t)json_integer_value(json_object_get(object, "reports_before"));
        part->halted = json_is_true(json_object_get(object, "halted"));
        return 0;
}

static void note_file(struct rollout_state *s)
{
        struct stat st;

        if (stat(s->path, &st) < 0)
                return;
        s->ino = st.st_ino;
        s->mtime = st.st_mtim;
}

static int read_state(struct rollout_state *s, struct err *e)
{
        CLEANUP(json_decrefp) json_t *object = NULL;
        const char *name;
        json_t *part;
        int r;

        note_file(s);
        r = json_parse_file(s->path, STATE_MAX, &object, e);
        if (r < 0)
                return r;
        json_object_foreach (object, name, part) {
                r = read_part(name, part, s, e);
                if (r < 0)
                        return err_prefix(e, -EBADMSG, "'%s' (remove it, and what is new is for all)",
                                          s->path);
        }
        return 0;
}

int rollout_state_open(const char *models_path, char ret_dir[CATALOG_PATH_MAX], struct rollout_state *s,
                       struct err *e)
{
        int r;

        *s = (struct rollout_state){ .fresh = false };
        if (path_join(ret_dir, CATALOG_PATH_MAX, models_path, STATE_DIR) < 0 ||
            path_join(s->path, sizeof(s->path), ret_dir, ".state.json") < 0 ||
            path_join(s->lock_path, sizeof(s->lock_path), ret_dir, ".lock") < 0)
                return err_set(e, -ENAMETOOLONG, "models.path is too long");
        r = file_mkdirs(ret_dir, 0755, e);
        if (r < 0)
                return r;
        r = read_state(s, e);
        s->fresh = r == -ENOENT;
        return s->fresh ? 0 : r;
}

static int write_state(struct rollout_state *s, struct err *e)
{
        CLEANUP(json_decrefp) json_t *object = json_object();
        CLEANUP(buf_done) struct buf text = { 0 };
        int r;

        for (size_t i = 0; i < s->n; i++) {
                const struct rollout_part *p = &s->parts[i];

                (void)json_object_set_new(object, p->name,
                                          json_pack("{s:s, s:s, s:I, s:I, s:I, s:I, s:b}", "print", p->print,
                                                    "why", p->why, "stage", (json_int_t)p->stage, "since_ms",
                                                    (json_int_t)p->since_ms, "counted_ms",
                                                    (json_int_t)p->counted_ms, "reports_before",
                                                    (json_int_t)p->reports_before, "halted", p->halted));
        }
        buf_init(&text, STATE_MAX);
        if (json_write(object, &text) < 0)
                return err_set(e, -ENOMEM, "out of memory");
        r = file_write_atomic(s->path, text.data, text.size, 0644, e);
        if (r == 0)
                note_file(s);
        return r;
}

/* A halt that somebody has just written is not lost. */
int rollout_state_save(struct rollout_state *s, struct err *e)
{
        CLEANUP(closep) int fd = -1;
        int r = lock(s, &fd, e);

        if (r == 0 && !s->fresh)
                r = rollout_state_reread(s, e);
        if (r >= 0)
                r = write_state(s, e);
        s->fresh &= r < 0;
        return r < 0 ? r : 0;
}

int rollout_state_reread(struct rollout_state *s, struct err *e)
{
        struct rollout_state theirs = { 0 };
        struct stat st;
        int r;

        if (stat(s->path, &st) < 0 || (st.st_ino == s->ino && st.st_mtim.tv_sec == s->mtime.tv_sec &&
                                       st.st_mtim.tv_nsec == s->mtime.tv_nsec))
                return 0;
        memcpy(theirs.path, s->path, sizeof(theirs.path));
        r = read_state(&theirs, e);
        if (r < 0)
                return r;
        s->ino = theirs.ino;
        s->mtime = theirs.mtime;
        for (size_t i = 0; i < theirs.n; i++) {
                struct rollout_part *mine = rollout_state_part(s, theirs.parts[i].name);

                if (!mine || strcmp(mine->print, theirs.parts[i].print) != 0 ||
                    mine->halted == theirs.parts[i].halted)
                        continue;
                mine->halted = theirs.parts[i].halted;
                mine->since_ms = theirs.parts[i].since_ms;
                mine->counted_ms = theirs.parts[i].counted_ms;
                mine->reports_before = theirs.parts[i].reports_before;
                memcpy(mine->why, theirs.parts[i].why, sizeof(mine->why));
        }
        return 1;
}

/* ---- the subcommand ---- */

static void print_part(const struct options *o, const struct rollout_part *p)
{
        const char *percent = p->stage < o->rollout_stages.n ? o->rollout_stages.items[p->stage] : "?";

        if (!*p->print)
                (void)printf("%s: for all\n", p->name);
        else
                (void)printf("%s: %s %% of the nodes, stage %u of %zu, for %lld s%s%s\n", p->name, percent,
                             p->stage + 1, o->rollout_stages.n,
                             (long long)(clock_wall_ms() - p->since_ms) / 1000, p->halted ? ", HALTED: " : "",
                             p->halted ? p->why : "");
}

/* True: the part was not so before. */
static bool set_halted(struct rollout_part *p, bool halted)
{
        if (!*p->print || p->halted == halted)
                return false;
        p->halted = halted;
        (void)snprintf(p->why, sizeof(p->why), "%s", halted ? "by the operator" : "");
        if (!halted) {
                p->since_ms = p->counted_ms = clock_wall_ms();
                p->reports_before = 0;
        }
        return true;
}

int rollout_run(const void *options, int argc, char **argv)
{
        const struct options *o = options;
        const char *act = argc > 0 ? argv[0] : "status", *name = argc > 1 ? argv[1] : NULL;
        bool halt = !strcmp(act, "halt"), status = !strcmp(act, "status"), found = false, done = false;
        CLEANUP(closep) int fd = -1;
        char dir[CATALOG_PATH_MAX];
        struct rollout_state s;
        struct err e = { "" };
        int r;

        if (!halt && !status && strcmp(act, "resume") != 0) {
                (void)log_error(-EINVAL, "'rollout %.32s' is not known: rollout status, halt or resume", act);
                return EXIT_MISUSE;
        }
        r = rollout_state_open(o->models_path, dir, &s, &e);
        if (r == 0)
                r = lock(&s, &fd, &e);
        if (r == 0 && !s.fresh) { /* again, under the lock */
                s.n = 0;
                r = read_state(&s, &e);
        }
        if (r < 0)
                return log_error(r, "%s", e.text);
        for (size_t i = 0; i < s.n; i++) {
                if (name && strcmp(name, s.parts[i].name) != 0)
                        continue;
                found = true;
                done |= !status && set_halted(&s.parts[i], halt);
                print_part(o, &s.parts[i]);
        }
        if (name && !found)
                return log_error(EXIT_FAILED, "there is no pipeline '%.64s'", name);
        if (done)
                r = write_state(&s, &e);
        if (r < 0)
                return log_error(r, "%s", e.text);
        return done || status ? EXIT_DONE : EXIT_NOTHING;
}
