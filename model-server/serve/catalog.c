/* SPDX-License-Identifier: Apache-2.0 */
/* The pipelines that are served, in order, what was asked of them lately, and their archives. */
#include "model-server/serve/catalog.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/file.h"
#include "common/log.h"
#include "model/model.h"

/* What was asked for lately. */
#define RECALL_SLOTS 4096
struct recall {
        unsigned char key[CATALOG_KEY];
        const struct offer *offer;
        bool used;
};

/* The digest of an archive that is on the disk, good as long as the file is this one. */
#define DIGEST_SLOTS 8192
struct digest_slot {
        dev_t dev;
        ino_t ino;
        off_t size;
        struct timespec mtime;
        char digest[DIGEST_MAX];
};

struct catalog {
        atomic_int references;
        pthread_mutex_t lock;
        struct recall *recalls;      /* owned, under the lock */
        struct digest_slot *digests; /* owned, under the lock */
        struct pipeline *pipelines[CATALOG_PIPELINES_MAX];
        size_t n;
};

void catalog_unref(struct catalog *c)
{
        if (!c || atomic_fetch_sub(&c->references, 1) > 1)
                return;
        for (size_t i = 0; i < c->n; i++)
                pipeline_unref(c->pipelines[i]);
        (void)pthread_mutex_destroy(&c->lock);
        free(c->recalls);
        free(c->digests);
        free(c);
}

struct catalog *catalog_ref(struct catalog *c)
{
        (void)atomic_fetch_add(&c->references, 1);
        return c;
}

size_t catalog_pipelines(const struct catalog *c)
{
        return c->n;
}

const struct pipeline *catalog_pipeline(const struct catalog *c, size_t i)
{
        return c->pipelines[i];
}

static int catalog_new(struct catalog **ret, struct err *e)
{
        struct catalog *c = calloc(1, sizeof(*c));

        if (!c)
                return err_set(e, -ENOMEM, "out of memory");
        atomic_init(&c->references, 1);
        (void)pthread_mutex_init(&c->lock, NULL); /* cannot fail without attributes */
        c->recalls = calloc(RECALL_SLOTS, sizeof(*c->recalls));
        c->digests = calloc(DIGEST_SLOTS, sizeof(*c->digests));
        if (!c->recalls || !c->digests) {
                catalog_unref(c);
                return err_set(e, -ENOMEM, "out of memory");
        }
        *ret = c;
        return 0;
}

/* A pipeline that cannot be read must not keep the others from being served. */
static int add_pipeline(struct catalog *c, const char *models_path, const char *name, struct err *e)
{
        struct pipeline *p;
        struct err why;
        int r;

        if (c->n == CATALOG_PIPELINES_MAX)
                return err_set(e, -E2BIG, "more than %d pipelines in '%s'", CATALOG_PIPELINES_MAX,
                               models_path);
        r = pipeline_load(models_path, name, &p, &why);
        if (r == 0) {
                c->pipelines[c->n++] = p;
                log_info("pipeline '%s': %zu models", name, pipeline_offers(p));
        } else if (r != -ENOENT && r != -ENOTDIR) {
                log_warning("%s; it is not served", why.text);
        }
        return r == -ENOMEM ? err_set(e, r, "out of memory") : 0;
}

int catalog_load(const char *models_path, const char *own, struct catalog **ret, struct err *e)
{
        CLEANUP(catalog_unrefp) struct catalog *c = NULL;
        struct dirent **list = NULL;
        int r = catalog_new(&c, e), n;

        if (r == 0)
                r = add_pipeline(c, models_path, own, e);
        if (r < 0)
                return r;
        n = scandir(models_path, &list, pipeline_not_hidden, alphasort);
        if (n < 0)
                return err_sys(e, "cannot list '%s'", models_path);
        while (n-- > 0) {
                if (r == 0 && strcmp(list[n]->d_name, own) != 0)
                        r = add_pipeline(c, models_path, list[n]->d_name, e);
                free(list[n]);
        }
        free(list);
        if (r < 0)
                return r;
        *ret = TAKE(c);
        return 0;
}

/* Ours first, then the last name first. */
static bool goes_before(const char *a, const char *b, const char *own)
{
        if (!strcmp(a, own) || !strcmp(b, own))
                return !strcmp(a, own);
        return strcmp(a, b) > 0;
}

int catalog_with(const struct catalog *old, const char *own, const char *name, struct pipeline *pipeline,
                 struct catalog **ret, struct err *e)
{
        CLEANUP(pipeline_unrefp) struct pipeline *p = pipeline;
        CLEANUP(catalog_unrefp) struct catalog *c = NULL;
        int r = catalog_new(&c, e);

        if (r < 0)
                return r;
        for (size_t i = 0; i < old->n && c->n < CATALOG_PIPELINES_MAX; i++) {
                const char *other = pipeline_name(old->pipelines[i]);

                if (!strcmp(other, name))
                        continue;
                if (p && goes_before(name, other, own))
                        c->pipelines[c->n++] = TAKE(p);
                if (c->n == CATALOG_PIPELINES_MAX)
                        break;
                c->pipelines[c->n++] = pipeline_ref(old->pipelines[i]);
        }
        if (p && c->n < CATALOG_PIPELINES_MAX)
                c->pipelines[c->n++] = TAKE(p);
        *ret = TAKE(c);
        return 0;
}

bool catalog_has_own_features(const struct catalog *c)
{
        for (size_t i = 0; i < c->n; i++)
                if (pipeline_has_own_features(c->pipelines[i]))
                        return true;
        return false;
}

static struct recall *recall_slot(struct catalog *c, const unsigned char key[CATALOG_KEY])
{
        uint32_t i;

        memcpy(&i, key, sizeof(i));
        return &c->recalls[i % RECALL_SLOTS];
}

bool catalog_recall(struct catalog *c, const unsigned char key[CATALOG_KEY], const struct offer **ret)
{
        struct recall *slot = recall_slot(c, key);
        bool found;

        (void)pthread_mutex_lock(&c->lock);
        found = slot->used && !memcmp(slot->key, key, CATALOG_KEY);
        if (found)
                *ret = slot->offer;
        (void)pthread_mutex_unlock(&c->lock);
        return found;
}

void catalog_remember(struct catalog *c, const unsigned char key[CATALOG_KEY], const struct offer *offer)
{
        struct recall *slot = recall_slot(c, key);

        (void)pthread_mutex_lock(&c->lock);
        memcpy(slot->key, key, CATALOG_KEY);
        slot->offer = offer;
        slot->used = true;
        (void)pthread_mutex_unlock(&c->lock);
}

static bool same_file(const struct digest_slot *slot, const struct stat *st)
{
        return *slot->digest && slot->dev == st->st_dev && slot->ino == st->st_ino &&
               slot->size == st->st_size && slot->mtime.tv_sec == st->st_mtim.tv_sec &&
               slot->mtime.tv_nsec == st->st_mtim.tv_nsec;
}

static int digest_file(const char *path, const struct stat *st, char ret[DIGEST_MAX], struct err *e)
{
        CLEANUP(buf_done) struct buf bytes = { 0 };
        int r;

        buf_init(&bytes, MODEL_ARCHIVE_MAX);
        r = file_read(path, &bytes, e);
        if (r < 0)
                return r;
        if ((off_t)bytes.size != st->st_size)
                return err_set(e, -EAGAIN, "'%s' is being changed", path);
        digest_of(bytes.data, bytes.size, ret);
        return 0;
}

int offer_open_archive(struct catalog *c, const struct offer *o, int *ret_fd, size_t *ret_size,
                       char ret_digest[DIGEST_MAX], struct err *e)
{
        CLEANUP(closep) int fd = -1;
        struct digest_slot *slot;
        struct stat st;
        bool known;
        int r;

        if (o->archive.text) {
                *ret_fd = -1;
                *ret_size = o->archive.size;
                memcpy(ret_digest, o->archive.digest, DIGEST_MAX);
                return 0;
        }
        fd = open(o->archive_path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0)
                return err_sys(e, "cannot read '%s'", o->archive_path);
        slot = &c->digests[(size_t)st.st_ino % DIGEST_SLOTS];
        (void)pthread_mutex_lock(&c->lock);
        known = same_file(slot, &st);
        if (known)
                memcpy(ret_digest, slot->digest, DIGEST_MAX);
        (void)pthread_mutex_unlock(&c->lock);
        if (!known) {
                r = digest_file(o->archive_path, &st, ret_digest, e);
                if (r < 0)
                        return r;
                (void)pthread_mutex_lock(&c->lock);
                *slot = (struct digest_slot){ st.st_dev, st.st_ino, st.st_size, st.st_mtim, "" };
                memcpy(slot->digest, ret_digest, DIGEST_MAX);
                (void)pthread_mutex_unlock(&c->lock);
        }
        *ret_size = (size_t)st.st_size;
        *ret_fd = TAKE_FD(fd);
        return 0;
}
