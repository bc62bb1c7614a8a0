/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as an estimator's status: refused with words, or metrics that Prometheus can read: no series
 * twice. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "collector/metrics_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_series(char *text)
{
        char *lines[1024], *save = NULL;
        size_t n = 0;

        for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                char *value = strrchr(line, ' ');

                if (!value || n == 1024)
                        abort();
                if (*line == '#')
                        continue;
                *value = '\0';
                for (size_t i = 0; i < n; i++)
                        if (!strcmp(lines[i], line))
                                abort();
                lines[n++] = line;
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static struct estimator_stats stats;
        CLEANUP(buf_done) struct buf text = { .max = METRICS_TEXT_MAX };
        struct err e = { "" };

        if (estimator_report_parse((const char *)data, size, &stats.report, &e) < 0) {
                if (!e.text[0])
                        abort();
                return 0;
        }
        stats.up = true;
        metrics_estimator(&stats, &text);
        if (text.failed)
                abort();
        check_series(text.data);
        return 0;
}
