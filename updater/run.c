/* SPDX-License-Identifier: Apache-2.0 */
#include "updater/run.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "common/clock.h"
#include "common/log.h"
#include "model/model.h"
#include "updater/history.h"
#include "updater/kepler.h"
#include "updater/notify.h"
#include "updater/sandbox.h"

void update_record(const struct update *u, const char *what, const char *words)
{
        const struct event event = { u->slot.text, what, u->found.id, u->found.model, words };
        struct err e = { "" };

        if (history_append(u->run->options->store_path, &event, &e) < 0)
                log_warning("the history is not kept: %s", e.text);
}

void run_save(struct run *run)
{
        struct err e = { "" };

        if (state_save(run->options->store_path, &run->state, &e) < 0)
                log_warning("the state is not kept: %s", e.text);
}

/* ---- begin and end of a run ---- */

void run_done(struct run *run)
{
        store_close(run->store);
}

int run_open(struct run *run, const struct options *o, struct err *e)
{
        struct err note = { "" };
        int r;

        *run = (struct run){ .options = o };
        (void)umask(022); /* the estimator, another user, reads what we install */
        r = store_open(o->store_path, &run->store, e);
        if (r < 0)
                return r;
        r = state_load(o->store_path, &run->state, &note);
        if (r == -EBADMSG)
                log_warning("%s", note.text);
        else if (r < 0)
                return err_set(e, r, "%s", note.text);
        run->now_s = clock_wall_ms() / 1000;
        if (run->now_s < run->state.newest_time_s)
                run->now_s = run->state.newest_time_s;
        r = keyring_load(o, run->now_s, &run->keyring, &note, e);
        if (r == 0 && *note.text)
                log_warning("%s", note.text);
        return r;
}

int update_open(struct run *run, const char *name, struct update *u, struct err *e)
{
        int r;

        *u = (struct update){ .run = run, .served = "" };
        r = slot_parse(name, &u->slot, e);
        if (r < 0)
                return r;
        u->state = state_slot(&run->state, &u->slot);
        if (!u->state)
                return err_set(e, -ENOSPC, "the state holds too many slots");
        store_look(run->options->store_path, &u->slot, &u->before);
        return 0;
}

/* ---- what is installed ---- */

/* The content id of a directory's files, by reading and hashing alone. */
int update_hash_dir(const char *path, char ret[HASH_HEX_SIZE], struct err *e)
{
        CLEANUP(model_archive_freep) struct model_archive *entries = NULL;
        int r;

        r = model_archive_read_dir(path, &entries, e);
        return r < 0 ? r : model_archive_id(entries, ret);
}

bool update_is_whole(const struct update *u, const char *id)
{
        char path[PATH_MAX], is[HASH_HEX_SIZE];

        return *id && store_model_path(u->run->options->store_path, &u->slot, id, path, NULL) == 0 &&
               update_hash_dir(path, is, NULL) == 0 && strcmp(is, id) == 0;
}

/* What a new model must not be older than: what the state says and, should that be lost, what is installed.
 */
static void set_floor(const struct update *u, struct trust *trust)
{
        struct store_info info;

        trust->version = u->state->version;
        trust->time_s = u->state->time_s;
        if (!*u->before.current ||
            store_read_info(u->run->options->store_path, &u->slot, u->before.current, &info, NULL) < 0)
                return;
        if (trust->version < info.version)
                trust->version = info.version;
        if (trust->time_s < info.time_s)
                trust->time_s = info.time_s;
}

struct trust update_trust(const struct update *u)
{
        struct trust trust = { .keys = u->run->keyring.keys,
                               .now_s = u->run->now_s,
                               .downgrade = u->run->options->downgrade };

        set_floor(u, &trust);
        return trust;
}

/* The estimator prefers an archive where both forms are there. */
static bool is_hidden_by_archive(const struct update *u)
{
        struct slot archive = slot_with_form(&u->slot, FORM_ARCHIVE);
        struct installed there;

        store_look(u->run->options->store_path, &archive, &there);
        return u->slot.form == FORM_WEIGHT && *there.current;
}

/* 0: the estimator serves it, or there is none to ask. */
int update_notify(struct update *u, const char *id, struct err *e)
{
        const struct options *o = u->run->options;
        int r;

        u->served = "";
        if (!*o->estimator_socket || !*id)
                return 0;
        if (is_hidden_by_archive(u)) {
                u->served = "; the estimator prefers the archive that is installed too";
                return 0;
        }
        r = notify_until_served(o->estimator_socket, &u->slot, id, o->estimator_timeout_ms, e);
        if (r == -ENOTCONN) {
                if (u->changed)
                        log_warning("%s; it will find the model when it starts", e->text);
                return 0;
        }
        if (r == 0)
                u->served = ", the estimator serves it";
        return r;
}

int update_kepler(struct update *u, const char *id, struct err *e)
{
        char dir[PATH_MAX];
        bool changed = false;
        int r;

        if (!*id)
                return 0;
        r = store_model_path(u->run->options->store_path, &u->slot, id, dir, e);
        if (r == 0)
                r = kepler_install(u->run->options, &u->slot, dir, id, &changed, e);
        u->run->kepler_changed |= changed;
        return r;
}

/* ---- the sandbox ---- */

#define EXAMINE_EXTRA_MS 10000 /* for the checks, beside the requests */
#define EXAMINE_REQUESTS 5     /* model by GET, by POST or from a mirror, keys, their signature */

/* What files the process may read: room for names that are made here. */
struct shown {
        char from_signature[PATH_MAX], wal[PATH_MAX], shm[PATH_MAX], current[PATH_MAX];
};

static void beside(const char *path, const char *suffix, char ret[PATH_MAX])
{
        if (!*path || snprintf(ret, PATH_MAX, "%s%s", path, suffix) >= PATH_MAX)
                ret[0] = '\0';
}

static void show_all(struct sandbox *s, const struct options *o, struct shown *names)
{
        const char *const paths[] = { o->server_ca_file,
                                      o->server_token_file,
                                      o->server_client_cert_file,
                                      o->server_client_key_file,
                                      o->from,
                                      names->from_signature,
                                      o->canary_samples,
                                      names->wal,
                                      names->shm,
                                      names->current };

        beside(o->from, ".minisig", names->from_signature);
        beside(o->canary_samples, "-wal", names->wal);
        beside(o->canary_samples, "-shm", names->shm);
        sandbox_show_system(s);
        for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
                sandbox_show(s, paths[i]);
}

/* The record comes from a process that read untrusted bytes: make strings of its strings. */
static int check_record(struct update *u, struct err *e)
{
        struct examined *f = &u->found;
        const char *staging = store_staging(u->run->store);
        size_t n = strlen(staging);

        f->staged[sizeof(f->staged) - 1] = f->id[sizeof(f->id) - 1] = f->model[sizeof(f->model) - 1] = '\0';
        f->etag[sizeof(f->etag) - 1] = f->signature[sizeof(f->signature) - 1] = '\0';
        if (f->form < 0 || f->form >= FORM_N)
                return err_set(e, -EPROTO, "the checking process answered nonsense");
        u->slot = slot_with_form(&u->slot, (enum form)f->form);
        if (*f->staged && (strncmp(f->staged, staging, n) != 0 || f->staged[n] != '/' ||
                           strchr(f->staged + n + 1, '/') || f->staged[n + 1] == '.'))
                return err_set(e, -EPROTO, "the checking process staged a model outside of '%s'", staging);
        return 0;
}

int update_examine(struct update *u, const struct trust *trust, bool for_mirror, struct err *e)
{
        const struct options *o = u->run->options;
        struct shown names = { "", "", "", "" };
        struct examine_order order = { .options = o,
                                       .machine = &u->run->machine,
                                       .staging = store_staging(u->run->store),
                                       .slot = u->slot,
                                       .trust = *trust,
                                       .roots_n = u->run->keyring.roots_n,
                                       .keys_version = u->run->keyring.keys.version,
                                       .current_dir = names.current,
                                       .is_mirror = u->state->is_mirror,
                                       .for_mirror = for_mirror };
        struct sandbox sandbox = { .writable = order.staging,
                                   .timeout_ms = EXAMINE_REQUESTS * o->timeout_ms + EXAMINE_EXTRA_MS };
        struct err note = { "" };
        int r;

        memcpy(order.roots, u->run->keyring.roots, sizeof(order.roots));
        if (!for_mirror && update_is_whole(u, u->before.current)) {
                memcpy(order.current_id, u->before.current, sizeof(order.current_id));
                (void)store_model_path(o->store_path, &u->slot, order.current_id, names.current, NULL);
                if (!*o->from && strcmp(u->state->etag_url, o->server_url) == 0)
                        memcpy(order.etag, u->state->etag, sizeof(order.etag));
        }
        show_all(&sandbox, o, &names);
        r = sandbox_run(&sandbox, examine, &order, &u->found, sizeof(u->found), &note, e);
        if (*note.text)
                log_debug("%s", note.text);
        return r < 0 ? r : check_record(u, e);
}

/* Whatever came of the model: the list may revoke the very key that signed it. */
int update_keep_keys(struct update *u, struct err *e)
{
        struct run *run = u->run;
        int r;

        if (!u->found.keys_fetched)
                return 0;
        r = keyring_keep(run->options, store_staging(run->store), run->now_s, &run->keyring, e);
        if (r == 0)
                run->state.keys_version = run->keyring.keys.version;
        return r;
}
