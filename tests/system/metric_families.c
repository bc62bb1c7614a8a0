/* SPDX-License-Identifier: Apache-2.0 */
/* metric_families kepler-0.7|kepler-0.10: every family of metrics that a collector can export, as the
 * collector itself writes them, for a machine that has everything at once. What docs/metrics.md is made from.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "collector/features.h"
#include "collector/metrics.h"
#include "collector/pod.h"

static const char *const components[] = { "package", "core", "uncore", "dram", "platform", "psys" };

static void give_sensors(struct window *w)
{
        for (size_t c = 0; c < SPLIT_N + 1; c++) {
                struct sensor *s = &w->sensors[w->n_sensors++];

                (void)snprintf(s->reading.source, sizeof(s->reading.source), "%s",
                               strcmp(components[c], "platform") != 0 ? "rapl-sysfs" : "acpi");
                (void)snprintf(s->reading.component, sizeof(s->reading.component), "%s", components[c]);
                (void)snprintf(s->reading.unit, sizeof(s->reading.unit), "0");
                s->reading.provenance = PROVENANCE_MEASURED;
                s->valid = true;
                if (c < SPLIT_N)
                        w->split[c] = (struct split){ .source = (int)c };
        }
        w->sensors[SPLIT_N] = w->sensors[SPLIT_PACKAGE];
        w->sensors[SPLIT_N].reading.provenance = PROVENANCE_ESTIMATED;
        (void)snprintf(w->sensors[SPLIT_N].reading.model, sizeof(w->sensors[0].reading.model), "Model_0 id");
}

static int give_entities(struct window *w)
{
        w->entities = calloc(ENTITY_KINDS, sizeof(struct entity *));
        w->pods = calloc(1, sizeof(*w->pods));
        if (!w->entities || !w->pods)
                return -1;
        w->cap = ENTITY_KINDS;
        w->n_pods = 1;
        for (int kind = 0; kind < ENTITY_KINDS; kind++) {
                struct entity *entity = calloc(1, sizeof(*entity));

                if (!entity)
                        return -1;
                entity->kind = (enum entity_kind)kind;
                entity->shown = true;
                (void)snprintf(entity->key, sizeof(entity->key), "1");
                w->entities[w->n++] = entity;
        }
        return 0;
}

static void give_estimator(struct estimator_stats *s)
{
        struct estimator_report *r = &s->report;

        s->up = true;
        r->n_bounds = r->n_models = 1;
        r->models[0].energy_source = energy_sources[0].name;
        r->models[0].output_type = output_types[0];
}

static int write_all(enum metrics_style style, struct buf *out)
{
        static const struct cpu_frequency cpu = { .hertz = 1 };
        static const struct kubelet_stats kubelet = { .answers = 1 };
        static struct estimator_stats estimator;
        static struct machine machine;
        CLEANUP(window_freep) struct window *w = NULL;
        struct collector_stats stats = {
                .feature_source = "bpf",
                .cpu_info = "kepler_node_cpu_info{processor=\"\",vendor_id=\"\",model_name=\"\","
                            "physical_id=\"\",core_id=\"\"} 1\n",
                .ticks = 1,
                .overhead.n = 1,
                .kubelet = &kubelet,
                .estimator = &estimator
        };

        if (window_new(&w) < 0)
                return -1;
        machine.spec.cores = 1;
        w->last_ns = NS_PER_S;
        for (int f = 0; f < FEATURE_N; f++)
                w->measured[f] = true;
        w->frequency = (struct frequency_reading){ .cpus = &cpu, .n_cpus = 1 };
        if (window_restore_band(w, 1, 1) < 0 || give_entities(w) < 0)
                return -1;
        give_sensors(w);
        give_estimator(&estimator);
        metrics_write(w, &machine, &stats, style, out);
        return out->failed;
}

int main(int argc, char **argv)
{
        bool new_names = argc == 2 && !strcmp(argv[1], "kepler-0.10");
        CLEANUP(buf_done) struct buf text = { .max = METRICS_TEXT_MAX };

        if (!new_names && (argc != 2 || strcmp(argv[1], "kepler-0.7") != 0)) {
                fputs("usage: metric_families kepler-0.7|kepler-0.10\n", stderr);
                return 2;
        }
        if (write_all(new_names ? METRICS_KEPLER_010 : METRICS_KEPLER_07, &text) < 0)
                return 1;
        return fwrite(text.data, 1, text.size, stdout) == text.size ? 0 : 1;
}
