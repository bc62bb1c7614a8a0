/* SPDX-License-Identifier: Apache-2.0 */
/* What a row of a network costs in process: three hidden layers of 64 with relu over five features, 10 and
 * 100 rows at a time. The baseline are the same products by the BLAS that is installed (cblas_sgemm, float32;
 * without biases and functions). Writes results as JSON to argv[1]. */
#include <dlfcn.h>
#include <sodium.h>
#include <string.h>

#include "common/buf.h"
#include "common/clock.h"
#include "model/network.h"
#include "tests/bench/results.h"

#define INPUTS 5
#define WIDTH  64
#define LAYERS 3
#define TIMES  3000
#define ROWS   100

typedef void sgemm(int order, int a_trans, int b_trans, int m, int n, int k, float alpha, const float *a,
                   int lda, const float *b, int ldb, float beta, float *c, int ldc);
#define ROW_MAJOR 101
#define NO_TRANS  111

static float weights[LAYERS + 1][(WIDTH + 1) * WIDTH];

static size_t inputs_of(int layer)
{
        return layer == 0 ? INPUTS : WIDTH;
}

static size_t units_of(int layer)
{
        return layer == LAYERS ? 1 : WIDTH;
}

static void put_dense(struct buf *out, int layer)
{
        static char text[sodium_base64_ENCODED_LEN(sizeof(weights[0]), sodium_base64_VARIANT_ORIGINAL)];
        size_t n = (inputs_of(layer) + 1) * units_of(layer);

        (void)sodium_bin2base64(text, sizeof(text), (unsigned char *)weights[layer], n * sizeof(float),
                                sodium_base64_VARIANT_ORIGINAL);
        (void)buf_printf(out,
                         ", {\"name\": \"d%d\", \"type\": \"dense\", \"inputs\": [\"r%d\"], \"units\": %zu, "
                         "\"weights\": \"",
                         layer, layer, units_of(layer));
        (void)buf_puts(out, text);
        (void)buf_printf(out, "\"}");
        if (layer < LAYERS)
                (void)buf_printf(out,
                                 ", {\"name\": \"r%d\", \"type\": \"activation\", \"function\": \"relu\", "
                                 "\"inputs\": [\"d%d\"]}",
                                 layer + 1, layer);
}

static void fail(const char *what)
{
        (void)fprintf(stderr, "bench_networks: %s\n", what);
        exit(1);
}

static struct plan *make_network(void)
{
        CLEANUP(buf_done) struct buf text = { .max = 1 << 20 };
        struct network_document d = { 0 };
        struct plan *plan = NULL;
        struct err e;

        (void)buf_puts(
                &text,
                "{\"format\": \"wattloop-network\", \"version\": 1, \"features\": [{\"name\": \"a\"}, "
                "{\"name\": \"b\"}, {\"name\": \"c\"}, {\"name\": \"d\"}, {\"name\": \"e\"}], \"layers\": "
                "[{\"name\": \"r0\", \"type\": \"input\", \"features\": [0, 1, 2, 3, 4]}");
        for (int i = 0; i <= LAYERS; i++)
                put_dense(&text, i);
        (void)buf_printf(&text, "], \"outputs\": [{\"component\": \"package\", \"layer\": \"d%d\"}]}",
                         LAYERS);
        if (text.failed || network_read(text.data, text.size, &plan, &d, &e) < 0)
                fail(text.failed ? "out of memory" : e.text);
        network_document_done(&d);
        for (size_t i = 0; i < INPUTS; i++)
                plan->inputs[i] = i;
        return plan;
}

static double median_ours(const struct plan *plan, const double *rows, size_t n)
{
        static const size_t index[] = { 0, 1, 2, 3, 4 };
        static double us[TIMES], out[ROWS];

        for (size_t t = 0; t < TIMES; t++) {
                uint64_t begin = clock_monotonic_ns();

                plan_run(plan, index, rows, INPUTS, n, out, 1);
                us[t] = (double)(clock_monotonic_ns() - begin) / 1000;
        }
        return results_median(us, TIMES);
}

static double median_blas(sgemm *multiply, size_t n)
{
        static float blocks[2][ROWS * WIDTH];
        static double us[TIMES];

        for (size_t i = 0; i < ROWS * WIDTH; i++)
                blocks[0][i] = (float)(i % 7) / 7;
        for (size_t t = 0; t < TIMES; t++) {
                uint64_t begin = clock_monotonic_ns();

                for (int l = 0; l <= LAYERS; l++) {
                        int k = (int)inputs_of(l), units = (int)units_of(l);

                        multiply(ROW_MAJOR, NO_TRANS, NO_TRANS, (int)n, units, k, 1, blocks[l % 2], k,
                                 weights[l], units, 0, blocks[(l + 1) % 2], units);
                }
                us[t] = (double)(clock_monotonic_ns() - begin) / 1000;
        }
        return results_median(us, TIMES);
}

int main(int argc, char **argv)
{
        static const char *const libraries[] = { "libopenblas.so.0", "libcblas.so.3", "libblas.so.3" };
        static double rows[ROWS * INPUTS];
        static const size_t counts[] = { 10, 100 };
        struct plan *plan;
        sgemm *multiply = NULL;
        char name[64];

        if (argc != 2)
                fail("usage: bench_networks RESULTS.json");
        (void)setenv("OPENBLAS_NUM_THREADS", "1", 1);
        for (size_t i = 0; i < sizeof(weights) / sizeof(float); i++)
                ((float *)weights)[i] = (float)((i * 2654435761u >> 16) % 1000) / 5000 - 0.1f;
        for (size_t i = 0; i < ROWS * INPUTS; i++)
                rows[i] = (double)(i * 31 % 97) / 97;
        plan = make_network();
        for (size_t i = 0; !multiply && i < ARRAY_SIZE(libraries); i++) {
                void *library = dlopen(libraries[i], RTLD_NOW | RTLD_LOCAL); /* for as long as we run */

                if (library)
                        *(void **)&multiply = dlsym(library, "cblas_sgemm");
                if (multiply)
                        (void)printf("baseline: %s\n", libraries[i]);
        }
        for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
                double baseline = multiply ? median_blas(multiply, counts[i]) : 0;

                (void)snprintf(name, sizeof(name), "network_3x64_%zu_rows_us", counts[i]);
                results_add(name, median_ours(plan, rows, counts[i]), "us", TIMES, baseline);
        }
        results_write(argv[1]);
        plan_free(plan);
        return 0;
}
