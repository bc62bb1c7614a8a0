/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/recording.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "common/file.h"
#include "schema/vocabulary.h"

#define PATH_MAX_HERE 4096
#define LOAD_SHARE    0.2 /* of the way from idle to busy: above it there is load */
#define GAP_STEPS     3   /* so many steps without a row: what was before is not the previous row */

/* ---- files ---- */

static void set_done(struct recording_set *s)
{
        for (size_t j = 0; j < TABLE_FEATURES_MAX; j++)
                free(s->names[j]);
        for (size_t i = 0; i < s->n_components; i++)
                free(s->components[i].watts);
        table_done(&s->table);
        free(s->path);
        free(s->time);
        free(s->s_fold);
        free(s->workload);
        free(s->frequency);
        free(s->active);
}

void recording_free(struct recording *r)
{
        if (!r)
                return;
        for (size_t i = 0; i < r->n_sets; i++)
                set_done(&r->sets[i]);
        for (size_t i = 0; i < r->n_dynamic; i++)
                set_done(&r->dynamic[i]);
        free(r->sets);
        free(r->dynamic);
        csv_free(r->published);
        csv_free(r->recomputed);
        free(r);
}

enum role { ROLE_TIME, ROLE_FEATURE, ROLE_POWER, ROLE_LABEL };

static bool ends(const char *s, const char *with)
{
        size_t n = strlen(s), k = strlen(with);

        return n >= k && !strcmp(s + n - k, with);
}

static bool begins(const char *s, const char *with)
{
        return !strncmp(s, with, strlen(with));
}

static enum role role_of(const char *header)
{
        static const char *const labels[] = { "", "node_type", "id", "Unnamed: 0" };

        if (!strcmp(header, "timestamp"))
                return ROLE_TIME;
        if (ends(header, "_power"))
                return ROLE_POWER;
        for (size_t i = 0; i < ARRAY_SIZE(labels); i++)
                if (!strcmp(labels[i], header))
                        return ROLE_LABEL;
        return begins(header, "packge_ratio_") || begins(header, "package_ratio_") ? ROLE_LABEL
                                                                                   : ROLE_FEATURE;
}

/* "package_power", and "package_1_dram_power" of a machine with several packages, whose watts add up. */
static int component_of(const char *header, char ret[16], struct err *e)
{
        char name[RECORDING_NAME_MAX];
        const char *component = name, *bar;

        if (snprintf(name, sizeof(name), "%s", header) >= (int)sizeof(name))
                return err_set(e, -EBADMSG, "power column '%.100s' has too long a name", header);
        name[strlen(name) - strlen("_power")] = '\0';
        bar = strrchr(name, '_');
        if (begins(name, "package_") && bar)
                component = bar + 1;
        if (!energy_source_of_component(component))
                return err_set(e, -EBADMSG, "power column '%.60s' is of no known component", header);
        (void)snprintf(ret, 16, "%.15s", component);
        return 0;
}

static int add_component(struct recording_set *s, const char *name, double **ret, struct err *e)
{
        size_t i = 0;

        while (i < s->n_components && strcmp(s->components[i].name, name))
                i++;
        if (i == RECORDING_COMPONENTS_MAX)
                return err_set(e, -E2BIG, "more than %d components", RECORDING_COMPONENTS_MAX);
        if (i == s->n_components) {
                (void)snprintf(s->components[i].name, sizeof(s->components[i].name), "%s", name);
                s->components[i].watts = calloc(s->table.n + 1, sizeof(double));
                if (!s->components[i].watts)
                        return err_set(e, -ENOMEM, "out of memory");
                s->n_components++;
        }
        *ret = s->components[i].watts;
        return 0;
}

static int read_power(struct recording_set *s, const struct csv *csv, size_t column, struct err *e)
{
        double *watts = NULL, v;
        char name[16];
        int r = component_of(csv_header(csv, column), name, e);

        if (r < 0)
                return err_prefix(e, r, "%.150s", s->path);
        r = add_component(s, name, &watts, e);
        for (size_t i = 0; r == 0 && i < s->table.n; i++) {
                r = csv_number(csv, i, column, &v, e);
                if (r == 0)
                        watts[i] += v;
        }
        return r;
}

static int read_time(struct recording_set *s, const struct csv *csv, int column, struct err *e)
{
        s->time = calloc(s->table.n + 1, sizeof(*s->time));
        if (!s->time)
                return err_set(e, -ENOMEM, "out of memory");
        for (size_t i = 0; i < s->table.n; i++) {
                double v;
                int r = csv_number(csv, i, (size_t)column, &v, e);

                if (r < 0)
                        return r;
                s->time[i] = (int64_t)v;
                if (i > 0 && s->time[i] <= s->time[i - 1])
                        return err_set(e, -EBADMSG,
                                       "%.150s:%zu: the timestamp is not later than the one before", s->path,
                                       i + 2);
        }
        return 0;
}

static int by_header(const void *a, const void *b)
{
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Features in alphabetical order, as in models; behind each half its previous row's. */
static int name_features(struct recording_set *s, const struct csv *csv, size_t *ret_p, struct err *e)
{
        const char *found[CSV_COLUMNS_MAX];
        size_t p = 0;

        for (size_t i = 0; i < csv_columns(csv); i++) {
                if (csv_find(csv, csv_header(csv, i)) != (int)i)
                        return err_set(e, -EBADMSG, "%.150s: column '%.60s' is there twice", s->path,
                                       csv_header(csv, i));
                if (role_of(csv_header(csv, i)) == ROLE_FEATURE)
                        found[p++] = csv_header(csv, i);
        }
        if (p == 0 || 2 * p > TABLE_FEATURES_MAX)
                return err_set(e, -EBADMSG, "%.150s: %zu features; 1 to %d can be used", s->path, p,
                               TABLE_FEATURES_MAX / 2);
        qsort(found, p, sizeof(found[0]), by_header);
        for (size_t j = 0; j < p; j++)
                if (!(s->names[j] = strdup(found[j])) ||
                    asprintf(&s->names[p + j], PREV_PREFIX "%s", found[j]) < 0)
                        return err_set(e, -ENOMEM, "out of memory");
        *ret_p = p;
        return 0;
}

static int read_features(struct recording_set *s, const struct csv *csv, struct err *e)
{
        size_t p = 0;
        int r = name_features(s, csv, &p, e);

        if (r == 0)
                r = table_new(csv_rows(csv), (const char *const *)s->names, 2 * p, &s->table, e);
        for (size_t j = 0; r == 0 && j < p; j++)
                for (size_t i = 0; r == 0 && i < s->table.n; i++)
                        r = csv_number(csv, i, (size_t)csv_find(csv, s->names[j]), &s->table.x[i * 2 * p + j],
                                       e);
        return r;
}

static double median_step(const struct recording_set *s)
{
        double least = INFINITY;

        for (size_t i = 1; i < s->table.n; i++)
                least = fmin(least, (double)(s->time[i] - s->time[i - 1]));
        return isfinite(least) ? least : 0;
}

/* A row after a gap is its own predecessor: nothing is known of before. */
static void fill_previous(struct recording_set *s)
{
        size_t p = s->table.p / 2;
        double gap = GAP_STEPS * median_step(s);

        for (size_t i = 0; i < s->table.n; i++) {
                bool alone = i == 0 || (double)(s->time[i] - s->time[i - 1]) > gap;

                for (size_t j = 0; j < p; j++)
                        s->table.x[i * 2 * p + p + j] = s->table.x[(alone ? i : i - 1) * 2 * p + j];
        }
}

static int read_set(const char *path, struct recording_set *s, struct err *e)
{
        CLEANUP(csv_freep) struct csv *csv = NULL;
        int r = csv_read(path, &csv, e), time;

        if (r < 0)
                return r;
        s->path = strdup(path);
        if (!s->path)
                return err_set(e, -ENOMEM, "out of memory");
        time = csv_find(csv, "timestamp");
        if (time < 0)
                return err_set(e, -EBADMSG, "'%.150s' has no column 'timestamp'", path);
        if (csv_rows(csv) < 2)
                return err_set(e, -EBADMSG, "'%.150s' has %zu rows", path, csv_rows(csv));
        r = read_features(s, csv, e);
        if (r == 0)
                r = read_time(s, csv, time, e);
        for (size_t i = 0; r == 0 && i < csv_columns(csv); i++)
                if (role_of(csv_header(csv, i)) == ROLE_POWER)
                        r = read_power(s, csv, i, e);
        if (r == 0 && s->n_components == 0)
                r = err_set(e, -EBADMSG, "'%.150s' has no column of power", path);
        if (r == 0)
                fill_previous(s);
        return r;
}

/* ---- the directory ---- */

/* "preprocess_abs_default_rapl_BPFOnly.csv": group behind the last bar, source before it. */
static bool parse_name(const char *file, int parts_before_source, char *source, char *group, bool *min)
{
        char name[256], *bar, *p = name;

        if (snprintf(name, sizeof(name), "%s", file) >= (int)sizeof(name) || !ends(name, ".csv"))
                return false;
        name[strlen(name) - strlen(".csv")] = '\0';
        for (int i = 0; i < parts_before_source; i++) {
                p = strchr(p, '_');
                if (!p)
                        return false;
                *p++ = '\0';
        }
        *min = !strcmp(p - strlen("min") - 1, "min");
        bar = strrchr(p, '_');
        if (!bar || strlen(bar + 1) >= RECORDING_NAME_MAX || strlen(p) >= RECORDING_NAME_MAX)
                return false;
        *bar = '\0';
        (void)snprintf(source, RECORDING_NAME_MAX, "%s", p);
        (void)snprintf(group, RECORDING_NAME_MAX, "%s", bar + 1);
        return true;
}

static int add_set(const char *path, struct recording_set **sets, size_t *n, const char *source,
                   const char *group, struct err *e)
{
        struct recording_set *more;
        int r;

        if (*n == RECORDING_SETS_MAX)
                return err_set(e, -E2BIG, "more than %d files of data", RECORDING_SETS_MAX);
        more = reallocarray(*sets, *n + 1, sizeof(*more));
        if (!more)
                return err_set(e, -ENOMEM, "out of memory");
        *sets = more;
        more[*n] = (struct recording_set){ 0 };
        (void)snprintf(more[*n].source, RECORDING_NAME_MAX, "%s", source);
        (void)snprintf(more[*n].group, RECORDING_NAME_MAX, "%s", group);
        r = read_set(path, &more[(*n)++], e);
        return r;
}

static int take_file(struct recording *rec, const char *dir, const char *file, struct err *e)
{
        char path[PATH_MAX_HERE], source[RECORDING_NAME_MAX], group[RECORDING_NAME_MAX];
        bool min;

        if (path_join(path, sizeof(path), dir, file) < 0)
                return err_set(e, -ENAMETOOLONG, "'%.150s' is too long", dir);
        if (begins(file, "preprocess_abs_") && parse_name(file, 3, source, group, &min))
                return add_set(path, &rec->sets, &rec->n_sets, source, group, e);
        if (begins(file, "preprocess_dyn_") && parse_name(file, 4, source, group, &min) && min)
                return add_set(path, &rec->dynamic, &rec->n_dynamic, source, group, e);
        return 0;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
        return strcmp((*a)->d_name, (*b)->d_name);
}

static int read_dir(struct recording *rec, const char *dir, struct err *e)
{
        struct dirent **names = NULL;
        int n = scandir(dir, &names, NULL, by_name), r = 0;

        if (n < 0)
                return err_sys(e, "cannot read directory '%.150s'", dir);
        for (int i = 0; i < n; i++) {
                if (r == 0)
                        r = take_file(rec, dir, names[i]->d_name, e);
                free(names[i]);
        }
        free(names);
        return r;
}

static int read_optional(const char *dir, const char *file, struct csv **ret, struct err *e)
{
        char path[PATH_MAX_HERE];
        int r;

        if (path_join(path, sizeof(path), dir, file) < 0)
                return err_set(e, -ENAMETOOLONG, "'%.150s' is too long", dir);
        r = csv_read(path, ret, e);
        return r == -ENOENT ? 0 : r;
}

/* ---- labels ---- */

static int by_double(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

/* Load: above a fifth of the way from the tenth of the rows that did least to the tenth that did most. */
static int mark_load(const struct recording_set *s, size_t column, unsigned char *active, struct err *e)
{
        CLEANUP(freep) double *v = calloc(s->table.n + 1, sizeof(*v));
        size_t n = s->table.n;
        double idle, busy;

        if (!v)
                return err_set(e, -ENOMEM, "out of memory");
        for (size_t i = 0; i < n; i++)
                v[i] = s->table.x[i * s->table.p + column];
        qsort(v, n, sizeof(*v), by_double);
        idle = v[n / 10];
        busy = v[n - 1 - n / 10];
        for (size_t i = 0; i < n; i++)
                active[i] = s->table.x[i * s->table.p + column] > idle + LOAD_SHARE * (busy - idle);
        return 0;
}

/* Where load can be told best: cycles, else CPU time, else whatever comes first. */
static const struct recording_set *load_set(const struct recording *rec, size_t *ret_column)
{
        static const char *const names[] = { "cpu_cycles", "bpf_cpu_time_ms", "bpf_cpu_time_us" };

        for (size_t k = 0; k < ARRAY_SIZE(names); k++)
                for (size_t i = 0; i < rec->n_sets; i++) {
                        int j = table_find(&rec->sets[i].table, names[k]);

                        if (j < 0)
                                continue;
                        *ret_column = (size_t)j;
                        return &rec->sets[i];
                }
        *ret_column = 0;
        return &rec->sets[0];
}

/* What is known at each time: rows of the load's file, which the other files look up. */
struct timeline {
        size_t n;
        const int64_t *time;
        unsigned char *active; /* owned */
        int *segment;          /* owned */
};

static void timeline_done(struct timeline *t)
{
        free(t->active);
        free(t->segment);
}

static size_t timeline_find(const struct timeline *t, int64_t time)
{
        size_t low = 0, high = t->n;

        while (high - low > 1) {
                size_t middle = (low + high) / 2;

                if (t->time[middle] <= time)
                        low = middle;
                else
                        high = middle;
        }
        return low;
}

static int make_timeline(const struct recording *rec, struct timeline *t, struct err *e)
{
        size_t column;
        const struct recording_set *s = load_set(rec, &column);
        int segment = 0, r;

        t->n = s->table.n;
        t->time = s->time;
        t->active = calloc(t->n + 1, 1);
        t->segment = calloc(t->n + 1, sizeof(*t->segment));
        if (!t->active || !t->segment)
                return err_set(e, -ENOMEM, "out of memory");
        r = mark_load(s, column, t->active, e);
        for (size_t i = 1; r == 0 && i < t->n; i++) {
                segment += t->active[i] && !t->active[i - 1];
                t->segment[i] = segment;
        }
        return r;
}

static int alloc_labels(struct recording_set *s, struct err *e)
{
        s->active = calloc(s->table.n + 1, 1);
        s->s_fold = calloc(s->table.n + 1, sizeof(int));
        s->workload = calloc(s->table.n + 1, sizeof(int));
        s->frequency = calloc(s->table.n + 1, sizeof(int));
        return s->active && s->s_fold && s->workload && s->frequency ? 0
                                                                     : err_set(e, -ENOMEM, "out of memory");
}

static int label_from_timeline(struct recording *rec, const struct timeline *t, struct err *e)
{
        for (size_t k = 0; k < rec->n_sets; k++) {
                struct recording_set *s = &rec->sets[k];
                int r = alloc_labels(s, e);

                if (r < 0)
                        return r;
                for (size_t i = 0; i < s->table.n; i++) {
                        size_t at = timeline_find(t, s->time[i]);

                        s->active[i] = t->active[at];
                        s->table.segment[i] = t->segment[at];
                        s->s_fold[i] = s->workload[i] = s->frequency[i] = -1;
                }
        }
        rec->n_segments = (size_t)t->segment[t->n - 1] + 1;
        return 0;
}

/* ---- segments.csv ---- */

struct segments {
        const struct csv *csv;
        int first, last, stressor, frequency, fold;
};

static int find_columns(const struct csv *csv, struct segments *ret, struct err *e)
{
        const struct {
                const char *name;
                int *at;
        } columns[] = { { "first_timestamp", &ret->first },
                        { "last_timestamp", &ret->last },
                        { "stressor", &ret->stressor },
                        { "frequency_khz", &ret->frequency },
                        { "s_fold", &ret->fold } };

        ret->csv = csv;
        for (size_t i = 0; i < ARRAY_SIZE(columns); i++) {
                *columns[i].at = csv_find(csv, columns[i].name);
                if (*columns[i].at < 0)
                        return err_set(e, -EBADMSG, "segments.csv has no column '%s'", columns[i].name);
        }
        return 0;
}

/* A workload's number; sleep is none, since there is nothing to predict. */
static int workload_number(struct recording *rec, const char *name, struct err *e)
{
        size_t i = 0;

        if (!strcmp(name, "sleep") || !*name)
                return -1;
        while (i < rec->n_workloads && strcmp(rec->workloads[i], name))
                i++;
        if (i == RECORDING_WORKLOADS_MAX || strlen(name) >= RECORDING_NAME_MAX)
                return err_set(e, -E2BIG, "segments.csv: more than %d workloads, or too long a name",
                               RECORDING_WORKLOADS_MAX);
        if (i == rec->n_workloads)
                (void)snprintf(rec->workloads[rec->n_workloads++], RECORDING_NAME_MAX, "%s", name);
        return (int)i;
}

static int apply_segment(struct recording *rec, const struct segments *g, size_t row, struct err *e)
{
        double first, last, fold, frequency = -1;
        int workload, r = csv_number(g->csv, row, (size_t)g->first, &first, e);

        if (r == 0)
                r = csv_number(g->csv, row, (size_t)g->last, &last, e);
        if (r == 0)
                r = csv_number(g->csv, row, (size_t)g->fold, &fold, e);
        if (r == 0 && *csv_cell(g->csv, row, (size_t)g->frequency))
                r = csv_number(g->csv, row, (size_t)g->frequency, &frequency, e);
        if (r < 0)
                return r;
        if (last < first || fold < 0 || fold >= FOLDS_MAX || frequency >= INT32_MAX)
                return err_set(e, -EBADMSG,
                               "segments.csv:%zu: a segment that ends before it begins, or a fold "
                               "or frequency out of range",
                               row + 2);
        workload = workload_number(rec, csv_cell(g->csv, row, (size_t)g->stressor), e);
        if (workload < -1)
                return workload;
        for (size_t k = 0; k < rec->n_sets; k++) {
                struct recording_set *s = &rec->sets[k];

                for (size_t i = 0; i < s->table.n; i++) {
                        if ((double)s->time[i] < first || (double)s->time[i] > last)
                                continue;
                        s->table.segment[i] = (int)row;
                        s->s_fold[i] = (int)fold;
                        s->workload[i] = workload;
                        s->frequency[i] = (int)frequency;
                }
        }
        return 0;
}

static int read_segments(struct recording *rec, const char *dir, struct err *e)
{
        CLEANUP(csv_freep) struct csv *csv = NULL;
        struct segments g;
        int r = read_optional(dir, "segments.csv", &csv, e);

        if (r < 0 || !csv)
                return r;
        r = find_columns(csv, &g, e);
        for (size_t k = 0; r == 0 && k < rec->n_sets; k++)
                for (size_t i = 0; i < rec->sets[k].table.n; i++)
                        rec->sets[k].table.segment[i] = -1;
        for (size_t row = 0; r == 0 && row < csv_rows(csv); row++)
                r = apply_segment(rec, &g, row, e);
        for (size_t k = 0; r == 0 && k < rec->n_sets; k++)
                for (size_t i = 0; r == 0 && i < rec->sets[k].table.n; i++)
                        if (rec->sets[k].table.segment[i] < 0)
                                r = err_set(e, -EBADMSG,
                                            "segments.csv has no segment for timestamp %lld of '%.100s'",
                                            (long long)rec->sets[k].time[i], rec->sets[k].path);
        rec->has_segments = true;
        rec->n_segments = csv_rows(csv);
        return r;
}

/* ---- all of it ---- */

static void name_recording(struct recording *rec, const char *path)
{
        size_t n = strlen(path), from;

        while (n > 1 && path[n - 1] == '/')
                n--;
        from = n;
        while (from > 0 && path[from - 1] != '/')
                from--;
        (void)snprintf(rec->name, sizeof(rec->name), "%.*s", (int)(n - from), path + from);
}

int recording_read(const char *path, struct recording **ret, struct err *e)
{
        CLEANUP(recording_freep) struct recording *rec = calloc(1, sizeof(*rec));
        CLEANUP(timeline_done) struct timeline timeline = { 0 };
        char below[PATH_MAX_HERE];
        int r;

        if (!rec)
                return err_set(e, -ENOMEM, "out of memory");
        name_recording(rec, path);
        if (path_join(below, sizeof(below), path, "preprocessed_data") < 0)
                return err_set(e, -ENAMETOOLONG, "'%.150s' is too long", path);
        r = read_dir(rec, access(below, F_OK) == 0 ? below : path, e);
        if (r == 0 && rec->n_sets == 0)
                r = err_set(e, -ENOENT,
                            "'%.150s' has no preprocess_abs_*.csv, neither directly nor in "
                            "preprocessed_data/",
                            path);
        if (r == 0)
                r = make_timeline(rec, &timeline, e);
        if (r == 0)
                r = label_from_timeline(rec, &timeline, e);
        if (r == 0)
                r = read_segments(rec, path, e);
        if (r == 0)
                r = read_optional(path, "published_mae.csv", &rec->published, e);
        if (r == 0)
                r = read_optional(path, "recomputed_mae.csv", &rec->recomputed, e);
        if (r < 0)
                return r;
        rec->step_s = median_step(&rec->sets[0]);
        *ret = TAKE(rec);
        return 0;
}

struct labels recording_labels(const struct recording_set *s)
{
        bool told = s->s_fold[0] >= 0;

        return (struct labels){ .n = s->table.n,
                                .segment = s->table.segment,
                                .s_fold = told ? s->s_fold : NULL,
                                .workload = told ? s->workload : NULL,
                                .frequency = told ? s->frequency : NULL };
}

int recording_table(const struct recording_set *s, size_t component, struct table *ret, struct err *e)
{
        *ret = s->table;
        ret->y = calloc(s->table.n + 1, sizeof(*ret->y));
        if (!ret->y)
                return err_set(e, -ENOMEM, "out of memory");
        memcpy(ret->y, s->components[component].watts, s->table.n * sizeof(*ret->y));
        return 0;
}
