/* SPDX-License-Identifier: Apache-2.0 */
/* The platform's power as a Redfish service tells it. The helper wattloop-collector-redfish speaks to the
 * service and writes a line for each answer ("watts 312.5", "error ERRNO words"); here it is started, read
 * without waiting, and started again when it died. */
#include "collector/power.h"

#include <errno.h>
#include <string.h>
#include "collector/helper.h"
#include "collector/meter.h"
#include "collector/processor.h"
#include "common/clock.h"
#include "common/num.h"

#define HELPER            "wattloop-collector-redfish"
#define REDFISH_PROBE_MS  5000 /* for the first answer, when the collector starts */
#define REDFISH_STALE_MIN (30 * NS_PER_S)

struct power_source {
        struct helper *helper;
        bool answered;       /* there was an answer */
        double watts;        /* of the last one */
        uint64_t answer_ago; /* how old it is, nanoseconds */
        uint64_t stale_ns;   /* an answer older than this is none */
        int error;           /* of the last line; 0: it was an answer */
        enum provenance provenance;
        char why[HELPER_LINE_MAX];
        struct meter meter;
};

static void redfish_close(struct power_source *s)
{
        helper_stop(s->helper);
        free(s);
}
CLEANUP_DEFINE(struct power_source *, redfish_close);

static void take_line(void *context, char *line)
{
        struct power_source *s = context;
        char *end;
        double watts;

        if (!strncmp(line, "watts ", 6) && num_parse_double(line + 6, &watts) == 0 && watts > 0 &&
            watts <= METER_WATTS_MAX) {
                s->watts = watts;
                s->answered = true;
                s->answer_ago = 0;
                s->error = 0;
        } else if (!strncmp(line, "error ", 6)) {
                long number = strtol(line + 6, &end, 10);

                s->error = number > 0 && number < 4096 ? (int)-number : -EPROTO;
                (void)snprintf(s->why, sizeof(s->why), "%s", *end == ' ' ? end + 1 : end);
        } else {
                s->error = -EPROTO;
        }
}

/* The first answer, or the reason why there is none, if it comes soon. */
static void await_answer(struct power_source *s)
{
        uint64_t end_ns = clock_monotonic_ns() + REDFISH_PROBE_MS * NS_PER_MS, now_ns;

        while (!s->answered && s->error == 0 && (now_ns = clock_monotonic_ns()) < end_ns) {
                helper_wait(s->helper, end_ns - now_ns);
                if (helper_tend(s->helper, 0) < 0)
                        return;
        }
}

static int redfish_open(const struct power_source_options *options, struct power_source **ret, struct err *e)
{
        const struct redfish_options *o = &options->redfish;
        CLEANUP(redfish_closep) struct power_source *s = NULL;
        struct processor cpu;
        char interval[32];
        int r;

        if (!o->url || !*o->url)
                return err_set(e, -ENOENT, "redfish.url is not set");
        s = calloc(1, sizeof(*s));
        if (!s)
                return err_set(e, -ENOMEM, "out of memory");
        processor_read(options->procfs_root, &cpu);
        s->provenance =
                cpu.hypervisor ? PROVENANCE_VIRTUAL : PROVENANCE_MEASURED; /* a guest has no controller */
        s->stale_ns = (uint64_t)o->interval_ms * NS_PER_MS * 3;
        if (s->stale_ns < REDFISH_STALE_MIN)
                s->stale_ns = REDFISH_STALE_MIN;
        (void)snprintf(interval, sizeof(interval), "%lldms", o->interval_ms);
        r = helper_start(
                &(struct helper_options){
                        .name = HELPER,
                        .path = o->helper,
                        .arguments = (const char *const[]){ "run", "--url", o->url, "--credentials",
                                                            o->credentials, "--ca-file", o->ca_file,
                                                            "--verify-tls", o->verify_tls ? "true" : "false",
                                                            "--interval", interval, NULL },
                        .line = take_line,
                        .context = s },
                &s->helper, e);
        if (r < 0)
                return r;
        await_answer(s);
        if (s->error == -EINVAL || s->error == -EACCES) /* nothing that time heals */
                return err_set(e, s->error, "%.240s", s->why);
        *ret = TAKE(s);
        return 0;
}

/* The last answer while it is not too old; the helper is looked after. */
static int get_watts(struct power_source *s, uint64_t duration_ns)
{
        int r;

        s->answer_ago += duration_ns;
        r = helper_tend(s->helper, duration_ns);
        if (r < 0 && r != -EPIPE)
                return r;
        if (s->answered && s->answer_ago <= s->stale_ns)
                return 0;
        return s->error ? s->error : r < 0 ? r : -ETIMEDOUT;
}

static int redfish_read(struct power_source *s, const struct power_context *context,
                        struct power_reading *ret, struct err *e)
{
        int error = get_watts(s, context->duration_ns);

        (void)e; /* no answer is a gap, not a failure of the source */
        ret->provenance = s->provenance;
        meter_platform(&s->meter, "redfish", "chassis", error, s->watts, context->duration_ns, ret);
        return 1;
}

const struct power_source_ops power_source_redfish = {
        .name = "redfish",
        .group = "platform",
        .open = redfish_open,
        .read = redfish_read,
        .close = redfish_close,
};
