/* SPDX-License-Identifier: Apache-2.0 */
#include "updater/notify.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include "common/buf.h"
#include "common/clock.h"
#include "common/json.h"

#define NOTIFY_ANSWER_MAX ((size_t)1 << 20)
#define NOTIFY_CHUNK      4096
#define NOTIFY_PERIOD_MS  20 /* between two questions */

static int64_t left_ms(uint64_t deadline_ns)
{
        uint64_t now = clock_monotonic_ns();

        return now < deadline_ns ? (int64_t)((deadline_ns - now) / NS_PER_MS) + 1 : 0;
}

static int open_socket(const char *path, int *ret_fd, struct err *e)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        CLEANUP(closep) int fd = -1;

        if (strlen(path) >= sizeof(address.sun_path))
                return err_set(e, -ENAMETOOLONG, "estimator.socket '%.80s...' is too long", path);
        memcpy(address.sun_path, path, strlen(path) + 1);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return err_sys(e, "cannot make a socket");
        /* For a unix socket, connecting is at once or EAGAIN (the estimator's queue is full). */
        if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
                if (errno == ENOENT || errno == ECONNREFUSED)
                        return err_set(e, -ENOTCONN, "no estimator listens at '%s'", path);
                if (errno == EACCES || errno == EPERM)
                        return err_set(e, -ENOTCONN, "no permission to ask the estimator at '%s'", path);
                if (errno == EAGAIN)
                        return err_set(e, -ETIMEDOUT, "the estimator at '%s' is too busy to answer", path);
                return err_sys(e, "cannot connect to the estimator at '%s'", path);
        }
        *ret_fd = TAKE_FD(fd);
        return 0;
}

static int wait_for(int fd, short events, uint64_t deadline_ns, struct err *e)
{
        struct pollfd p = { .fd = fd, .events = events };
        int n;

        do {
                n = poll(&p, 1, (int)left_ms(deadline_ns));
        } while (n < 0 && errno == EINTR);
        if (n < 0)
                return err_sys(e, "cannot wait for the estimator");
        return n == 0 ? err_set(e, -ETIMEDOUT, "the estimator does not answer") : 0;
}

static int send_text(int fd, const char *text, uint64_t deadline_ns, struct err *e)
{
        size_t size = strlen(text);

        while (size > 0) {
                ssize_t n = send(fd, text, size, MSG_NOSIGNAL);
                int r;

                if (n >= 0) {
                        text += n;
                        size -= (size_t)n;
                        continue;
                }
                if (errno != EAGAIN && errno != EINTR)
                        return err_sys(e, "cannot ask the estimator");
                r = wait_for(fd, POLLOUT, deadline_ns, e);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Until the text is one JSON object, or the peer closes: Kepler's own estimator leaves the connection open.
 */
static int receive(int fd, uint64_t deadline_ns, json_t **ret, struct err *e)
{
        CLEANUP(buf_done) struct buf text;
        int r;

        buf_init(&text, NOTIFY_ANSWER_MAX);
        for (;;) {
                char chunk[NOTIFY_CHUNK];
                ssize_t n = recv(fd, chunk, sizeof(chunk), 0);

                if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
                        r = wait_for(fd, POLLIN, deadline_ns, e);
                        if (r < 0)
                                return r;
                        continue;
                }
                if (n < 0)
                        return err_sys(e, "cannot read the estimator's answer");
                if (n == 0)
                        return json_parse(text.data ? text.data : "", text.size, "estimator's answer", ret,
                                          e);
                if (buf_append(&text, chunk, (size_t)n) < 0)
                        return err_set(e, -EBADMSG, "the estimator's answer is larger than %zu bytes",
                                       text.max);
                if (text.data[text.size - 1] == '}' && json_parse(text.data, text.size, "", ret, NULL) == 0)
                        return 0;
        }
}

int notify_command(const char *socket_path, const char *command, long long timeout_ms, json_t **ret_answer,
                   struct err *e)
{
        uint64_t deadline_ns = clock_monotonic_ns() + (uint64_t)timeout_ms * NS_PER_MS;
        CLEANUP(json_decrefp) json_t *answer = NULL;
        CLEANUP(closep) int fd = -1;
        char text[64];
        int r;

        (void)snprintf(text, sizeof(text), "{\"command\": \"%s\"}", command); /* ours: short, no quotes */
        r = open_socket(socket_path, &fd, e);
        if (r == 0)
                r = send_text(fd, text, deadline_ns, e);
        if (r == 0)
                r = receive(fd, deadline_ns, &answer, e);
        if (r < 0)
                return r;
        if (!json_is_object(answer))
                return err_set(e, -EBADMSG, "the estimator's answer is no object");
        *ret_answer = TAKE(answer);
        return 0;
}

/* ---- what it serves ---- */

static bool member_is(const json_t *object, const char *key, const char *value)
{
        const char *text;

        return json_get_string(object, key, &text, NULL) == 0 && strcmp(text, value) == 0;
}

enum notify_state notify_judge(const json_t *status, const struct slot *slot, const char *id,
                               struct err *words)
{
        const json_t *models = json_object_get(status, "models"),
                     *refused = json_object_get(status, "refused");
        const char *path, *error;

        for (size_t i = 0; i < json_array_size(models); i++) {
                const json_t *model = json_array_get(models, i);

                if (member_is(model, "id", id) && member_is(model, "energy_source", slot->source->name) &&
                    member_is(model, "output_type", slot->output_type) &&
                    member_is(model, "form", form_names[slot->form]))
                        return NOTIFY_SERVED;
        }
        for (size_t i = 0; i < json_array_size(refused); i++) {
                const json_t *model = json_array_get(refused, i);

                if (json_get_string(model, "path", &path, NULL) < 0 || !strstr(path, slot->text) ||
                    !strstr(path, id))
                        continue;
                if (json_get_string(model, "error", &error, NULL) < 0)
                        error = "no reason given";
                (void)err_set(words, 0, "the estimator refused it: %s", error);
                return NOTIFY_REFUSED;
        }
        return NOTIFY_OTHER;
}

/* An answer about one model. */
struct reply {
        enum notify_state state;
        long long reloads; /* ended so far; -1: it does not say */
};

static int ask(const char *socket_path, const struct slot *slot, const char *id, uint64_t deadline_ns,
               struct reply *ret, struct err *e)
{
        CLEANUP(json_decrefp) json_t *status = NULL;
        int r;

        r = notify_command(socket_path, "status", left_ms(deadline_ns), &status, e);
        if (r < 0)
                return r;
        ret->state = notify_judge(status, slot, id, e);
        if (json_get_int(status, "reloads", &ret->reloads, NULL) < 0)
                ret->reloads = -1;
        return 0;
}

int notify_until_served(const char *socket_path, const struct slot *slot, const char *id,
                        long long timeout_ms, struct err *e)
{
        uint64_t deadline_ns = clock_monotonic_ns() + (uint64_t)timeout_ms * NS_PER_MS;
        const struct timespec pause = { .tv_nsec = NOTIFY_PERIOD_MS * 1000000L };
        CLEANUP(json_decrefp) json_t *answer = NULL;
        struct reply before, now;
        int r;

        r = ask(socket_path, slot, id, deadline_ns, &before, e);
        if (r < 0 || before.state == NOTIFY_SERVED)
                return r;
        r = notify_command(socket_path, "reload", left_ms(deadline_ns), &answer, e);
        while (r == 0) {
                r = ask(socket_path, slot, id, deadline_ns, &now, e);
                if (r < 0 || now.state == NOTIFY_SERVED)
                        return r;
                /* a refusal from before the reload may be about files that were mended since */
                if (now.state == NOTIFY_REFUSED && (now.reloads < 0 || now.reloads > before.reloads))
                        return -EPERM;
                if (left_ms(deadline_ns) == 0)
                        return err_set(e, -ETIMEDOUT, "the estimator does not serve it after %g s",
                                       (double)timeout_ms / 1000);
                (void)nanosleep(&pause,
                                NULL); /* there is no event to wait for: the protocol is ask and answer */
        }
        return r;
}
