/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/serve/seal.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <unistd.h>

#include "model-server/serve/signer.h"
#include "model/model.h"

int seal_weight_id(const void *data, size_t size, char ret[HASH_HEX_SIZE])
{
        const struct hash_entry entry = { "weight.json", data, size };

        return hash_entries_hex(&entry, 1, ret);
}

void seal_slot(const struct offer *o, bool weight, char ret[STATEMENT_SLOT_MAX])
{
        (void)snprintf(ret, STATEMENT_SLOT_MAX, "%s/%s/%s", o->source->name, output_types[o->output_type],
                       weight ? "weight" : "archive"); /* of our own tables: it fits */
}

/* ---- what is signed ---- */

struct archive_bytes {
        const struct offer *offer;
        const struct reply *reply;
        struct buf file;
};

static int read_fd(int fd, size_t size, struct buf *ret, struct err *e)
{
        char *room;

        if (size > MODEL_ARCHIVE_MAX)
                return err_set(e, -EBADMSG, "an archive of %zu bytes is more than an updater takes", size);
        buf_init(ret, size);
        room = buf_reserve(ret, size);
        if (!room)
                return err_set(e, -ENOMEM, "out of memory");
        for (size_t n = 0; n < size;) {
                ssize_t r = pread(fd, room + n, size - n, (off_t)n);

                if (r <= 0)
                        return r < 0 ? err_sys(e, "cannot read the archive")
                                     : err_set(e, -EIO, "the archive became shorter");
                n += (size_t)r;
        }
        buf_grew(ret, size);
        return 0;
}

static int find_archive(void *arg, struct signer_bytes *ret, struct err *e)
{
        CLEANUP(model_archive_freep) struct model_archive *entries = NULL;
        struct archive_bytes *a = arg;
        int r = 0;

        if (a->reply->fd < 0) {
                ret->data = a->offer->archive.text;
                ret->size = a->offer->archive.size;
        } else {
                r = read_fd(a->reply->fd, a->reply->fd_size, &a->file, e);
                ret->data = a->file.data;
                ret->size = a->file.size;
        }
        if (r == 0)
                r = model_archive_unpack(ret->data, ret->size, &entries, e);
        if (r == -E2BIG || r == -ENOTSUP)
                r = -EBADMSG;
        return r < 0 ? r : model_archive_id(entries, ret->id);
}

static int find_weights(void *arg, struct signer_bytes *ret, struct err *e)
{
        const struct answer *weights = arg;

        (void)e;
        ret->data = weights->text;
        ret->size = weights->size;
        return seal_weight_id(ret->data, ret->size, ret->id);
}

/* ---- where it goes ---- */

static int seal(struct server *s, const struct offer *o, bool weight, const char *digest,
                const struct seal_terms *terms, signer_bytes_fn bytes, void *arg, struct reply *reply,
                struct err *e)
{
        struct statement what = { .held_back = terms->held_back, .halted = terms->halted };
        CLEANUP(buf_done) struct buf text = { 0 };
        size_t size;
        int r;

        seal_slot(o, weight, what.slot);
        (void)snprintf(what.name, sizeof(what.name), "%s", o->name);
        buf_init(&text, MINISIGN_TEXT_MAX);
        r = signer_sign(s->signer, &what, digest, bytes, arg, &text, e);
        if (r < 0)
                return r;
        size = sodium_base64_ENCODED_LEN(text.size, sodium_base64_VARIANT_ORIGINAL);
        reply->signature = malloc(size);
        if (!reply->signature)
                return err_set(e, -ENOMEM, "out of memory");
        (void)sodium_bin2base64(reply->signature, size, (const unsigned char *)text.data, text.size,
                                sodium_base64_VARIANT_ORIGINAL);
        return 0;
}

int seal_archive(struct server *s, const struct offer *o, const char *digest, const struct seal_terms *terms,
                 struct reply *reply, struct err *e)
{
        struct archive_bytes bytes = { o, reply, { 0 } };
        int r = s->signer ? seal(s, o, false, digest, terms, find_archive, &bytes, reply, e) : 0;

        buf_done(&bytes.file);
        return r;
}

int seal_weights(struct server *s, const struct offer *o, const struct answer *weights,
                 const struct seal_terms *terms, struct reply *reply, struct err *e)
{
        return s->signer ? seal(s, o, true, weights->digest, terms, find_weights, (void *)(uintptr_t)weights,
                                reply, e)
                         : 0;
}
