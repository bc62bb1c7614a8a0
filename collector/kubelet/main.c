/* SPDX-License-Identifier: Apache-2.0 */
/* wattloop-collector-kubelet: asks this node's kubelet which pods there are and writes what their containers
 * are called: "begin", a line for each pod and container, "end"; "same" when nothing has changed; "error
 * ERRNO words". The collector starts it and reads the lines; started by hand it shows what the kubelet says.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include "collector/kubelet/pods.h"
#include "common/clock.h"
#include "common/log.h"
#include "config/cli.h"

#define SERVICE_ACCOUNT "/var/run/secrets/kubernetes.io/serviceaccount/"

struct options {
        char *url, *token_file, *ca_file;
        bool verify_tls;
        long long interval_ms, timeout_ms;
};

#define FIELD(f) offsetof(struct options, f)

static const struct option options_table[] = {
        { "url", OPTION_STRING, FIELD(url), "https://127.0.0.1:10250", 0, 0, NULL, "URL of the kubelet" },
        { "token_file", OPTION_STRING, FIELD(token_file), SERVICE_ACCOUNT "token", 0, 0, NULL,
          "file with a bearer token, read again for each request; empty: none" },
        { "ca_file", OPTION_STRING, FIELD(ca_file), SERVICE_ACCOUNT "ca.crt", 0, 0, NULL,
          "PEM file of further certificate authorities, or the kubelet's own certificate" },
        { "verify_tls", OPTION_BOOL, FIELD(verify_tls), "true", 0, 0, NULL,
          "false: take any certificate, from anybody" },
        { "interval", OPTION_DURATION, FIELD(interval_ms), "15s", 100, 3600000, NULL,
          "time between two requests" },
        { "timeout", OPTION_DURATION, FIELD(timeout_ms), "10s", 100, 300000, NULL,
          "time after which a request is given up" },
        { 0 },
};

static int check_options(const void *options, struct err *e)
{
        const struct options *o = options;

        if (!strncmp(o->url, "https://", strlen("https://")))
                return 0;
        if (strncmp(o->url, "http://", strlen("http://")) != 0)
                return err_set(e, -EINVAL, "url must begin with https:// or http://, not be '%.100s'",
                               o->url);
        if (*o->token_file)
                return err_set(e, -EINVAL, "a token is not sent over http: set token_file to nothing");
        return 0;
}

static int open_pods(const struct options *o, struct pods **ret, struct err *e)
{
        const struct pods_options options = { .url = o->url,
                                              .token_file = o->token_file,
                                              .ca_file = o->ca_file,
                                              .verify_tls = o->verify_tls,
                                              .timeout_ms = (long)o->timeout_ms };

        if (!o->verify_tls)
                log_warning("verify_tls is off: anybody on the way can read the token and make up names");
        return pods_open(&options, ret, e);
}

/* 0, or a negative errno when nobody reads any more. */
static int write_text(const char *text)
{
        return fputs(text, stdout) >= 0 && fflush(stdout) == 0 ? 0 : -EPIPE;
}

static int write_list(const struct buf *list)
{
        (void)fputs("begin\n", stdout); /* the flush tells */
        if (list->size)
                (void)fwrite(list->data, 1, list->size, stdout);
        return write_text("end\n");
}

static int run_once(const void *options, int argc, char **argv)
{
        CLEANUP(pods_closep) struct pods *pods = NULL;
        CLEANUP(buf_done) struct buf list;
        struct err e = { 0 };
        int r;

        (void)argc;
        (void)argv;
        buf_init(&list, PODS_TEXT_MAX);
        r = open_pods(options, &pods, &e);
        if (r == 0)
                r = pods_read(pods, &list, &e);
        if (r < 0)
                return log_error(r, "%s", e.text);
        return write_list(&list) < 0 ? EXIT_FAILED : EXIT_DONE;
}

/* Until the reader goes: its end of the pipe is then in error. */
static bool reader_left(long long wait_ms)
{
        struct pollfd out = { .fd = STDOUT_FILENO };

        return poll(&out, 1, (int)wait_ms) > 0 && out.revents & (POLLERR | POLLHUP | POLLNVAL);
}

static bool same_text(const struct buf *a, const struct buf *b)
{
        return a->size == b->size && (a->size == 0 || !memcmp(a->data, b->data, a->size));
}

/* One request. `told` is the list that the reader has. */
static int tell(struct pods *pods, struct buf *list, struct buf *told, bool *ret_first)
{
        struct err e = { 0 };
        int r;

        buf_clear(list);
        r = pods_read(pods, list, &e);
        if (r < 0) {
                printf("error %d %s\n", -r, e.text);
                return write_text("");
        }
        if (!*ret_first && same_text(list, told))
                return write_text("same\n");
        *ret_first = false;
        buf_clear(told);
        if (list->size)
                (void)buf_append(told, list->data, list->size);
        return write_list(list);
}

static int run_run(const void *options, int argc, char **argv)
{
        CLEANUP(pods_closep) struct pods *pods = NULL;
        CLEANUP(buf_done) struct buf list;
        CLEANUP(buf_done) struct buf told;
        const struct options *o = options;
        struct err e = { 0 };
        bool first = true;
        int r;

        (void)argc;
        (void)argv;
        (void)prctl(PR_SET_PDEATHSIG, SIGTERM); /* the collector was killed */
        buf_init(&list, PODS_TEXT_MAX);
        buf_init(&told, PODS_TEXT_MAX);
        r = open_pods(o, &pods, &e);
        if (r < 0) {
                printf("error %d %s\n", -r, e.text);
                (void)write_text("");
                return log_error(r, "%s", e.text);
        }
        do {
                if (tell(pods, &list, &told, &first) < 0)
                        break;
        } while (!reader_left(o->interval_ms));
        return EXIT_DONE;
}

static const struct command commands[] = {
        { "run", "", 0, 0, "write names, and again when they change, until nobody reads", run_run },
        { "once", "", 0, 0, "write the names once", run_once },
        { 0 },
};

int main(int argc, char **argv)
{
        static const struct program program = {
                .name = "wattloop-collector-kubelet",
                .summary = "Tells what the pods and containers of this node are called.",
                .config_default = "/etc/wattloop/collector-kubelet.yaml",
                .commands = commands,
                .options = options_table,
                .options_size = sizeof(struct options),
                .check = check_options,
        };

        return program_main(&program, argc, argv);
}
