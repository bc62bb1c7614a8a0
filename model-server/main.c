/* SPDX-License-Identifier: Apache-2.0 */
/* wattloop-model-server: learns from what machines measured, and serves the models to those that cannot. */
#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>

#include "common/db.h"
#include "common/log.h"
#include "config/cli.h"
#include "model-server/backup.h"
#include "model-server/commands.h"
#include "model-server/convert/convert.h"
#include "model-server/keys.h"
#include "model-server/publishing.h"
#include "model-server/puller.h"
#include "model-server/replay.h"
#include "model-server/serve/httpd.h"
#include "model-server/serve/rollouts.h"
#include "model-server/serve/trainings.h"
#include "model-server/serve/watch.h"
#include "model-server/token_command.h"

#define DRAIN_MS 5000 /* for requests in work when the server is told to stop */
#define REAP_MS  1000
#define ARENAS   2 /* of malloc: one for each of many threads would keep what each once needed */

/* Blocked in every thread, so they arrive here only. */
static int open_signals(struct err *e)
{
        sigset_t set;
        int fd;

        (void)sigemptyset(&set);
        (void)sigaddset(&set, SIGTERM);
        (void)sigaddset(&set, SIGINT);
        if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
                return err_sys(e, "cannot block signals");
        (void)signal(SIGPIPE, SIG_IGN);
        (void)signal(SIGXFSZ, SIG_IGN); /* a file size limit is an error of the write, not the end */
        fd = signalfd(-1, &set, SFD_CLOEXEC);
        return fd < 0 ? err_sys(e, "cannot open a signal descriptor") : fd;
}

static void wait_for_signal(int fd, struct httpd *httpd)
{
        struct pollfd p = { .fd = fd, .events = POLLIN };

        while (poll(&p, 1, REAP_MS) <= 0)
                httpd_reap(httpd);
}

static int serve(const void *options, int argc, char **argv)
{
        CLEANUP(closep) int signals = -1;
        struct worker *worker = NULL;
        struct httpd *httpd = NULL;
        struct puller *puller = NULL;
        struct watch *watch = NULL;
        struct server server;
        struct err e;
        int r;

        (void)argc;
        (void)argv;
        (void)mallopt(M_ARENA_MAX, ARENAS);
        signals = open_signals(&e);
        r = signals < 0 ? signals : server_open(&server, options, &e);
        if (r < 0)
                return log_error(r, "%s", e.text);

        r = watch_start(&server, &watch, &e);
        if (r == 0)
                r = worker_start(&server, &worker, &e);
        if (r == 0)
                r = trainings_start(&server.trainings, &e);
        if (r == 0 && *server.options->prometheus_url)
                r = puller_start(&server, worker, &puller, &e);
        if (r == 0)
                r = httpd_start(&server, worker, &httpd, &e);
        if (r == 0)
                r = learn_start(server.learn, &e);
        if (r == 0) {
                log_info("listening on port %u", (unsigned int)httpd_port(httpd));
                wait_for_signal(signals, httpd);
                log_info("stopping");
                httpd_drain(httpd, DRAIN_MS);
        }
        watch_stop(watch);
        puller_stop(puller); /* it waits for the worker */
        worker_stop(worker); /* both before httpd_stop(): they resume what waits for them */
        trainings_stop(server.trainings);
        httpd_stop(httpd);
        server_close(&server);
        return r < 0 ? log_error(r, "%s", e.text) : EXIT_DONE;
}

static const struct command commands[] = {
        { "serve", "", 0, 0, "take batches in, learn, publish, and serve models", serve },
        { "replay", "MODEL [OUT.zip]", 1, 2, "make a published model again from its rows, and compare",
          replay },
        { "publish", "FILE...", 1, 256, "give model files to the fleet; --sign: with signatures beside them",
          publish_run },
        { "convert", "INPUT", 1, 1,
          "--out ARCHIVE.zip: an archive of a network that Keras or TensorFlow.js saved", convert_run },
        { "keys", "make|sign|revoke|show ...", 1, 128, "key pairs, and the list of release keys", keys_run },
        { "token", "issue|revoke|list ...", 1, 1 + TOKEN_WORDS_MAX,
          "tokens that may upload, in auth.token_file", token_run },
        { "backup", "DIRECTORY", 1, 1, "copy database, models (and --keys) to a new directory while serving",
          backup_run },
        { "restore", "DIRECTORY", 1, 1, "put a backup in place, beside no running server", restore_run },
        { "rollout", "[status|halt|resume [PIPELINE]]", 0, 2, "how new models reach the fleet; stop or go on",
          rollout_run },
        { "train", "", 0, 0, "--data DIR --out DIR: train all kinds of models on a recording",
          command_train },
        { "evaluate", "FILE...", 1, 256, "--data DIR: score archives and weight files on a recording",
          command_evaluate },
        { "report", "", 0, 0, "--data DIR --out DIR: the accuracy report of a recording, with its models",
          command_report },
        { 0 },
};

int main(int argc, char **argv)
{
        static const char *const doctor[] = { "rollout status", "token list", NULL };
        static const struct program program = {
                .name = "wattloop-model-server",
                .summary = "Learns power models from what machines measured, and serves them.",
                .config_default = "/etc/wattloop/model-server.yaml",
                .commands = commands,
                .options = options_table,
                .options_size = sizeof(struct options),
                .check = options_check,
                .doctor = doctor,
                .check_database = db_check,
        };

        return program_main(&program, argc, argv);
}
