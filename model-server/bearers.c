/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/bearers.h"

#include <errno.h>
#include <pthread.h>
#include <sodium.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "common/file.h"
#include "common/log.h"

#define SCHEME      "Bearer "
#define HASH_PREFIX "sha256:"
#define BLANKS      " \t\r"

/* What changes when a file is written or replaced. */
struct version {
        dev_t device;
        ino_t inode;
        off_t size;
        struct timespec written, changed;
};

struct table {
        struct token *items; /* owned */
        size_t n;
};

struct bearers {
        char *path;           /* owned */
        pthread_mutex_t lock; /* of all below */
        struct version seen;  /* of the file that was read last, well or not; all zero: it was not there */
        struct table table;
};

/* ---- a line ---- */

static size_t word(const char *line, size_t size)
{
        size_t n = 0;

        while (n < size && !strchr(BLANKS, line[n]))
                n++;
        return n;
}

static size_t blanks(const char *line, size_t size)
{
        size_t n = 0;

        while (n < size && line[n] && strchr(BLANKS, line[n]))
                n++;
        return n;
}

static bool starts_hash(const char *text, size_t size)
{
        return size >= strlen(HASH_PREFIX) && strncmp(text, HASH_PREFIX, strlen(HASH_PREFIX)) == 0;
}

static int parse_hash(const char *text, size_t size, struct token *ret, struct err *e)
{
        size_t skip = strlen(HASH_PREFIX), n = 0;

        if (size != skip + (size_t)2 * TOKEN_HASH_SIZE ||
            sodium_hex2bin(ret->hash, sizeof(ret->hash), text + skip, size - skip, NULL, &n, NULL) < 0 ||
            n != TOKEN_HASH_SIZE)
                return err_set(e, -EBADMSG, "behind " HASH_PREFIX " must be 64 hex digits");
        ret->hashed = true;
        return 1;
}

int bearer_parse(const char *line, size_t size, struct token *ret, const char **ret_note, struct err *e)
{
        const char *note = "", *at = line + blanks(line, size), *end = line + size;
        size_t n;

        while (end > at && strchr(BLANKS, end[-1]))
                end--;
        if (at == end || *at == '#')
                return 0;
        memset(ret, 0, sizeof(*ret));
        n = word(at, (size_t)(end - at));
        if (!starts_hash(at, n) && at + n < end) {
                if (n >= sizeof(ret->node_id))
                        return err_set(e, -EBADMSG, "a node id of more than %d bytes", TOKEN_NODE_MAX - 1);
                memcpy(ret->node_id, at, n);
                at += n;
                at += blanks(at, (size_t)(end - at));
                n = word(at, (size_t)(end - at));
        }
        if (!starts_hash(at, n)) {
                (void)crypto_hash_sha256(ret->hash, (const unsigned char *)at, (size_t)(end - at));
        } else {
                int r = parse_hash(at, n, ret, e);

                if (r < 0)
                        return r;
                note = at + n + blanks(at + n, (size_t)(end - at) - n);
        }
        if (ret_note)
                *ret_note = note;
        return 1;
}

/* ---- the file ---- */

static int add_line(struct table *t, const char *line, size_t size, size_t number, struct err *e)
{
        struct token token, *items;
        int r = bearer_parse(line, size, &token, NULL, e);

        if (r <= 0)
                return r < 0 ? err_prefix(e, r, "line %zu", number) : 0;
        if (t->n == TOKENS_MAX)
                return err_set(e, -E2BIG, "more than %d tokens", TOKENS_MAX);
        items = realloc(t->items, (t->n + 1) * sizeof(*items));
        if (!items)
                return err_set(e, -ENOMEM, "out of memory");
        t->items = items;
        t->items[t->n++] = token;
        return 0;
}

static int read_table(const char *path, const struct stat *st, struct table *ret, struct err *e)
{
        CLEANUP(buf_done) struct buf text = { 0 };
        size_t number = 0;
        int r;

        if (st->st_mode & S_IWOTH)
                return err_set(e, -EACCES, "everybody on this machine can write to '%s'; chmod 600", path);
        if (st->st_mode & S_IROTH)
                log_warning("'%s' can be read by everybody on this machine", path);
        buf_init(&text, TOKEN_FILE_MAX);
        r = file_read(path, &text, e);
        for (const char *line = text.size ? text.data : ""; r == 0 && *line;) {
                size_t size = strcspn(line, "\n");

                r = add_line(ret, line, size, ++number, e);
                line += size + (line[size] != '\0');
        }
        if (text.data)
                sodium_memzero(text.data, text.size);
        return r;
}

static struct version version_of(const struct stat *st)
{
        return (struct version){ st->st_dev, st->st_ino, st->st_size, st->st_mtim, st->st_ctim };
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
        return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool same_version(const struct version *a, const struct version *b)
{
        return a->device == b->device && a->inode == b->inode && a->size == b->size &&
               same_time(&a->written, &b->written) && same_time(&a->changed, &b->changed);
}

/* 1: there are others now, 0: nothing has changed. Notes what it saw before it reads, so that what is written
 * meanwhile is seen the next time. */
static int look(struct bearers *t, struct err *e)
{
        struct table next = { 0 };
        struct version now = { 0 };
        struct stat st;
        int r = stat(t->path, &st) < 0 ? err_sys(e, "cannot read '%s'", t->path) : 0;

        if (r == 0)
                now = version_of(&st);
        if (same_version(&now, &t->seen))
                return 0;
        t->seen = now;
        if (r == 0)
                r = read_table(t->path, &st, &next, e);
        if (r < 0) {
                free(next.items);
                return r;
        }
        free(t->table.items);
        t->table = next;
        return 1;
}

int bearers_open(const char *path, struct bearers **ret, struct err *e)
{
        CLEANUP(bearers_freep) struct bearers *t = calloc(1, sizeof(*t));
        int r;

        if (!t)
                return err_set(e, -ENOMEM, "out of memory");
        (void)pthread_mutex_init(&t->lock, NULL); /* cannot fail without attributes */
        t->path = strdup(path);
        if (!t->path)
                return err_set(e, -ENOMEM, "out of memory");
        t->seen.size = -1; /* as no file is */
        r = look(t, e);
        if (r < 0)
                return err_prefix(e, r, "auth.token_file");
        if (!t->table.n)
                log_warning("auth.token_file: there is no token in '%s'; nobody can upload", path);
        *ret = TAKE(t);
        return 0;
}

void bearers_free(struct bearers *t)
{
        if (!t)
                return;
        (void)pthread_mutex_destroy(&t->lock);
        free(t->table.items);
        free(t->path);
        free(t);
}

bool bearers_ok(struct bearers *t, const char *authorization, char ret_node_id[TOKEN_NODE_MAX])
{
        unsigned char hash[TOKEN_HASH_SIZE];
        bool ok = false;
        struct err e;
        int r;

        *ret_node_id = '\0';
        if (!authorization || strncasecmp(authorization, SCHEME, strlen(SCHEME)) != 0)
                return false;
        authorization += strlen(SCHEME);
        (void)crypto_hash_sha256(hash, (const unsigned char *)authorization, strlen(authorization));
        (void)pthread_mutex_lock(&t->lock);
        r = look(t, &e);
        for (size_t i = 0; i < t->table.n; i++)
                if (sodium_memcmp(hash, t->table.items[i].hash, sizeof(hash)) == 0) {
                        ok = true;
                        memcpy(ret_node_id, t->table.items[i].node_id, TOKEN_NODE_MAX);
                }
        if (r < 0)
                (void)log_error(r, "auth.token_file: %s; the tokens of before stay in force", e.text);
        else if (r > 0)
                log_info("auth.token_file: %zu tokens", t->table.n);
        (void)pthread_mutex_unlock(&t->lock);
        return ok;
}
