/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/estimator_status.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "common/clock.h"
#include "common/json.h"

#define CHUNK     ((size_t)4096)
#define WHOLE_MAX 9007199254740992.0 /* beyond, a double is no exact count */

/* ---- from the reply to the report ---- */

static const char *const figure_keys[ESTIMATOR_FIGURES] = {
        [ESTIMATOR_UPTIME_MS] = "uptime_ms", [ESTIMATOR_REQUESTS] = "requests",
        [ESTIMATOR_FAILURES] = "errors",     [ESTIMATOR_ROWS] = "rows",
        [ESTIMATOR_CLIENTS] = "clients",     [ESTIMATOR_DENIED] = "denied",
        [ESTIMATOR_SWAPS] = "swaps",         [ESTIMATOR_RELOADS] = "reloads",
};

static bool is_amount(const json_t *value)
{
        double v = json_number_value(value);

        return json_is_number(value) && v >= 0 && v <= WHOLE_MAX;
}

/* NaN where the member is not there. */
static int take_amount(const json_t *object, const char *key, double *ret, struct err *e)
{
        const json_t *value = json_object_get(object, key);

        if (value && !is_amount(value))
                return err_set(e, -EBADMSG, "'%s' is no amount", key);
        *ret = value ? json_number_value(value) : NAN;
        return 0;
}

static int take_text(const json_t *object, const char *key, char *ret, size_t size, struct err *e)
{
        const char *text;
        int r = json_get_string(object, key, &text, e);

        if (r < 0)
                return err_set(e, -EBADMSG, "a model has no text '%s'", key);
        if (strlen(text) >= size)
                return err_set(e, -EBADMSG, "'%s' is longer than %zu bytes", key, size - 1);
        memcpy(ret, text, strlen(text) + 1);
        return 0;
}

static const char *known_output_type(const char *name)
{
        for (size_t i = 0; output_types[i]; i++)
                if (!strcmp(output_types[i], name))
                        return output_types[i];
        return NULL;
}

static int take_slot(const json_t *object, struct estimator_model *m, struct err *e)
{
        const char *source, *type;
        const struct energy_source *known = NULL;

        if (json_get_string(object, "energy_source", &source, e) == 0)
                known = energy_source_find(source);
        if (!known || strcmp(known->name, source) != 0)
                return err_set(e, -EBADMSG, "a model is of no known energy source");
        m->energy_source = known->name;
        m->output_type =
                json_get_string(object, "output_type", &type, e) == 0 ? known_output_type(type) : NULL;
        return m->output_type ? 0 : err_set(e, -EBADMSG, "a model is of no known output type");
}

static int take_model(const json_t *object, struct estimator_model *m, struct err *e)
{
        int r = take_slot(object, m, e);

        if (r == 0)
                r = take_text(object, "form", m->form, sizeof(m->form), e);
        if (r == 0)
                r = take_text(object, "id", m->id, sizeof(m->id), e);
        if (r == 0)
                r = take_text(object, "model", m->name, sizeof(m->name), e);
        if (r == 0)
                r = take_text(object, "provenance", m->provenance, sizeof(m->provenance), e);
        if (r == 0)
                r = take_amount(object, "load_ms", &m->load_ms, e);
        if (r == 0)
                r = take_amount(object, "requests", &m->requests, e);
        if (r == 0)
                r = take_amount(object, "errors", &m->errors, e);
        /* A clock that was set back makes an age negative, which is no lie. */
        m->age_ms = fmax(json_number_value(json_object_get(object, "age_ms")), 0);
        return r;
}

static bool slot_is_taken(const struct estimator_report *report, const struct estimator_model *m)
{
        for (size_t i = 0; i < report->n_models; i++)
                if (report->models[i].energy_source == m->energy_source &&
                    report->models[i].output_type == m->output_type)
                        return true;
        return false;
}

/* Two models of a slot would be two series with the same labels, which no scrape survives. */
static int take_models(const json_t *list, struct estimator_report *ret, struct err *e)
{
        if (!json_is_array(list) || json_array_size(list) > ESTIMATOR_MODELS_MAX)
                return err_set(e, -EBADMSG, "no list of at most %d models", ESTIMATOR_MODELS_MAX);
        for (size_t i = 0; i < json_array_size(list); i++) {
                struct estimator_model *m = &ret->models[ret->n_models];
                int r = take_model(json_array_get(list, i), m, e);

                if (r < 0)
                        return r;
                if (slot_is_taken(ret, m))
                        return err_set(e, -EBADMSG, "two models are for %s of %s", m->output_type,
                                       m->energy_source);
                ret->n_models++;
        }
        return 0;
}

/* Amounts that never fall. */
static int take_series(const json_t *list, double *ret, size_t max, size_t *ret_n, struct err *e)
{
        size_t n = json_array_size(list);

        if (!json_is_array(list) || n > max)
                return err_set(e, -EBADMSG, "'answer_us' has no list of at most %zu amounts", max);
        for (size_t i = 0; i < n; i++) {
                const json_t *value = json_array_get(list, i);

                ret[i] = json_number_value(value);
                if (!is_amount(value) || (i && ret[i] < ret[i - 1]))
                        return err_set(e, -EBADMSG, "'answer_us' has amounts that are none or fall");
        }
        *ret_n = n;
        return 0;
}

static int take_answers(const json_t *object, struct estimator_report *ret, struct err *e)
{
        size_t n_counts = 0;
        int r;

        if (!object)
                return 0;
        r = take_amount(object, "sum", &ret->answer_us, e);
        if (r == 0)
                r = take_series(json_object_get(object, "bounds"), ret->bounds_us, ESTIMATOR_BOUNDS_MAX,
                                &ret->n_bounds, e);
        if (r == 0)
                r = take_series(json_object_get(object, "counts"), ret->counts, ESTIMATOR_BOUNDS_MAX + 1,
                                &n_counts, e);
        if (r == 0 && (n_counts != ret->n_bounds + 1 || isnan(ret->answer_us)))
                r = err_set(e, -EBADMSG, "'answer_us' is not whole");
        for (size_t i = 1; r == 0 && i < ret->n_bounds; i++)
                if (ret->bounds_us[i] <= ret->bounds_us[i - 1])
                        r = err_set(e, -EBADMSG, "'answer_us' has a bound twice");
        return r;
}

int estimator_report_parse(const char *text, size_t size, struct estimator_report *ret, struct err *e)
{
        CLEANUP(json_decrefp) json_t *object = NULL;
        struct estimator_report report = { 0 };
        int r = json_parse(text, size, "status", &object, e);

        if (r == 0 && !json_is_object(object))
                r = err_set(e, -EBADMSG, "the status is no object");
        for (int f = 0; r == 0 && f < ESTIMATOR_FIGURES; f++)
                r = take_amount(object, figure_keys[f], &report.figures[f], e);
        if (r == 0)
                r = take_answers(json_object_get(object, "answer_us"), &report, e);
        if (r == 0)
                r = take_models(json_object_get(object, "models"), &report, e);
        if (r < 0)
                return r;
        report.n_refused = json_array_size(json_object_get(object, "refused"));
        *ret = report;
        return 0;
}

/* ---- the question ---- */

static const char question[] = "{\"command\": \"status\"}";

struct estimator_probe {
        char *path; /* owned */
        int fd;     /* -1: nothing is under way */
        size_t sent;
        struct buf reply;
        size_t scanned; /* of the reply, with what that told: */
        long depth;     /* of braces */
        bool quoted, escaped;
        uint64_t asked_ns;
        struct estimator_stats stats;
};

int estimator_probe_new(const char *socket_path, struct estimator_probe **ret)
{
        struct estimator_probe *p = calloc(1, sizeof(*p));

        if (!p || !(p->path = strdup(socket_path))) {
                free(p);
                return -ENOMEM;
        }
        p->fd = -1;
        buf_init(&p->reply, ESTIMATOR_STATUS_MAX);
        *ret = p;
        return 0;
}

void estimator_probe_free(struct estimator_probe *p)
{
        if (!p)
                return;
        closep(&p->fd);
        buf_done(&p->reply);
        free(p->path);
        free(p);
}

static void forget(struct estimator_probe *p)
{
        closep(&p->fd);
        p->fd = -1;
        buf_clear(&p->reply);
        p->sent = p->scanned = 0;
        p->depth = 0;
        p->quoted = p->escaped = false;
}

static int fail(struct estimator_probe *p, int r, struct err *e)
{
        forget(p);
        p->stats.up = false;
        p->stats.failures++;
        return err_prefix(e, r, "estimator '%s'", p->path);
}

/* A unix socket connects at once or, with a full backlog, not now. */
static int open_connection(struct estimator_probe *p, struct err *e)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        CLEANUP(closep) int fd = -1;

        if (strlen(p->path) >= sizeof(address.sun_path))
                return err_set(e, -ENAMETOOLONG, "the path is too long for a socket");
        memcpy(address.sun_path, p->path, strlen(p->path));
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
                return err_sys(e, "cannot connect");
        p->fd = TAKE_FD(fd);
        return 0;
}

int estimator_probe_ask(struct estimator_probe *p, uint64_t now_ns, struct err *e)
{
        int r;

        if (p->fd >= 0 && now_ns - p->asked_ns < ESTIMATOR_STATUS_TIMEOUT_NS)
                return 0;
        if (p->fd >= 0) {
                (void)err_set(e, 0, "no complete status in time");
                return fail(p, -ETIMEDOUT, e);
        }
        if (p->stats.questions && now_ns - p->asked_ns < ESTIMATOR_STATUS_PERIOD_NS)
                return 0;
        p->asked_ns = now_ns;
        p->stats.questions++;
        r = open_connection(p, e);
        return r < 0 ? fail(p, r, e) : 0;
}

int estimator_probe_fd(const struct estimator_probe *p)
{
        return p->fd;
}

short estimator_probe_events(const struct estimator_probe *p)
{
        return p->sent < sizeof(question) - 1 ? POLLOUT : POLLIN;
}

/* Does the reply end here? Kepler's way leaves the connection open, so the braces tell; each byte is looked
 * at once. */
static bool is_complete(struct estimator_probe *p)
{
        for (; p->scanned < p->reply.size; p->scanned++) {
                char c = p->reply.data[p->scanned];

                if (p->escaped)
                        p->escaped = false;
                else if (p->quoted && c == '\\')
                        p->escaped = true;
                else if (c == '"')
                        p->quoted = !p->quoted;
                else if (!p->quoted && c == '{')
                        p->depth++;
                else if (!p->quoted && c == '}' && --p->depth <= 0)
                        return true;
        }
        return false;
}

static int take_reply(struct estimator_probe *p, struct err *e)
{
        int r = estimator_report_parse(p->reply.data, p->reply.size, &p->stats.report, e);

        if (r < 0)
                return r;
        p->stats.up = true;
        forget(p);
        return 0;
}

/* At most a chunk at a time, so that a flood does not hold up the caller's loop. */
static int receive(struct estimator_probe *p, struct err *e)
{
        char *to = buf_reserve(&p->reply, CHUNK);
        ssize_t n;

        if (!to)
                return err_set(e, p->reply.failed, "the status is larger than %zu bytes", p->reply.max);
        n = recv(p->fd, to, CHUNK, 0);
        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : err_sys(e, "no status");
        if (n == 0)
                return err_set(e, -EPIPE, "closed before the status was complete");
        buf_grew(&p->reply, (size_t)n);
        return is_complete(p) ? take_reply(p, e) : 0;
}

static int send_question(struct estimator_probe *p, struct err *e)
{
        ssize_t n = send(p->fd, question + p->sent, sizeof(question) - 1 - p->sent, MSG_NOSIGNAL);

        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : err_sys(e, "cannot ask for its status");
        p->sent += (size_t)n;
        return 0;
}

int estimator_probe_run(struct estimator_probe *p, struct err *e)
{
        int r;

        if (p->fd < 0)
                return 0;
        r = p->sent < sizeof(question) - 1 ? send_question(p, e) : receive(p, e);
        return r < 0 ? fail(p, r, e) : 0;
}

const struct estimator_stats *estimator_probe_stats(const struct estimator_probe *p)
{
        return &p->stats;
}
