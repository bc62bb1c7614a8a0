/* SPDX-License-Identifier: Apache-2.0 */
#include "trainer-client/quarantine.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include "common/file.h"
#include "common/log.h"

#define DIR_MODE    0750
#define FILE_MODE   0640
#define BATCHES_MAX 100000
#define WORDS_MAX   4096

static int directory(const struct options *o, const char *destination, char ret[PATH_MAX], struct err *e)
{
        if (snprintf(ret, PATH_MAX, "%s/quarantine/%s", o->state_path, destination) >= PATH_MAX)
                return err_set(e, -ENAMETOOLONG, "state.path is too long");
        return 0;
}

static bool is_words(const char *name)
{
        size_t n = strlen(name);

        return n > 4 && strcmp(name + n - 4, ".txt") == 0;
}

int quarantine_size(const struct options *o, const char *destination, int64_t *ret_batches,
                    int64_t *ret_bytes, struct err *e)
{
        CLEANUP(closedirp) DIR *dir = NULL;
        char path[PATH_MAX];
        struct dirent *entry;
        struct stat st;
        int r;

        *ret_batches = *ret_bytes = 0;
        r = directory(o, destination, path, e);
        if (r < 0)
                return r;
        dir = opendir(path);
        if (!dir)
                return errno == ENOENT ? 0 : err_sys(e, "cannot open '%s'", path);
        while ((entry = readdir(dir)))
                if (entry->d_name[0] != '.' && fstatat(dirfd(dir), entry->d_name, &st, 0) == 0) {
                        *ret_batches += !is_words(entry->d_name);
                        *ret_bytes += (int64_t)st.st_size;
                }
        return 0;
}

int quarantine_put(const struct options *o, const struct destination *d, const struct parcel *p,
                   const char *words, struct err *e)
{
        char dir[PATH_MAX], path[PATH_MAX + 300], text[WORDS_MAX];
        int64_t batches, bytes;
        int r, n;

        r = quarantine_size(o, d->own.name, &batches, &bytes, e);
        if (r == 0 && (bytes + (int64_t)p->body.size > o->quarantine_bytes || batches >= BATCHES_MAX))
                return err_prefix(e, err_set(e, -EDQUOT, "%s", words),
                                  "%s refused batch %s and the quarantine is full (quarantine.bytes)",
                                  d->own.name, p->name);
        if (r == 0)
                r = directory(o, d->own.name, dir, e);
        if (r == 0)
                r = file_mkdirs(dir, DIR_MODE, e);
        if (r < 0)
                return r;
        n = snprintf(text, sizeof(text), "batch %s, %zu samples: %s\n", p->name, p->samples, words);
        (void)snprintf(path, sizeof(path), "%s/%.64s-%lld-%lld.txt", dir, p->range.epoch,
                       (long long)p->range.first_id, (long long)p->range.last_id);
        r = file_write_atomic(path, text, (size_t)(n < WORDS_MAX ? n : WORDS_MAX - 1), FILE_MODE, e);
        if (r < 0)
                return r;
        (void)snprintf(path, sizeof(path), "%s/%.64s-%lld-%lld.%s", dir, p->range.epoch,
                       (long long)p->range.first_id, (long long)p->range.last_id, d->row->extension);
        return file_write_atomic(path, p->body.data, p->body.size, FILE_MODE, e);
}

static int only_bodies(const struct dirent *entry)
{
        return entry->d_name[0] != '.' && !is_words(entry->d_name);
}

/* Samples are counted when the batch is packed; here the line of words remembers them. */
static void read_words(const char *dir, const char *name, struct parcel *p)
{
        char path[PATH_MAX + 300], text[WORDS_MAX] = "", batch[256] = "";
        const char *dot = strchr(name, '.');
        FILE *f;

        (void)snprintf(path, sizeof(path), "%s/%.*s.txt", dir, (int)(dot ? dot - name : 0), name);
        f = fopen(path, "re");
        if (f && fgets(text, sizeof(text), f) &&
            sscanf(text, "batch %255s %zu samples", batch, &p->samples) >= 1)
                (void)snprintf(p->name, sizeof(p->name), "%.*s", (int)strcspn(batch, ","), batch);
        if (f)
                (void)fclose(f);
}

static int resend_one(struct destination *d, const char *dir, const char *name, struct err *e)
{
        struct parcel p;
        char path[PATH_MAX + 300];
        const char *dot = strchr(name, '.');
        int r;

        parcel_init(&p);
        (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
        r = file_read(path, &p.body, e);
        if (r == 0) {
                read_words(dir, name, &p);
                r = destination_deliver(d, &p, e);
        }
        parcel_done(&p);
        if (r < 0)
                return r;
        (void)unlink(path);
        (void)snprintf(path, sizeof(path), "%s/%.*s.txt", dir, (int)(dot ? dot - name : 0), name);
        (void)unlink(path);
        return 0;
}

int quarantine_resend(const struct options *o, struct destination *d, struct err *e)
{
        struct dirent **entries = NULL;
        char dir[PATH_MAX];
        int r, n, sent = 0;

        r = directory(o, d->own.name, dir, e);
        if (r < 0)
                return r;
        n = scandir(dir, &entries, only_bodies, versionsort);
        for (int i = 0; i < n; i++) {
                if (r != -EAGAIN && r != -EPERM) { /* else the others would fail, too */
                        r = resend_one(d, dir, entries[i]->d_name, e);
                        sent += r == 0;
                        if (r < 0)
                                log_warning("stays in quarantine: %s", e->text);
                }
                free(entries[i]);
        }
        free(entries);
        return r == -EAGAIN || r == -EPERM ? r : sent;
}
