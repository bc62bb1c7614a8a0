/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/train/table.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int table_new(size_t n, const char *const *features, size_t p, struct table *ret, struct err *e)
{
        struct table t = { .n = n, .p = p };

        if (n > TABLE_ROWS_MAX || p > TABLE_FEATURES_MAX)
                return err_set(e, -E2BIG, "%zu rows of %zu features are more than %zu of %d", n, p,
                               TABLE_ROWS_MAX, TABLE_FEATURES_MAX);
        memcpy(t.features, features, p * sizeof(*features));
        t.x = calloc(n * p + 1, sizeof(*t.x));
        t.y = calloc(n + 1, sizeof(*t.y));
        t.segment = calloc(n + 1, sizeof(*t.segment));
        if (!t.x || !t.y || !t.segment) {
                table_done(&t);
                return err_set(e, -ENOMEM, "out of memory");
        }
        *ret = t;
        return 0;
}

void table_done(struct table *t)
{
        free(t->x);
        free(t->y);
        free(t->segment);
        *t = (struct table){ 0 };
}

int table_select(const struct table *t, const unsigned char *mark, bool wanted, const size_t *columns,
                 size_t p, struct table *ret, struct err *e)
{
        const char *features[TABLE_FEATURES_MAX];
        size_t all[TABLE_FEATURES_MAX], n = 0;
        struct table s;
        int r;

        for (size_t i = 0; i < t->n; i++)
                n += !mark || mark[i] == wanted;
        for (size_t j = 0; !columns && j < t->p; j++)
                all[j] = j;
        if (!columns) {
                columns = all;
                p = t->p;
        }
        for (size_t j = 0; j < p; j++)
                features[j] = t->features[columns[j]];
        r = table_new(n, features, p, &s, e);
        if (r < 0)
                return r;
        n = 0;
        for (size_t i = 0; i < t->n; i++) {
                if (mark && mark[i] != wanted)
                        continue;
                for (size_t j = 0; j < p; j++)
                        s.x[n * p + j] = t->x[i * t->p + columns[j]];
                s.y[n] = t->y[i];
                s.segment[n++] = t->segment[i];
        }
        *ret = s;
        return 0;
}

int table_find(const struct table *t, const char *feature)
{
        for (size_t j = 0; j < t->p; j++)
                if (!strcmp(t->features[j], feature))
                        return (int)j;
        return -1;
}

bool table_has_prev(const struct table *t)
{
        for (size_t j = 0; j < t->p; j++)
                if (!strncmp(t->features[j], PREV_PREFIX, strlen(PREV_PREFIX)))
                        return true;
        return false;
}

double table_mean(const double *v, size_t n)
{
        double sum = 0;

        for (size_t i = 0; i < n; i++)
                sum += v[i];
        return n > 0 ? sum / (double)n : 0;
}

double table_sd(const double *v, size_t n)
{
        double mean = table_mean(v, n), sum = 0;

        for (size_t i = 0; i < n; i++)
                sum += (v[i] - mean) * (v[i] - mean);
        return n > 0 ? sqrt(sum / (double)n) : 0;
}
