/* SPDX-License-Identifier: Apache-2.0 */
/* The product behind every dense layer. Outputs are taken eight at a time and rows four at a time, so that
 * all sums of a tile stay in registers; the matrix is packed in panels of eight columns, read in order. */
#include "model/network.h"

#include <string.h>

#define PANEL 8 /* columns */
#define TILE  4 /* rows */

typedef double lanes __attribute__((vector_size(32), aligned(8)));

size_t network_packed_size(size_t n_in, size_t n_out)
{
        return (n_out + PANEL - 1) / PANEL * PANEL * n_in;
}

void network_pack(const double *matrix, size_t n_in, size_t n_out, double *ret)
{
        for (size_t first = 0; first < n_out; first += PANEL)
                for (size_t j = 0; j < n_in; j++)
                        for (size_t o = first; o < first + PANEL; o++)
                                *ret++ = o < n_out ? matrix[j * n_out + o] : 0;
}

/* Four rows that begin at the given places (the last ones may be the same), one panel. */
static inline __attribute__((always_inline)) void tile(const double *const in[TILE], size_t n_in,
                                                       const double *panel, const double *start,
                                                       double out[TILE][PANEL])
{
        const double *x0 = in[0], *x1 = in[1], *x2 = in[2], *x3 = in[3];
        lanes a0 = *(const lanes *)start, b0 = *(const lanes *)(start + 4);
        lanes a1 = a0, b1 = b0, a2 = a0, b2 = b0, a3 = a0, b3 = b0;

        for (size_t j = 0; j < n_in; j++, panel += PANEL) {
                lanes u = *(const lanes *)panel, v = *(const lanes *)(panel + 4);

                a0 += u * x0[j];
                b0 += v * x0[j];
                a1 += u * x1[j];
                b1 += v * x1[j];
                a2 += u * x2[j];
                b2 += v * x2[j];
                a3 += u * x3[j];
                b3 += v * x3[j];
        }
        *(lanes *)out[0] = a0;
        *(lanes *)(out[0] + 4) = b0;
        *(lanes *)out[1] = a1;
        *(lanes *)(out[1] + 4) = b1;
        *(lanes *)out[2] = a2;
        *(lanes *)(out[2] + 4) = b2;
        *(lanes *)out[3] = a3;
        *(lanes *)(out[3] + 4) = b3;
}

static inline __attribute__((always_inline)) void multiply(const double *in, size_t n, size_t n_in,
                                                           const double *packed, const double *bias,
                                                           size_t n_out, double *out)
{
        for (size_t first = 0; first < n_out; first += PANEL, packed += PANEL * n_in) {
                size_t columns = n_out - first < PANEL ? n_out - first : PANEL;
                double start[PANEL] = { 0 };

                if (bias)
                        memcpy(start, bias + first, columns * sizeof(*start));
                for (size_t r = 0; r < n; r += TILE) {
                        size_t some = n - r < TILE ? n - r : TILE;
                        const double *rows[TILE];
                        double sums[TILE][PANEL];

                        for (size_t k = 0; k < TILE; k++)
                                rows[k] = in + (r + (k < some ? k : some - 1)) * n_in;
                        tile(rows, n_in, packed, start, sums);
                        for (size_t k = 0; k < some; k++)
                                if (columns == PANEL)
                                        memcpy(out + (r + k) * n_out + first, sums[k], sizeof(sums[k]));
                                else
                                        memcpy(out + (r + k) * n_out + first, sums[k],
                                               columns * sizeof(sums[k][0]));
                }
        }
}

#if defined(__x86_64__)
static __attribute__((target("avx2,fma"))) void multiply_fma(const double *in, size_t n, size_t n_in,
                                                             const double *packed, const double *bias,
                                                             size_t n_out, double *out)
{
        multiply(in, n, n_in, packed, bias, n_out, out);
}
#endif

void network_multiply(const double *in, size_t n, size_t n_in, const double *packed, const double *bias,
                      size_t n_out, double *out)
{
#if defined(__x86_64__)
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
                multiply_fma(in, n, n_in, packed, bias, n_out, out);
                return;
        }
#endif
        multiply(in, n, n_in, packed, bias, n_out, out);
}
