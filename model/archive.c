/* SPDX-License-Identifier: Apache-2.0 */
/* A model archive in memory, and read from a store's directory; zip.c packs and unpacks it. */
#include "model/archive.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "common/hash.h"

#define STORE_NOTE "wattloop.json" /* the store's own note beside the entries, not one of them */
#define READ_CHUNK ((size_t)64 << 10)

void model_archive_free(struct model_archive *a)
{
        if (!a)
                return;
        for (size_t i = 0; i < a->n; i++)
                free(a->entries[i].data);
        free(a);
}

const struct model_entry *model_archive_find(const struct model_archive *a, const char *name)
{
        for (size_t i = 0; i < a->n; i++)
                if (!strcmp(a->entries[i].name, name))
                        return &a->entries[i];
        return NULL;
}

int archive_check_name(const struct model_archive *a, const char *name, struct err *e)
{
        if (!name || !*name)
                return err_set(e, -EBADMSG, "archive entry without a usable name");
        if (strlen(name) >= MODEL_ENTRY_NAME_MAX)
                return err_set(e, -EBADMSG, "archive entry '%.60s...' has a name longer than %d bytes", name,
                               MODEL_ENTRY_NAME_MAX - 1);
        if (*name == '.')
                return err_set(e, -EBADMSG, "archive entry '%s' begins with a dot", name);
        for (const char *p = name; *p; p++)
                if (*p < ' ' || *p > '~' || *p == '/' || *p == '\\')
                        return err_set(e, -EBADMSG, "archive entry '%s' is not a plain file name", name);
        if (model_archive_find(a, name))
                return err_set(e, -EBADMSG, "archive entry '%s' is there twice", name);
        if (a->n == MODEL_ENTRIES_MAX)
                return err_set(e, -E2BIG, "archive has more than %d entries", MODEL_ENTRIES_MAX);
        return 0;
}

size_t archive_unpacked_size(const struct model_archive *a)
{
        size_t size = 0;

        for (size_t i = 0; i < a->n; i++)
                size += a->entries[i].size;
        return size;
}

int archive_add_entry(struct model_archive *a, const char *name, struct buf *data, struct err *e)
{
        struct model_entry *entry = &a->entries[a->n];

        if (!data->data && !buf_reserve(data, 1)) /* an empty entry has its terminator as well */
                return err_set(e, -ENOMEM, "out of memory");
        (void)snprintf(entry->name, sizeof(entry->name), "%s",
                       name); /* archive_check_name() knows that it fits */
        entry->size = data->size;
        entry->data = TAKE(data->data);
        a->n++;
        return 0;
}

/* The file's bytes; refuses links and whatever is not a plain file. */
static int read_file_at(int dir_fd, const char *name, struct buf *out, struct err *e)
{
        CLEANUP(closep) int fd = -1;
        struct stat st;

        fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
        if (fd < 0)
                return err_sys(e, "cannot open '%s'", name);
        if (fstat(fd, &st) < 0)
                return err_sys(e, "cannot stat '%s'", name);
        if (!S_ISREG(st.st_mode))
                return err_set(e, -EBADMSG, "'%s' is not a regular file", name);

        if ((size_t)st.st_size < out->max - out->size)
                (void)buf_reserve(out, (size_t)st.st_size + 1); /* the loop says so when there is no memory */
        for (;;) {
                size_t room = out->max - out->size < READ_CHUNK ? out->max - out->size : READ_CHUNK;
                char probe, *p = room > 0 ? buf_reserve(out, room) : &probe;
                ssize_t n;

                if (!p)
                        return err_set(e, -ENOMEM, "out of memory");
                n = read(fd, p, room > 0 ? room : 1);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return err_sys(e, "cannot read '%s'", name);
                if (n == 0)
                        return 0;
                if (room == 0)
                        return err_set(e, -E2BIG, "directory holds more than %zu bytes", MODEL_UNPACKED_MAX);
                buf_grew(out, (size_t)n);
        }
}

static int by_entry_name(const void *a, const void *b)
{
        const struct model_entry *x = a, *y = b;

        return strcmp(x->name, y->name);
}

int model_archive_read_dir(const char *path, struct model_archive **ret, struct err *e)
{
        CLEANUP(model_archive_freep) struct model_archive *a = NULL;
        CLEANUP(closedirp) DIR *dir = opendir(path);
        struct dirent *d;

        if (!dir)
                return err_sys(e, "cannot open directory '%s'", path);
        a = calloc(1, sizeof(*a));
        if (!a)
                return err_set(e, -ENOMEM, "out of memory");

        while ((errno = 0, d = readdir(dir))) {
                CLEANUP(buf_done) struct buf data = { .max = MODEL_UNPACKED_MAX - archive_unpacked_size(a) };
                int r;

                if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, "..") || !strcmp(d->d_name, STORE_NOTE))
                        continue;
                r = archive_check_name(a, d->d_name, e);
                if (r == 0)
                        r = read_file_at(dirfd(dir), d->d_name, &data, e);
                if (r == 0)
                        r = archive_add_entry(a, d->d_name, &data, e);
                if (r < 0)
                        return err_prefix(e, r, "'%.100s'", path);
        }
        if (errno)
                return err_sys(e, "cannot read directory '%s'", path);
        if (a->n == 0)
                return err_set(e, -ENOENT, "directory '%s' has no model files", path);
        qsort(a->entries, a->n, sizeof(a->entries[0]), by_entry_name);
        *ret = TAKE(a);
        return 0;
}

int model_archive_id(const struct model_archive *a, char ret[65])
{
        struct hash_entry entries[MODEL_ENTRIES_MAX];

        for (size_t i = 0; i < a->n; i++)
                entries[i] =
                        (struct hash_entry){ a->entries[i].name, a->entries[i].data, a->entries[i].size };
        return hash_entries_hex(entries, a->n, ret);
}
