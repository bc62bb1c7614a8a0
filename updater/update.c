/* SPDX-License-Identifier: Apache-2.0 */
#include "updater/update.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"
#include "config/cli.h"
#include "updater/examine.h"
#include "updater/history.h"
#include "updater/keyring.h"
#include "updater/notify.h"
#include "updater/sandbox.h"
#include "updater/state.h"
#include "updater/store.h"
#include "updater/verify.h"

#define ID_SHOWN         12 /* digits of an id in our messages */
#define MACHINE_ID       "/etc/machine-id"
#define EXAMINE_EXTRA_MS 10000 /* for the checks, beside the requests */
#define EXAMINE_REQUESTS 4     /* model by GET, by POST, keys, their signature */

/* What all slots of a run share. */
struct run {
        const struct options *options;
        struct machine machine;
        struct store *store;
        struct state state;
        struct keyring keyring;
        int64_t now_s; /* the later of the clock and the newest signed time seen */
};

/* One model on its way. */
struct update {
        struct run *run;
        struct slot slot;
        struct slot_state *state;
        struct installed before;
        struct examined found;
        const char *served; /* words for the report */
        bool changed;
};

static void record(const struct update *u, const char *what, const char *words)
{
        const struct event event = { u->slot.text, what, u->found.id, u->found.model, words };
        struct err e = { "" };

        if (history_append(u->run->options->store_path, &event, &e) < 0)
                log_warning("the history is not kept: %s", e.text);
}

static void save(struct run *run)
{
        struct err e = { "" };

        if (state_save(run->options->store_path, &run->state, &e) < 0)
                log_warning("the state is not kept: %s", e.text);
}

/* ---- begin and end of a run ---- */

static void run_done(struct run *run)
{
        store_close(run->store);
}

static int run_open(struct run *run, const struct options *o, struct err *e)
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

static int slot_open(struct run *run, const char *name, struct update *u, struct err *e)
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
static int hash_dir(const char *path, char ret[HASH_HEX_SIZE], struct err *e)
{
        CLEANUP(model_archive_freep) struct model_archive *entries = NULL;
        int r;

        r = model_archive_read_dir(path, &entries, e);
        return r < 0 ? r : model_archive_id(entries, ret);
}

static bool is_whole(const struct update *u, const char *id)
{
        char path[PATH_MAX], is[HASH_HEX_SIZE];

        return *id && store_model_path(u->run->options->store_path, &u->slot, id, path, NULL) == 0 &&
               hash_dir(path, is, NULL) == 0 && strcmp(is, id) == 0;
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

static struct trust trust_of(const struct update *u)
{
        struct trust trust = { .keys = u->run->keyring.keys,
                               .now_s = u->run->now_s,
                               .downgrade = u->run->options->downgrade };

        set_floor(u, &trust);
        return trust;
}

/* ---- the steps ---- */

static int examine_model(struct update *u, struct err *e)
{
        const struct options *o = u->run->options;
        struct examine_order order = { .options = o,
                                       .machine = &u->run->machine,
                                       .staging = store_staging(u->run->store),
                                       .slot = u->slot,
                                       .trust = trust_of(u),
                                       .roots_n = u->run->keyring.roots_n,
                                       .keys_version = u->run->keyring.keys.version };
        struct sandbox sandbox = {
                .writable = order.staging,
                .readable = { "/etc", "/usr/share", "/usr/lib", "/lib", "/lib64", "/run/systemd/resolve",
                              "/run/resolvconf", "/dev/urandom", "/dev/null", "/proc/self", NULL },
                .timeout_ms = EXAMINE_REQUESTS * o->timeout_ms + EXAMINE_EXTRA_MS,
        };
        const char *shown[] = { o->server_ca_file, o->server_token_file, o->from };
        char signature[PATH_MAX];
        struct err note = { "" };
        size_t n = 0;
        int r;

        r = model_archive_ready(e); /* the sandbox runs no code that was not loaded before */
        if (r < 0)
                return r;
        memcpy(order.roots, u->run->keyring.roots, sizeof(order.roots));
        if (is_whole(u, u->before.current)) {
                memcpy(order.current_id, u->before.current, sizeof(order.current_id));
                if (!*o->from && strcmp(u->state->etag_url, o->server_url) == 0)
                        memcpy(order.etag, u->state->etag, sizeof(order.etag));
        }
        while (sandbox.readable[n])
                n++;
        for (size_t i = 0; i < ARRAY_SIZE(shown); i++)
                if (*shown[i])
                        sandbox.readable[n++] = shown[i];
        if (*o->from &&
            snprintf(signature, sizeof(signature), "%s.minisig", o->from) < (int)sizeof(signature))
                sandbox.readable[n++] = signature;
        r = sandbox_run(&sandbox, examine, &order, &u->found, sizeof(u->found), &note, e);
        if (*note.text)
                log_debug("%s", note.text);
        return r;
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

/* Nothing of what the sandbox said is needed for this: the files' hash, and the signature over the statement
 * that names it. */
static int confirm(const struct update *u, struct statement *ret, struct err *e)
{
        struct buf signature = { .data = (char *)u->found.signature, .size = strlen(u->found.signature) };
        struct trust trust = trust_of(u);
        char id[HASH_HEX_SIZE];
        int r;

        *ret = (struct statement){ 0 };
        r = hash_dir(u->found.staged, id, e);
        if (r < 0)
                return r;
        if (strcmp(id, u->found.id) != 0)
                return err_set(e, -EPROTO, "the staged files are not what was checked");
        if (u->run->options->server_trust != TRUST_SIGNED)
                return 0;
        return trust_confirm(&trust, &u->slot, &signature, id, ret, e);
}

static int install(struct update *u, struct err *e)
{
        int r;

        r = store_place(u->run->store, &u->slot, u->found.staged, u->found.id, e);
        return r < 0 ? r : store_switch(u->run->store, &u->slot, u->found.id, &u->before, e);
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
static int notify(struct update *u, const char *id, struct err *e)
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

/* Put the old model back and let the estimator look again. The model that failed is removed. One that was
 * current before goes only when it was refused: an estimator that is busy or ending says nothing about it. */
static void put_back(struct update *u, bool refused, const char *why)
{
        const struct options *o = u->run->options;
        json_t *answer = NULL;
        struct err e = { "" };

        if (!u->changed) { /* what was before that? */
                if (!refused || !*u->before.previous || strcmp(u->before.previous, u->before.current) == 0)
                        return;
                memcpy(u->before.current, u->before.previous, sizeof(u->before.current));
                u->before.previous[0] = '\0';
        }
        if (store_restore(u->run->store, &u->slot, &u->before, &e) < 0) {
                (void)log_error(0, "%s: cannot go back to the model before: %s", u->slot.text, e.text);
                return;
        }
        log_warning("%s: went back to %.*s", u->slot.text, ID_SHOWN,
                    *u->before.current ? u->before.current : "no model");
        u->state->etag[0] = '\0';
        record(u, "rolled-back", why);
        (void)store_prune(u->run->store, &u->slot, NULL); /* tried again at the next update */
        if (notify_command(o->estimator_socket, "reload", o->estimator_timeout_ms, &answer, &e) < 0)
                log_warning("%s: %s", u->slot.text, e.text);
        json_decref(answer);
}

static void remember(struct update *u, const struct statement *s)
{
        struct slot_state *state = u->state;

        if (state->version < s->version)
                state->version = s->version;
        if (state->time_s < s->time_s)
                state->time_s = s->time_s;
        if (u->run->state.newest_time_s < s->time_s)
                u->run->state.newest_time_s = s->time_s;
        (void)snprintf(state->etag, sizeof(state->etag), "%s", u->found.etag);
        (void)snprintf(state->etag_url, sizeof(state->etag_url), "%s", u->run->options->server_url);
        if (strcmp(state->refused, u->found.id) != 0)
                state->refused[0] = '\0'; /* a newer one is here */
}

/* A new model: confirmed, placed, switched to, served. */
static int change(struct update *u, struct err *e)
{
        struct statement s;
        int r;

        if (!u->run->options->force && strcmp(u->state->refused, u->found.id) == 0)
                return err_set(e, -EPERM, "%s %.*s was rolled back from; --force installs it again",
                               u->found.model, ID_SHOWN, u->found.id);
        r = confirm(u, &s, e);
        if (r == 0)
                r = install(u, e);
        if (r < 0)
                return r;
        u->changed = true;
        r = notify(u, u->found.id, e);
        if (r < 0) {
                put_back(u, r == -EPERM, e->text);
                return r;
        }
        remember(u, &s);
        record(u, "installed", "");
        return store_prune(u->run->store, &u->slot, e);
}

/* What is there already, served? */
static int keep(struct update *u, struct err *e)
{
        int r;

        if (u->found.fetched)
                remember(u, &(struct statement){ 0 });
        r = notify(u, u->before.current, e);
        if (r < 0)
                put_back(u, r == -EPERM, e->text);
        return r < 0 ? r : store_prune(u->run->store, &u->slot, e);
}

/* Whatever came of the model: the list may revoke the very key that signed it. */
static int keep_keys(struct update *u, struct err *e)
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

static int update_model(struct update *u, struct err *e)
{
        struct err keys = { "" };
        int r, k;

        r = examine_model(u, e);
        if (r == 0)
                r = check_record(u, e);
        k = keep_keys(u, &keys);
        if (r == 0 && k < 0)
                return err_set(e, k, "%s", keys.text);
        if (r < 0)
                return r;
        if (*u->run->options->from) /* the file's form may be another */
                store_look(u->run->options->store_path, &u->slot, &u->before);
        return *u->found.staged ? change(u, e) : keep(u, e);
}

/* ---- update ---- */

struct tally {
        size_t changed, unchanged, failed;
};

static void report(const struct update *u)
{
        const char *id = *u->found.id ? u->found.id : u->before.current;

        (void)printf("%s: %s%s%.*s %s%s\n", u->slot.text, u->found.model, *u->found.model ? " " : "",
                     ID_SHOWN, id, u->changed ? "installed" : "unchanged", u->served);
}

static double random_unit(void)
{
        return (double)randombytes_uniform(1U << 24) / (1U << 24);
}

/* A network that is down says nothing of the model. */
static bool is_about_model(int r)
{
        return r != -ETIMEDOUT && r != -ECONNREFUSED && r != -EHOSTUNREACH && r != -EAGAIN && r != -ENOENT;
}

static void fail(struct update *u, int r, const struct err *e)
{
        (void)log_error(r, "%s: %s%s", u->slot.text, e->text,
                        r == -ENOTSUP ? " (form weight works with every server)" : "");
        if (!*u->run->options->from)
                state_failed(u->state, clock_wall_ms(), u->found.retry_after_ms, random_unit());
        u->found.id[sizeof(u->found.id) - 1] = u->found.model[sizeof(u->found.model) - 1] = '\0';
        record(u, is_about_model(r) ? "refused" : "failed", e->text);
}

/* Is there a reason not to ask at all? */
static bool is_put_off(const struct update *u)
{
        int64_t wait_ms = u->state->retry_ms - clock_wall_ms();

        if (*u->state->pinned) {
                (void)printf("%s: pinned to %.*s\n", u->slot.text, ID_SHOWN, u->state->pinned);
                return true;
        }
        /* a longer wait than there is comes from a clock that was ahead */
        if (!u->run->options->scheduled || *u->run->options->from || wait_ms <= 0 ||
            wait_ms > STATE_RETRY_MAX_MS)
                return false;
        (void)printf("%s: failed %u times, asked again in %lld s\n", u->slot.text, u->state->failures,
                     (long long)(wait_ms + 999) / 1000);
        return true;
}

static void update_slot(struct run *run, const char *name, struct tally *tally)
{
        struct err e = { "" };
        struct update u;
        int r;

        r = slot_open(run, name, &u, &e);
        if (r < 0) {
                (void)log_error(r, "%s: %s", name, e.text);
                tally->failed++;
                return;
        }
        if (is_put_off(&u)) {
                tally->unchanged++;
                return;
        }
        r = update_model(&u, &e);
        if (r < 0) {
                fail(&u, r, &e);
                tally->failed++;
        } else {
                state_succeeded(u.state);
                report(&u);
                tally->changed += u.changed;
                tally->unchanged += !u.changed;
        }
        save(run);
}

static int update_once(const struct options *o)
{
        CLEANUP(run_done) struct run run = { 0 };
        struct tally tally = { 0 };
        struct err e = { "" };
        int r;

        r = run_open(&run, o, &e);
        if (r == 0)
                r = machine_discover(o->procfs_root, o->sysfs_root, &run.machine, &e);
        if (r < 0)
                return log_error(r, "%s", e.text);
        for (size_t i = 0; i < (*o->from ? 1 : o->models.n); i++)
                update_slot(&run, o->models.items[i], &tally);
        if (tally.failed > 0)
                return EXIT_FAILED;
        return tally.changed > 0 ? EXIT_DONE : EXIT_NOTHING;
}

static void sleep_ms(int64_t ms)
{
        struct timespec t = { ms / 1000, ms % 1000 * 1000000L };

        while (clock_nanosleep(CLOCK_BOOTTIME, 0, &t, &t) == EINTR)
                ;
}

/* This machine's place in the splay: the same at each run, even over a fleet. */
static int64_t splay_of(const struct options *o)
{
        char id[64] = "", hex[HASH_HEX_SIZE];
        char *end;

        if (o->splay_ms == 0)
                return 0;
        if (file_read_small(AT_FDCWD, MACHINE_ID, id, sizeof(id)) <= 0)
                return (int64_t)randombytes_uniform((uint32_t)o->splay_ms);
        hash_sha256_hex(id, strlen(id), hex);
        hex[12] = '\0';
        return (int64_t)(strtoull(hex, &end, 16) % (uint64_t)o->splay_ms);
}

int update_run(const void *options, int argc, char **argv)
{
        struct options o = *(const struct options *)options;
        int status;

        (void)argc;
        (void)argv;
        if (o.server_trust == TRUST_SIGNED && o.trust_keys.n == 0 && o.trust_root_keys.n == 0) {
                (void)log_error(-EINVAL,
                                "server.trust is signed, so trust.keys or trust.root_keys must name a "
                                "public key file; or choose server.trust: tls or unsigned");
                return EXIT_MISUSE;
        }
        o.scheduled |= o.every_ms > 0;
        if (o.scheduled && splay_of(&o) > 0) {
                log_info("waiting %lld s, this machine's part of the splay", (long long)splay_of(&o) / 1000);
                sleep_ms(splay_of(&o));
        }
        status = update_once(&o);
        while (o.every_ms > 0) {
                (void)fflush(stdout);
                sleep_ms(o.every_ms);
                status = update_once(&o);
        }
        return status;
}

/* ---- rollback, pin, unpin ---- */

/* Which slots a subcommand means: the one that is named, or all of the configuration. */
static int for_slots(const void *options, int argc, char **argv,
                     int (*act)(struct update *u, char **argv, struct err *e))
{
        const struct options *o = options;
        CLEANUP(run_done) struct run run = { 0 };
        size_t n = argc > 0 ? 1 : o->models.n, failed = 0, done = 0;
        struct err e = { "" };
        int r;

        r = run_open(&run, o, &e);
        if (r < 0)
                return log_error(r, "%s", e.text);
        for (size_t i = 0; i < n; i++) {
                struct update u;

                r = slot_open(&run, argc > 0 ? argv[0] : o->models.items[i], &u, &e);
                if (r == 0)
                        r = act(&u, argc > 1 ? argv + 1 : NULL, &e);
                if (r < 0)
                        (void)log_error(r, "%s: %s", *u.slot.text ? u.slot.text : argv[0], e.text);
                failed += r < 0;
                done += r == 0;
        }
        save(&run);
        if (failed > 0)
                return EXIT_FAILED;
        return done > 0 ? EXIT_DONE : EXIT_NOTHING;
}

static int roll_back(struct update *u, char **argv, struct err *e)
{
        char gone[HASH_HEX_SIZE];
        struct installed to = { .current = "", .previous = "" };
        int r;

        (void)argv;
        if (!*u->before.previous || strcmp(u->before.previous, u->before.current) == 0)
                return err_set(e, -ENOENT, "there is no model before the current one");
        if (!is_whole(u, u->before.previous))
                return err_set(e, -EBADMSG, "the files of the model before are not what they were");
        memcpy(gone, u->before.current, sizeof(gone));
        memcpy(to.current, u->before.previous, sizeof(to.current));
        memcpy(to.previous, u->before.current, sizeof(to.previous));
        r = store_restore(u->run->store, &u->slot, &to, e);
        if (r < 0)
                return r;
        u->changed = true;
        memcpy(u->state->refused, gone, sizeof(gone));
        u->state->etag[0] = '\0';
        memcpy(u->found.id, to.current, sizeof(u->found.id));
        record(u, "rolled-back", "by the operator");
        r = notify(u, to.current, e);
        if (r == 0)
                (void)printf("%s: back to %.*s, away from %.*s%s\n", u->slot.text, ID_SHOWN, to.current,
                             ID_SHOWN, gone, u->served);
        return r;
}

static int pin(struct update *u, char **argv, struct err *e)
{
        const char *id = argv ? argv[0] : u->before.current;

        if (!*u->before.current)
                return err_set(e, -ENOENT, "no model is installed");
        if (!*id || strncmp(u->before.current, id, strlen(id)) != 0)
                return err_set(e, -ENOENT, "the current model is %.*s, not '%.64s'", ID_SHOWN,
                               u->before.current, id);
        memcpy(u->state->pinned, u->before.current, sizeof(u->state->pinned));
        memcpy(u->found.id, u->before.current, sizeof(u->found.id));
        record(u, "pinned", "");
        (void)printf("%s: pinned to %.*s\n", u->slot.text, ID_SHOWN, u->state->pinned);
        return 0;
}

static int unpin(struct update *u, char **argv, struct err *e)
{
        (void)argv;
        (void)e;
        if (!*u->state->pinned)
                return 1;
        memcpy(u->found.id, u->state->pinned, sizeof(u->found.id));
        u->state->pinned[0] = '\0';
        record(u, "unpinned", "");
        (void)printf("%s: follows the server again\n", u->slot.text);
        return 0;
}

int rollback_run(const void *options, int argc, char **argv)
{
        return for_slots(options, argc, argv, roll_back);
}

int pin_run(const void *options, int argc, char **argv)
{
        return for_slots(options, argc, argv, pin);
}

int unpin_run(const void *options, int argc, char **argv)
{
        return for_slots(options, argc, argv, unpin);
}

/* ---- verify ---- */

static int check_installed(struct update *u, char **argv, struct err *e)
{
        const char *id = u->before.current;
        struct candidate candidate = { 0 };
        struct store_info info = { 0 };
        struct trust trust = trust_of(u);
        struct buf signature;
        struct statement s;
        char path[PATH_MAX];
        int r;

        (void)argv;
        if (!*id)
                return err_set(e, -ENOENT, "no model is installed");
        if (!is_whole(u, id))
                return err_set(e, -EBADMSG, "the files of %.*s are not what they were", ID_SHOWN, id);
        r = store_read_info(u->run->options->store_path, &u->slot, id, &info, e);
        if (r < 0)
                return r;
        trust.downgrade = true; /* it is here already */
        signature = (struct buf){ .data = info.signature, .size = strlen(info.signature) };
        if (*info.signature || u->run->options->server_trust == TRUST_SIGNED)
                r = trust_confirm(&trust, &u->slot, &signature, id, &s, e);
        if (r == 0)
                r = store_model_path(u->run->options->store_path, &u->slot, id, path, e);
        if (r == 0)
                r = verify_read_dir(u->slot.form, path, info.model_name, &candidate, e);
        if (r == 0)
                r = verify_canary(&candidate, &u->slot, e);
        candidate_done(&candidate);
        if (r == 0)
                (void)printf("%s: %s %.*s whole, %s\n", u->slot.text, info.model_name, ID_SHOWN, id,
                             *info.signature ? "signature good" : "not signed");
        return r;
}

int verify_run(const void *options, int argc, char **argv)
{
        return for_slots(options, argc, argv, check_installed);
}
