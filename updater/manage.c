/* SPDX-License-Identifier: Apache-2.0 */
#include "updater/manage.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "common/log.h"
#include "config/cli.h"
#include "updater/kepler.h"
#include "updater/run.h"
#include "updater/verify.h"

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

                r = update_open(&run, argc > 0 ? argv[0] : o->models.items[i], &u, &e);
                if (r == 0)
                        r = act(&u, argc > 1 ? argv + 1 : NULL, &e);
                if (r < 0)
                        (void)log_error(r, "%s: %s", *u.slot.text ? u.slot.text : argv[0], e.text);
                failed += r < 0;
                done += r == 0;
        }
        run_save(&run);
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
        if (!update_is_whole(u, u->before.previous))
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
        update_record(u, "rolled-back", "by the operator");
        r = update_notify(u, to.current, e);
        if (r == 0)
                r = update_kepler(u, to.current, e);
        if (r == 0 && u->run->kepler_changed)
                r = kepler_reload(u->run->options, e);
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
        update_record(u, "pinned", "");
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
        update_record(u, "unpinned", "");
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
        struct trust trust = update_trust(u);
        struct buf signature;
        struct statement s;
        char path[PATH_MAX];
        int r;

        (void)argv;
        if (!*id)
                return err_set(e, -ENOENT, "no model is installed");
        if (!update_is_whole(u, id))
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
