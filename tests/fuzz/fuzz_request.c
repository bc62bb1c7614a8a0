/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes from a client: framed as the server does, whole and byte by byte with the same outcome, and answered.
 * Every reply is valid JSON with powers, or the reply to a command. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "common/json.h"
#include "estimator/answer.h"
#include "estimator/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char weights[] =
        "{\"package\": {\"All_Weights\": {\"Bias_Weight\": 1, \"Numerical_Variables\": "
        "{\"a\": {\"scale\": 2, \"weight\": 3}, \"b\": {\"scale\": 1, \"weight\": -1}}}}}";

static struct models *load(void)
{
        char path[] = "/tmp/wattloop-fuzz-XXXXXX";
        struct models *models = NULL;
        int fd = mkstemp(path);
        struct err e;

        if (fd < 0 || write(fd, weights, strlen(weights)) != (ssize_t)strlen(weights) ||
            models_load_one(path, &models, &e) < 0)
                abort();
        (void)close(fd);
        (void)unlink(path);
        return models;
}

/* Where the first object ends when its bytes come one at a time. */
static int scan_slowly(const char *data, size_t size, size_t *ret_end)
{
        struct frame f = { 0 };
        int r = 0;

        for (size_t n = 1; n <= size && r == 0; n++)
                r = frame_scan(&f, data, n, ret_end);
        return r;
}

static void check_reply(const struct buf *out)
{
        CLEANUP(json_decrefp) json_t *reply = NULL;
        struct err e;

        if (json_parse(out->data, out->size, "reply", &reply, &e) < 0 || !json_object_get(reply, "powers") ||
            !json_object_get(reply, "msg"))
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static struct models *models;
        struct answerer a = { .cpus = 4, .precision = size % 2 ? REPLY_SHORT : REPLY_EXACT };
        const char *text = (const char *)data;

        if (!models)
                models = load();
        a.models = models;
        while (size > 0) {
                CLEANUP(buf_done) struct buf out = { .max = REPLY_MAX };
                size_t end = 0, slow_end = 0;
                struct frame f = { 0 };
                int r = frame_scan(&f, text, size, &end);

                if (size < 4096 && (scan_slowly(text, size, &slow_end) != r || slow_end != end))
                        abort();
                if (r <= 0)
                        break;
                if (answer_request(&a, text, end, &out) < 0)
                        abort();
                check_reply(&out);
                text += end;
                size -= end;
        }
        return 0;
}
