/* SPDX-License-Identifier: Apache-2.0 */
/* A model archive in memory: unpacked from a zip that came over a network, read from a store's directory,
 * packed for publishing. Nothing is ever written to a path that an archive names. */
#include "model/model.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "common/hash.h"

#define STORE_NOTE "wattloop.json" /* the store's own note beside the entries, not one of them */
#define READ_CHUNK ((size_t)64 << 10)

static inline void reader_freep(struct archive **a)
{
        if (*a)
                (void)archive_read_free(*a);
}

static inline void writer_freep(struct archive **a)
{
        if (*a)
                (void)archive_write_free(*a);
}

static inline void entry_freep(struct archive_entry **entry)
{
        if (*entry)
                archive_entry_free(*entry);
}

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

/* Plain visible names only, so that an entry can become a file of a directory without a second thought. */
static int check_name(const struct model_archive *a, const char *name, struct err *e)
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

static size_t unpacked_size(const struct model_archive *a)
{
        size_t size = 0;

        for (size_t i = 0; i < a->n; i++)
                size += a->entries[i].size;
        return size;
}

/* Takes the bytes of `data`. */
static int add_entry(struct model_archive *a, const char *name, struct buf *data, struct err *e)
{
        struct model_entry *entry = &a->entries[a->n];

        if (!data->data && !buf_reserve(data, 1)) /* an empty entry has its terminator as well */
                return err_set(e, -ENOMEM, "out of memory");
        (void)snprintf(entry->name, sizeof(entry->name), "%s", name); /* check_name() knows that it fits */
        entry->size = data->size;
        entry->data = TAKE(data->data);
        a->n++;
        return 0;
}

/* ---- zip ---- */

static int zip_error(struct archive *zip, struct err *e, const char *what)
{
        const char *text = archive_error_string(zip);
        int r = archive_errno(zip) == ENOMEM ? -ENOMEM : -EBADMSG;

        return err_set(e, r, "%s: %.160s", what, text ? text : "damaged archive");
}

/* Anything but a regular, deflated or stored, readable file. Other compressions that libarchive knows could
 * make it allocate a dictionary of a size that the archive chooses. */
static int check_entry(struct archive *zip, struct archive_entry *entry, struct err *e)
{
        const char *name = archive_entry_pathname(entry), *method = archive_format_name(zip);

        if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry) ||
            archive_entry_symlink(entry))
                return err_set(e, -EBADMSG, "archive entry '%.100s' is not a regular file", name ? name : "");
        if (archive_entry_is_encrypted(entry))
                return err_set(e, -EBADMSG, "archive entry '%.100s' is encrypted", name ? name : "");
        if (!method || (!strstr(method, "(deflation)") && !strstr(method, "(uncompressed)")))
                return err_set(e, -EBADMSG, "archive entry '%.100s': compression '%.40s' is not allowed",
                               name ? name : "", method ? method : "");
        return 0;
}

struct unpacking {
        struct archive *zip;
        struct model_archive *a;
        const char *const *names;                 /* only these; NULL: all */
        size_t max;                               /* bytes of all entries */
        char directory[MODEL_ENTRY_NAME_MAX + 1]; /* that all entries are in: "" the root, else "dir/" */
        bool placed;                              /* the first entry has told */
};

/* The name behind the directory that all entries share; "" for that directory itself. A directory that the
 * first entry is not in, or a second one, stays part of the name, where check_name() refuses it. */
static const char *strip_directory(struct unpacking *u, const char *name)
{
        const char *slash = name ? strchr(name, '/') : NULL;
        size_t n = slash ? (size_t)(slash + 1 - name) : 0;

        if (!name)
                return NULL;
        if (!u->placed && n > 1 && n < sizeof(u->directory) && *name != '.')
                memcpy(u->directory, name, n);
        u->placed = true;
        n = strlen(u->directory);
        return strncmp(name, u->directory, n) ? name : name + n;
}

static int unpack_entry(struct unpacking *u, struct archive_entry *entry, struct err *e)
{
        CLEANUP(buf_done) struct buf data = { .max = u->max - unpacked_size(u->a) };
        const char *whole = archive_entry_pathname(entry), *name = strip_directory(u, whole);
        int r;

        if (name == whole && *u->directory)
                return err_set(e, -EBADMSG, "archive entry '%.100s' is not in '%s' as the others are",
                               name ? name : "", u->directory);

        if (name && !*name && *u->directory && archive_entry_filetype(entry) == AE_IFDIR)
                return 0; /* the directory that all are in */
        r = check_entry(u->zip, entry, e);
        if (r < 0)
                return r;
        r = check_name(u->a, name, e);
        if (r < 0)
                return r;

        for (;;) {
                char chunk[4096];
                la_ssize_t n = archive_read_data(u->zip, chunk, sizeof(chunk));

                if (n < 0)
                        return zip_error(u->zip, e, name);
                if (n == 0)
                        break;
                r = buf_append(&data, chunk, (size_t)n);
                if (r == -EFBIG)
                        return err_set(e, -E2BIG, "archive unpacks to more than %zu bytes%s", u->max,
                                       u->max < MODEL_UNPACKED_MAX ? ", which is too much for its size" : "");
                if (r < 0)
                        return err_set(e, r, "out of memory");
        }
        if (archive_entry_size_is_set(entry) && (la_int64_t)data.size != archive_entry_size(entry))
                return err_set(e, -EBADMSG, "archive entry '%s' is shorter than it says", name);
        return add_entry(u->a, name, &data, e);
}

static bool is_wanted(const char *const *names, const char *path)
{
        const char *name = path && strrchr(path, '/') ? strrchr(path, '/') + 1 : path;

        for (; names && *names; names++)
                if (name && !strcmp(*names, name))
                        return true;
        return !names;
}

static int unpack_all(struct unpacking *u, struct err *e)
{
        for (;;) {
                struct archive_entry *entry; /* borrowed from the reader */
                int r = archive_read_next_header(u->zip, &entry);

                if (r == ARCHIVE_EOF)
                        break;
                if (r != ARCHIVE_OK) /* a warning, too, says that something is not as it should be */
                        return zip_error(u->zip, e, "cannot read archive");
                if (!is_wanted(u->names, archive_entry_pathname(entry)))
                        continue;
                r = unpack_entry(u, entry, e);
                if (r < 0)
                        return r;
        }
        return u->a->n > 0 ? 0 : err_set(e, -EBADMSG, "archive has no entries");
}

/* What so many bytes may unpack to. */
static size_t unpacked_max(size_t size)
{
        size_t max = MODEL_RATIO_FREE + size * MODEL_RATIO_MAX;

        return max < MODEL_UNPACKED_MAX ? max : MODEL_UNPACKED_MAX;
}

int model_archive_read_some(const char *path, const char *const *names, struct model_archive **ret,
                            struct err *e)
{
        CLEANUP(model_archive_freep) struct model_archive *a = calloc(1, sizeof(*a));
        CLEANUP(reader_freep) struct archive *zip = archive_read_new();
        int r;

        if (!a || !zip)
                return err_set(e, -ENOMEM, "out of memory");
        if (archive_read_support_format_zip_seekable(zip) != ARCHIVE_OK ||
            archive_read_open_filename(zip, path, READ_CHUNK) != ARCHIVE_OK)
                return zip_error(zip, e, path);
        r = unpack_all(&(struct unpacking){ .zip = zip, .a = a, .names = names, .max = MODEL_UNPACKED_MAX },
                       e);
        if (r < 0)
                return r;
        *ret = TAKE(a);
        return 0;
}

int model_archive_unpack(const void *data, size_t size, struct model_archive **ret, struct err *e)
{
        CLEANUP(model_archive_freep) struct model_archive *a = NULL;
        CLEANUP(reader_freep) struct archive *zip = NULL;
        int r;

        if (size > MODEL_ARCHIVE_MAX)
                return err_set(e, -E2BIG, "archive is larger than %zu bytes", MODEL_ARCHIVE_MAX);
        a = calloc(1, sizeof(*a));
        zip = archive_read_new();
        if (!a || !zip)
                return err_set(e, -ENOMEM, "out of memory");

        /* Seekable only: the central directory at the end must be whole, so a truncated download never
         * passes. */
        if (archive_read_support_format_zip_seekable(zip) != ARCHIVE_OK ||
            archive_read_open_memory(zip, data, size) != ARCHIVE_OK)
                return zip_error(zip, e, "cannot read archive");
        r = unpack_all(&(struct unpacking){ .zip = zip, .a = a, .max = unpacked_max(size) }, e);
        if (r < 0)
                return r;
        *ret = TAKE(a);
        return 0;
}

/* ---- directory ---- */

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
                CLEANUP(buf_done) struct buf data = { .max = MODEL_UNPACKED_MAX - unpacked_size(a) };
                int r;

                if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, "..") || !strcmp(d->d_name, STORE_NOTE))
                        continue;
                r = check_name(a, d->d_name, e);
                if (r == 0)
                        r = read_file_at(dirfd(dir), d->d_name, &data, e);
                if (r == 0)
                        r = add_entry(a, d->d_name, &data, e);
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

/* ---- packing ---- */

static la_ssize_t write_to_buf(struct archive *zip, void *arg, const void *data, size_t size)
{
        if (buf_append(arg, data, size) < 0) {
                archive_set_error(zip, ENOMEM, "out of memory or over the limit");
                return -1;
        }
        return (la_ssize_t)size;
}

/* Without a time stamp libarchive writes the zip format's earliest, in every time zone. */
static int pack_entry(struct archive *zip, const struct model_entry *from, struct err *e)
{
        CLEANUP(entry_freep) struct archive_entry *entry = archive_entry_new();

        if (!entry)
                return err_set(e, -ENOMEM, "out of memory");
        archive_entry_set_pathname(entry, from->name);
        archive_entry_set_filetype(entry, AE_IFREG);
        archive_entry_set_perm(entry, 0644);
        archive_entry_set_size(entry, (la_int64_t)from->size);
        if (archive_write_header(zip, entry) != ARCHIVE_OK ||
            archive_write_data(zip, from->data, from->size) != (la_ssize_t)from->size)
                return zip_error(zip, e, "cannot pack archive");
        return 0;
}

int model_archive_pack(const struct model_archive *a, struct buf *out, struct err *e)
{
        CLEANUP(writer_freep) struct archive *zip = archive_write_new();
        const struct model_entry *sorted[MODEL_ENTRIES_MAX];

        if (!zip)
                return err_set(e, -ENOMEM, "out of memory");
        for (size_t i = 0; i < a->n; i++) { /* insertion sort: at most 64 */
                size_t j = i;

                for (; j > 0 && strcmp(sorted[j - 1]->name, a->entries[i].name) > 0; j--)
                        sorted[j] = sorted[j - 1];
                sorted[j] = &a->entries[i];
        }

        if (archive_write_set_format_zip(zip) != ARCHIVE_OK ||
            archive_write_set_bytes_per_block(zip, 0) != ARCHIVE_OK ||
            archive_write_open(zip, out, NULL, write_to_buf, NULL) != ARCHIVE_OK)
                return zip_error(zip, e, "cannot pack archive");
        for (size_t i = 0; i < a->n; i++) {
                int r = pack_entry(zip, sorted[i], e);

                if (r < 0)
                        return r;
        }
        if (archive_write_close(zip) != ARCHIVE_OK)
                return zip_error(zip, e, "cannot pack archive");
        return out->failed;
}
