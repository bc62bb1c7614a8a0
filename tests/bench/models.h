/* SPDX-License-Identifier: Apache-2.0 */
/* Models like those that Kepler publishes, made here: four components (or platform), two features, 100 trees,
 * 150 rows, 100 support vectors; trees of core and uncore are single leaves, as in every published model,
 * since nobody measures these two. For benchmarks and load tests. */
#pragma once

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file.h"
#include "common/hash.h"
#include "tests/unit/model/pickles.h"

#define MADE_TREES   100
#define MADE_ROWS    150
#define MADE_VECTORS 100
#define MADE_MAX     8 /* entries */

enum made_kind { MADE_SGD, MADE_GBR, MADE_XGB, MADE_KNN, MADE_SVR, MADE_KINDS };
static const char *const made_names[MADE_KINDS] = { "sgd", "gbr", "xgb", "knn", "svr" };
static const char *const made_trainers[MADE_KINDS] = { "SGDRegressor", "GradientBoostingRegressor",
                                                       "XgboostFit", "KNeighborsRegressor", "SVRRegressor" };
static const double made_scale[2] = { 8000, 4000 };

struct made {
        struct hash_entry entries[MADE_MAX];
        char names[MADE_MAX][64];
        struct buf data[MADE_MAX];
        size_t n;
};

static inline void made_done(struct made *m)
{
        for (size_t i = 0; i < m->n; i++)
                buf_done(&m->data[i]);
}

/* A number in [0, 1) that is the same every time. */
static inline double made_random(uint32_t *state)
{
        *state = *state * 1664525 + 1013904223;
        return (*state >> 8) / 16777216.0;
}

struct made_node {
        int64_t left, right, feature;
        double threshold, impurity;
        int64_t samples;
        double weight;
};

/* A tree of at most `levels`, its nodes behind each other; returns the number of nodes. */
static inline int made_tree(struct made_node *nodes, int n, int levels, double keep, uint32_t *state)
{
        int me = n++;

        nodes[me] = (struct made_node){ -1, -1, -2, made_random(state) * 4 - 2, 0, 1, 1 };
        if (levels == 0 || made_random(state) > keep)
                return n;
        nodes[me].feature = made_random(state) < 0.8 ? 0 : 1;
        nodes[me].threshold = made_random(state);
        nodes[me].left = n;
        n = made_tree(nodes, n, levels - 1, keep, state);
        nodes[me].right = n;
        return made_tree(nodes, n, levels - 1, keep, state);
}

/* Trees of three levels that add nothing to `watts`, or something when `flat` is not asked for. */
static inline void made_boosting(struct buf *b, double watts, bool flat, int levels, uint32_t *state)
{
        put_begin(b);
        put_object(b, "sklearn.ensemble._gb", "GradientBoostingRegressor");
        put_text(b, "n_features_in_");
        put_int(b, 2);
        put_text(b, "learning_rate");
        put_float(b, 0.1);
        put_text(b, "init_");
        put_object(b, "sklearn.dummy", "DummyRegressor");
        put_attr_array(b, "constant_", &watts, 1, 1);
        put_object_end(b);
        put_text(b, "estimators_");
        PUT(b, "](");
        for (int t = 0; t < MADE_TREES; t++) {
                struct made_node nodes[16];
                double values[16] = { 0 };
                int n = made_tree(nodes, 0, levels, 1, state);

                for (int i = 0; i < n; i++)
                        values[i] = flat ? 0 : nodes[i].threshold;
                put_object(b, "sklearn.tree._classes", "DecisionTreeRegressor");
                put_text(b, "tree_");
                put_class(b, "sklearn.tree._tree", "Tree");
                PUT(b, ")R}(");
                put_text(b, "node_count");
                put_int(b, n);
                put_text(b, "nodes");
                put_reconstructed(b, n);
                if (t == 0) { /* one type for all, as Python's memo has it */
                        put_node_dtype(b);
                        PUT(b, "q\0");
                } else {
                        PUT(b, "h\0");
                }
                PUT(b, "\x89"
                       "B");
                for (int i = 0; i < 4; i++)
                        put_byte(b, (uint32_t)((size_t)n * sizeof(nodes[0])) >> 8 * i & 0xff);
                put(b, (const char *)nodes, (size_t)n * sizeof(nodes[0]));
                PUT(b, "tb");
                put_attr_array(b, "values", values, n, 0);
                put_object_end(b);
                put_object_end(b);
        }
        PUT(b, "e");
        put_object_end(b);
        put_byte(b, '.');
}

static inline void made_neighbours(struct buf *b, double watts, uint32_t *state)
{
        double rows[2 * MADE_ROWS], y[MADE_ROWS];

        for (int i = 0; i < MADE_ROWS; i++) {
                rows[2 * i] = made_random(state);
                rows[2 * i + 1] = made_random(state);
                y[i] = watts * (1 + rows[2 * i]);
        }
        put_begin(b);
        put_object(b, "sklearn.neighbors._regression", "KNeighborsRegressor");
        put_text(b, "n_neighbors");
        put_int(b, 6);
        put_text(b, "weights");
        put_text(b, "uniform");
        put_text(b, "effective_metric_");
        put_text(b, "euclidean");
        put_text(b, "_fit_method");
        put_text(b, "brute");
        put_attr_array(b, "_fit_X", rows, MADE_ROWS, 2);
        put_attr_array(b, "_y", y, MADE_ROWS, 0);
        put_object_end(b);
        put_byte(b, '.');
}

static inline void made_vectors(struct buf *b, double watts, uint32_t *state)
{
        double vectors[2 * MADE_VECTORS], dual[MADE_VECTORS];

        for (int i = 0; i < MADE_VECTORS; i++) {
                vectors[2 * i] = made_random(state);
                vectors[2 * i + 1] = made_random(state);
                dual[i] = made_random(state) * 2 - 1;
        }
        put_begin(b);
        put_object(b, "sklearn.svm._classes", "SVR");
        put_text(b, "kernel");
        put_text(b, "rbf");
        put_attr_array(b, "support_vectors_", vectors, MADE_VECTORS, 2);
        put_attr_array(b, "_dual_coef_", dual, 1, MADE_VECTORS);
        put_attr_array(b, "_intercept_", &watts, 1, 0);
        put_text(b, "_gamma");
        put_float(b, 2.5);
        put_object_end(b);
        put_byte(b, '.');
}

static inline void made_xgboost_column(struct buf *b, const char *name, const struct made_node *nodes, int n,
                                       int which)
{
        (void)buf_printf(b, "\"%s\": [", name);
        for (int i = 0; i < n; i++) {
                const struct made_node *node = &nodes[i];
                double v = which == 0   ? (double)node->left
                           : which == 1 ? (double)node->right
                           : which == 2 ? (double)(node->feature > 0)
                           : which == 3 ? node->threshold
                                        : 0;

                (void)buf_printf(b, "%s%.8g", i > 0 ? ", " : "", v);
        }
        (void)buf_puts(b, which < 4 ? "], " : "]");
}

/* Trees of up to six levels, about 45 nodes each. */
static inline void made_xgboost(struct buf *b, double watts, int levels, uint32_t *state)
{
        static const char *const columns[] = { "left_children", "right_children", "split_indices",
                                               "split_conditions", "default_left" };

        buf_init(b, (size_t)16 << 20);
        (void)buf_printf(
                b,
                "{\"learner\": {\"learner_model_param\": {\"base_score\": \"%g\", \"num_feature\": \"2\"}, "
                "\"objective\": {\"name\": \"reg:squarederror\"}, \"gradient_booster\": {\"name\": "
                "\"gbtree\", \"model\": {\"trees\": [",
                watts);
        for (int t = 0; t < MADE_TREES; t++) {
                struct made_node nodes[128];
                int n = made_tree(nodes, 0, levels, 0.85, state);

                (void)buf_puts(b, t > 0 ? ", {" : "{");
                for (int c = 0; c < 5; c++)
                        made_xgboost_column(b, columns[c], nodes, n, c);
                (void)buf_puts(b, "}");
        }
        (void)buf_puts(b, "]}}}, \"version\": [2, 1, 1]}");
}

static inline void made_part(struct buf *b, enum made_kind kind, double watts, bool flat, bool measured,
                             uint32_t *state)
{
        const double coefficients[2] = { watts, watts / 10 };

        switch (kind) {
        case MADE_GBR:
                made_boosting(b, watts, flat, measured ? 3 : 0, state);
                break;
        case MADE_XGB:
                made_xgboost(b, watts, measured ? 6 : 0, state);
                break;
        case MADE_KNN:
                made_neighbours(b, watts, state);
                break;
        case MADE_SVR:
                made_vectors(b, watts, state);
                break;
        default:
                put_linear(b, coefficients, 2, watts);
        }
}

static inline struct buf *made_add(struct made *m, const char *name, const char *suffix)
{
        (void)snprintf(m->names[m->n], sizeof(m->names[0]), "%s%s", name, suffix);
        buf_init(&m->data[m->n], (size_t)16 << 20);
        return &m->data[m->n++];
}

/* A model called <trainer>Trainer_<number>. `flat`: it says `number` watts whatever it is asked (MADE_GBR).
 */
static inline void made_model(struct made *m, enum made_kind kind, const char *output_type, bool platform,
                              int number, bool flat)
{
        static const char *const components[] = { "package", "core", "uncore", "dram", "platform" };
        const char *extension = kind == MADE_XGB ? ".json" : ".pkl";
        size_t first = platform ? 4 : 0, end = platform ? 5 : 4;
        uint32_t state = (uint32_t)number + 1;
        struct buf *map;

        *m = (struct made){ 0 };
        (void)buf_printf(
                made_add(m, "metadata", ".json"),
                "{\"model_name\": \"%sTrainer_%d\", \"model_class\": \"%s\", \"model_file\": \"map.json\", "
                "\"features\": [\"bpf_cpu_time_ms\", \"bpf_page_cache_hit\"], \"fe_files\": [], "
                "\"output_type\": \"%s\", \"mae\": 2.5}",
                made_trainers[kind], number, kind == MADE_XGB ? "xgboost" : "scikit", output_type);
        put_max_abs(made_add(m, "scaler", ".pkl"), made_scale, 2);
        map = made_add(m, "map", ".json");
        for (size_t c = first; c < end; c++) {
                (void)buf_printf(map,
                                 "%s\"%s\": {\"model_file\": \"%s%s\", \"features\": [\"bpf_cpu_time_ms\", "
                                 "\"bpf_page_cache_hit\"], \"fe_files\": [\"scaler.pkl\"]}",
                                 c == first ? "{" : ", ", components[c], components[c], extension);
                made_part(made_add(m, components[c], extension), kind, number, flat,
                          flat || (c != 1 && c != 2), &state);
        }
        if (buf_puts(map, "}") < 0)
                abort();
        for (size_t i = 0; i < m->n; i++)
                m->entries[i] = (struct hash_entry){ m->names[i], m->data[i].data, m->data[i].size };
}

/* Let the store name this model: <store>/<place>/archive/current. */
static inline int made_point(const char *store, const char *place, const char *id)
{
        char path[600], temporary[600];

        (void)snprintf(path, sizeof(path), "%s/%s/archive/current", store, place);
        (void)snprintf(temporary, sizeof(temporary), "%s/%s/archive/.new", store, place);
        (void)unlink(temporary);
        return symlink(id, temporary) < 0 || rename(temporary, path) < 0 ? -1 : 0;
}

/* Write the model's directory. */
static inline int made_install(const char *store, const char *place, struct made *m,
                               char ret_id[HASH_HEX_SIZE])
{
        char path[600];

        if (hash_entries_hex(m->entries, m->n, ret_id) < 0)
                return -1;
        (void)snprintf(path, sizeof(path), "%s/%s/archive/%s", store, place, ret_id);
        if (file_mkdirs(path, 0755, NULL) < 0)
                return -1;
        for (size_t i = 0; i < m->n; i++) {
                (void)snprintf(path, sizeof(path), "%s/%s/archive/%s/%s", store, place, ret_id, m->names[i]);
                if (file_write_atomic(path, m->data[i].data, m->data[i].size, 0644, NULL) < 0)
                        return -1;
        }
        return 0;
}
