/* SPDX-License-Identifier: Apache-2.0 */
#include "updater/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "common/file.h"
#include "common/json.h"

#define STAGE_MODE      0755
#define STAGE_FILE_MODE 0644
#define STAGE_INFO_MAX  ((size_t)16 << 10)
#define STAGE_INFO      "wattloop.json"

/* Nobody reads the directory yet, so a plain write will do. */
static int write_file(int dir_fd, const char *name, const void *data, size_t size, struct err *e)
{
        CLEANUP(closep) int fd = -1;
        int r;

        fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, STAGE_FILE_MODE);
        if (fd < 0)
                return err_sys(e, "cannot write '%s' to the model store", name);
        r = fchmod(fd, STAGE_FILE_MODE) < 0 ? -errno : file_write_all(fd, data, size);
        if (r == 0 && fsync(fd) < 0)
                r = -errno;
        return r < 0 ? err_set(e, r, "cannot write '%s' to the model store: %s", name, strerror(-r)) : 0;
}

static int write_info(int dir_fd, const struct candidate *c, const struct origin *origin, struct err *e)
{
        CLEANUP(buf_done) struct buf text;

        buf_init(&text, STAGE_INFO_MAX);
        (void)buf_printf(&text,
                         "{\"id\": \"%s\", \"model_name\": ", c->id); /* failure is sticky in the buffer */
        (void)json_write_string(&text, model_name(c->model));
        (void)buf_puts(&text, ", \"source_url\": ");
        (void)json_write_string(&text, origin->url);
        (void)buf_printf(&text, ", \"fetched_ms\": %lld, \"digest\": ", (long long)origin->fetched_ms);
        (void)json_write_string(&text, origin->digest);
        if (origin->signature && *origin->signature) {
                (void)buf_printf(&text,
                                 ", \"version\": %" PRIu64 ", \"time_s\": %" PRId64 ", \"signature\": ",
                                 origin->statement.version, origin->statement.time_s);
                (void)json_write_string(&text, origin->signature);
        }
        (void)buf_puts(&text, "}\n");
        if (text.failed)
                return err_set(e, text.failed, "cannot write '%s': %s", STAGE_INFO, strerror(-text.failed));
        return write_file(dir_fd, STAGE_INFO, text.data, text.size, e);
}

static int open_dir(const char *dir, int *ret_fd, struct err *e)
{
        CLEANUP(closep) int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0)
                return err_sys(e, "cannot open directory '%s'", dir);
        if (fchmod(fd, STAGE_MODE) < 0) /* mkdtemp's 0700 would keep the estimator out */
                return err_sys(e, "cannot change the mode of '%s'", dir);
        *ret_fd = TAKE_FD(fd);
        return 0;
}

static int sync_dir(int dir_fd, const char *dir, struct err *e)
{
        return fsync(dir_fd) < 0 && errno != EINVAL ? err_sys(e, "cannot sync directory '%s'", dir) : 0;
}

static int write_files(int dir_fd, const struct model_archive *entries, struct err *e)
{
        int r = 0;

        for (size_t i = 0; i < entries->n && r == 0; i++) {
                const struct model_entry *entry = &entries->entries[i];

                if (strcmp(entry->name, STAGE_INFO) != 0) /* ours, and no part of the id */
                        r = write_file(dir_fd, entry->name, entry->data, entry->size, e);
        }
        return r;
}

int stage_entries(const char *dir, const struct model_archive *entries, struct err *e)
{
        CLEANUP(closep) int dir_fd = -1;
        int r;

        r = open_dir(dir, &dir_fd, e);
        if (r == 0)
                r = write_files(dir_fd, entries, e);
        return r < 0 ? r : sync_dir(dir_fd, dir, e);
}

static int write_entries(const char *dir, const struct candidate *c, const struct origin *origin,
                         struct err *e)
{
        CLEANUP(closep) int dir_fd = -1;
        int r;

        r = open_dir(dir, &dir_fd, e);
        if (r == 0)
                r = write_files(dir_fd, c->entries, e);
        if (r == 0)
                r = write_info(dir_fd, c, origin, e);
        return r < 0 ? r : sync_dir(dir_fd, dir, e);
}

int stage_write(const char *staging_path, const struct candidate *c, const struct origin *origin,
                char ret[PATH_MAX], struct err *e)
{
        char dir[PATH_MAX];
        int r;

        if (path_join(dir, sizeof(dir), staging_path, "XXXXXX") < 0)
                return err_set(e, -ENAMETOOLONG, "path '%.100s...' is too long", staging_path);
        if (!mkdtemp(dir))
                return err_sys(e, "cannot make a directory in '%s'", staging_path);
        r = write_entries(dir, c, origin, e);
        if (r < 0) {
                (void)file_remove_tree(dir, NULL); /* what remains is removed at the next start */
                return r;
        }
        (void)snprintf(ret, PATH_MAX, "%s", dir);
        return 0;
}
