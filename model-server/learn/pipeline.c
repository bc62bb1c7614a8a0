/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/learn/pipeline.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/file.h"
#include "common/json.h"
#include "common/num.h"

#define PIPELINE_TEXT_MAX ((size_t)16 << 20) /* a generated file */
#define PIPELINE_PATH_MAX 1024

struct sink {
        pipeline_file_fn fn;
        void *arg;
};

static int emit(const struct sink *s, const char *path, const struct buf *text, struct err *e)
{
        if (text->failed)
                return err_set(e, text->failed, "cannot make '%s'", path);
        return s->fn(path, text->data, text->size, s->arg, e);
}

static int emit_json(const struct sink *s, const char *path, json_t *object, struct err *e)
{
        CLEANUP(json_decrefp) json_t *owned = object;
        CLEANUP(buf_done) struct buf text = { 0 };

        buf_init(&text, PIPELINE_TEXT_MAX);
        if (!owned || json_write(owned, &text) < 0)
                return err_set(e, -ENOMEM, "cannot make '%s': out of memory", path);
        return emit(s, path, &text, e);
}

/* As upstream: a trainer is named once per group and source. */
static json_t *trainer_list(const struct pipeline_input *in, int output_type)
{
        json_t *list = json_array();

        for (size_t i = 0; i < in->n; i++)
                if (in->artifacts[i]->output_type == output_type)
                        (void)json_array_append_new(list,
                                                    json_string(artifact_text(in->artifacts[i], "trainer")));
        return list;
}

static int emit_metadata(const struct pipeline_input *in, const struct sink *s, struct err *e)
{
        time_t seconds = (time_t)(in->now_ms / 1000);
        char when[32];
        struct tm tm;

        (void)gmtime_r(&seconds, &tm);
        (void)strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
        return emit_json(s, "metadata.json",
                         json_pack("{s:s, s:s, s:s, s:o, s:o, s:s, s:s, s:s}", "name", in->name, "isolator",
                                   in->isolator, "extractor", "default", "abs_trainers", trainer_list(in, 0),
                                   "dyn_trainers", trainer_list(in, 1), "metric_type", "bm_metrics",
                                   "init_time", when, "last_update_time", when),
                         e);
}

static int emit_index(const struct pipeline_input *in, const struct sink *s, struct err *e)
{
        json_t *index = json_object();
        char key[16];

        for (int type = 0; type < in->specs_n; type++) {
                json_t *members = json_array();

                for (size_t i = 0; i < in->nodes_n; i++)
                        if (in->nodes[i].node_type == type)
                                (void)json_array_append_new(members, json_string(in->nodes[i].id));
                (void)snprintf(key, sizeof(key), "%d", type);
                (void)json_object_set_new(index, key,
                                          json_pack("{s:o, s:o}", "attrs",
                                                    machine_spec_to_json(&in->specs[type]), "members",
                                                    members));
        }
        return emit_json(s, "node_type_index.json", index, e);
}

/* <source>/<output type>/<group>/<name>.zip, <name>.json (weights) and <name>/ */
static int emit_model(const struct artifact *a, const struct sink *s, struct err *e)
{
        const struct model_entry *weight = artifact_weight(a);
        CLEANUP(buf_done) struct buf zip = { 0 };
        char base[PIPELINE_PATH_MAX / 2], path[PIPELINE_PATH_MAX];
        int r = 0;

        (void)snprintf(base, sizeof(base), "%s/%s/%s/%s", a->source->name, output_types[a->output_type],
                       feature_groups[a->group].name, a->name);
        for (size_t i = 0; r == 0 && i < a->archive->n; i++) {
                (void)snprintf(path, sizeof(path), "%s/%s", base, a->archive->entries[i].name);
                r = s->fn(path, a->archive->entries[i].data, a->archive->entries[i].size, s->arg, e);
        }
        if (r < 0)
                return r;
        buf_init(&zip, MODEL_ARCHIVE_MAX);
        r = model_archive_pack(a->archive, &zip, e);
        (void)snprintf(path, sizeof(path), "%s.zip", base);
        if (r == 0)
                r = emit(s, path, &zip, e);
        (void)snprintf(path, sizeof(path), "%s.json", base);
        return r < 0 || !weight ? r : s->fn(path, weight->data, weight->size, s->arg, e);
}

static int by_group_and_error(const void *a, const void *b)
{
        const struct artifact *const *x = a, *const *y = b;
        int names = strcmp(feature_groups[(*x)->group].name, feature_groups[(*y)->group].name);
        double mx = artifact_mae(*x), my = artifact_mae(*y);

        return names ? names : (mx > my) - (mx < my);
}

static void write_csv_list(struct buf *out, const json_t *list)
{
        (void)buf_puts(out, json_array_size(list) ? ",\"[" : ",["); /* failure is sticky */
        for (size_t i = 0; i < json_array_size(list); i++) {
                const char *text = json_string_value(json_array_get(list, i));

                (void)buf_printf(out, "%s'%s'", i ? ", " : "", text ? text : "");
        }
        (void)buf_puts(out, json_array_size(list) ? "]\"" : "]");
}

static void write_csv_number(struct buf *out, const json_t *metadata, const char *component, const char *what)
{
        char key[64], text[NUM_TEXT_MAX] = "";
        const json_t *value;

        (void)snprintf(key, sizeof(key), "%s%s%s", component, *component ? "_" : "", what);
        value = json_object_get(metadata, key);
        if (value)
                (void)num_format_double(text, json_number_value(value));
        (void)buf_printf(out, ",%s", text);
}

static void write_csv_row(struct buf *out, const struct artifact *a, size_t number)
{
        (void)buf_printf(out, "%zu,%s,%s,%s", number, a->name, artifact_text(a, "model_class"),
                         artifact_text(a, "model_file"));
        write_csv_list(out, json_object_get(a->metadata, "features"));
        write_csv_list(out, json_object_get(a->metadata, "fe_files"));
        (void)buf_printf(out, ",%s", output_types[a->output_type]);
        write_csv_number(out, a->metadata, "", "mae");
        write_csv_number(out, a->metadata, "", "mape");
        for (size_t i = 0; i < a->source->n; i++) {
                write_csv_number(out, a->metadata, a->source->components[i], "mae");
                write_csv_number(out, a->metadata, a->source->components[i], "mape");
        }
        (void)buf_printf(out, ",%s,%d,%s\n", artifact_text(a, "trainer"), a->node_type,
                         feature_groups[a->group].name);
}

static int emit_csv(const struct pipeline_input *in, const struct energy_source *source, int output_type,
                    const struct sink *s, struct err *e)
{
        CLEANUP(freep) const struct artifact **sorted = calloc(in->n + 1, sizeof(const struct artifact *));
        CLEANUP(buf_done) struct buf text = { 0 };
        char path[128];
        size_t n = 0;

        if (!sorted)
                return err_set(e, -ENOMEM, "out of memory");
        for (size_t i = 0; i < in->n; i++)
                if (in->artifacts[i]->source == source && in->artifacts[i]->output_type == output_type)
                        sorted[n++] = in->artifacts[i];
        if (!n)
                return 0;
        qsort((void *)sorted, n, sizeof(const struct artifact *), by_group_and_error);
        buf_init(&text, PIPELINE_TEXT_MAX);
        (void)buf_puts(&text, ",model_name,model_class,model_file,features,fe_files,output_type,mae,mape");
        for (size_t i = 0; i < source->n; i++)
                (void)buf_printf(&text, ",%s_mae,%s_mape", source->components[i], source->components[i]);
        (void)buf_puts(&text, ",trainer,node_type,feature_group\n");
        for (size_t i = 0; i < n; i++)
                write_csv_row(&text, sorted[i], i);
        (void)snprintf(path, sizeof(path), "%s_%s_model_metadata.csv", source->name,
                       output_types[output_type]);
        return emit(s, path, &text, e);
}

int pipeline_each_file(const struct pipeline_input *in, pipeline_file_fn fn, void *arg, struct err *e)
{
        const struct sink s = { fn, arg };
        int r = emit_metadata(in, &s, e);

        if (r == 0 && in->specs)
                r = emit_index(in, &s, e);
        for (size_t i = 0; r == 0 && i < in->n; i++)
                r = emit_model(in->artifacts[i], &s, e);
        for (size_t i = 0; r == 0 && i < energy_sources_n; i++)
                for (int type = 0; r == 0 && output_types[type]; type++)
                        r = emit_csv(in, &energy_sources[i], type, &s, e);
        return r;
}

/* Makes the directories on the way, and syncs the file and the one that it is in. */
static int write_file(const char *relative, const void *data, size_t size, void *arg, struct err *e)
{
        char path[2 * PIPELINE_PATH_MAX], dir[2 * PIPELINE_PATH_MAX];
        CLEANUP(closep) int fd = -1;
        int r;

        if (snprintf(path, sizeof(path), "%s/%s", (const char *)arg, relative) >= (int)sizeof(path))
                return err_set(e, -ENAMETOOLONG, "'%.200s…': path too long", relative);
        memcpy(dir, path, sizeof(path));
        *strrchr(dir, '/') = '\0';
        r = file_mkdirs(dir, 0755, e);
        if (r < 0)
                return r;
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        if (fd < 0)
                return err_sys(e, "cannot create '%s'", path);
        r = file_write_all(fd, data, size);
        if (r < 0 || fsync(fd) < 0)
                return err_sys(e, "cannot write '%s'", path);
        return file_sync_dir(dir, e);
}

/* The directories between the pipeline and its models. */
static int sync_sources(const struct pipeline_input *in, const char *root, struct err *e)
{
        char path[PIPELINE_PATH_MAX];
        int r = 0;

        for (size_t i = 0; r == 0 && i < in->n; i++) {
                const struct artifact *a = in->artifacts[i], *last = i ? in->artifacts[i - 1] : NULL;

                if (last && last->source == a->source && last->output_type == a->output_type)
                        continue;
                (void)snprintf(path, sizeof(path), "%s/%s/%s", root, a->source->name,
                               output_types[a->output_type]);
                r = file_sync_dir(path, e);
                (void)snprintf(path, sizeof(path), "%s/%s", root, a->source->name);
                if (r == 0)
                        r = file_sync_dir(path, e);
        }
        return r < 0 ? r : file_sync_dir(root, e);
}

int pipeline_write(const struct pipeline_input *in, const char *directory, struct err *e)
{
        int r = pipeline_each_file(in, write_file, (void *)(uintptr_t)directory, e);

        return r < 0 ? r : sync_sources(in, directory, e);
}

static inline void writer_freep(struct archive **a)
{
        if (*a)
                (void)archive_write_free(*a);
}

static inline void entry_freep(struct archive_entry **entry)
{
        archive_entry_free(*entry);
}

static int zip_error(struct archive *zip, struct err *e)
{
        const char *words = archive_error_string(zip);

        return err_set(e, archive_errno(zip) == ENOMEM ? -ENOMEM : -EIO, "cannot pack a pipeline: %s",
                       words ? words : "unknown reason");
}

static la_ssize_t write_to_buf(struct archive *zip, void *arg, const void *data, size_t size)
{
        if (buf_append(arg, data, size) == 0)
                return (la_ssize_t)size;
        archive_set_error(zip, ENOMEM, "it is larger than %zu bytes", ((struct buf *)arg)->max);
        return -1;
}

/* Always the same time stamp (1980, the first a zip can hold): the same pipeline is the same bytes. */
static int pack_file(const char *path, const void *data, size_t size, void *arg, struct err *e)
{
        CLEANUP(entry_freep) struct archive_entry *entry = archive_entry_new();
        struct archive *zip = arg;

        if (!entry)
                return err_set(e, -ENOMEM, "out of memory");
        archive_entry_set_pathname(entry, path);
        archive_entry_set_size(entry, (la_int64_t)size);
        archive_entry_set_filetype(entry, AE_IFREG);
        archive_entry_set_perm(entry, 0644);
        archive_entry_set_mtime(entry, 315532800, 0);
        if (archive_write_header(zip, entry) != ARCHIVE_OK ||
            archive_write_data(zip, data, size) != (la_ssize_t)size)
                return zip_error(zip, e);
        return 0;
}

int pipeline_zip(const struct pipeline_input *in, struct buf *out, struct err *e)
{
        CLEANUP(writer_freep) struct archive *zip = archive_write_new();
        int r;

        if (!zip)
                return err_set(e, -ENOMEM, "out of memory");
        if (archive_write_set_format_zip(zip) != ARCHIVE_OK ||
            archive_write_set_bytes_per_block(zip, 0) != ARCHIVE_OK ||
            archive_write_open(zip, out, NULL, write_to_buf, NULL) != ARCHIVE_OK)
                return zip_error(zip, e);
        r = pipeline_each_file(in, pack_file, zip, e);
        if (r == 0 && archive_write_close(zip) != ARCHIVE_OK)
                r = zip_error(zip, e);
        return r;
}
