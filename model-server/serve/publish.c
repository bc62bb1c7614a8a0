/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/serve/publish.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

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

#define PUBLISH_AWAY ".away." /* prefix of a pipeline's name while its next one takes its place */

/* rename() twice. The catalog in memory answers meanwhile, and a start puts back what was left away. */
static int replace_without_exchange(const char *staged, const char *path, const char *models_path,
                                    const char *name, struct err *e)
{
        char away[CATALOG_PATH_MAX];

        if (snprintf(away, sizeof(away), "%s/" PUBLISH_AWAY "%s", models_path, name) >= (int)sizeof(away))
                return err_set(e, -ENAMETOOLONG, "models.path is too long");
        if (rename(path, away) < 0)
                return err_sys(e, "cannot move '%s' away", path);
        if (rename(staged, path) < 0) {
                int r = err_sys(e, "cannot move '%s' to '%s'", staged, path);

                (void)rename(away, path); /* as it was */
                return r;
        }
        (void)rename(away, staged); /* for the caller to remove; publish_clean() does otherwise */
        return 0;
}

int publish_put_in_place(const char *staged, const char *models_path, const char *name, struct err *e)
{
        char path[CATALOG_PATH_MAX];
        int r = 0;

        if (path_join(path, sizeof(path), models_path, name) < 0)
                return err_set(e, -ENAMETOOLONG, "models.path is too long");
        if (renameat2(AT_FDCWD, staged, AT_FDCWD, path, RENAME_EXCHANGE) < 0) {
                if (errno == ENOENT)
                        r = rename(staged, path) < 0 ? err_sys(e, "cannot move '%s' to '%s'", staged, path)
                                                     : 0;
                else if (errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP)
                        r = replace_without_exchange(staged, path, models_path, name, e);
                else
                        r = err_sys(e, "cannot move '%s' to '%s'", staged, path);
        }
        return r < 0 ? r : file_sync_dir(models_path, e);
}

static int put_back(const char *models_path, const char *away, struct err *e)
{
        char from[CATALOG_PATH_MAX], to[CATALOG_PATH_MAX];

        if (path_join(from, sizeof(from), models_path, away) < 0 ||
            path_join(to, sizeof(to), models_path, away + strlen(PUBLISH_AWAY)) < 0)
                return err_set(e, -ENAMETOOLONG, "models.path is too long");
        if (access(to, F_OK) == 0)
                return file_remove_tree(from, e);
        return rename(from, to) < 0 ? err_sys(e, "cannot move '%s' to '%s'", from, to) : 0;
}

int publish_clean(const char *models_path, struct err *e)
{
        char path[CATALOG_PATH_MAX];
        DIR *list = opendir(models_path);
        int r = 0;

        for (struct dirent *entry; r == 0 && list && (entry = readdir(list));)
                if (!strncmp(entry->d_name, PUBLISH_AWAY, strlen(PUBLISH_AWAY)))
                        r = put_back(models_path, entry->d_name, e);
        if (list)
                (void)closedir(list);
        if (r < 0)
                return r;
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
                r = publish_put_in_place(staged, models_path, in->name, e);
        (void)file_remove_tree(staged,
                               NULL); /* the old pipeline, or what failed; the next start removes it too */
        if (r == 0)
                r = pipeline_load(models_path, in->name, ret, e);
        return r < 0 ? r : 1;
}
