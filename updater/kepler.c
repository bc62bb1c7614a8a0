/* SPDX-License-Identifier: Apache-2.0 */
#include "updater/kepler.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "common/clock.h"
#include "common/file.h"
#include "common/json.h"
#include "model/model.h"
#include "updater/stage.h"

#define KEPLER_RELOAD_MS 60000
#define KEPLER_PERIOD_MS 10 /* between two looks at the command */
#define KEPLER_MODE      0755
#define KEPLER_WEIGHT    "weight.json"
#define METADATA_MAX     ((size_t)1 << 20)

extern char **environ;

/* ---- a sidecar's directory ---- */

static int check_class(const char *dir, struct err *e)
{
        static const char *const ours[] = { "weight", "wattloop-blend", "network" };
        CLEANUP(json_decrefp) json_t *metadata = NULL;
        char path[PATH_MAX];
        const char *class;
        int r;

        if (path_join(path, sizeof(path), dir, "metadata.json") < 0)
                return err_set(e, -ENAMETOOLONG, "path '%.100s...' is too long", dir);
        r = json_parse_file(path, METADATA_MAX, &metadata, e);
        if (r == 0)
                r = json_get_string(metadata, "model_class", &class, e);
        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(ours); i++)
                if (strcmp(class, ours[i]) == 0)
                        r = err_set(e, -ENOTSUP,
                                    "upstream's sidecar cannot load a model of class '%s'; "
                                    "kepler.weight_path and form weight "
                                    "serve Kepler without one",
                                    class);
        return r;
}

static bool holds(const char *dir, const char *id)
{
        CLEANUP(model_archive_freep) struct model_archive *entries = NULL;
        char is[HASH_HEX_SIZE];

        return model_archive_read_dir(dir, &entries, NULL) == 0 && model_archive_id(entries, is) == 0 &&
               strcmp(is, id) == 0;
}

/* A directory's place is taken in one step; what was there goes. */
static int exchange(const char *new, const char *target, struct err *e)
{
        if (rename(new, target) == 0)
                return 0;
        if (errno != EEXIST && errno != ENOTEMPTY)
                return err_sys(e, "cannot move the model to '%s'", target);
        if (renameat2(AT_FDCWD, new, AT_FDCWD, target, RENAME_EXCHANGE) < 0)
                return err_sys(e, "cannot exchange the model in '%s'", target);
        return file_remove_tree(new, e);
}

static int install_archive(const struct options *o, const struct slot *slot, const char *dir, const char *id,
                           bool *ret_changed, struct err *e)
{
        CLEANUP(model_archive_freep) struct model_archive *entries = NULL;
        char parent[PATH_MAX], target[PATH_MAX], new[PATH_MAX];
        int r;

        if (snprintf(parent, sizeof(parent), "%s/%s", o->kepler_sidecar_path, slot->source->name) >=
                    (int)sizeof(parent) ||
            path_join(target, sizeof(target), parent, slot->output_type) < 0 ||
            snprintf(new, sizeof(new), "%s/.%s.new", parent, slot->output_type) >= (int)sizeof(new))
                return err_set(e, -ENAMETOOLONG, "kepler.sidecar_path is too long");
        if (holds(target, id))
                return 0;
        r = check_class(dir, e);
        if (r == 0)
                r = file_mkdirs(parent, KEPLER_MODE, e);
        if (r == 0)
                r = file_remove_tree(new, e); /* of a killed run */
        if (r == 0)
                r = file_mkdirs(new, KEPLER_MODE, e);
        if (r == 0)
                r = model_archive_read_dir(dir, &entries, e);
        if (r == 0)
                r = stage_entries(new, entries, e);
        if (r == 0)
                r = exchange(new, target, e);
        if (r == 0)
                r = file_sync_dir(parent, e);
        *ret_changed = r == 0;
        return r;
}

/* ---- the exporter's weight file ---- */

static int install_weight(const struct options *o, const struct slot *slot, const char *dir,
                          bool *ret_changed, struct err *e)
{
        const char *source =
                strcmp(slot->source->name, "rapl-sysfs") == 0 ? "intel_rapl" : slot->source->name;
        CLEANUP(buf_done) struct buf is = { 0 }, was = { 0 };
        char from[PATH_MAX], to[PATH_MAX];
        int r;

        buf_init(&is, MODEL_WEIGHT_MAX);
        buf_init(&was, MODEL_WEIGHT_MAX);
        if (path_join(from, sizeof(from), dir, KEPLER_WEIGHT) < 0 ||
            snprintf(to, sizeof(to), "%s/%s_%sModel.json", o->kepler_weight_path, source,
                     slot->output_type) >= (int)sizeof(to))
                return err_set(e, -ENAMETOOLONG, "kepler.weight_path is too long");
        r = file_read(from, &is, e);
        if (r < 0)
                return r;
        if (file_read(to, &was, NULL) == 0 && was.size == is.size && memcmp(was.data, is.data, is.size) == 0)
                return 0;
        r = file_mkdirs(o->kepler_weight_path, KEPLER_MODE, e);
        if (r == 0)
                r = file_write_atomic(to, is.data, is.size, 0644, e);
        *ret_changed = r == 0;
        return r;
}

int kepler_install(const struct options *o, const struct slot *slot, const char *dir, const char *id,
                   bool *ret_changed, struct err *e)
{
        *ret_changed = false;
        if (slot->form == FORM_ARCHIVE && *o->kepler_sidecar_path)
                return install_archive(o, slot, dir, id, ret_changed, e);
        if (slot->form == FORM_WEIGHT && *o->kepler_weight_path)
                return install_weight(o, slot, dir, ret_changed, e);
        return 0;
}

/* ---- telling them ---- */

static int wait_for(pid_t child, const char *program, struct err *e)
{
        uint64_t deadline_ns = clock_monotonic_ns() + KEPLER_RELOAD_MS * NS_PER_MS;
        const struct timespec pause = { .tv_nsec = KEPLER_PERIOD_MS * 1000000L };
        int status = 0;
        pid_t r;

        while ((r = waitpid(child, &status, WNOHANG)) == 0 && clock_monotonic_ns() < deadline_ns)
                (void)nanosleep(&pause, NULL);
        if (r == 0) {
                (void)kill(child, SIGKILL);
                (void)waitpid(child, &status, 0);
                return err_set(e, -ECANCELED, "'%s' (kepler.reload) has not ended within %d s", program,
                               KEPLER_RELOAD_MS / 1000);
        }
        if (r < 0)
                return err_sys(e, "cannot wait for '%s' (kepler.reload)", program);
        if (WIFSIGNALED(status))
                return err_set(e, -ECANCELED, "'%s' (kepler.reload) was ended by signal %d", program,
                               WTERMSIG(status));
        return WEXITSTATUS(status) == 0
                       ? 0
                       : err_set(e, -ECANCELED, "'%s' (kepler.reload) has failed with status %d", program,
                                 WEXITSTATUS(status));
}

int kepler_reload(const struct options *o, struct err *e)
{
        char *argv[STRING_LIST_MAX + 1] = { NULL };
        posix_spawn_file_actions_t files;
        pid_t child;
        int r;

        if (o->kepler_reload.n == 0)
                return 0;
        for (size_t i = 0; i < o->kepler_reload.n; i++)
                argv[i] = o->kepler_reload.items[i];
        if (posix_spawn_file_actions_init(&files) != 0)
                return err_set(e, -ENOMEM, "out of memory");
        r = posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
        if (r == 0)
                r = posix_spawn_file_actions_adddup2(&files, 2, 1); /* standard output is for our report */
        if (r == 0)
                r = posix_spawn(&child, argv[0], &files, NULL, argv, environ);
        (void)posix_spawn_file_actions_destroy(&files);
        if (r != 0)
                return err_set(e, -r, "cannot start '%s' (kepler.reload): %s", argv[0], strerror(r));
        return wait_for(child, argv[0], e);
}
