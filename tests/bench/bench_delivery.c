/* SPDX-License-Identifier: Apache-2.0 */
/* How fast a recording leaves the node: a push of DAYS days (3 s, 30 containers, all counters) from
 * samples.db to a sink on this machine, against the plain limit: `gzip -1` of the same bytes piped into curl
 * to the same sink, in the same run. The largest resident size of the push. And what is lost or doubled when
 * everything goes wrong (tests/system/delivery_chaos.py, CHAOS batches). Writes results as JSON to argv[1].
 *
 * The recording and its plain bytes stay in <folder of argv[1]>/delivery/ for the next run: 30 days need 10
 * GB. */
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/json.h"

#define INTERVALS_A_DAY 28800
#define CONTAINERS      30
#define SINK_BUFFER     ((size_t)1 << 20)
#define DIR_MAX         1024
#define COMMAND_MAX     (8 * DIR_MAX)
#define RUNS            3 /* of each side, in turns; the best counts */

struct bench {
        char dir[DIR_MAX], db[DIR_MAX + 32], plain[DIR_MAX + 32];
        const char *build;
        long days, chaos;
        int port;
        pid_t sink;
};

static _Noreturn void fail(const char *what)
{
        (void)fprintf(stderr, "bench_delivery: %s\n", what);
        exit(1);
}

static long setting(const char *name, long fallback)
{
        const char *text = getenv(name);

        return text && *text ? strtol(text, NULL, 10) : fallback;
}

/* ---- the sink: takes every POST and PUT, says 204 ---- */

struct request {
        int fd;
        char *buffer;
        size_t size;
        FILE *keep; /* the bodies, or NULL */
};

static bool more(struct request *q)
{
        ssize_t n = q->size < SINK_BUFFER ? read(q->fd, q->buffer + q->size, SINK_BUFFER - q->size) : 0;

        if (n > 0)
                q->size += (size_t)n;
        return n > 0;
}

static void consume(struct request *q, size_t n)
{
        memmove(q->buffer, q->buffer + n, q->size -= n);
}

static bool take_body(struct request *q, size_t left)
{
        while (left > 0) {
                size_t n = q->size < left ? q->size : left;

                if (q->keep && fwrite(q->buffer, 1, n, q->keep) != n)
                        return false;
                consume(q, n);
                left -= n;
                if (left > 0 && !more(q))
                        return false;
        }
        return true;
}

/* Chunks up to the empty one; what they hold is not looked at. */
static bool take_chunks(struct request *q)
{
        for (;;) {
                char *end;
                size_t n;

                while (!(end = memmem(q->buffer, q->size, "\r\n", 2)))
                        if (!more(q))
                                return false;
                n = strtoul(q->buffer, NULL, 16);
                consume(q, (size_t)(end - q->buffer) + 2);
                if (!take_body(q, n + 2))
                        return false;
                if (n == 0)
                        return true;
        }
}

static bool serve_one(struct request *q)
{
        static const char answer[] = "HTTP/1.1 204 No Content\r\n\r\n";
        char *end, *length;
        bool chunked, ok;
        size_t n;

        while (!(end = memmem(q->buffer, q->size, "\r\n\r\n", 4)))
                if (!more(q))
                        return false;
        *end = '\0';
        length = strcasestr(q->buffer, "\r\ncontent-length:");
        chunked = strcasestr(q->buffer, "\r\ntransfer-encoding: chunked") != NULL;
        if (strcasestr(q->buffer, "\r\nexpect: 100-continue"))
                (void)!write(q->fd, "HTTP/1.1 100 Continue\r\n\r\n", 25);
        n = length ? strtoul(length + 17, NULL, 10) : 0;
        consume(q, (size_t)(end - q->buffer) + 4);
        ok = chunked ? take_chunks(q) : take_body(q, n);
        if (q->keep)
                (void)fflush(q->keep);
        return ok && write(q->fd, answer, sizeof(answer) - 1) == (ssize_t)(sizeof(answer) - 1);
}

static _Noreturn void serve(int listener, const char *keep)
{
        struct request q = { .buffer = malloc(SINK_BUFFER + 1), .keep = keep ? fopen(keep, "we") : NULL };

        if (!q.buffer || (keep && !q.keep))
                _exit(1);
        for (;;) {
                q.fd = accept(listener, NULL, NULL);
                q.size = 0;
                while (q.fd >= 0 && serve_one(&q))
                        ;
                if (q.fd >= 0)
                        (void)close(q.fd);
        }
}

static void start_sink(struct bench *b, const char *keep)
{
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
        socklen_t size = sizeof(address);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, 8) < 0 ||
            getsockname(fd, (struct sockaddr *)&address, &size) < 0)
                fail("cannot listen");
        b->port = ntohs(address.sin_port);
        b->sink = fork();
        if (b->sink == 0)
                serve(fd, keep);
        (void)close(fd);
}

static void stop_sink(struct bench *b)
{
        (void)kill(b->sink, SIGKILL);
        (void)waitpid(b->sink, NULL, 0);
}

/* ---- programs ---- */

/* Wall seconds of a shell command; ret_rss_mib: the largest of its processes. */
static double run(double *ret_rss_mib, const char *command)
{
        uint64_t begin = clock_monotonic_ns();
        struct rusage usage;
        int status;
        pid_t pid = fork();

        if (pid == 0) {
                execl("/bin/bash", "bash", "-o", "pipefail", "-c", command, (char *)NULL);
                _exit(127);
        }
        if (pid < 0 || wait4(pid, &status, 0, &usage) < 0 || status != 0) {
                (void)fprintf(stderr, "%s\n", command);
                fail("a command failed");
        }
        if (ret_rss_mib)
                *ret_rss_mib = (double)usage.ru_maxrss / 1024;
        return (double)(clock_monotonic_ns() - begin) / 1e9;
}

static double push(struct bench *b, double *ret_rss_mib)
{
        char command[COMMAND_MAX];

        /* exec: the shell becomes the client, so that its size is the client's */
        (void)snprintf(
                command, sizeof(command),
                "rm -rf '%s/state' '%s/acks'; exec '%s/bin/wattloop-trainer-client' push --store-path '%s' "
                "--state-path '%s/state' --destinations victoriametrics --victoriametrics-url "
                "http://127.0.0.1:%d >/dev/null",
                b->dir, b->dir, b->build, b->db, b->dir, b->port);
        return run(ret_rss_mib, command);
}

static double plain_limit(struct bench *b)
{
        char command[COMMAND_MAX];

        (void)snprintf(command, sizeof(command),
                       "gzip -1 <'%s' | curl -sS -T - http://127.0.0.1:%d/ -o /dev/null", b->plain, b->port);
        return run(NULL, command);
}

static int64_t size_of(const char *path)
{
        struct stat st;

        return stat(path, &st) == 0 ? (int64_t)st.st_size : -1;
}

/* The recording, and the bytes that a push of it sends, unpacked. Returns their compressed size. */
static int64_t prepare(struct bench *b)
{
        char command[COMMAND_MAX], packed[DIR_MAX + 32];
        int64_t bytes;

        (void)snprintf(packed, sizeof(packed), "%s/packed-%ld.gz", b->dir, b->days);
        if (size_of(b->db) < 0) {
                (void)snprintf(command, sizeof(command),
                               "rm -f '%s'.new*; '%s/tests/system/recording' '%s.new' %ld %d >/dev/null && "
                               "mv '%s.new' '%s'",
                               b->db, b->build, b->db, b->days * INTERVALS_A_DAY, CONTAINERS, b->db, b->db);
                (void)printf("recording %ld days: %.1f s\n", b->days, run(NULL, command));
        }
        if (size_of(b->plain) < 0 || size_of(packed) < 0) {
                start_sink(b, packed);
                (void)push(b, NULL);
                stop_sink(b);
                (void)snprintf(command, sizeof(command), "zcat '%s' >'%s.new' && mv '%s.new' '%s'", packed,
                               b->plain, b->plain, b->plain);
                (void)run(NULL, command);
        }
        bytes = size_of(packed);
        return bytes;
}

/* ---- chaos ---- */

static void chaos(struct bench *b, long long *ret_lost, long long *ret_doubled)
{
        CLEANUP(json_decrefp) json_t *result = NULL;
        char command[COMMAND_MAX], path[DIR_MAX + 32];
        const char *name;
        json_t *one;

        (void)snprintf(path, sizeof(path), "%s/chaos.json", b->dir);
        (void)snprintf(command, sizeof(command),
                       "rm -f '%s'; python3 tests/system/delivery_chaos.py '%s/bin' "
                       "'%s/tests/system/recording' '%s/chaos' %ld 1 '%s' || [ -s '%s' ]",
                       path, b->build, b->build, b->dir, b->chaos, path, path);
        (void)run(NULL, command);
        if (json_parse_file(path, 1 << 20, &result, NULL) < 0)
                fail("the chaos left no result");
        json_object_foreach (json_object_get(result, "destinations"), name, one) {
                *ret_lost += json_integer_value(json_object_get(one, "lost")) +
                             json_integer_value(json_object_get(one, "other"));
                *ret_doubled += json_integer_value(json_object_get(one, "doubled"));
        }
}

int main(int argc, char **argv)
{
        struct bench b = { .build = getenv("B"), .days = setting("DAYS", 1), .chaos = setting("CHAOS", 100) };
        double best_push = 1e9, best_plain = 1e9, rss = 0, rows;
        long long lost = 0, doubled = 0, rounds = b.days > 5 ? 1 : RUNS;
        struct err e = { "" };
        int64_t bytes;
        FILE *out;

        if (argc != 2 || b.days < 1 || b.chaos < 1)
                fail("usage: [DAYS=1] [CHAOS=100] bench_delivery RESULT.json");
        b.build = b.build ? b.build : "build";
        (void)snprintf(b.dir, sizeof(b.dir), "%.*s/delivery",
                       strrchr(argv[1], '/') ? (int)(strrchr(argv[1], '/') - argv[1]) : 1,
                       strrchr(argv[1], '/') ? argv[1] : ".");
        (void)snprintf(b.db, sizeof(b.db), "%s/samples-%ld.db", b.dir, b.days);
        (void)snprintf(b.plain, sizeof(b.plain), "%s/plain-%ld.jsonl", b.dir, b.days);
        if (file_mkdirs(b.dir, 0755, &e) < 0)
                fail(e.text);
        bytes = prepare(&b);
        start_sink(&b, NULL);
        for (long long i = 0; i < rounds; i++) {
                double once, seconds = push(&b, &once), limit = plain_limit(&b);

                best_push = seconds < best_push ? seconds : best_push;
                best_plain = limit < best_plain ? limit : best_plain;
                rss = once > rss ? once : rss;
        }
        stop_sink(&b);
        chaos(&b, &lost, &doubled);

        rows = (double)b.days * INTERVALS_A_DAY * CONTAINERS;
        out = fopen(argv[1], "we");
        if (!out)
                fail("cannot write the results");
        (void)fprintf(out, "{\"results\": [\n");
        (void)fprintf(out,
                      "{\"name\": \"push_wall_over_limit\", \"value\": %.3f, \"unit\": \"1\", \"n\": %.0f, "
                      "\"baseline\": "
                      "%.3f, \"ratio\": %.3f},\n",
                      best_push / best_plain, rows, best_plain, best_push / best_plain);
        (void)fprintf(out,
                      "{\"name\": \"push_seconds\", \"value\": %.3f, \"unit\": \"s\", \"n\": %.0f, "
                      "\"baseline\": %.3f, \"ratio\": %.3f},\n",
                      best_push, rows, best_plain, best_push / best_plain);
        (void)fprintf(out,
                      "{\"name\": \"rows_per_s\", \"value\": %.0f, \"unit\": \"1/s\", \"n\": %.0f, "
                      "\"baseline\": %.0f, \"ratio\": %.3f},\n",
                      rows / best_push, rows, rows / best_plain, best_plain / best_push);
        (void)fprintf(out, "{\"name\": \"rss_mib\", \"value\": %.1f, \"unit\": \"MiB\", \"n\": %lld},\n", rss,
                      rounds);
        (void)fprintf(out, "{\"name\": \"bytes_per_row\", \"value\": %.1f, \"unit\": \"B\", \"n\": %.0f},\n",
                      (double)size_of(b.plain) / rows, rows);
        (void)fprintf(out,
                      "{\"name\": \"bytes_per_row_gzip\", \"value\": %.1f, \"unit\": \"B\", \"n\": %.0f},\n",
                      (double)bytes / rows, rows);
        (void)fprintf(out, "{\"name\": \"chaos_lost_rows\", \"value\": %lld, \"unit\": \"1\", \"n\": %ld},\n",
                      lost, b.chaos);
        (void)fprintf(
                out, "{\"name\": \"chaos_doubled_rows\", \"value\": %lld, \"unit\": \"1\", \"n\": %ld}\n]}\n",
                doubled, b.chaos);
        if (fclose(out) != 0)
                fail("cannot write the results");
        (void)printf("%ld days, %.0f rows: push %.1f s (%.0f rows/s), gzip -1 | curl %.1f s, %.2f of it; "
                     "%.1f MiB resident\n"
                     "%.1f bytes a row, %.1f compressed; of %ld batches through chaos %lld rows lost, %lld "
                     "doubled\n",
                     b.days, rows, best_push, rows / best_push, best_plain, best_push / best_plain, rss,
                     (double)size_of(b.plain) / rows, (double)bytes / rows, b.chaos, lost, doubled);
        return 0;
}
