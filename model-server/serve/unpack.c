/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/serve/unpack.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/file.h"
#include "common/log.h"
#include "model-server/serve/catalog.h"
#include "model-server/serve/publish.h"

static void reader_freep(struct archive **a)
{
        if (*a)
                (void)archive_read_free(*a);
}

/* Relative, and never upwards or hidden. */
static bool safe_path(const char *path)
{
        if (!path || !*path || *path == '/')
                return false;
        for (const char *p = path; p; p = strchr(p, '/') ? strchr(p, '/') + 1 : NULL)
                if (*p == '.' || *p == '/')
                        return false;
        return !strchr(path, '\\');
}

static int write_entry(struct archive *zip, const char *path, unsigned long long *left, struct err *e)
{
        CLEANUP(closep) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
        char chunk[65536];
        la_ssize_t n;
        int r = 0;

        if (fd < 0)
                return err_sys(e, "cannot create '%s'", path);
        while (r == 0 && (n = archive_read_data(zip, chunk, sizeof(chunk))) != 0) {
                if (n < 0)
                        return err_set(e, -EBADMSG, "damaged: %.100s", archive_error_string(zip));
                if ((unsigned long long)n > *left)
                        return err_set(e, -E2BIG, "unpacks to more than %llu bytes", UNPACK_BYTES_MAX);
                *left -= (unsigned long long)n;
                r = file_write_all(fd, chunk, (size_t)n);
        }
        return r < 0 ? err_set(e, r, "cannot write '%s': %s", path, strerror(-r)) : 0;
}

static int unpack_entry(struct archive *zip, struct archive_entry *entry, const char *dir,
                        unsigned long long *left, struct err *e)
{
        const char *name = archive_entry_pathname(entry);
        char path[CATALOG_PATH_MAX], *slash;
        int r;

        if (archive_entry_filetype(entry) == AE_IFDIR)
                return 0; /* made with the first file in it */
        if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry) || !safe_path(name))
                return err_set(e, -EBADMSG, "entry '%.100s' is not a plain file of a plain name",
                               name ? name : "");
        if (path_join(path, sizeof(path), dir, name) < 0)
                return err_set(e, -ENAMETOOLONG, "entry '%.100s': name too long", name);
        slash = strrchr(path, '/');
        *slash = '\0';
        r = file_mkdirs(path, 0755, e);
        *slash = '/';
        return r < 0 ? r : write_entry(zip, path, left, e);
}

static int unpack_zip(const char *path, const char *dir, struct err *e)
{
        CLEANUP(reader_freep) struct archive *zip = archive_read_new();
        unsigned long long left = UNPACK_BYTES_MAX;
        struct archive_entry *entry;
        int code, r;

        if (!zip)
                return err_set(e, -ENOMEM, "out of memory");
        if (archive_read_support_format_zip_seekable(zip) != ARCHIVE_OK ||
            archive_read_open_filename(zip, path, 65536) != ARCHIVE_OK)
                return err_set(e, -EBADMSG, "no zip: %.100s", archive_error_string(zip));
        for (int n = 0; (code = archive_read_next_header(zip, &entry)) == ARCHIVE_OK; n++) {
                if (n == UNPACK_ENTRIES_MAX)
                        return err_set(e, -E2BIG, "more than %d entries", UNPACK_ENTRIES_MAX);
                r = unpack_entry(zip, entry, dir, &left, e);
                if (r < 0)
                        return r;
        }
        return code == ARCHIVE_EOF ? 0 : err_set(e, -EBADMSG, "damaged: %.100s", archive_error_string(zip));
}

/* 1: the directory is to be made of this zip; 0: it is, or it is somebody's own. */
static int is_due(const char *dir, const char *note)
{
        CLEANUP(buf_done) struct buf text = { 0 };
        char path[CATALOG_PATH_MAX];
        struct stat st;

        if (stat(dir, &st) < 0)
                return errno == ENOENT;
        buf_init(&text, 256);
        if (path_join(path, sizeof(path), dir, UNPACK_NOTE) < 0 || file_read(path, &text, NULL) < 0)
                return 0;
        return strcmp(text.size ? text.data : "", note) != 0;
}

static int unpack_pipeline(const char *models_path, const char *file, const char *name, struct err *e)
{
        char zip[CATALOG_PATH_MAX], dir[CATALOG_PATH_MAX], staged[CATALOG_PATH_MAX], path[CATALOG_PATH_MAX],
                note[128];
        struct stat st;
        int r;

        if (path_join(zip, sizeof(zip), models_path, file) < 0 ||
            path_join(dir, sizeof(dir), models_path, name) < 0 ||
            snprintf(staged, sizeof(staged), "%s/%s/unpack-%s", models_path, PUBLISH_STAGING, name) >=
                    (int)sizeof(staged))
                return err_set(e, -ENAMETOOLONG, "models.path is too long");
        if (stat(zip, &st) < 0)
                return err_sys(e, "cannot stat it");
        (void)snprintf(note, sizeof(note), "%lld %lld.%09ld\n", (long long)st.st_size,
                       (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
        if (!is_due(dir, note))
                return 0;
        r = file_remove_tree(staged, e);
        if (r == 0)
                r = file_mkdirs(staged, 0755, e);
        if (r == 0)
                r = unpack_zip(zip, staged, e);
        if (r == 0 && path_join(path, sizeof(path), staged, UNPACK_NOTE) == 0)
                r = file_write_atomic(path, note, strlen(note), 0644, e);
        if (r == 0)
                r = publish_put_in_place(staged, models_path, name, e);
        (void)file_remove_tree(staged, NULL);
        return r < 0 ? r : 1;
}

void unpack_pipelines(const char *models_path, const char *own)
{
        static bool told; /* once, however often we look */
        DIR *list = opendir(models_path);

        for (struct dirent *entry; list && (entry = readdir(list));) {
                size_t n = strlen(entry->d_name);
                char name[256];
                struct err e;
                int r;

                if (*entry->d_name == '.' || n < 5 || strcmp(entry->d_name + n - 4, ".zip") != 0)
                        continue;
                (void)snprintf(name, sizeof(name), "%.*s", (int)(n - 4), entry->d_name);
                if (!strcmp(name, own)) {
                        if (!told)
                                log_warning("pipeline '%s' is not served: '%s' is published here "
                                            "(pipeline.name); give the file another name",
                                            entry->d_name, own);
                        told = true;
                        continue;
                }
                r = unpack_pipeline(models_path, entry->d_name, name, &e);
                if (r < 0)
                        log_warning("pipeline '%s': %s", entry->d_name, e.text);
                else if (r > 0)
                        log_info("pipeline '%s' is unpacked", entry->d_name);
        }
        if (list)
                (void)closedir(list);
}
