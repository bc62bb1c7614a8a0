/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/serve/publish.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "common/file.h"

static bool same_as(const struct pipeline_input *in, const struct pipeline *old)
{
        if (!old || pipeline_offers(old) != in->n)
                return false;
        for (size_t i = 0; i < in->n; i++) {
                const struct artifact *a = in->artifacts[i];
                const struct offer *o = pipeline_find(old, a->source, a->output_type, a->group, a->name);

                if (!o || strcmp(o->content_id, a->content_id) != 0)
                        return false;
        }
        return true;
}

/* From staging to its place: exchanged with the old one, so that the name always leads to a whole pipeline.
 */
static int put_in_place(const char *staged, const char *models_path, const char *name, struct err *e)
{
        char path[CATALOG_PATH_MAX];

        if (path_join(path, sizeof(path), models_path, name) < 0)
                return err_set(e, -ENAMETOOLONG, "models.path is too long");
        if (renameat2(AT_FDCWD, staged, AT_FDCWD, path, RENAME_EXCHANGE) < 0 &&
            (errno != ENOENT || rename(staged, path) < 0))
                return err_sys(e, "cannot move '%s' to '%s'", staged, path);
        return file_sync_dir(models_path, e);
}

int publish_clean(const char *models_path, struct err *e)
{
        char path[CATALOG_PATH_MAX];

        if (path_join(path, sizeof(path), models_path, PUBLISH_STAGING) < 0)
                return err_set(e, -ENAMETOOLONG, "models.path is too long");
        return file_remove_tree(path, e);
}

int publish_pipeline(const struct pipeline_input *in, bool withdraw, const char *models_path,
                     const struct pipeline *old, struct pipeline **ret, struct err *e)
{
        char staged[CATALOG_PATH_MAX];
        int r;

        if (same_as(in, old) || (!in->n && !(withdraw && old && pipeline_offers(old))))
                return 0;
        if (snprintf(staged, sizeof(staged), "%s/%s/%s", models_path, PUBLISH_STAGING, in->name) >=
            (int)sizeof(staged))
                return err_set(e, -ENAMETOOLONG, "models.path is too long");
        r = file_remove_tree(staged, e);
        if (r == 0)
                r = file_mkdirs(staged, 0755, e);
        if (r == 0)
                r = pipeline_write(in, staged, e);
        if (r == 0)
                r = put_in_place(staged, models_path, in->name, e);
        (void)file_remove_tree(staged,
                               NULL); /* the old pipeline, or what failed; the next start removes it too */
        if (r == 0)
                r = pipeline_load(models_path, in->name, ret, e);
        return r < 0 ? r : 1;
}
