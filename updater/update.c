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
#include "schema/rollout.h"
#include "updater/examine.h"
#include "updater/kepler.h"
#include "updater/mirror.h"
#include "updater/notify.h"
#include "updater/report.h"
#include "updater/run.h"
#include "updater/verify.h"

#define MACHINE_ID "/etc/machine-id"

/* ---- the steps ---- */

/* Nothing of what the sandbox said is needed for this: the files' hash, and the signature over the statement
 * that names it. */
static int confirm(const struct update *u, struct statement *ret, struct err *e)
{
        struct buf signature = { .data = (char *)u->found.signature, .size = strlen(u->found.signature) };
        struct trust trust = update_trust(u);
        char id[HASH_HEX_SIZE];
        int r;

        *ret = (struct statement){ 0 };
        r = update_hash_dir(u->found.staged, id, e);
        if (r < 0)
                return r;
        if (strcmp(id, u->found.id) != 0)
                return err_set(e, -EPROTO, "the staged files are not what was checked");
        if (u->run->options->server_trust != TRUST_SIGNED)
                return 0;
        r = trust_confirm(&trust, &u->slot, &signature, id, ret, e);
        if (r == 0 && !trust.downgrade && !rollout_admits(ret, u->run->machine.node_id))
                return err_set(e, -EPROTO, "the rollout of this model does not include this machine");
        return r;
}

static int install(struct update *u, struct err *e)
{
        int r;

        r = store_place(u->run->store, &u->slot, u->found.staged, u->found.id, e);
        return r < 0 ? r : store_switch(u->run->store, &u->slot, u->found.id, &u->before, e);
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
        update_record(u, "rolled-back", why);
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
        state->is_mirror = u->found.is_mirror;
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
        r = update_notify(u, u->found.id, e);
        if (r < 0) {
                put_back(u, r == -EPERM, e->text);
                return r;
        }
        remember(u, &s);
        update_record(u, "installed", "");
        return store_prune(u->run->store, &u->slot, e);
}

/* What is there already, served? */
static int keep(struct update *u, struct err *e)
{
        int r;

        if (u->found.fetched || *u->found.etag) /* a new tag of the same model */
                remember(u, &(struct statement){ 0 });
        r = update_notify(u, u->before.current, e);
        if (r < 0)
                put_back(u, r == -EPERM, e->text);
        return r < 0 ? r : store_prune(u->run->store, &u->slot, e);
}

static int update_model(struct update *u, struct err *e)
{
        struct trust trust = update_trust(u);
        struct err keys = { "" };
        int r, k;

        r = update_examine(u, &trust, false, e);
        k = update_keep_keys(u, &keys);
        if (r == 0 && k < 0)
                return err_set(e, k, "%s", keys.text);
        if (r < 0)
                return r;
        if (*u->run->options->from) /* the file's form may be another */
                store_look(u->run->options->store_path, &u->slot, &u->before);
        r = *u->found.staged ? change(u, e) : keep(u, e);
        return r < 0 ? r : update_kepler(u, u->changed ? u->found.id : u->before.current, e);
}

/* ---- update ---- */

struct tally {
        size_t changed, unchanged, failed;
};

static void report(const struct update *u)
{
        const char *id = *u->found.id ? u->found.id : u->before.current;

        (void)printf("%s: %s%s%.*s %s%s\n", u->slot.text, u->found.model, *u->found.model ? " " : "",
                     ID_SHOWN, id,
                     u->changed ? "installed"
                     : u->found.held
                             ? "kept: the rollout of the new one has not come to this machine, or was halted"
                             : "unchanged",
                     u->served);
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
        update_record(u, is_about_model(r) ? "refused" : "failed", e->text);
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

        r = update_open(run, name, &u, &e);
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
        run_save(run);
}

/* A file or directory is a model of one slot, a mirror has them all. */
static size_t slots_of(const struct options *o)
{
        struct slot slot;

        for (size_t i = 0; *o->from && i < o->models.n; i++)
                if (slot_parse(o->models.items[i], &slot, NULL) == 0 && mirror_has(o->from, &slot))
                        return o->models.n;
        return *o->from ? 1 : o->models.n;
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
        for (size_t i = 0; i < slots_of(o); i++)
                update_slot(&run, o->models.items[i], &tally);
        if (run.kepler_changed && kepler_reload(o, &e) < 0) {
                (void)log_error(0, "%s", e.text);
                tally.failed++;
        }
        report_outcomes(&run);
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
