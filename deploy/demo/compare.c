/* SPDX-License-Identifier: Apache-2.0 */
/* wattloop-demo-compare: holds the watts that a collector estimates against those the simulator pretended. It
 * polls the collector's /metrics for each new interval, takes the simulator's energy over the same interval
 * from its log, and judges the package: the mean absolute error (MAE) must be at most 5 % of the range of the
 * truth (p95 - p5) and at most a third of the error of the best constant (the median of the truth). */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define COMPONENTS      3
#define INTERVALS_MAX   10000
#define INTERVALS_MIN   10
#define BODY_MAX        (4 * 1024 * 1024)
#define TRUTH_MAX       200000
#define POLL_MS         100
#define MAE_OF_RANGE    0.05
#define MAE_OF_CONSTANT (1.0 / 3.0)

static const char *const components[COMPONENTS] = { "package", "dram", "platform" };

struct scrape {
        double end_s;
        double joules[COMPONENTS]; /* NAN: not exported */
};

struct truth {
        double at_s;
        double joules[COMPONENTS];
};

struct score {
        double mae, range, constant_mae, mean;
        size_t n;
};

static struct scrape scrapes[INTERVALS_MAX];
static size_t scrapes_n;
static struct truth truths[TRUTH_MAX];
static size_t truths_n;
static char body[BODY_MAX];
static volatile sig_atomic_t stopped;

static void die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
static void die(const char *fmt, ...)
{
        va_list ap;

        fputs("wattloop-demo-compare: ", stderr);
        va_start(ap, fmt);
        vfprintf(stderr, fmt, ap);
        va_end(ap);
        fputc('\n', stderr);
        exit(1);
}

static double now_s(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* GET /metrics into body; false when nobody answers. */
static bool fetch(unsigned port)
{
        struct sockaddr_in a = { .sin_family = AF_INET,
                                 .sin_port = htons((uint16_t)port),
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        static const char get[] = "GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n";
        struct timeval limit = { 2, 0 };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        size_t have = 0;
        ssize_t n = -1;

        if (fd < 0)
                return false;
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
        if (!connect(fd, (struct sockaddr *)&a, sizeof(a)) &&
            send(fd, get, sizeof(get) - 1, MSG_NOSIGNAL) > 0)
                while (have < BODY_MAX - 1 && (n = recv(fd, body + have, BODY_MAX - 1 - have, 0)) > 0)
                        have += (size_t)n;
        close(fd);
        body[have] = '\0';
        return n == 0 && !strncmp(body, "HTTP/1.", 7) && strstr(body, " 200 ") == body + 8;
}

/* The sum of all samples of a metric whose labels contain `label`; NAN when there are none. */
static double metric(const char *name, const char *label)
{
        size_t n = strlen(name);
        double sum = NAN;

        for (const char *line = body; line; line = strchr(line, '\n')) {
                const char *end, *labels, *value;

                line += *line == '\n';
                if (strncmp(line, name, n) || (line[n] != '{' && line[n] != ' '))
                        continue;
                end = line + strcspn(line, "\n");
                labels = strstr(line, label);
                value = memchr(line, '}', (size_t)(end - line));
                if (*label && (!labels || labels > end))
                        continue;
                sum = (isnan(sum) ? 0 : sum) + strtod(value ? value + 1 : line + n, NULL);
        }
        return sum;
}

static void take_scrape(unsigned port)
{
        struct scrape s;
        char name[80];

        if (!fetch(port))
                return;
        s.end_s = metric("wattloop_collector_interval_end_seconds", "");
        if (isnan(s.end_s) || (scrapes_n && s.end_s <= scrapes[scrapes_n - 1].end_s) ||
            scrapes_n == INTERVALS_MAX)
                return;
        for (int c = 0; c < COMPONENTS; c++) {
                snprintf(name, sizeof(name), "kepler_node_%s_joules_total", components[c]);
                s.joules[c] = metric(name, "source=\"estimate\"");
        }
        /* Before its first estimate a collector has nothing to compare. */
        if (!isnan(s.joules[0]) || scrapes_n)
                scrapes[scrapes_n++] = s;
}

static void read_truth(const char *path)
{
        FILE *f = fopen(path, "re");
        double ns, uj[COMPONENTS];
        char line[256];

        if (!f)
                die("cannot open '%s': %s", path, strerror(errno));
        while (truths_n < TRUTH_MAX && fgets(line, sizeof(line), f)) {
                if (!strchr(line, '\n') || sscanf(line, "%lf %lf %lf %lf", &ns, &uj[0], &uj[1], &uj[2]) != 4)
                        continue; /* the last line, half written */
                truths[truths_n].at_s = ns / 1e9;
                for (int c = 0; c < COMPONENTS; c++)
                        truths[truths_n].joules[c] = uj[c] / 1e6;
                truths_n++;
        }
        fclose(f);
}

/* Simulated energy up to a moment, between two steps in proportion; NAN outside the log. */
static double truth_at(double at_s, int c)
{
        size_t low = 0, high = truths_n;
        const struct truth *a, *b;

        while (low < high) {
                size_t middle = (low + high) / 2;

                if (truths[middle].at_s < at_s)
                        low = middle + 1;
                else
                        high = middle;
        }
        if (!low || low == truths_n)
                return NAN;
        a = &truths[low - 1];
        b = &truths[low];
        return a->joules[c] + (b->joules[c] - a->joules[c]) * (at_s - a->at_s) / (b->at_s - a->at_s);
}

static int compare_doubles(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

static double quantile(const double *sorted, size_t n, double q)
{
        double at = q * (double)(n - 1), low = floor(at);
        size_t i = (size_t)low;

        return i + 1 < n ? sorted[i] + (sorted[i + 1] - sorted[i]) * (at - low) : sorted[i];
}

static struct score judge(int c, FILE *log)
{
        static double truth[INTERVALS_MAX];
        struct score r = { .n = 0 };
        double median;

        for (size_t i = 1; i < scrapes_n; i++) {
                const struct scrape *a = &scrapes[i - 1], *b = &scrapes[i];
                double seconds = b->end_s - a->end_s, estimate = (b->joules[c] - a->joules[c]) / seconds;
                double watts = (truth_at(b->end_s, c) - truth_at(a->end_s, c)) / seconds;

                if (isnan(watts) || isnan(estimate))
                        continue;
                if (log)
                        fprintf(log, "%.3f %.3f %s estimated %.3f simulated %.3f W\n", a->end_s, b->end_s,
                                components[c], estimate, watts);
                r.mae += fabs(estimate - watts);
                r.mean += watts;
                truth[r.n++] = watts;
        }
        if (!r.n)
                return r;
        qsort(truth, r.n, sizeof(*truth), compare_doubles);
        median = quantile(truth, r.n, 0.5);
        for (size_t i = 0; i < r.n; i++)
                r.constant_mae += fabs(truth[i] - median);
        r.mae /= (double)r.n;
        r.mean /= (double)r.n;
        r.constant_mae /= (double)r.n;
        r.range = quantile(truth, r.n, 0.95) - quantile(truth, r.n, 0.05);
        return r;
}

static void on_signal(int number)
{
        (void)number;
        stopped = 1;
}

struct options {
        unsigned port;
        double seconds;
        const char *truth, *log;
};

static const char usage[] =
        "usage: wattloop-demo-compare --port N --truth FILE --seconds N [--log FILE]\n"
        "Compares the estimates at http://127.0.0.1:N/metrics with the simulator's log. Exit status 1 when "
        "the package's\n"
        "error is above 5 % of the range or above a third of the best constant's error.\n";

static void parse(int argc, char **argv, struct options *o)
{
        static const struct option longs[] = {
                { "port", required_argument, NULL, 'p' },    { "truth", required_argument, NULL, 't' },
                { "seconds", required_argument, NULL, 's' }, { "log", required_argument, NULL, 'l' },
                { "help", no_argument, NULL, 'h' },          { NULL, 0, NULL, 0 },
        };

        for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
                switch (c) {
                case 'p':
                        o->port = (unsigned)strtoul(optarg, NULL, 10);
                        break;
                case 't':
                        o->truth = optarg;
                        break;
                case 's':
                        o->seconds = strtod(optarg, NULL);
                        break;
                case 'l':
                        o->log = optarg;
                        break;
                case 'h':
                        fputs(usage, stdout);
                        exit(0);
                default:
                        exit(2);
                }
        }
        if (!o->port || o->port > 65535 || !o->truth || !(o->seconds > 0) || optind != argc) {
                fputs(usage, stderr);
                exit(2);
        }
}

/* The table, then a line to read by program about the package. */
static int report(const struct options *o)
{
        FILE *log = o->log ? fopen(o->log, "we") : NULL;
        bool good = false;

        printf("%-22s %9s %9s %9s %7s %15s\n", "component (simulated)", "intervals", "mean W", "MAE W",
               "range W", "best constant W");
        for (int c = 0; c < COMPONENTS; c++) {
                struct score s = judge(c, log);

                if (!s.n)
                        continue;
                printf("%-22s %9zu %9.2f %9.3f %7.2f %15.2f\n", components[c], s.n, s.mean, s.mae, s.range,
                       s.constant_mae);
        }
        if (log)
                fclose(log);
        struct score s = judge(0, NULL);

        good = s.n >= INTERVALS_MIN && s.mae <= MAE_OF_RANGE * s.range &&
               s.mae <= MAE_OF_CONSTANT * s.constant_mae;
        printf("intervals=%zu mae=%.3f range=%.2f constant_mae=%.3f verdict=%s\n", s.n, s.mae, s.range,
               s.constant_mae, good ? "pass" : "fail");
        return !good;
}

int main(int argc, char **argv)
{
        struct options o = { .port = 0 };
        struct sigaction act = { .sa_handler = on_signal };
        double end;

        parse(argc, argv, &o);
        sigaction(SIGTERM, &act, NULL);
        sigaction(SIGINT, &act, NULL);
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        for (end = now_s() + o.seconds; !stopped && now_s() < end;) {
                take_scrape(o.port);
                nanosleep(&(struct timespec){ 0, POLL_MS * 1000000L }, NULL);
        }
        read_truth(o.truth);
        return report(&o);
}
