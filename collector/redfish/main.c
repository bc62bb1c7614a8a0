/* SPDX-License-Identifier: Apache-2.0 */
/* wattloop-collector-redfish: asks a Redfish service for a machine's power and writes a line for each answer:
 * "watts 312.5" or "error ERRNO words". The collector starts it and reads the lines, so that neither TLS nor
 * a slow controller is inside the collector; started by hand it shows what the service says. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include "collector/redfish/service.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/num.h"
#include "common/privilege.h"
#include "config/cli.h"

#define WARN_PERIOD_NS (600 * NS_PER_S)

struct options {
        char *url, *credentials, *ca_file;
        bool verify_tls;
        long long interval_ms, timeout_ms;
};

#define FIELD(f) offsetof(struct options, f)

static const struct option options_table[] = {
        { "url", OPTION_STRING, FIELD(url), "", 0, 0, NULL,
          "https URL of the service, or of one chassis in it" },
        { "credentials", OPTION_STRING, FIELD(credentials), "", 0, 0, NULL,
          "file with one line, user:password; empty: none" },
        { "ca_file", OPTION_STRING, FIELD(ca_file), "", 0, 0, NULL,
          "PEM file of further certificate authorities, or the service's own certificate" },
        { "verify_tls", OPTION_BOOL, FIELD(verify_tls), "true", 0, 0, NULL,
          "false: take any certificate, from anybody" },
        { "interval", OPTION_DURATION, FIELD(interval_ms), "10s", 100, 3600000, NULL,
          "time between two requests" },
        { "timeout", OPTION_DURATION, FIELD(timeout_ms), "10s", 100, 300000, NULL,
          "time after which a request is given up" },
        { 0 },
};

static int check_options(const void *options, struct err *e)
{
        const struct options *o = options;

        if (strncmp(o->url, "https://", strlen("https://")) != 0)
                return err_set(e, -EINVAL, "url must begin with https://, not be '%.100s'", o->url);
        return 0;
}

static int open_service(const struct options *o, struct service **ret, struct err *e)
{
        const struct service_options options = { .url = o->url,
                                                 .credentials = o->credentials,
                                                 .ca_file = o->ca_file,
                                                 .verify_tls = o->verify_tls,
                                                 .timeout_ms = (long)o->timeout_ms };

        if (!o->verify_tls)
                log_warning("verify_tls is off: anybody on the way can read the credentials and make up the "
                            "watts");
        return service_open(&options, ret, e);
}

/* Returns 0, or a negative errno when nobody reads any more. */
static int write_answer(int r, double watts, const struct err *e)
{
        char number[NUM_TEXT_MAX];

        if (r == 0) {
                (void)num_format_double(number, watts);
                printf("watts %s\n", number);
        } else {
                printf("error %d %s\n", -r, e->text);
        }
        return fflush(stdout) == 0 ? 0 : -EPIPE;
}

static int run_once(const void *options, int argc, char **argv)
{
        CLEANUP(service_closep) struct service *service = NULL;
        struct err e = { 0 };
        double watts = 0;
        int r;

        (void)argc;
        (void)argv;
        r = open_service(options, &service, &e);
        if (r == 0)
                r = service_read_watts(service, &watts, &e);
        if (r < 0)
                return log_error(r, "%s", e.text);
        return write_answer(0, watts, &e) < 0 ? EXIT_FAILED : EXIT_DONE;
}

/* Until the reader goes: its end of the pipe is then in error. */
static bool reader_left(long long wait_ms)
{
        struct pollfd out = { .fd = STDOUT_FILENO };

        return poll(&out, 1, (int)wait_ms) > 0 && out.revents & (POLLERR | POLLHUP | POLLNVAL);
}

static int run_run(const void *options, int argc, char **argv)
{
        CLEANUP(service_closep) struct service *service = NULL;
        const struct options *o = options;
        struct log_limit warning = { 0 };
        struct err e = { 0 };
        uint64_t kept;
        int r;

        (void)argc;
        (void)argv;
        (void)prctl(PR_SET_PDEATHSIG, SIGTERM); /* the collector was killed */
        r = open_service(o, &service, &e);
        if (r == 0)
                r = privilege_drop(0, &kept, &e); /* the credentials were read */
        if (r < 0) {
                (void)write_answer(r, 0, &e);
                return log_error(r, "%s", e.text);
        }
        do {
                double watts = 0;

                r = service_read_watts(service, &watts, &e);
                if (r < 0 && log_limit_ok(&warning, WARN_PERIOD_NS))
                        log_warning("no power from Redfish: %s", e.text);
                if (write_answer(r, watts, &e) < 0)
                        break;
        } while (!reader_left(o->interval_ms));
        return EXIT_DONE;
}

static const struct command commands[] = {
        { "run", "", 0, 0, "write a line for each answer until nobody reads", run_run },
        { "once", "", 0, 0, "write one answer", run_once },
        { 0 },
};

int main(int argc, char **argv)
{
        static const struct program program = {
                .name = "wattloop-collector-redfish",
                .summary = "Tells a machine's power as its Redfish service knows it.",
                .config_default = "/etc/wattloop/collector-redfish.yaml",
                .commands = commands,
                .options = options_table,
                .options_size = sizeof(struct options),
                .check = check_options,
        };

        return program_main(&program, argc, argv);
}
