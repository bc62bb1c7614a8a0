/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/bench/results.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/buf.h"
#include "common/file.h"

#define RESULTS_MAX 64

static struct result results[RESULTS_MAX];
static size_t n_results;

static void give_up(const char *what)
{
        (void)fprintf(stderr, "bench: %s\n", what);
        exit(1);
}

void results_add(const char *name, double value, const char *unit, unsigned long n, double baseline)
{
        struct result *r = &results[n_results];

        if (n_results++ == RESULTS_MAX)
                give_up("too many results");
        *r = (struct result){ .value = value, .unit = unit, .n = n, .baseline = baseline };
        (void)snprintf(r->name, sizeof(r->name), "%s", name);
        printf("%-36s %12.5g %-8s", r->name, value, unit);
        if (baseline > 0)
                printf(" (baseline %.5g, ratio %.3f)", baseline, value / baseline);
        printf("\n");
        (void)fflush(stdout);
}

void results_write(const char *path)
{
        CLEANUP(buf_done) struct buf out = { .max = 1 << 16 };

        (void)buf_puts(&out, "{\"results\": [\n");
        for (size_t i = 0; i < n_results; i++) {
                const struct result *r = &results[i];

                (void)buf_printf(&out, "  {\"name\": \"%s\", \"value\": %.6g, \"unit\": \"%s\", \"n\": %lu, ",
                                 r->name, r->value, r->unit, r->n);
                if (r->baseline > 0)
                        (void)buf_printf(&out, "\"baseline\": %.6g, \"ratio\": %.4g}", r->baseline,
                                         r->value / r->baseline);
                else
                        (void)buf_puts(&out, "\"baseline\": null, \"ratio\": null}");
                (void)buf_puts(&out, i + 1 < n_results ? ",\n" : "\n");
        }
        if (buf_puts(&out, "]}\n") < 0 || file_write_atomic(path, out.data, out.size, 0644, NULL) < 0)
                give_up("cannot write the results");
}

static int by_size(const void *a, const void *b)
{
        const double *x = a, *y = b;

        return (*x > *y) - (*x < *y);
}

double results_median(double *values, size_t n)
{
        qsort(values, n, sizeof(values[0]), by_size);
        return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}
