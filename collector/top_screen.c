/* SPDX-License-Identifier: Apache-2.0 */
/* The terminal's side of `top`: asks a collector's /api/v1/top over plain HTTP, sorts, draws with ANSI
 * sequences. What the collector says about others' names never reaches the terminal unfiltered. */
#include "collector/top.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <termios.h>
#include <time.h>

#include "collector/metrics.h"
#include "collector/server.h"
#include "common/clock.h"
#include "common/json.h"

#define REDRAW_MS_MIN  200
#define LINE_MAX_CHARS 512
#define ROWS_ALL       SIZE_MAX

/* What can be sorted by, and the keys that choose it; in the order of the option's choices. */
static const struct {
        char key;
        const char *member;
        bool text; /* A to Z; numbers: largest first */
} orders[] = { { 'w', "watts", false },       { 'p', "package", false }, { 'd', "dram", false },
               { 'c', "cpu_percent", false }, { 'k', "kind", true },     { 'n', "name", true } };

struct top {
        const struct options *options;
        struct listen_address address;
        int order;
        bool reverse;
        json_t *seen;      /* owned; the last answer, NULL: none yet */
        struct err failed; /* why there is no newer one; "" there is */
};

/* ---- asking ---- */

static int receive(int fd, struct buf *out, struct err *e)
{
        for (;;) {
                char *space = buf_reserve(out, 65536);
                ssize_t n = space ? recv(fd, space, 65536, 0) : -1;

                if (!space)
                        return err_set(e, out->failed, "the collector's answer is larger than %zu bytes",
                                       out->max);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return err_sys(e, "no answer from the collector");
                if (n == 0)
                        return 0;
                buf_grew(out, (size_t)n);
        }
}

static int fetch(const struct top *t, json_t **ret, struct err *e)
{
        static const char request[] = "GET /api/v1/top HTTP/1.0\r\n\r\n";
        const struct timeval patience = { .tv_sec = TOP_PATIENCE_S };
        CLEANUP(buf_done) struct buf answer = { .max = METRICS_TEXT_MAX };
        CLEANUP(closep) int fd = socket(t->address.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        const char *body;
        int r;

        if (fd < 0)
                return err_sys(e, "no socket");
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
        if (connect(fd, (const struct sockaddr *)&t->address.address, t->address.size) < 0)
                return err_sys(e, "no collector at metrics.listen %s", t->options->metrics_listen);
        if (send(fd, request, strlen(request), MSG_NOSIGNAL) != (ssize_t)strlen(request))
                return err_sys(e, "cannot ask the collector");
        r = receive(fd, &answer, e);
        if (r < 0)
                return r;
        body = answer.data ? strstr(answer.data, "\r\n\r\n") : NULL;
        if (!body || strncmp(answer.data, "HTTP/1.", 7) != 0 || !strstr(answer.data, " 200 ") ||
            strstr(answer.data, " 200 ") > body)
                return err_set(e, -EPROTO, "what answers at %s is no collector that knows top",
                               t->options->metrics_listen);
        body += 4;
        r = json_parse(body, answer.size - (size_t)(body - answer.data), "the collector's answer", ret, e);
        if (r == 0 && !json_is_array(json_object_get(*ret, "entities"))) {
                json_decref(TAKE(*ret));
                r = err_set(e, -EPROTO, "the collector's answer has no entities");
        }
        return r;
}

/* ---- sorting ---- */

static const char *text_of(const json_t *row, const char *member)
{
        const char *s = json_string_value(json_object_get(row, member));

        return s ? s : "";
}

static double number_of(const json_t *row, const char *member)
{
        const json_t *v = json_object_get(row, member);

        return json_is_number(v) ? json_number_value(v) : (double)NAN;
}

/* NaN is less than every number. */
static int compare_numbers(double a, double b)
{
        if (isnan(a) || isnan(b))
                return (int)isnan(a) - (int)isnan(b);
        return (a < b) - (a > b);
}

static int compare_rows(const void *a, const void *b, void *top)
{
        const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
        const struct top *t = top;
        const char *member = orders[t->order].member;
        int r = orders[t->order].text ? strcmp(text_of(x, member), text_of(y, member))
                                      : compare_numbers(number_of(x, member), number_of(y, member));

        if (r)
                return t->reverse ? -r : r;
        r = compare_numbers(number_of(x, "watts"), number_of(y, "watts"));
        return r ? r : strcmp(text_of(x, "key"), text_of(y, "key"));
}

/* The rows in order, as a new array in the place of the old one. */
static int sort(struct top *t)
{
        json_t *rows = json_object_get(t->seen, "entities"), *sorted = json_array();
        size_t n = json_array_size(rows);
        CLEANUP(freep) const json_t **all = calloc(n + 1, sizeof(const json_t *));

        if (!all || !sorted) {
                json_decref(sorted);
                return -ENOMEM;
        }
        for (size_t i = 0; i < n; i++)
                all[i] = json_array_get(rows, i);
        qsort_r(all, n, sizeof(*all), compare_rows, t);
        for (size_t i = 0; i < n; i++)
                (void)json_array_append(sorted, (json_t *)(uintptr_t)all[i]);
        return json_object_set_new(t->seen, "entities", sorted) < 0 ? -ENOMEM : 0;
}

/* ---- drawing ---- */

/* One line, cut at `width`; whatever a terminal could take for a command becomes a question mark. */
static void put_line(struct buf *out, size_t width, bool live, const char *fmt, ...) PRINTF(4, 5);
static void put_line(struct buf *out, size_t width, bool live, const char *fmt, ...)
{
        char line[LINE_MAX_CHARS];
        va_list args;

        va_start(args, fmt);
        (void)vsnprintf(line, sizeof(line), fmt, args); /* cut is what is wanted */
        va_end(args);
        if (width < sizeof(line))
                line[width] = '\0';
        for (char *s = line; *s; s++)
                if (*s < 0x20 || *s > 0x7e)
                        *s = '?';
        (void)buf_printf(out, "%s%s\n", live ? "\033[K" : "", line);
}

static const char *watts_text(char ret[16], double v)
{
        (void)snprintf(ret, 16, isnan(v) ? "-" : "%.2f", v);
        return ret;
}

static void put_sensor(struct buf *out, size_t width, bool live, const json_t *s)
{
        char watts[16], idle[16], model[160] = "";

        if (*text_of(s, "model"))
                (void)snprintf(model, sizeof(model), " by %.80s %.12s trained on %.20s", text_of(s, "model"),
                               text_of(s, "model_id"), text_of(s, "trained_on"));
        put_line(out, width, live, "%-9.9s %8s W, idle %7s W  %s (%.30s %.12s)%s", text_of(s, "component"),
                 watts_text(watts, number_of(s, "watts")), watts_text(idle, number_of(s, "idle_watts")),
                 text_of(s, "provenance"), text_of(s, "source"), text_of(s, "unit"), model);
}

static void put_row(struct buf *out, size_t width, bool live, const json_t *row)
{
        char watts[16], package[16], dram[16], cpu[16], name[LINE_MAX_CHARS / 2];
        const char *namespace = text_of(row, "namespace"), *pod = text_of(row, "pod");
        bool process = !strcmp(text_of(row, "kind"), "process"), in_pod = *pod && !process;

        if (in_pod && strcmp(pod, text_of(row, "name")) != 0)
                (void)snprintf(name, sizeof(name), "%.60s/%.80s/%.80s", namespace, pod, text_of(row, "name"));
        else
                (void)snprintf(name, sizeof(name), "%.200s%s%.*s", text_of(row, "name"), process ? " " : "",
                               process ? (int)strcspn(text_of(row, "key"), "-") : 0, text_of(row, "key"));
        put_line(out, width, live, "%8s %8s %7s %6s %-9.9s %-9.9s %s",
                 watts_text(watts, number_of(row, "watts")), watts_text(package, number_of(row, "package")),
                 watts_text(dram, number_of(row, "dram")), watts_text(cpu, number_of(row, "cpu_percent")),
                 text_of(row, "kind"), text_of(row, "pedigree"), name);
}

static void put_head(const struct top *t, struct buf *out, size_t width, bool live)
{
        time_t end = (time_t)(json_integer_value(json_object_get(t->seen, "end_ms")) / 1000);
        char stamp[32] = "no interval yet";
        struct tm tm;

        if (end && gmtime_r(&end, &tm))
                (void)strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%SZ", &tm);
        put_line(out, width, live, "%.40s  %s  %zu rows by %s%s", text_of(t->seen, "node_name"), stamp,
                 json_array_size(json_object_get(t->seen, "entities")), orders[t->order].member,
                 t->reverse ? ", reversed" : "");
        if (*t->failed.text)
                put_line(out, width, live, "not renewed: %s", t->failed.text);
}

/* As many rows as there is room for. */
static void draw(const struct top *t, struct buf *out, size_t width, size_t height, bool live)
{
        const json_t *sensors = json_object_get(t->seen, "node"),
                     *rows = json_object_get(t->seen, "entities");
        const json_t *row;
        size_t used = 4U + (*t->failed.text != '\0') + json_array_size(sensors), i;

        if (live)
                (void)buf_puts(out, "\033[H");
        put_head(t, out, width, live);
        json_array_foreach (sensors, i, row) {
                put_sensor(out, width, live, row);
        }
        if (live)
                (void)buf_puts(out, "\033[7m");
        put_line(out, width, live, "%8s %8s %7s %6s %-9s %-9s %s", "WATTS", "PACKAGE", "DRAM", "CPU%", "KIND",
                 "PEDIGREE", "NAME");
        if (live)
                (void)buf_puts(out, "\033[m");
        json_array_foreach (rows, i, row) {
                if (height != ROWS_ALL && used + i >= height)
                        break;
                put_row(out, width, live, row);
        }
        if (live)
                (void)buf_printf(out, "\033[J%.*s", (int)width,
                                 " q quit  r reverse  sort: w watts p package d dram c cpu k kind n name");
}

/* ---- the two ways to show ---- */

static int print(const char *data, size_t size, struct err *e)
{
        if (fwrite(data, 1, size, stdout) != size || fflush(stdout) != 0)
                return err_set(e, -EIO, "cannot print");
        return 0;
}

static int show_once(struct top *t, struct err *e)
{
        CLEANUP(buf_done) struct buf out = { .max = METRICS_TEXT_MAX };
        int r = fetch(t, &t->seen, e);

        if (r < 0)
                return r;
        if (sort(t) < 0)
                return err_set(e, -ENOMEM, "out of memory");
        if (t->options->json)
                return json_dumpf(t->seen, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) < 0 ||
                                       putchar('\n') < 0 || fflush(stdout) != 0
                               ? err_set(e, -EIO, "cannot print")
                               : 0;
        draw(t, &out, LINE_MAX_CHARS, ROWS_ALL, false);
        return out.failed ? err_set(e, out.failed, "too many rows") : print(out.data, out.size, e);
}

static void renew(struct top *t)
{
        struct err e = { 0 };
        json_t *seen;

        if (fetch(t, &seen, &e) == 0) {
                json_decref(t->seen);
                t->seen = seen;
        }
        t->failed = e;
}

static int redraw(struct top *t, struct err *e)
{
        CLEANUP(buf_done) struct buf out = { .max = METRICS_TEXT_MAX };
        struct winsize size = { .ws_row = 24, .ws_col = 80 };

        (void)ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
        if (t->seen && sort(t) < 0)
                return err_set(e, -ENOMEM, "out of memory");
        draw(t, &out, size.ws_col ? size.ws_col : 80, size.ws_row ? size.ws_row : 24, true);
        return out.failed ? err_set(e, out.failed, "too many rows") : print(out.data, out.size, e);
}

/* False: quit. */
static bool on_key(struct top *t, char key)
{
        for (size_t i = 0; i < ARRAY_SIZE(orders); i++)
                if (orders[i].key == key)
                        t->order = (int)i;
        if (key == 'r')
                t->reverse = !t->reverse;
        return key != 'q' && key != 'Q';
}

static int watch(struct top *t, int signal_fd, struct err *e)
{
        int period_ms = (int)t->options->interval_ms;
        uint64_t due_ns = 0;

        if (period_ms < REDRAW_MS_MIN)
                period_ms = REDRAW_MS_MIN;
        for (;;) {
                struct pollfd fds[] = { { .fd = STDIN_FILENO, .events = POLLIN },
                                        { .fd = signal_fd, .events = POLLIN } };
                uint64_t now_ns = clock_monotonic_ns();
                struct signalfd_siginfo info;
                char key;
                int r;

                if (now_ns >= due_ns) {
                        renew(t);
                        due_ns = now_ns + (uint64_t)period_ms * NS_PER_MS;
                }
                r = redraw(t, e);
                if (r < 0)
                        return r;
                now_ns = clock_monotonic_ns();
                if (poll(fds, ARRAY_SIZE(fds),
                         due_ns > now_ns ? (int)((due_ns - now_ns) / NS_PER_MS) + 1 : 0) < 0) {
                        if (errno == EINTR)
                                continue;
                        return err_sys(e, "poll");
                }
                if (fds[1].revents &&
                    (read(signal_fd, &info, sizeof(info)) < 0 || info.ssi_signo != (uint32_t)SIGWINCH))
                        return 0;
                if (fds[0].revents && (read(STDIN_FILENO, &key, 1) != 1 || !on_key(t, key)))
                        return 0;
        }
}

/* The terminal is given back as it was, whatever ends the view. */
static int show_live(struct top *t, struct err *e)
{
        static const char enter[] = "\033[?1049h\033[?25l\033[2J", leave[] = "\033[?25h\033[?1049l";
        static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH };
        CLEANUP(closep) int signal_fd = -1;
        struct termios old, raw;
        sigset_t set;
        int r;

        (void)sigemptyset(&set);
        for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
                (void)sigaddset(&set, signals[i]);
        if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
                return err_sys(e, "cannot block signals");
        signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
        if (signal_fd < 0 || tcgetattr(STDIN_FILENO, &old) < 0)
                return err_sys(e, "cannot set up the terminal");
        raw = old;
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        raw.c_cc[VSUSP] = _POSIX_VDISABLE; /* stopped, it would leave the terminal as it is */
        if (tcsetattr(STDIN_FILENO, TCSANOW, &raw) < 0)
                return err_sys(e, "cannot set up the terminal");
        r = print(enter, strlen(enter), e);
        if (r == 0)
                r = watch(t, signal_fd, e);
        (void)print(leave, strlen(leave), NULL);
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &old);
        return r;
}

int top_run(const struct options *options, struct err *e)
{
        struct top t = { .options = options, .order = options->sort };
        bool once = options->once || options->json || !isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO);
        int r = listen_address_parse(options->metrics_listen, &t.address, e);

        if (r == 0)
                r = once ? show_once(&t, e) : show_live(&t, e);
        json_decref(t.seen);
        return r;
}
