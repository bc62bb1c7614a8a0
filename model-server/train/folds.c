/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/train/folds.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"

const char protocol_letters[PROTOCOL_N + 1] = "RSBWHF";

void folds_done(struct folds *f)
{
        for (size_t k = 0; k < f->n; k++)
                free(f->mark[k]);
        f->n = 0;
}

uint64_t folds_random(uint64_t *state)
{
        uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

        z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
        return z ^ z >> 31;
}

static void shuffle(size_t *v, size_t n, uint64_t seed)
{
        for (size_t i = n; i > 1; i--) {
                size_t j = folds_random(&seed) % i, kept = v[i - 1];

                v[i - 1] = v[j];
                v[j] = kept;
        }
}

static int add_fold(struct folds *f, size_t rows, struct err *e)
{
        if (f->n == FOLDS_MAX)
                return err_set(e, -E2BIG, "more than %d folds", FOLDS_MAX);
        f->mark[f->n] = calloc(rows + 1, 1);
        if (!f->mark[f->n])
                return err_set(e, -ENOMEM, "out of memory");
        f->n++;
        return 0;
}

static size_t *numbers(size_t n)
{
        size_t *v = reallocarray(NULL, n + 1, sizeof(*v));

        for (size_t i = 0; v && i < n; i++)
                v[i] = i;
        return v;
}

static int fold_random(const struct labels *l, struct folds *f, struct err *e)
{
        size_t held = l->n / FOLDS_TENTHS;

        for (uint64_t draw = 0; draw < FOLDS_RANDOM && held > 0; draw++) {
                CLEANUP(freep) size_t *order = numbers(l->n);
                int r = order ? add_fold(f, l->n, e) : err_set(e, -ENOMEM, "out of memory");

                if (r < 0)
                        return r;
                shuffle(order, l->n, draw + 1);
                for (size_t i = 0; i < held; i++)
                        f->mark[f->n - 1][order[i]] = 1;
        }
        return 0;
}

/* One fold for each value of a label, in ascending order; none when there is only one value. */
static int fold_by_label(const int *label, size_t n, struct folds *f, struct err *e)
{
        int last = -1, least;
        size_t values = 0;

        if (!label)
                return 0;
        do {
                int r;

                least = INT32_MAX;
                for (size_t i = 0; i < n; i++)
                        if (label[i] > last && label[i] < least)
                                least = label[i];
                if (least == INT32_MAX)
                        break;
                r = add_fold(f, n, e);
                if (r < 0)
                        return r;
                for (size_t i = 0; i < n; i++)
                        f->mark[f->n - 1][i] = label[i] == least;
                last = least;
                values++;
        } while (least < INT32_MAX);
        if (values < 2)
                folds_done(f);
        return 0;
}

static int fold_blocks(size_t n, size_t k, struct folds *f, struct err *e)
{
        for (size_t b = 0; b < k && n >= 2 * k; b++) {
                int r = add_fold(f, n, e);

                if (r < 0)
                        return r;
                for (size_t i = 0; i < n; i++)
                        f->mark[b][i] = i * k / n == b;
        }
        return 0;
}

int folds_by_segment(const int *segment, size_t n, size_t k, uint64_t seed, struct folds *ret, struct err *e)
{
        CLEANUP(folds_done) struct folds f = { 0 };
        CLEANUP(freep) size_t *order = NULL, *place = NULL;
        size_t segments = 0;
        int r;

        for (size_t i = 0; i < n; i++)
                if (segment[i] >= 0 && (size_t)segment[i] >= segments)
                        segments = (size_t)segment[i] + 1;
        k = segments < k ? segments : k;
        order = numbers(segments);
        place = numbers(segments);
        if (!order || !place)
                return err_set(e, -ENOMEM, "out of memory");
        shuffle(order, segments, seed + 1);
        for (size_t s = 0; s < segments; s++)
                place[order[s]] = s;
        for (size_t b = 0; k >= 2 && b < k; b++) {
                size_t held = 0;

                r = add_fold(&f, n, e);
                if (r < 0)
                        return r;
                for (size_t i = 0; i < n; i++)
                        held += f.mark[f.n - 1][i] = segment[i] >= 0 && place[segment[i]] % k == b;
                if (held == 0) /* numbers that this part of a recording does not have */
                        free(f.mark[--f.n]);
        }
        *ret = f;
        f.n = 0;
        return 0;
}

int folds_make(enum protocol protocol, const struct labels *l, struct folds *ret, struct err *e)
{
        CLEANUP(folds_done) struct folds f = { 0 };
        int r = 0;

        switch (protocol) {
        case PROTOCOL_R:
                r = fold_random(l, &f, e);
                break;
        case PROTOCOL_S:
                r = l->s_fold ? fold_by_label(l->s_fold, l->n, &f, e)
                              : folds_by_segment(l->segment, l->n, FOLDS_TENTHS, 0, &f, e);
                break;
        case PROTOCOL_B:
                r = fold_blocks(l->n, FOLDS_TENTHS, &f, e);
                break;
        case PROTOCOL_W:
                r = fold_by_label(l->workload, l->n, &f, e);
                break;
        case PROTOCOL_H:
                r = fold_blocks(l->n, 2, &f, e);
                break;
        case PROTOCOL_F:
                r = fold_by_label(l->frequency, l->n, &f, e);
                break;
        default:
                break;
        }
        if (r < 0)
                return r;
        *ret = f;
        f.n = 0;
        return 0;
}
