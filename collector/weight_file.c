/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/weight_file.h"

#include <errno.h>
#include <stdlib.h>
#include "common/file.h"
#include "common/log.h"

void weight_file_done(struct weight_file *file)
{
        free(file->path);
        model_free(file->model);
        *file = (struct weight_file){ 0 };
}

static bool same_file(const struct file_stamp *a, const struct file_stamp *b)
{
        return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
               a->mtime.tv_sec == b->mtime.tv_sec && a->mtime.tv_nsec == b->mtime.tv_nsec;
}

static int load(struct weight_file *file, struct err *e)
{
        struct model *model = NULL;
        struct hash_entry entry;
        struct buf text;
        int r;

        buf_init(&text, MODEL_WEIGHT_MAX);
        r = file_read(file->path, &text, e);
        if (r == 0)
                r = model_load_weight(text.data ? text.data : "", text.size, NULL, &model, e);
        if (r == 0) {
                entry = (struct hash_entry){ "weight.json", text.data, text.size };
                (void)hash_entries_hex(&entry, 1, file->id); /* one entry cannot be too many */
                model_free(file->model);
                file->model = model;
        }
        buf_done(&text);
        return r;
}

int weight_file_refresh(struct weight_file *file, struct err *e)
{
        struct file_stamp now;
        struct stat st;
        int r;

        if (stat(file->path, &st) < 0)
                return file->model ? 0 : err_sys(e, "cannot find weight file '%s'", file->path);
        now = (struct file_stamp){ st.st_dev, st.st_ino, st.st_size, st.st_mtim };
        if (!same_file(&now, &file->stamp)) {
                file->stamp = now;
                file->refused.text[0] = '\0';
                r = load(file, &file->refused);
                if (r < 0)
                        (void)err_prefix(&file->refused, r, "weight file '%s' is not used", file->path);
                if (r < 0 && file->model) /* nothing fails, so nobody above would say it */
                        log_warning("%s; model %s stays", file->refused.text, model_name(file->model));
        }
        if (file->model)
                return 0;
        return err_set(e, -EBADMSG, "%s", file->refused.text);
}
