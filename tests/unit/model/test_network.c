/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <sodium.h>

#include "common/buf.h"
#include "model/model.h"
#include "model/network.h"

/* Documents are written with ' for " and @1 2 3@ for the base64 of these numbers. */
static void expand(const char *from, struct buf *out)
{
        buf_init(out, 1 << 24);
        for (; *from; from++) {
                float numbers[256];
                char text[2048], *end;
                size_t n = 0;

                if (*from != '@') {
                        (void)buf_append(out, *from == '\'' ? "\"" : from, 1);
                        continue;
                }
                for (from++; *from != '@'; from = end) {
                        numbers[n++] = strtof(from, &end);
                        assert_true(end > from && n < 256);
                }
                (void)sodium_bin2base64(text, sizeof(text), (unsigned char *)numbers, n * sizeof(numbers[0]),
                                        sodium_base64_VARIANT_ORIGINAL);
                (void)buf_puts(out, text);
        }
        assert_int_equal(out->failed, 0);
}

#define METADATA                                                                                             \
        "{'model_name': 'KerasTrainer_0', 'model_class': 'network', 'model_file': 'KerasTrainer_0.json', "   \
        "'features': ['a', 'b'], 'fe_files': [], 'output_type': 'AbsPower', 'package_mae': 1.5}"
#define COMPONENT "{'model_file': 'network.json', 'features': ['a', 'b'], 'fe_files': []}"
#define MAP       "{'package': " COMPONENT "}"

static int load_with(const char *metadata, const char *map, const char *network, struct model **ret,
                     struct err *e)
{
        CLEANUP(model_archive_freep) struct model_archive *a = calloc(1, sizeof(*a));
        const char *const files[][2] = { { "metadata.json", metadata },
                                         { "KerasTrainer_0.json", map },
                                         { "network.json", network } };

        assert_non_null(a);
        for (size_t i = 0; i < 3 && files[i][1]; i++) {
                CLEANUP(buf_done) struct buf text = { 0 };

                expand(files[i][1], &text);
                (void)snprintf(a->entries[i].name, sizeof(a->entries[i].name), "%s", files[i][0]);
                a->entries[i].size = text.size;
                a->entries[i].data = TAKE(text.data);
                a->n++;
        }
        return model_load_archive(a, ret, e);
}

static int load(const char *network, struct model **ret, struct err *e)
{
        return load_with(METADATA, MAP, network, ret, e);
}

#define HEAD                    "{'format': 'wattloop-network', 'version': 1, 'features': [{'name': 'a'}, {'name': 'b'}], "
#define INPUT                   "{'name': 'x', 'type': 'input', 'features': [0, 1]}"
#define OUT(layer)              "'outputs': [{'component': 'package', 'layer': '" layer "'}]}"
#define DOC(layers, outputs)    HEAD "'layers': [" layers "], " outputs
#define LAYER(type, from, rest) "{'name': '" type "', 'type': '" type "', 'inputs': [" from "]" rest "}"
#define ONE(type, rest)         DOC(INPUT ", " LAYER(type, "'x'", rest), OUT(type))
#define FUNCTION(rest)          ONE("activation", ", 'function': " rest)
#define DENSE(name, from, units, weights)                                                                    \
        "{'name': '" name "', 'type': 'dense', 'inputs': ['" from "'], 'units': " units                      \
        ", 'weights': '@" weights "@'}"

static double ask(const char *network, double a, double b)
{
        CLEANUP(model_freep) struct model *m = NULL;
        double rows[37][2], out[37];
        const size_t index[] = { 0, 1 };
        struct err e = { "" };

        if (load(network, &m, &e) < 0)
                fail_msg("%s: %s", network, e.text);
        for (size_t i = 0; i < 37; i++) { /* blocks, and a part of one */
                rows[i][0] = a;
                rows[i][1] = b;
        }
        model_predict(m, index, rows[0], 2, 37, out);
        for (size_t i = 1; i < 37; i++)
                if (fabs(out[i] - out[0]) > 0)
                        fail_msg("rows differ: %s", network);
        return out[0];
}

/* Watts below 0 are 0: each document adds what keeps them above. */
static void answers_are_those_worked_out_by_hand(void **state)
{
        const struct {
                const char *network;
                double a, b, watts;
        } cases[] = {
                { DOC(INPUT ", " DENSE("d", "x", "1", "2 3 10"), OUT("d")), 5, 7, 2 * 5 + 3 * 7 + 10 },
                { DOC(DENSE("d2", "r", "1", "1 2 0.5") ", " LAYER(
                              "activation", "'d1'",
                              ", 'function': 'relu'") ", "
                                                      "{'name': 'r', 'type': 'identity', 'inputs': "
                                                      "['activation']}, " INPUT
                                                      ", " DENSE("d1", "x", "2", "1 -1 1 -1 0 0"),
                      OUT("d2")),
                  3, 4, 7 + 0.5 },
                { FUNCTION("'relu', 'max_value': 6"), 9, 0, 6 },
                { FUNCTION("'relu', 'negative_slope': -0.5, 'threshold': 2"), 1, 0, 0.5 },
                { FUNCTION("'elu', 'alpha': -2"), -1, 0, 2 * (1 - exp(-1)) },
                { FUNCTION("'celu', 'alpha': 2"), 3, 0, 3 },
                { FUNCTION("'selu'"), 2, 0, 2 * 1.0507009873554805 },
                { FUNCTION("'gelu'"), 1, 0, 0.8413447460685429 },
                { FUNCTION("'gelu_tanh'"), 1, 0, 0.8411919906082768 },
                { FUNCTION("'sigmoid'"), 2, 0, 1 / (1 + exp(-2)) },
                { FUNCTION("'hard_sigmoid', 'slope': 0.2"), 1, 0, 0.7 },
                { FUNCTION("'hard_silu', 'slope': 0.16666666666666666"), 1, 0, 2 / 3.0 },
                { FUNCTION("'sparse_sigmoid'"), 0.5, 0, 0.75 },
                { FUNCTION("'tanh'"), 0.5, 0, tanh(0.5) },
                { FUNCTION("'hard_tanh'"), 3, 0, 1 },
                { FUNCTION("'tanh_shrink'"), 2, 0, 2 - tanh(2) },
                { FUNCTION("'softplus'"), 1, 0, log(1 + exp(1)) },
                { FUNCTION("'softplus'"), 900, 0, 900 },
                { FUNCTION("'softsign'"), 3, 0, 0.75 },
                { FUNCTION("'silu'"), 2, 0, 2 / (1 + exp(-2)) },
                { FUNCTION("'mish'"), 1, 0, tanh(log(1 + exp(1))) },
                { FUNCTION("'exponential'"), -2, 0, exp(-2) },
                { FUNCTION("'sparse_plus'"), 0.5, 0, 0.5625 },
                { FUNCTION("'squareplus'"), 0, 0, 1 },
                { FUNCTION("'soft_shrink'"), 2, 0, 1.5 },
                { FUNCTION("'hard_shrink'"), 2, 0, 2 },
                { FUNCTION("'threshold', 'threshold': 3, 'value': 7"), 3, 0, 7 },
                { FUNCTION("'softmax'"), 2, 1, 1 / (1 + exp(-1)) },
                { FUNCTION("'sparsemax'"), 0.5, 0.2, 0.65 },
                { FUNCTION("'sparsemax'"), 5, 0.2, 1 },
                { FUNCTION("'glu'"), 4, 0, 2 },
                { DOC(INPUT ", " LAYER("activation", "'x'", ", 'function': 'log_softmax'") ", " DENSE(
                              "d", "activation", "1", "-1 0 0"),
                      OUT("d")),
                  1, 2, log(1 + exp(1)) },
                { DOC(INPUT ", " LAYER("activation", "'x'", ", 'function': 'log_sigmoid'") ", " DENSE(
                              "d", "activation", "1", "-1 0 0"),
                      OUT("d")),
                  1, 2, log(1 + exp(-1)) },
                { ONE("prelu", ", 'weights': '@-0.5 1@'"), -4, 0, 2 },
                { ONE("normalization", ", 'weights': '@1 0 4 1@'"), 7, 0, 3 },
                { ONE("normalization", ", 'weights': '@1 4@', 'axes': []"), 7, 0, 3 },
                { ONE("normalization", ", 'weights': '@1 0 4 1@', 'invert': true"), 7, 0, 15 },
                { ONE("batch_normalization", ", 'weights': '@3 1 10 0 1 0 4 1@', 'epsilon': 0"), 7, 0,
                  3 * 3 + 10 },
                { ONE("batch_normalization",
                      ", 'weights': '@1 0 3 1@', 'epsilon': 1, 'center': false, 'scale': false"),
                  7, 0, 3 },
                { ONE("layer_normalization", ", 'weights': '@2 1 5 0@', 'epsilon': 3"), 3, 1,
                  1 / sqrt(4) * 2 + 5 },
                { ONE("rescaling", ", 'scale': [2, 1], 'offset': 1"), 3, 1, 7 },
                { DOC(INPUT ", " LAYER("reshape", "'x'", ", 'shape': [0, 1]") ", " DENSE(
                              "d", "reshape", "1",
                              "2 1") ", {'name': 'f', 'type': 'reshape', 'inputs': ['d']}, " DENSE("e", "f",
                                                                                                   "1",
                                                                                                   "1 10 0"),
                      OUT("e")),
                  3, 4, 7 + 90 },
                { DOC(INPUT ", {'name': 'y', 'type': 'input', 'features': [1]}, " LAYER(
                              "concatenate", "'x', 'y'", "") ", " DENSE("d", "concatenate", "1",
                                                                        "1 10 100 0"),
                      OUT("d")),
                  1, 2, 221 },
                { DOC(INPUT
                      ", {'name': 'y', 'type': 'input', 'features': [1]}, " LAYER("add", "'x', 'y'", ""),
                      OUT("add")),
                  1, 2, 3 },
                { DOC(INPUT ", " LAYER("multiply", "'x', 'x'", ""), OUT("multiply")), 5, 2, 25 },
                { DOC(INPUT ", " DENSE("d", "x", "2", "1 0 0 1 0 0") ", " LAYER("subtract", "'x', 'd'", ""),
                      OUT("subtract")),
                  5, 2, 0 },
                { DOC(INPUT ", " DENSE("d", "x", "2", "0 0 1 0 0 0") ", " LAYER("average", "'x', 'd'", ""),
                      OUT("average")),
                  5, 2, 3.5 },
                { DOC(INPUT ", " DENSE("d", "x", "2", "0 0 1 0 0 0") ", " LAYER("maximum", "'d', 'x'", ""),
                      OUT("maximum")),
                  5, 2, 5 },
                { DOC(INPUT ", " DENSE("d", "x", "2", "0 0 1 0 0 0") ", " LAYER("minimum", "'d', 'x'", ""),
                      OUT("minimum")),
                  5, 2, 2 },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                double watts = ask(cases[i].network, cases[i].a, cases[i].b);

                if (fabs(watts - cases[i].watts) > 1e-6 * fmax(1, cases[i].watts))
                        fail_msg("case %zu: %.9g instead of %.9g: %s", i, watts, cases[i].watts,
                                 cases[i].network);
        }
}

static void several_components_come_from_one_network(void **state)
{
        CLEANUP(model_freep) struct model *m = NULL;
        const double row[] = { 5, 7 };
        const size_t index[] = { 0, 1 };
        double out[2], low, high;
        struct err e = { "" };

        (void)state;
        if (load_with(METADATA, "{'dram': " COMPONENT ", 'package': " COMPONENT "}",
                      "{'format': 'wattloop-network', 'version': 1, 'features': [{'name': 'a', 'low': -1, "
                      "'high': 9}, {'name': 'b'}], 'layers': [" INPUT
                      ", " DENSE("d", "x", "2", "1 2 3 4 10 20") "], 'outputs': [{'component': 'package', "
                                                                 "'layer': 'd', 'column': 1}, "
                                                                 "{'component': 'dram', 'layer': 'd'}]}",
                      &m, &e) < 0)
                fail_msg("%s", e.text);
        model_predict(m, index, row, 2, 1, out);
        assert_string_equal(model_component(m, 0), "package");
        assert_true(fabs(out[0] - (10 + 28 + 20)) < 1e-9);
        assert_string_equal(model_component(m, 1), "dram");
        assert_true(fabs(out[1] - (5 + 21 + 10)) < 1e-9);
        assert_string_equal(model_class(m), "network");
        assert_string_equal(model_component_kind(m, 1), "network");
        assert_string_equal(model_component_note(m, 0), "2 layers, 6 parameters");
        assert_true(fabs(model_component_mae(m, 0) - 1.5) < 1e-9 && isnan(model_component_mae(m, 1)));
        assert_true(model_feature_range(m, 0, &low, &high) && low < 0 && high > 8.9 && high < 9.1);
        assert_false(model_feature_range(m, 1, &low, &high));
        assert_int_equal(model_check(m, &e), 0);
}

static void a_normalization_tells_the_ranges(void **state)
{
        CLEANUP(model_freep) struct model *m = NULL;
        double low, high;
        struct err e = { "" };

        (void)state;
        if (load(ONE("normalization", ", 'weights': '@10 5 4 1@'"), &m, &e) < 0)
                fail_msg("%s", e.text);
        assert_true(model_feature_range(m, 0, &low, &high) && fabs(low - 4) < 1e-9 && fabs(high - 16) < 1e-9);
        assert_true(fabs(model_feature_scale(m, 1) - 8) < 1e-9);
}

/* Any split into tiles, panels and blocks of rows gives the sums of the plain loop. */
static void products_are_those_of_the_plain_loop(void **state)
{
        uint32_t seed = 7;

        (void)state;
        for (size_t n = 1; n <= 9; n++)
                for (size_t k = 1; k <= 19; k += 3)
                        for (size_t m = 1; m <= 19; m += 2) {
                                double in[9 * 19], matrix[19 * 19], bias[19], packed[24 * 19],
                                        out[9 * 19 + 1];

                                for (size_t i = 0; i < n * k; i++)
                                        in[i] = (double)((seed = seed * 1664525 + 1013904223) >> 24) - 128;
                                for (size_t i = 0; i < k * m; i++)
                                        matrix[i] =
                                                (double)((seed = seed * 1664525 + 1013904223) >> 24) - 128;
                                for (size_t i = 0; i < m; i++)
                                        bias[i] = (double)i;
                                assert_true(network_packed_size(k, m) <= 24 * 19);
                                network_pack(matrix, k, m, packed);
                                out[n * m] = 12345;
                                network_multiply(in, n, k, packed, bias, m, out);
                                for (size_t r = 0; r < n; r++)
                                        for (size_t o = 0; o < m; o++) {
                                                double sum = bias[o];

                                                for (size_t j = 0; j < k; j++)
                                                        sum += in[r * k + j] * matrix[j * m + o];
                                                assert_true(fabs(out[r * m + o] - sum) < 1e-9);
                                        }
                                assert_true(fabs(out[n * m] - 12345) < 1e-9);
                        }
}

static void what_is_wrong_is_refused_and_named(void **state)
{
        static const struct {
                const char *network;
                int r;
                const char *words;
        } cases[] = {
                { "", -EBADMSG, "network.json" },
                { "[]", -EBADMSG, "not a JSON object" },
                { HEAD "'layers': [", -EBADMSG, "network.json" },
                { "{'format': 'other', 'version': 1}", -EBADMSG, "format 'other'" },
                { "{'format': 'wattloop-network', 'version': 2}", -ENOTSUP, "version 2" },
                { "{'format': 'wattloop-network'}", -EBADMSG, "version" },
                { "{'format': 'wattloop-network', 'version': 1, 'version': 1}", -EBADMSG, "network.json" },
                { HEAD "'lambda': 1, 'layers': [], " OUT("x"), -EBADMSG, "'lambda' is unknown" },
                { HEAD "'layers': 3, " OUT("x"), -EBADMSG, "'layers' is not an array" },
                { HEAD "'layers': [7], " OUT("x"), -EBADMSG, "layer 0 is not an object" },
                { HEAD "'layers': [], " OUT("x"), -EBADMSG, "there is no layer 'x'" },
                { HEAD "'layers': [" INPUT "]}", -EBADMSG, "'outputs' is not an array" },
                { DOC(INPUT, "'outputs': []}"), -EBADMSG, "no outputs" },
                { DOC(INPUT, "'outputs': [{'component': 'package', 'layer': 'x', 'column': 2}]}"), -EBADMSG,
                  "element 2 of layer 'x'" },
                { DOC(INPUT, "'outputs': [{'component': 'package', 'layer': 'x', 'column': -1}]}"), -EBADMSG,
                  "'column'" },
                { DOC(INPUT,
                      "'outputs': [{'component': 'package', 'layer': 'x'}, {'component': 'package', 'layer': "
                      "'x'}]}"),
                  -EBADMSG, "component 'package' is there twice" },
                { "{'format': 'wattloop-network', 'version': 1, 'features': [], 'layers': [], " OUT("x"),
                  -EBADMSG, "'features' is empty" },
                { "{'format': 'wattloop-network', 'version': 1, 'features': [{'name': 'a'}, {'name': 'a'}], "
                  "'layers': "
                  "[], " OUT("x"),
                  -EBADMSG, "feature 'a' is there twice" },
                { "{'format': 'wattloop-network', 'version': 1, 'features': [{'name': 'a', 'low': 3, 'high': "
                  "1}], "
                  "'layers': [], " OUT("x"),
                  -EBADMSG, "3 is more than 1" },
                { "{'format': 'wattloop-network', 'version': 1, 'features': [{'name': 'a', 'low': 3}], "
                  "'layers': [], " OUT("x"),
                  -EBADMSG, "'high' is not a finite number" },
                { DOC(INPUT ", " INPUT, OUT("x")), -EBADMSG, "layer 'x' is there twice" },
                { DOC("{'name': '', 'type': 'input', 'features': [0]}", OUT("x")), -EBADMSG,
                  "name is empty" },
                { DOC("{'name': 'x', 'type': 'lambda'}", OUT("x")), -ENOTSUP, "type 'lambda' is unknown" },
                { DOC("{'name': 'x'}", OUT("x")), -EBADMSG, "layer 0" },
                { DOC("{'name': 'x', 'type': 'input', 'features': [2]}", OUT("x")), -EBADMSG,
                  "feature 2 of 2" },
                { DOC("{'name': 'x', 'type': 'input', 'features': [-1]}", OUT("x")), -EBADMSG, "'features'" },
                { DOC("{'name': 'x', 'type': 'input', 'features': []}", OUT("x")), -EBADMSG,
                  "without features" },
                { DOC("{'name': 'x', 'type': 'input', 'features': [0], 'shape': [1]}", OUT("x")), -EBADMSG,
                  "'shape' is unknown" },
                { DOC("{'name': 'x', 'type': 'input', 'features': [0], 'inputs': ['x']}", OUT("x")), -EBADMSG,
                  "depends on itself" },
                { DOC("{'name': 'x', 'type': 'identity', 'inputs': ['y']}, {'name': 'y', 'type': 'identity', "
                      "'inputs': "
                      "['x']}",
                      OUT("x")),
                  -EBADMSG, "depends on itself" },
                { DOC(INPUT ", " DENSE("d", "x", "1", "1 2 3"), OUT("x")), -EBADMSG,
                  "'d' leads to no output" },
                { DOC(INPUT ", " DENSE("d", "nobody", "1", "1 2 3"), OUT("d")), -EBADMSG,
                  "no layer 'nobody'" },
                { DOC(INPUT ", " DENSE("d", "x", "1", "1 2"), OUT("d")), -EBADMSG, "2 weights instead of 3" },
                { DOC(INPUT ", " DENSE("d", "x", "1", "1 2 3 4"), OUT("d")), -EBADMSG,
                  "4 weights instead of 3" },
                { DOC(INPUT ", " DENSE("d", "x", "1", "1 nan 3"), OUT("d")), -EBADMSG,
                  "weight 1 is not finite" },
                { DOC(INPUT ", " DENSE("d", "x", "1", "1 2 inf"), OUT("d")), -EBADMSG,
                  "weight 2 is not finite" },
                { DOC(INPUT ", " DENSE("d", "x", "0", "1"), OUT("d")), -EBADMSG, "'units'" },
                { DOC(INPUT ", " DENSE("d", "x", "1e3", "1"), OUT("d")), -EBADMSG, "'units'" },
                { DOC(INPUT ", " DENSE("d", "x", "18446744073709551617", "1"), OUT("d")), -EBADMSG,
                  "network.json" },
                { DOC(INPUT ", " DENSE("d", "x", "4097", "1"), OUT("d")), -EBADMSG, "'units'" },
                { ONE("dense", ", 'units': 1"), -EBADMSG, "0 weights instead of 3" },
                { ONE("dense", ", 'weights': '@1 2 3@'"), -EBADMSG, "'units' is missing" },
                { ONE("dense", ", 'units': 1, 'weights': 'AAAA'"), -EBADMSG, "not base64 of float32" },
                { ONE("dense", ", 'units': 1, 'weights': 'AAAAAAAAAAAAAA!!'"), -EBADMSG, "not base64" },
                { ONE("dense", ", 'units': 1, 'weights': 'AAAAAAAAAAAAAAAA\\u0000'"), -EBADMSG,
                  "network.json" },
                { ONE("dense", ", 'units': 1, 'weights': [1, 2, 3]"), -EBADMSG, "'weights' is not a text" },
                { ONE("dense", ", 'units': 1, 'activation': 'relu', 'weights': '@1 2 3@'"), -EBADMSG,
                  "'activation' is unknown" },
                { DOC(INPUT ", " LAYER("dense", "'x', 'x'", ", 'units': 1, 'weights': '@1 2 3@'"),
                      OUT("dense")),
                  -EBADMSG, "does not take 2 inputs" },
                { DOC(INPUT ", " LAYER("add", "", ""), OUT("add")), -EBADMSG, "'x' leads to no output" },
                { ONE("activation", ""), -EBADMSG, "'function' is missing" },
                { FUNCTION("'relu7'"), -ENOTSUP, "function 'relu7' is unknown" },
                { FUNCTION("'relu', 'max_value': -1"), -EBADMSG, "'max_value' of -1" },
                { FUNCTION("'relu', 'alpha': 1"), -EBADMSG, "'alpha' is unknown" },
                { FUNCTION("'hard_sigmoid'"), -EBADMSG, "hard_sigmoid needs 'slope'" },
                { DOC(INPUT ", " LAYER("reshape", "'x'", ", 'shape': [2, 1]") ", " LAYER(
                              "activation", "'reshape'", ", 'function': 'softmax', 'axis': 0"),
                      OUT("activation")),
                  -ENOTSUP, "softmax over another axis" },
                { FUNCTION("'celu', 'alpha': 0"), -EBADMSG, "'alpha' of 0" },
                { DOC("{'name': 'x', 'type': 'input', 'features': [0]}, " LAYER("activation", "'x'",
                                                                                ", 'function': 'glu'"),
                      OUT("activation")),
                  -EBADMSG, "glu of 1" },
                { ONE("reshape", ", 'shape': [3]"), -EBADMSG, "2 elements do not fit" },
                { ONE("reshape", ", 'shape': [0, 0]"), -EBADMSG, "two dimensions" },
                { ONE("reshape", ", 'shape': [4096, 4096, 4096, 4096]"), -EBADMSG, "do not fit" },
                { ONE("reshape", ", 'shape': [1, 1, 1, 1, 2]"), -E2BIG, "more than 4" },
                { ONE("reshape", ", 'shape': [-2, -1]"), -EBADMSG, "'shape'" },
                { ONE("normalization", ", 'weights': '@1 2 3 -4@'"), -EBADMSG, "variance of -4" },
                { ONE("normalization", ", 'weights': '@1 2 3 4@', 'axes': [1]"), -EBADMSG, "axis 1" },
                { ONE("normalization", ", 'weights': '@1 2 3 4@', 'axes': [0, -1]"), -EBADMSG, "twice" },
                { ONE("batch_normalization", ", 'weights': '@1 1 0 0 0 0 0 0@', 'epsilon': 0"), -EBADMSG,
                  "variance of 0" },
                { ONE("layer_normalization", ", 'weights': '@1 1 0 0@', 'epsilon': 0"), -EBADMSG,
                  "epsilon of 0" },
                { ONE("layer_normalization", ", 'weights': '@1 1 0 0@', 'center': 1"), -EBADMSG,
                  "'center' is neither" },
                { ONE("rescaling", ", 'scale': [1, 2, 3]"), -EBADMSG, "3 scales" },
                { ONE("rescaling", ", 'scale': ['1']"), -EBADMSG, "'scale' is not a finite number" },
                { DOC(INPUT ", {'name': 'y', 'type': 'input', 'features': [0]}, " LAYER(
                              "reshape", "'x'", ", 'shape': [2, 1]") ", " LAYER("concatenate",
                                                                                "'y', 'reshape'", ""),
                      OUT("concatenate")),
                  -EBADMSG, "differ in shape" },
                { DOC(INPUT ", {'name': 'y', 'type': 'input', 'features': [0, 1, 0]}, " LAYER("add",
                                                                                              "'x', 'y'", ""),
                      OUT("add")),
                  -EBADMSG, "do not fit each other" },
                { DOC(INPUT ", " LAYER("concatenate", "'x', 'x'", ", 'axis': 3"), OUT("concatenate")),
                  -EBADMSG, "axis 3" },
                { DOC(INPUT, "'outputs': [{'component': 'gpu', 'layer': 'x'}]}"), -EBADMSG,
                  "component 'gpu'" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                CLEANUP(model_freep) struct model *m = NULL;
                struct err e = { "" };
                int r = load(cases[i].network, &m, &e);

                if (r != cases[i].r || !strstr(e.text, cases[i].words))
                        fail_msg("case %zu: %d, '%s' instead of %d with '%s'", i, r, e.text, cases[i].r,
                                 cases[i].words);
                assert_null(m);
        }
}

/* A chain of layers from x on, each of two inputs while it doubles. */
static void put_chain(struct buf *out, int doubling, int more, const char *rest)
{
        (void)buf_puts(out, HEAD "'layers': [{'name': 'l0', 'type': 'input', 'features': [0, 1]}");
        for (int i = 1; i <= doubling; i++)
                (void)buf_printf(out, ", {'name': 'l%d', 'type': 'concatenate', 'inputs': ['l%d', 'l%d']}", i,
                                 i - 1, i - 1);
        for (int i = doubling + 1; i <= doubling + more; i++)
                (void)buf_printf(out, ", {'name': 'l%d', 'inputs': ['l%d'], %s}", i, i - 1, rest);
        (void)buf_printf(out, "], 'outputs': [{'component': 'package', 'layer': 'l%d'}]}", doubling + more);
}

static void put_times(struct buf *out, const char *before, const char *what, int times, const char *behind)
{
        (void)buf_puts(out, before);
        for (int i = 0; i < times; i++)
                (void)buf_puts(out, what);
        (void)buf_puts(out, behind);
}

static void assert_refused(const struct buf *text, int expected, const char *words)
{
        CLEANUP(model_freep) struct model *m = NULL;
        struct err e = { "" };

        assert_int_equal(text->failed, 0);
        assert_int_equal(load(text->data, &m, &e), expected);
        if (!strstr(e.text, words))
                fail_msg("'%s' instead of '%s'", e.text, words);
}

static void bombs_are_refused_before_they_cost(void **state)
{
        CLEANUP(buf_done) struct buf text = { .max = 1 << 24 };

        (void)state;
        put_chain(&text, 40, 0, "");
        assert_refused(&text, -E2BIG, "more than 4096 elements");
        buf_clear(&text);
        put_chain(&text, 10, 60, "'type': 'activation', 'function': 'tanh'");
        assert_refused(&text, -E2BIG, "more than 1048576 multiply-adds");
        buf_clear(&text);
        put_chain(&text, 0, 300, "'type': 'identity'");
        assert_refused(&text, -E2BIG, "more than 256 elements");
        buf_clear(&text);
        put_times(&text, HEAD "'layers': [" INPUT ", {'type': 'identity', 'inputs': ['x'], 'name': '", "n",
                  200, "'}], " OUT("x"));
        assert_refused(&text, -EBADMSG, "name is empty or longer");
        buf_clear(&text);
        put_times(&text, HEAD "'layers': [" INPUT ", {'name': 'd', 'type': 'dense', 'units': 1, 'weights': '",
                  "AAAAAAAAAAAAAAAA", (1 << 20) / 3 + 1, "'}], " OUT("d"));
        assert_refused(&text, -E2BIG, "more than 1048576 parameters");
        buf_clear(&text);
        put_times(&text, "", "[", 1 << 20, "");
        assert_refused(&text, -EBADMSG, "network.json");
        buf_clear(&text);
        put_times(&text, "{'format': '", "n", 9 << 20, "'}");
        assert_refused(&text, -E2BIG, "larger than");
}

static void the_component_map_must_agree(void **state)
{
        static const struct {
                const char *metadata, *map, *words;
        } cases[] = {
                { METADATA, "{}", "no components" },
                { METADATA, "{'dram': " COMPONENT "}", "'package' is not from network.json" },
                { METADATA, "{'package': " COMPONENT ", 'dram': " COMPONENT "}",
                  "2 components, the network 1" },
                { METADATA,
                  "{'package': {'model_file': 'weight.json', 'features': ['a', 'b'], 'fe_files': []}}",
                  "not from network.json" },
                { METADATA,
                  "{'package': {'model_file': 'network.json', 'features': ['b', 'a'], 'fe_files': []}}",
                  "other features" },
                { METADATA,
                  "{'package': {'model_file': 'network.json', 'features': ['a', 'b'], 'fe_files': "
                  "['s.pkl']}}",
                  "take no fe_files" },
                { "{'model_name': 'K_0', 'model_class': 'network', 'model_file': 'KerasTrainer_0.json', "
                  "'features': "
                  "['a']}",
                  MAP, "'features' lacks 'b'" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                CLEANUP(model_freep) struct model *m = NULL;
                struct err e = { "" };

                assert_true(load_with(cases[i].metadata, cases[i].map, DOC(INPUT, OUT("x")), &m, &e) < 0);
                if (!strstr(e.text, cases[i].words))
                        fail_msg("case %zu: %s", i, e.text);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(answers_are_those_worked_out_by_hand),
                cmocka_unit_test(several_components_come_from_one_network),
                cmocka_unit_test(a_normalization_tells_the_ranges),
                cmocka_unit_test(products_are_those_of_the_plain_loop),
                cmocka_unit_test(what_is_wrong_is_refused_and_named),
                cmocka_unit_test(bombs_are_refused_before_they_cost),
                cmocka_unit_test(the_component_map_must_agree),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
