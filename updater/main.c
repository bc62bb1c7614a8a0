/* SPDX-License-Identifier: Apache-2.0 */
/* wattloop-updater: request -> verify -> stage -> install -> notify, for each model in turn. Until the switch
 * of one link nothing that the estimator reads has changed; if it does not take the new model, the link goes
 * back. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"
#include "config/cli.h"
#include "updater/notify.h"
#include "updater/options.h"
#include "updater/request.h"
#include "updater/stage.h"
#include "updater/status.h"
#include "updater/store.h"
#include "updater/verify.h"

#define ID_SHOWN 12 /* digits of an id in our messages */

/* One model on its way. */
struct update {
        const struct options *options;
        const struct machine *machine;
        struct store *store;
        struct slot slot;
        struct candidate candidate;
        struct origin origin;
        struct installed before;
        const char *served; /* words for the report */
        bool changed;
};

static void update_done(struct update *u)
{
        candidate_done(&u->candidate);
        free(u->origin.url);
}

static size_t limit_of(enum form form)
{
        return form == FORM_WEIGHT ? MODEL_WEIGHT_MAX : MODEL_ARCHIVE_MAX;
}

/* ---- where the bytes come from ---- */

static int set_origin(struct update *u, const struct buf *bytes, const char *prefix, const char *text,
                      struct err *e)
{
        if (asprintf(&u->origin.url, "%s%s", prefix, text) < 0) {
                u->origin.url = NULL;
                return err_set(e, -ENOMEM, "out of memory");
        }
        u->origin.fetched_ms = clock_wall_ms();
        if (bytes)
                request_digest(bytes->data, bytes->size, u->origin.digest);
        return 0;
}

static int fetch(struct update *u, struct err *e)
{
        const struct options *o = u->options;
        CLEANUP(buf_done) struct buf bytes;
        int r;

        buf_init(&bytes, limit_of(u->slot.form));
        r = request_model(o, &u->slot, &u->machine->spec, &bytes, e);
        if (r == 0)
                r = verify_unpack(u->slot.form, bytes.data, bytes.size, *o->trainer ? o->trainer : NULL,
                                  &u->candidate, e);
        if (r == 0)
                r = set_origin(u, &bytes, o->server_url, "", e);
        return r;
}

/* A file's name without folders and extension: "SGDRegressorTrainer_0.json" names its model. */
static void stem_of(const char *path, char ret[MODEL_NAME_MAX])
{
        const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
        int n = (int)strcspn(name, ".");

        (void)snprintf(ret, MODEL_NAME_MAX, "%.*s", n < MODEL_NAME_MAX ? n : 0, name);
}

static int read_file(struct update *u, const char *path, struct err *e)
{
        CLEANUP(buf_done) struct buf bytes;
        char stem[MODEL_NAME_MAX];
        int r;

        buf_init(&bytes, MODEL_ARCHIVE_MAX);
        r = file_read(path, &bytes, e);
        if (r < 0)
                return r;
        if (bytes.size == 0)
                return err_set(e, -EBADMSG, "'%s' is empty", path);
        stem_of(path, stem);
        u->slot = slot_with_form(&u->slot, memcmp(bytes.data, "PK", 2) == 0 ? FORM_ARCHIVE : FORM_WEIGHT);
        r = verify_unpack(u->slot.form, bytes.data, bytes.size, *stem ? stem : NULL, &u->candidate, e);
        return r < 0 ? r : set_origin(u, &bytes, "file:", path, e);
}

static int read_directory(struct update *u, const char *path, struct err *e)
{
        char metadata[PATH_MAX];
        int r;

        if (path_join(metadata, sizeof(metadata), path, "metadata.json") < 0)
                return err_set(e, -ENAMETOOLONG, "path '%.100s...' is too long", path);
        u->slot = slot_with_form(&u->slot, access(metadata, F_OK) == 0 ? FORM_ARCHIVE : FORM_WEIGHT);
        r = verify_read_dir(u->slot.form, path, NULL, &u->candidate, e);
        return r < 0 ? r : set_origin(u, NULL, "file:", path, e);
}

static int read_from(struct update *u, struct err *e)
{
        const char *path = u->options->from;
        struct stat st;

        if (stat(path, &st) < 0)
                return err_sys(e, "cannot read '%s'", path);
        return S_ISDIR(st.st_mode) ? read_directory(u, path, e) : read_file(u, path, e);
}

/* ---- the steps ---- */

static int verify(const struct update *u, struct err *e)
{
        int r;

        r = verify_purpose(&u->candidate, &u->slot, &u->options->features, e);
        return r < 0 ? r : verify_canary(&u->candidate, &u->slot, e);
}

/* Is this model the current one already, and still what it was? */
static bool is_current(const struct update *u)
{
        struct candidate there = { 0 };
        char path[PATH_MAX];
        bool same;

        if (strcmp(u->before.current, u->candidate.id) != 0 ||
            store_model_path(u->options->store_path, &u->slot, u->candidate.id, path, NULL) < 0 ||
            verify_read_dir(u->slot.form, path, model_name(u->candidate.model), &there, NULL) < 0)
                return false;
        same = strcmp(there.id, u->candidate.id) == 0;
        candidate_done(&there);
        return same;
}

static int install(struct update *u, struct err *e)
{
        char staged[PATH_MAX];
        int r;

        r = stage_write(store_staging(u->store), &u->candidate, &u->origin, staged, e);
        if (r == 0)
                r = store_place(u->store, &u->slot, staged, u->candidate.id, e);
        if (r == 0)
                r = store_switch(u->store, &u->slot, u->candidate.id, &u->before, e);
        return r;
}

/* The estimator prefers an archive where both forms are there. */
static bool is_hidden_by_archive(const struct update *u)
{
        struct slot archive = slot_with_form(&u->slot, FORM_ARCHIVE);
        struct installed there;

        store_look(u->options->store_path, &archive, &there);
        return u->slot.form == FORM_WEIGHT && *there.current;
}

/* 0: the estimator serves it, or there is none to ask. */
static int notify(struct update *u, struct err *e)
{
        const struct options *o = u->options;
        int r;

        u->served = "";
        if (!*o->estimator_socket)
                return 0;
        if (is_hidden_by_archive(u)) {
                u->served = "; the estimator prefers the archive that is installed too";
                return 0;
        }
        r = notify_until_served(o->estimator_socket, &u->slot, u->candidate.id, o->estimator_timeout_ms, e);
        if (r == -ENOTCONN) {
                if (u->changed)
                        log_warning("%s; it will find the model when it starts", e->text);
                return 0;
        }
        if (r == 0)
                u->served = ", the estimator serves it";
        return r;
}

/* Put the old model back and let the estimator look again. The model that failed is removed. One that was
 * current before goes only when it was refused: an estimator that is busy or ending says nothing about it. */
static void roll_back(struct update *u, bool refused)
{
        json_t *answer = NULL;
        struct err e = { "" };

        if (!u->changed) { /* what was before that? */
                if (!refused || !*u->before.previous || strcmp(u->before.previous, u->before.current) == 0)
                        return;
                memcpy(u->before.current, u->before.previous, sizeof(u->before.current));
                u->before.previous[0] = '\0';
        }
        if (store_restore(u->store, &u->slot, &u->before, &e) < 0) {
                (void)log_error(0, "%s: cannot go back to the model before: %s", u->slot.text, e.text);
                return;
        }
        log_warning("%s: went back to %.*s", u->slot.text, ID_SHOWN,
                    *u->before.current ? u->before.current : "no model");
        (void)store_prune(u->store, &u->slot, NULL); /* tried again at the next update */
        if (notify_command(u->options->estimator_socket, "reload", u->options->estimator_timeout_ms, &answer,
                           &e) < 0)
                log_warning("%s: %s", u->slot.text, e.text);
        json_decref(answer);
}

static int update_model(struct update *u, struct err *e)
{
        int r;

        r = *u->options->from ? read_from(u, e) : fetch(u, e);
        if (r == 0)
                r = verify(u, e);
        if (r < 0)
                return r;

        store_look(u->options->store_path, &u->slot, &u->before);
        u->changed = !is_current(u);
        if (u->changed)
                r = install(u, e);
        if (r < 0)
                return r;

        r = notify(u, e);
        if (r < 0) {
                roll_back(u, r == -EPERM);
                return r;
        }
        return store_prune(u->store, &u->slot, e);
}

static void report(const struct update *u)
{
        (void)printf("%s: %s %.*s %s%s\n", u->slot.text, model_name(u->candidate.model), ID_SHOWN,
                     u->candidate.id, u->changed ? "installed" : "unchanged", u->served);
}

/* ---- the subcommand ---- */

struct tally {
        size_t changed, unchanged, failed;
};

static void update_slot(const struct options *o, struct store *store, const struct machine *machine,
                        const char *name, struct tally *tally)
{
        CLEANUP(update_done) struct update u = { .options = o, .machine = machine, .store = store };
        struct err e = { "" };
        int r;

        r = slot_parse(name, &u.slot, &e);
        if (r == 0)
                r = update_model(&u, &e);
        if (r < 0) {
                (void)log_error(r, "%s: %s%s", *u.slot.text ? u.slot.text : name, e.text,
                                r == -ENOTSUP ? " (form weight works with every server)" : "");
                tally->failed++;
                return;
        }
        report(&u);
        if (u.changed)
                tally->changed++;
        else
                tally->unchanged++;
}

static int run_update(const void *options, int argc, char **argv)
{
        const struct options *o = options;
        CLEANUP(store_closep) struct store *store = NULL;
        struct tally tally = { 0 };
        struct machine machine;
        struct err e = { "" };
        int r;

        (void)argc;
        (void)argv;
        (void)umask(022); /* the estimator, another user, reads what we install */
        r = machine_discover(o->procfs_root, o->sysfs_root, &machine, &e);
        if (r == 0)
                r = store_open(o->store_path, &store, &e);
        if (r < 0)
                return log_error(r, "%s", e.text);

        for (size_t i = 0; i < (*o->from ? 1 : o->models.n); i++)
                update_slot(o, store, &machine, o->models.items[i], &tally);
        if (tally.failed > 0)
                return EXIT_FAILED;
        return tally.changed > 0 ? EXIT_DONE : EXIT_NOTHING;
}

int main(int argc, char **argv)
{
        static const struct command commands[] = {
                { "update", "", 0, 0, "fetch, verify and install the models, and tell the estimator",
                  run_update },
                { "status", "", 0, 0, "what is installed, where it came from and whether it is served",
                  status_run },
                { 0 },
        };
        static const struct program program = {
                .name = "wattloop-updater",
                .summary = "keeps the estimator's models up to date",
                .config_default = "/etc/wattloop/updater.yaml",
                .commands = commands,
                .options = options_table,
                .options_size = sizeof(struct options),
                .check = options_check,
        };

        return program_main(&program, argc, argv);
}
