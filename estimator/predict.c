/* SPDX-License-Identifier: Apache-2.0 */
#include "estimator/predict.h"

#include <errno.h>
#include <string.h>

#include "common/log.h"
#include "estimator/answer.h"
#include "estimator/frame.h"
#include "estimator/request.h"

#define READ_CHUNK ((size_t)64 << 10)

struct lines {
        struct answerer answerer;
        struct buf in, reply;
        size_t line_max;
        size_t scanned; /* bytes of `in` that hold no line end */
        bool skipping;  /* the line is too long and was answered already */
        bool failed;    /* a line was answered with an error */
        FILE *out;
};

static int write_reply(struct lines *l)
{
        int r = buf_puts(&l->reply, "\n");

        if (r < 0)
                return log_error(r, "out of memory");
        if (fwrite(l->reply.data, 1, l->reply.size, l->out) != l->reply.size || fflush(l->out) != 0)
                return log_error(-EIO, "cannot write a reply");
        buf_clear(&l->reply);
        return 0;
}

static int refuse_line(struct lines *l, const char *text)
{
        l->failed = true;
        (void)reply_rejected(&l->reply,
                             "failed to handle request: ", text); /* write_reply() sees a failure */
        return write_reply(l);
}

static int answer_line(struct lines *l, const char *line, size_t size)
{
        struct frame frame = { 0 };
        size_t end;
        int r;

        if (strspn(line, " \t\r") >= size)
                return 0;                           /* a blank line asks nothing */
        (void)frame_scan(&frame, line, size, &end); /* for the count; the parser judges the rest */
        if (frame.commas > REQUEST_VALUES_MAX)
                return refuse_line(l, "request has too many values");
        r = answer_request(&l->answerer, line, size, &l->reply);
        if (r < 0)
                return log_error(r, "cannot make a reply");
        l->failed |= r == ANSWER_REFUSED;
        return write_reply(l);
}

/* Answer the lines that are whole; at the end of input also what stands without a line end. */
static int take_lines(struct lines *l, bool at_end)
{
        size_t start = 0;
        int r = 0;

        if (at_end)
                l->scanned = 0; /* what was left waiting for a line end is a line now */
        while (r == 0 && start + l->scanned < l->in.size) {
                char *line = l->in.data + start, *end;

                end = memchr(line + l->scanned, '\n', l->in.size - start - l->scanned);
                if (!end && !at_end) {
                        l->scanned = l->in.size - start;
                        break;
                }
                if (!end)
                        end = l->in.data + l->in.size;
                *end = '\0';
                if (!l->skipping)
                        r = answer_line(l, line, (size_t)(end - line));
                l->skipping = false;
                l->scanned = 0;
                start = (size_t)(end - l->in.data) + (end < l->in.data + l->in.size);
        }
        buf_consume(&l->in, start);
        if (r < 0 || l->in.size <= l->line_max)
                return r;

        if (!l->skipping)
                r = refuse_line(l, "request is too large");
        l->skipping = true;
        l->scanned = 0;
        buf_clear(&l->in);
        return r;
}

static int read_lines(struct lines *l, int fd)
{
        for (;;) {
                char *room = buf_reserve(&l->in, READ_CHUNK);
                ssize_t n;
                int r;

                if (!room)
                        return log_error(l->in.failed, "out of memory");
                n = read(fd, room, READ_CHUNK);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return log_error(-errno, "cannot read requests: %s", strerror(errno));
                if (n > 0)
                        buf_grew(&l->in, (size_t)n);
                r = take_lines(l, n == 0);
                if (r < 0 || n == 0)
                        return r;
        }
}

int predict_run(const struct options *options, const char *path, int in, FILE *out)
{
        CLEANUP(models_freep) struct models *models = NULL;
        struct model_load_options how = options_load(options);
        struct lines l = { .line_max = (size_t)options->request_max, .out = out };
        struct err e;
        int r;

        r = models_load_one_with(path, &how, &models, &e);
        if (r < 0)
                return log_error(r, "cannot load the model: %s", e.text);
        l.answerer = (struct answerer){ .models = models,
                                        .cpus = sysconf(_SC_NPROCESSORS_ONLN),
                                        .precision = REPLY_EXACT,
                                        .no_pedigree = !options->pedigree };
        buf_init(&l.in, l.line_max + READ_CHUNK);
        buf_init(&l.reply, REPLY_MAX);
        r = read_lines(&l, in);
        buf_done(&l.in);
        buf_done(&l.reply);
        return r < 0 ? r : l.failed;
}
