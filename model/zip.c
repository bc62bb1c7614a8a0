/* SPDX-License-Identifier: Apache-2.0 */
/* Zip archives that came over a network or are to be published. Nothing is ever written to a path that an
 * archive names. */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "common/library.h"
#include "model/archive.h"

#define READ_CHUNK ((size_t)64 << 10)

/* libarchive, loaded when the first zip is: it brings a dozen libraries of other formats along, which would
 * be most of the memory and of the start of a daemon that only reads directories. */
#define ZIP_LIB "libarchive.so.13" /* of every release since 3.0 */
/* clang-format off */
#define ZIP_FUNCTIONS(X) \
        X(archive_entry_filetype) X(archive_entry_free) X(archive_entry_hardlink) \
        X(archive_entry_is_encrypted) X(archive_entry_new) X(archive_entry_pathname) \
        X(archive_entry_set_filetype) X(archive_entry_set_pathname) X(archive_entry_set_perm) \
        X(archive_entry_set_size) X(archive_entry_size) X(archive_entry_size_is_set) \
        X(archive_entry_symlink) X(archive_errno) X(archive_error_string) X(archive_format_name) \
        X(archive_read_data) X(archive_read_free) X(archive_read_new) X(archive_read_next_header) \
        X(archive_read_open_filename) X(archive_read_open_memory) \
        X(archive_read_support_format_zip_seekable) X(archive_set_error) X(archive_write_close) \
        X(archive_write_data) X(archive_write_free) X(archive_write_header) X(archive_write_new) \
        X(archive_write_open) X(archive_write_set_bytes_per_block) X(archive_write_set_format_zip)
/* clang-format on */

static struct {
        ZIP_FUNCTIONS(LIBRARY_POINTER)
} zip_lib;

static pthread_once_t zip_lib_once = PTHREAD_ONCE_INIT;
static struct err zip_lib_error;
static int zip_lib_status;

static void load_zip_lib(void)
{
        static const char *const names[] = { ZIP_FUNCTIONS(LIBRARY_NAME) };

        zip_lib_status = library_load(ZIP_LIB, names, ARRAY_SIZE(names), &zip_lib, &zip_lib_error);
}

int model_archive_ready(struct err *e)
{
        (void)pthread_once(&zip_lib_once, load_zip_lib); /* cannot fail */
        return zip_lib_status == 0
                       ? 0
                       : err_set(e, zip_lib_status, "archives cannot be read: %s", zip_lib_error.text);
}

static inline void reader_freep(struct archive **a)
{
        if (*a)
                (void)zip_lib.archive_read_free(*a);
}

static inline void writer_freep(struct archive **a)
{
        if (*a)
                (void)zip_lib.archive_write_free(*a);
}

static inline void entry_freep(struct archive_entry **entry)
{
        if (*entry)
                zip_lib.archive_entry_free(*entry);
}

/* ---- unpacking ---- */

static int zip_error(struct archive *zip, struct err *e, const char *what)
{
        const char *text = zip_lib.archive_error_string(zip);
        int r = zip_lib.archive_errno(zip) == ENOMEM ? -ENOMEM : -EBADMSG;

        return err_set(e, r, "%s: %.160s", what, text ? text : "damaged archive");
}

/* Anything but a regular, deflated or stored, readable file. Other compressions that libarchive knows could
 * make it allocate a dictionary of a size that the archive chooses. */
static int check_entry(struct archive *zip, struct archive_entry *entry, struct err *e)
{
        const char *name = zip_lib.archive_entry_pathname(entry), *method = zip_lib.archive_format_name(zip);

        if (zip_lib.archive_entry_filetype(entry) != AE_IFREG || zip_lib.archive_entry_hardlink(entry) ||
            zip_lib.archive_entry_symlink(entry))
                return err_set(e, -EBADMSG, "archive entry '%.100s' is not a regular file", name ? name : "");
        if (zip_lib.archive_entry_is_encrypted(entry))
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
 * first entry is not in, or a second one, stays part of the name, where archive_check_name() refuses it. */
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
        CLEANUP(buf_done) struct buf data = { .max = u->max - archive_unpacked_size(u->a) };
        const char *whole = zip_lib.archive_entry_pathname(entry), *name = strip_directory(u, whole);
        int r;

        if (name == whole && *u->directory)
                return err_set(e, -EBADMSG, "archive entry '%.100s' is not in '%s' as the others are",
                               name ? name : "", u->directory);

        if (name && !*name && *u->directory && zip_lib.archive_entry_filetype(entry) == AE_IFDIR)
                return 0; /* the directory that all are in */
        r = check_entry(u->zip, entry, e);
        if (r < 0)
                return r;
        r = archive_check_name(u->a, name, e);
        if (r < 0)
                return r;

        for (;;) {
                char chunk[4096];
                la_ssize_t n = zip_lib.archive_read_data(u->zip, chunk, sizeof(chunk));

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
        if (zip_lib.archive_entry_size_is_set(entry) &&
            (la_int64_t)data.size != zip_lib.archive_entry_size(entry))
                return err_set(e, -EBADMSG, "archive entry '%s' is shorter than it says", name);
        return archive_add_entry(u->a, name, &data, e);
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
                int r = zip_lib.archive_read_next_header(u->zip, &entry);

                if (r == ARCHIVE_EOF)
                        break;
                if (r != ARCHIVE_OK) /* a warning, too, says that something is not as it should be */
                        return zip_error(u->zip, e, "cannot read archive");
                if (!is_wanted(u->names, zip_lib.archive_entry_pathname(entry)))
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
        CLEANUP(reader_freep) struct archive *zip = NULL;
        int r;

        r = model_archive_ready(e);
        if (r < 0)
                return r;
        zip = zip_lib.archive_read_new();
        if (!a || !zip)
                return err_set(e, -ENOMEM, "out of memory");
        if (zip_lib.archive_read_support_format_zip_seekable(zip) != ARCHIVE_OK ||
            zip_lib.archive_read_open_filename(zip, path, READ_CHUNK) != ARCHIVE_OK)
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
        r = model_archive_ready(e);
        if (r < 0)
                return r;
        a = calloc(1, sizeof(*a));
        zip = zip_lib.archive_read_new();
        if (!a || !zip)
                return err_set(e, -ENOMEM, "out of memory");

        /* Seekable only: the central directory at the end must be whole, so a truncated download never
         * passes. */
        if (zip_lib.archive_read_support_format_zip_seekable(zip) != ARCHIVE_OK ||
            zip_lib.archive_read_open_memory(zip, data, size) != ARCHIVE_OK)
                return zip_error(zip, e, "cannot read archive");
        r = unpack_all(&(struct unpacking){ .zip = zip, .a = a, .max = unpacked_max(size) }, e);
        if (r < 0)
                return r;
        *ret = TAKE(a);
        return 0;
}

/* ---- packing ---- */

static la_ssize_t write_to_buf(struct archive *zip, void *arg, const void *data, size_t size)
{
        if (buf_append(arg, data, size) < 0) {
                zip_lib.archive_set_error(zip, ENOMEM, "out of memory or over the limit");
                return -1;
        }
        return (la_ssize_t)size;
}

/* Without a time stamp libarchive writes the zip format's earliest, in every time zone. */
static int pack_entry(struct archive *zip, const struct model_entry *from, struct err *e)
{
        CLEANUP(entry_freep) struct archive_entry *entry = zip_lib.archive_entry_new();

        if (!entry)
                return err_set(e, -ENOMEM, "out of memory");
        zip_lib.archive_entry_set_pathname(entry, from->name);
        zip_lib.archive_entry_set_filetype(entry, AE_IFREG);
        zip_lib.archive_entry_set_perm(entry, 0644);
        zip_lib.archive_entry_set_size(entry, (la_int64_t)from->size);
        if (zip_lib.archive_write_header(zip, entry) != ARCHIVE_OK ||
            zip_lib.archive_write_data(zip, from->data, from->size) != (la_ssize_t)from->size)
                return zip_error(zip, e, "cannot pack archive");
        return 0;
}

int model_archive_pack(const struct model_archive *a, struct buf *out, struct err *e)
{
        CLEANUP(writer_freep) struct archive *zip = NULL;
        const struct model_entry *sorted[MODEL_ENTRIES_MAX];
        int r;

        r = model_archive_ready(e);
        if (r < 0)
                return r;
        zip = zip_lib.archive_write_new();
        if (!zip)
                return err_set(e, -ENOMEM, "out of memory");
        for (size_t i = 0; i < a->n; i++) { /* insertion sort: at most 64 */
                size_t j = i;

                for (; j > 0 && strcmp(sorted[j - 1]->name, a->entries[i].name) > 0; j--)
                        sorted[j] = sorted[j - 1];
                sorted[j] = &a->entries[i];
        }

        if (zip_lib.archive_write_set_format_zip(zip) != ARCHIVE_OK ||
            zip_lib.archive_write_set_bytes_per_block(zip, 0) != ARCHIVE_OK ||
            zip_lib.archive_write_open(zip, out, NULL, write_to_buf, NULL) != ARCHIVE_OK)
                return zip_error(zip, e, "cannot pack archive");
        for (size_t i = 0; i < a->n; i++) {
                r = pack_entry(zip, sorted[i], e);
                if (r < 0)
                        return r;
        }
        if (zip_lib.archive_write_close(zip) != ARCHIVE_OK)
                return zip_error(zip, e, "cannot pack archive");
        return out->failed;
}
