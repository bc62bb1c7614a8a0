/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/serve/signer.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/json.h"
#include "common/log.h"
#include "schema/key_list.h"

#define STATE_MAX      4096
#define REMEMBERED     1024 /* signatures of this generation; about a kilobyte each */
#define REMEMBERED_KEY 16
#define MODE_OF_OTHERS (S_IRWXG | S_IRWXO)

struct remembered {
        unsigned char key[REMEMBERED_KEY];
        char *text; /* owned; NULL: free */
};

struct signer {
        struct minisign_secret key;
        char *state_path; /* owned */
        int64_t life_s;
        pthread_mutex_t lock;
        /* Under the lock. */
        uint64_t version; /* of this generation */
        int64_t time_s;
        bool over; /* the next signature begins another */
        struct remembered remembered[REMEMBERED];
};

uint64_t signer_next_version(uint64_t last, int64_t now_s)
{
        return last + 1 > (uint64_t)now_s ? last + 1 : (uint64_t)now_s;
}

/* ---- keys ---- */

/* A credential of systemd's: only this service reaches the directory, and an access list shows as group bits.
 */
static bool is_credential(const char *path)
{
        const char *dir = getenv("CREDENTIALS_DIRECTORY");
        size_t n = dir ? strlen(dir) : 0;

        return n && strncmp(path, dir, n) == 0 && path[n] == '/' && !strstr(path, "/../");
}

int signer_read_key(const char *path, struct minisign_secret *ret, struct err *e)
{
        CLEANUP(buf_done) struct buf text = { 0 };
        struct stat st;
        int r;

        if (stat(path, &st) < 0)
                return err_sys(e, "secret key '%s'", path);
        if (st.st_mode & (is_credential(path) ? MODE_OF_OTHERS & ~(unsigned int)S_IRGRP : MODE_OF_OTHERS))
                return err_set(
                        e, -EPERM,
                        "secret key '%s' has mode %04o, so others than its owner may read it; chmod 600",
                        path, (unsigned int)(st.st_mode & 07777));
        buf_init(&text, MINISIGN_TEXT_MAX);
        r = file_read(path, &text, e);
        if (r == 0)
                r = minisign_parse_secret(text.data ? text.data : "", text.size, ret, e);
        if (text.data)
                sodium_memzero(text.data, text.size);
        return r < 0 ? err_prefix(e, r, "secret key '%s'", path) : 0;
}

/* A key that no updater believes is found out here and not on a thousand nodes. */
static void warn_of_key(const struct signer *s, const char *keys_file)
{
        CLEANUP(buf_done) struct buf text = { 0 };
        char id[MINISIGN_ID_HEX_SIZE];
        struct key_list list;
        struct err e;
        int r;

        minisign_id_hex(s->key.id, id);
        buf_init(&text, KEY_LIST_MAX);
        r = file_read(keys_file, &text, &e);
        if (r == 0)
                r = key_list_parse(text.data ? text.data : "", text.size, &list, &e);
        if (r < 0)
                log_warning("signing.keys_file '%s': %s", keys_file, e.text);
        else if (key_list_revokes(&list, s->key.id))
                log_warning("the signing key %s is revoked by '%s': no updater will believe it", id,
                            keys_file);
        else if (!key_list_find(&list, s->key.id))
                log_warning("the signing key %s is not on the list '%s'", id, keys_file);
        else if (list.expires_s && list.expires_s < clock_wall_ms() / 1000)
                log_warning("the list of keys '%s' has expired; sign it again with the root key", keys_file);
}

/* ---- generations ---- */

static int load_state(struct signer *s, struct err *e)
{
        CLEANUP(json_decrefp) json_t *object = NULL;
        long long version, time_s;
        int r = json_parse_file(s->state_path, STATE_MAX, &object, e);

        if (r == -ENOENT)
                return 0;
        if (r == 0)
                r = json_get_int(object, "version", &version, e);
        if (r == 0)
                r = json_get_int(object, "time_s", &time_s, e);
        if (r == 0 && (version < 0 || time_s < 0))
                r = err_set(e, -EBADMSG, "negative");
        if (r < 0)
                return err_prefix(e, r, "'%s' (without it versions begin at the time of day)", s->state_path);
        s->version = (uint64_t)version;
        s->time_s = time_s;
        return 0;
}

static void forget(struct signer *s)
{
        for (size_t i = 0; i < REMEMBERED; i++) {
                free(s->remembered[i].text);
                s->remembered[i].text = NULL;
        }
}

/* On the disk before anything is signed with it: no version is ever used twice for different things. */
static int begin_generation(struct signer *s, int64_t now_s, struct err *e)
{
        int64_t time_s = now_s > s->time_s ? now_s : s->time_s;
        uint64_t version = signer_next_version(s->version, now_s);
        char text[128];
        int r, n = snprintf(text, sizeof(text), "{\"version\": %" PRIu64 ", \"time_s\": %" PRId64 "}\n",
                            version, time_s);

        r = file_write_atomic(s->state_path, text, (size_t)n, 0644, e);
        if (r < 0)
                return err_prefix(e, r, "cannot sign");
        s->version = version;
        s->time_s = time_s;
        s->over = false;
        forget(s);
        return 0;
}

/* Half of the life is over, or the clock was set back behind it. */
static bool is_old(const struct signer *s, int64_t now_s)
{
        return s->life_s > 0 && now_s - s->time_s >= (s->life_s + 1) / 2;
}

void signer_renew(struct signer *s)
{
        if (!s)
                return;
        (void)pthread_mutex_lock(&s->lock);
        s->over = true;
        (void)pthread_mutex_unlock(&s->lock);
}

int signer_open(const struct signer_settings *settings, struct signer **ret, struct err *e)
{
        struct signer *s = calloc(1, sizeof(*s));
        int r;

        if (!s)
                return err_set(e, -ENOMEM, "out of memory");
        (void)pthread_mutex_init(&s->lock, NULL); /* cannot fail without attributes */
        s->life_s = settings->life_s;
        s->over = true; /* what was served before the start is not known */
        s->state_path = strdup(settings->state_path);
        r = s->state_path ? signer_read_key(settings->key_file, &s->key, e)
                          : err_set(e, -ENOMEM, "out of memory");
        if (r == 0)
                r = load_state(s, e);
        if (r < 0) {
                signer_free(s);
                return r;
        }
        if (*settings->keys_file)
                warn_of_key(s, settings->keys_file);
        *ret = s;
        return 0;
}

void signer_free(struct signer *s)
{
        if (!s)
                return;
        forget(s);
        sodium_memzero(&s->key, sizeof(s->key));
        (void)pthread_mutex_destroy(&s->lock);
        free(s->state_path);
        free(s);
}

/* ---- signatures ---- */

static void remember_key(const struct statement *what, const char *digest, unsigned char ret[REMEMBERED_KEY])
{
        char text[STATEMENT_SLOT_MAX + STATEMENT_NAME_MAX + 128];
        int n = snprintf(text, sizeof(text), "%s %s %s %u %d", digest, what->slot, what->name,
                         what->held_back, what->halted);

        (void)crypto_generichash(ret, REMEMBERED_KEY, (const unsigned char *)text, (size_t)n, NULL, 0);
}

static int sign(const struct signer *s, const struct statement *what, signer_bytes_fn find, void *arg,
                struct buf *ret, struct err *e)
{
        CLEANUP(buf_done) struct buf comment = { 0 };
        struct statement statement = *what;
        struct signer_bytes bytes = { 0 };
        int r = find(arg, &bytes, e);

        if (r < 0)
                return r;
        memcpy(statement.id, bytes.id, sizeof(statement.id));
        statement.version = s->version;
        statement.time_s = s->time_s;
        statement.expires_s = s->life_s > 0 ? s->time_s + s->life_s : 0;
        for (char *p = statement.name; *p; p++)
                if (*p <= ' ') /* words end there */
                        *p = '_';
        buf_init(&comment, MINISIGN_COMMENT_MAX);
        r = statement_write(&statement, &comment);
        return r < 0 ? err_set(e, r, "cannot write a statement: %s", strerror(-r))
                     : minisign_sign(&s->key, bytes.data, bytes.size, comment.data, ret, e);
}

int signer_sign(struct signer *s, const struct statement *what, const char *digest, signer_bytes_fn bytes,
                void *arg, struct buf *out, struct err *e)
{
        CLEANUP(buf_done) struct buf text = { 0 };
        unsigned char key[REMEMBERED_KEY];
        struct remembered *slot;
        int64_t now_s = clock_wall_ms() / 1000;
        int r = 0;

        buf_init(&text, MINISIGN_TEXT_MAX);
        remember_key(what, digest, key);
        slot = &s->remembered[(key[0] | (size_t)key[1] << 8) % REMEMBERED];
        (void)pthread_mutex_lock(&s->lock);
        if (s->over || is_old(s, now_s))
                r = begin_generation(s, now_s, e);
        if (r == 0 && (!slot->text || memcmp(slot->key, key, sizeof(key)) != 0)) {
                r = sign(s, what, bytes, arg, &text, e);
                if (r == 0) {
                        free(slot->text);
                        slot->text = TAKE(text.data);
                        memcpy(slot->key, key, sizeof(key));
                }
        }
        if (r == 0 && buf_puts(out, slot->text) < 0)
                r = err_set(e, out->failed, "out of memory");
        (void)pthread_mutex_unlock(&s->lock);
        return r;
}
