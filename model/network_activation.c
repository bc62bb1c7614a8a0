/* SPDX-License-Identifier: Apache-2.0 */
/* Activation functions, by the formulas of Keras 3 (keras/src/activations, keras/src/backend/numpy/nn.py).
 * What Keras 2 and TensorFlow.js define otherwise is a parameter: hard_sigmoid's slope. */
#include "model/network.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define EACH(name, expression)                                                                               \
        static void name(double *v, size_t n, const double *p)                                               \
        {                                                                                                    \
                (void)p;                                                                                     \
                for (size_t i = 0; i < n; i++) {                                                             \
                        double x = v[i];                                                                     \
                                                                                                             \
                        v[i] = (expression);                                                                 \
                }                                                                                            \
        }                                                                                                    \
        struct each_semicolon_##name

static double logistic(double x)
{
        return 1 / (1 + exp(-x));
}

static double softplus_of(double x) /* log(1 + e^x) where e^x is too large, too */
{
        return fmax(x, 0) + log1p(exp(-fabs(x)));
}

/* A NaN stays one, where fmin() and fmax() would lose it. */
static double clip(double x, double low, double high)
{
        return x < low ? low : x > high ? high : x;
}

/* selu's own constants, as Keras has them */
#define SELU_ALPHA 1.6732632423543772848170429916717
#define SELU_SCALE 1.0507009873554804934193349852946
#define SQRT_HALF  0.70710678118654752440
#define SQRT_2_PI  0.79788456080286535588 /* sqrt(2 / pi) */

EACH(relu, x<p[2] ? p[1] * (x - p[2]) : x> p[0] ? p[0] : x);
EACH(elu, x > 0 ? x : p[0] * expm1(x));
EACH(celu, x > 0 ? x : p[0] * expm1(x / p[0]));
EACH(selu, SELU_SCALE *(x > 0 ? x : SELU_ALPHA * expm1(x)));
EACH(gelu, 0.5 * x * (1 + erf(x * SQRT_HALF)));
EACH(gelu_tanh, 0.5 * x * (1 + tanh(SQRT_2_PI * (x + 0.044715 * x * x * x))));
EACH(sigmoid, logistic(x));
EACH(hard_sigmoid, clip(p[0] * x + 0.5, 0, 1));
EACH(hard_silu, x *clip(p[0] * x + 0.5, 0, 1));
EACH(sparse_sigmoid, clip((x + 1) / 2, 0, 1));
EACH(tanh_of, tanh(x));
EACH(hard_tanh, clip(x, -1, 1));
EACH(tanh_shrink, x - tanh(x));
EACH(softplus, softplus_of(x));
EACH(softsign, x / (1 + fabs(x)));
EACH(silu, x / (1 + exp(-x)));
EACH(mish, x *tanh(softplus_of(x)));
EACH(exponential, exp(x));
EACH(log_sigmoid, -softplus_of(-x));
EACH(sparse_plus, x <= -1 ? 0 : x >= 1 ? x : (x + 1) * (x + 1) / 4);
EACH(squareplus, (x + sqrt(x * x + p[0])) / 2);
EACH(soft_shrink, x > p[0] ? x - p[0] : x < -p[0] ? x + p[0] : x * 0);
EACH(hard_shrink, fabs(x) <= p[0] ? 0 : x);
EACH(threshold, x <= p[0] ? p[1] : x);

/* The plain relu is most networks' only function: four at a time. */
static void relu_plain(double *v, size_t n, const double *p)
{
        typedef double lanes __attribute__((vector_size(32), aligned(8)));
        typedef int64_t masks __attribute__((vector_size(32), aligned(8)));
        size_t i = 0;

        (void)p;
        for (; i + 4 <= n; i += 4) {
                lanes x = *(const lanes *)(v + i);
                masks negative = (masks)(x < (lanes){ 0 });

                *(lanes *)(v + i) = (lanes)(~negative & (masks)x);
        }
        for (; i < n; i++)
                v[i] = v[i] < 0 ? 0 : v[i];
}

static double largest(const double *in, size_t n)
{
        double most = in[0];

        for (size_t i = 1; i < n; i++)
                most = in[i] > most ? in[i] : most;
        return most;
}

static void softmax(const double *in, double *out, size_t n, const double *p)
{
        double most = largest(in, n), sum = 0;

        (void)p;
        for (size_t i = 0; i < n; i++)
                sum += out[i] = exp(in[i] - most);
        for (size_t i = 0; i < n; i++)
                out[i] /= sum;
}

static void log_softmax(const double *in, double *out, size_t n, const double *p)
{
        double most = largest(in, n), sum = 0;

        (void)p;
        for (size_t i = 0; i < n; i++)
                sum += exp(in[i] - most);
        sum = log(fmax(sum, 1)); /* the largest's part is 1; a NaN comes back from in[i] */
        for (size_t i = 0; i < n; i++)
                out[i] = in[i] - most - sum;
}

/* Those above the threshold, less the threshold, sum to 1: drop who is below what the rest would give. */
static void sparsemax(const double *in, double *out, size_t n, const double *p)
{
        double threshold = -DBL_MAX;
        size_t kept = n + 1;

        (void)p;
        for (;;) {
                size_t above = 0;
                double sum = 0;

                for (size_t i = 0; i < n; i++)
                        if (in[i] > threshold) {
                                sum += in[i];
                                above++;
                        }
                if (above == 0 || above >= kept)
                        break;
                kept = above;
                threshold = (sum - 1) / (double)above;
        }
        for (size_t i = 0; i < n; i++)
                out[i] = in[i] < threshold ? 0 : in[i] - threshold;
}

static void glu(const double *in, double *out, size_t n, const double *p)
{
        (void)p;
        for (size_t i = 0; i < n / 2; i++)
                out[i] = in[i] * logistic(in[n / 2 + i]);
}

#define PARAMETERS(...)                                                                                      \
        (const struct network_parameter[])                                                                   \
        {                                                                                                    \
                __VA_ARGS__,                                                                                 \
                {                                                                                            \
                        0                                                                                    \
                }                                                                                            \
        }
#define ANY(name, otherwise)                                                                                 \
        {                                                                                                    \
                name, otherwise, -DBL_MAX, DBL_MAX                                                           \
        }
#define POSITIVE(name, otherwise)                                                                            \
        {                                                                                                    \
                name, otherwise, DBL_MIN, DBL_MAX                                                            \
        }

static const struct network_activation activations[] = {
        { "relu", relu, NULL,
          PARAMETERS({ "max_value", INFINITY, 0, INFINITY }, ANY("negative_slope", 0), ANY("threshold", 0)),
          false },
        { "elu", elu, NULL, PARAMETERS(ANY("alpha", 1)), false },
        { "celu", celu, NULL, PARAMETERS(POSITIVE("alpha", 1)), false },
        { "selu", selu, NULL, NULL, false },
        { "gelu", gelu, NULL, NULL, false },
        { "gelu_tanh", gelu_tanh, NULL, NULL, false },
        { "sigmoid", sigmoid, NULL, NULL, false },
        { "hard_sigmoid", hard_sigmoid, NULL, PARAMETERS(POSITIVE("slope", NAN)), false },
        { "hard_silu", hard_silu, NULL, PARAMETERS(POSITIVE("slope", NAN)), false },
        { "sparse_sigmoid", sparse_sigmoid, NULL, NULL, false },
        { "tanh", tanh_of, NULL, NULL, false },
        { "hard_tanh", hard_tanh, NULL, NULL, false },
        { "tanh_shrink", tanh_shrink, NULL, NULL, false },
        { "softplus", softplus, NULL, NULL, false },
        { "softsign", softsign, NULL, NULL, false },
        { "silu", silu, NULL, NULL, false },
        { "mish", mish, NULL, NULL, false },
        { "exponential", exponential, NULL, NULL, false },
        { "log_sigmoid", log_sigmoid, NULL, NULL, false },
        { "sparse_plus", sparse_plus, NULL, NULL, false },
        { "squareplus", squareplus, NULL, PARAMETERS({ "b", 4, 0, DBL_MAX }), false },
        { "soft_shrink", soft_shrink, NULL, PARAMETERS({ "threshold", 0.5, 0, DBL_MAX }), false },
        { "hard_shrink", hard_shrink, NULL, PARAMETERS({ "threshold", 0.5, 0, DBL_MAX }), false },
        { "threshold", threshold, NULL, PARAMETERS(ANY("threshold", NAN), ANY("value", NAN)), false },
        { "softmax", NULL, softmax, NULL, false },
        { "log_softmax", NULL, log_softmax, NULL, false },
        { "sparsemax", NULL, sparsemax, NULL, false },
        { "glu", NULL, glu, NULL, true },
};

const struct network_activation *network_activation_find(const char *name)
{
        for (size_t i = 0; i < ARRAY_SIZE(activations); i++)
                if (!strcmp(activations[i].name, name))
                        return &activations[i];
        return NULL;
}

void network_activation_run(const struct network_activation *f, double *x, size_t n, const double *p)
{
        if (f->run == relu && isinf(p[0]) && p[1] == 0 && p[2] == 0)
                relu_plain(x, n, p);
        else
                f->run(x, n, p);
}
