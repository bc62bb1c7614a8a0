/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/learn/dataset.h"

#include <errno.h>
#include <math.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "model-server/learn/blob.h"

const char *const isolator_names[ISOLATORS_N + 1] = { "none", "min", "profile", NULL };

void dataset_done(struct dataset *d)
{
        for (size_t i = 0; i < d->nodes_n; i++)
                free(d->nodes[i]);
        free(d->nodes);
        free(d->rows);
        *d = (struct dataset){ 0 };
}

int dataset_node(struct dataset *d, const char *node_id, struct err *e)
{
        char **nodes;

        for (size_t i = d->nodes_n; i > 0; i--)
                if (!strcmp(d->nodes[i - 1], node_id))
                        return (int)(i - 1);
        nodes = realloc(d->nodes, (d->nodes_n + 1) * sizeof(*nodes));
        if (!nodes)
                return err_set(e, -ENOMEM, "out of memory");
        d->nodes = nodes;
        nodes[d->nodes_n] = strdup(node_id);
        return nodes[d->nodes_n] ? (int)d->nodes_n++ : err_set(e, -ENOMEM, "out of memory");
}

int dataset_add(struct dataset *d, const struct example *example, struct err *e)
{
        if (d->n == d->cap) {
                size_t cap = d->cap ? 2 * d->cap : 256;
                struct example *rows = realloc(d->rows, cap * sizeof(*rows));

                if (!rows)
                        return err_set(e, -ENOMEM, "out of memory");
                d->rows = rows;
                d->cap = cap;
        }
        d->rows[d->n++] = *example;
        return 0;
}

static uint64_t capped_sum(const uint64_t *counts, size_t n, uint64_t cap)
{
        uint64_t sum = 0;

        for (size_t i = 0; i < n; i++)
                sum += counts[i] < cap ? counts[i] : cap;
        return sum;
}

/* The largest cap for which all nodes together, and each of them in relation to that, are within bounds. A
 * share of less than 1/n could be kept by nobody. */
void dataset_caps(const uint64_t *counts, size_t n, double node_share, uint64_t max_rows, uint64_t *ret)
{
        double share = fmax(node_share, n ? 1.0 / (double)n : 1);
        uint64_t low = DATASET_NODE_FREE, high = low;

        for (size_t i = 0; i < n; i++)
                high = counts[i] > high ? counts[i] : high;
        while (low < high) {
                uint64_t cap = low + (high - low + 1) / 2, sum = capped_sum(counts, n, cap);

                if (sum <= max_rows && (double)cap <= share * (double)sum + 1e-9)
                        low = cap;
                else
                        high = cap - 1;
        }
        for (size_t i = 0; i < n; i++)
                ret[i] = counts[i] < low ? counts[i] : low;
}

bool dataset_takes(uint64_t turn, uint64_t count, uint64_t cap)
{
        return cap >= count || (turn + 1) * cap / count > turn * cap / count;
}

bool example_features(const struct example *example, int group, double *values)
{
        const struct feature_group *g = &feature_groups[group];

        for (int j = 0; j < group_features_n(g); j++) {
                int i = feature_find(g->features[j]);

                if (i < 0 || !(example->row.has_feature & 1u << i))
                        return false;
                values[j] = example->row.features[i];
        }
        return true;
}

int dataset_hash(const struct dataset *d, char ret[HASH_HEX_SIZE])
{
        crypto_hash_sha256_state state;
        unsigned char hash[crypto_hash_sha256_BYTES];
        struct buf text;

        buf_init(&text, 4096);
        (void)crypto_hash_sha256_init(&state);
        for (size_t i = 0; i < d->n; i++) {
                const struct row *row = &d->rows[i].row;

                buf_clear(&text);
                (void)buf_printf(&text, "%s %lld %lld ", d->nodes[d->rows[i].node], (long long)row->start_ms,
                                 (long long)row->end_ms);
                (void)row_write_features(row, &text);
                (void)row_write_watts(row, &text); /* failure is sticky */
                (void)crypto_hash_sha256_update(&state, (const unsigned char *)text.data, text.size);
                if (text.failed)
                        break;
        }
        (void)crypto_hash_sha256_final(&state, hash);
        (void)sodium_bin2hex(ret, HASH_HEX_SIZE, hash, sizeof(hash));
        buf_done(&text);
        return text.failed;
}

void dataset_subtract(struct dataset *d, const double watts[COMPONENT_N])
{
        for (size_t i = 0; i < d->n; i++)
                for (int c = 0; c < COMPONENT_N; c++)
                        d->rows[i].row.watts[c] = fmax(0, d->rows[i].row.watts[c] - watts[c]);
}

void dataset_subtract_min(struct dataset *d)
{
        for (size_t node = 0; node < d->nodes_n; node++) {
                double min[COMPONENT_N];

                for (int c = 0; c < COMPONENT_N; c++)
                        min[c] = INFINITY;
                for (size_t i = 0; i < d->n; i++)
                        for (int c = 0; c < COMPONENT_N; c++)
                                if (d->rows[i].node == (int)node && d->rows[i].row.has_watts & 1u << c)
                                        min[c] = fmin(min[c], d->rows[i].row.watts[c]);
                for (size_t i = 0; i < d->n; i++)
                        for (int c = 0; c < COMPONENT_N; c++)
                                if (d->rows[i].node == (int)node && d->rows[i].row.has_watts & 1u << c)
                                        d->rows[i].row.watts[c] -= min[c];
        }
}
