/* SPDX-License-Identifier: Apache-2.0 */
#include "updater/examine.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/clock.h"
#include "common/file.h"
#include "updater/request.h"
#include "updater/stage.h"
#include "updater/verify.h"

/* A model on its way through the checks. */
struct examination {
        const struct examine_order *order;
        struct slot slot;
        struct trust trust;
        struct answer answer;
        struct candidate candidate;
        struct origin origin;
        struct buf signature; /* NUL-terminated by its type */
};

static void examination_done(struct examination *x)
{
        answer_done(&x->answer);
        candidate_done(&x->candidate);
        buf_done(&x->signature);
        free(x->origin.url);
}

static int set_origin(struct examination *x, const struct buf *bytes, const char *prefix, const char *text,
                      struct err *e)
{
        if (asprintf(&x->origin.url, "%s%s", prefix, text) < 0) {
                x->origin.url = NULL;
                return err_set(e, -ENOMEM, "out of memory");
        }
        x->origin.fetched_ms = clock_wall_ms();
        if (bytes)
                request_digest(bytes->data, bytes->size, x->origin.digest);
        return 0;
}

/* ---- the list of keys ---- */

static int write_keys(const struct examine_order *o, const char *name, const struct buf *text, struct err *e)
{
        char path[PATH_MAX];

        if (path_join(path, sizeof(path), o->staging, name) < 0)
                return err_set(e, -ENAMETOOLONG, "path '%.100s...' is too long", o->staging);
        return file_write_atomic(path, text->data, text->size, 0644, e);
}

/* A list that cannot be had leaves the one that is known, which may well do. One that is there and wrong is
 * an error: somebody plays tricks, or an operator has to know. */
static int refresh_keys(struct examination *x, struct examined *ret, struct err *e)
{
        const struct examine_order *o = x->order;
        CLEANUP(buf_done) struct buf list = { 0 }, signature = { 0 };
        struct key_list keys;
        int r;

        if (o->roots_n == 0 || o->options->server_trust != TRUST_SIGNED)
                return 0;
        buf_init(&list, KEY_LIST_MAX);
        buf_init(&signature, MINISIGN_TEXT_MAX);
        r = request_keys(o->options, &list, &signature, e);
        if (r < 0)
                return x->trust.keys.n > 0 && (r == -ENOENT || r == -ETIMEDOUT) ? 0 : r;
        r = trust_accept_keys(o->roots, o->roots_n, &list, &signature, o->keys_version, x->trust.now_s, &keys,
                              e);
        if (r < 0)
                return r;
        trust_merge_keys(&x->trust, &keys);
        r = write_keys(o, EXAMINE_KEYS, &list, e);
        if (r == 0)
                r = write_keys(o, EXAMINE_KEYS_SIG, &signature, e);
        ret->keys_fetched = r == 0;
        return r;
}

/* ---- where the bytes come from ---- */

/* Before anything in the bytes is looked at. */
static int check_signature(struct examination *x, const struct buf *bytes, const struct buf *signature,
                           struct err *e)
{
        struct statement s;
        int r;

        if (x->order->options->server_trust != TRUST_SIGNED)
                return 0;
        r = trust_check(&x->trust, &x->slot, signature, bytes->data, bytes->size, &s, e);
        if (r < 0)
                return r;
        x->origin.statement = s;
        if (buf_append(&x->signature, signature->data, signature->size) < 0)
                return err_set(e, x->signature.failed, "out of memory");
        x->origin.signature = x->signature.data;
        return 0;
}

static int fetch(struct examination *x, struct examined *ret, struct err *e)
{
        const struct options *o = x->order->options;
        int r;

        r = refresh_keys(x, ret, e);
        if (r < 0)
                return r;
        r = request_model(o, &x->slot, &x->order->machine->spec, x->order->etag, &x->answer, e);
        ret->retry_after_ms = x->answer.retry_after_ms;
        ret->unchanged = x->answer.unchanged;
        if (r < 0 || ret->unchanged)
                return r;
        (void)snprintf(ret->etag, sizeof(ret->etag), "%s", x->answer.etag);
        r = check_signature(x, &x->answer.bytes, &x->answer.signature, e);
        if (r == 0)
                r = verify_unpack(x->slot.form, x->answer.bytes.data, x->answer.bytes.size,
                                  *o->trainer ? o->trainer : NULL, &x->candidate, e);
        if (r == 0)
                r = set_origin(x, &x->answer.bytes, o->server_url, "", e);
        return r;
}

/* A file's name without folders and extension: "SGDRegressorTrainer_0.json" names its model. */
static void stem_of(const char *path, char ret[MODEL_NAME_MAX])
{
        const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
        int n = (int)strcspn(name, ".");

        (void)snprintf(ret, MODEL_NAME_MAX, "%.*s", n < MODEL_NAME_MAX ? n : 0, name);
}

/* FILE.minisig, where minisign puts it. None is an empty one. */
static int read_signature(const char *path, struct buf *ret, struct err *e)
{
        char name[PATH_MAX];
        int r;

        if (snprintf(name, sizeof(name), "%s.minisig", path) >= (int)sizeof(name))
                return err_set(e, -ENAMETOOLONG, "path '%.100s...' is too long", path);
        r = file_read(name, ret, e);
        return r == -ENOENT ? 0 : r;
}

static int read_file(struct examination *x, const char *path, struct err *e)
{
        CLEANUP(buf_done) struct buf bytes, signature;
        char stem[MODEL_NAME_MAX];
        int r;

        buf_init(&bytes, MODEL_ARCHIVE_MAX);
        buf_init(&signature, MINISIGN_TEXT_MAX);
        r = file_read(path, &bytes, e);
        if (r == 0)
                r = read_signature(path, &signature, e);
        if (r < 0)
                return r;
        if (bytes.size == 0)
                return err_set(e, -EBADMSG, "'%s' is empty", path);
        stem_of(path, stem);
        x->slot = slot_with_form(&x->slot, memcmp(bytes.data, "PK", 2) == 0 ? FORM_ARCHIVE : FORM_WEIGHT);
        r = check_signature(x, &bytes, &signature, e);
        if (r == 0)
                r = verify_unpack(x->slot.form, bytes.data, bytes.size, *stem ? stem : NULL, &x->candidate,
                                  e);
        return r < 0 ? r : set_origin(x, &bytes, "file:", path, e);
}

static int read_directory(struct examination *x, const char *path, struct err *e)
{
        char metadata[PATH_MAX];
        int r;

        if (x->order->options->server_trust == TRUST_SIGNED)
                return err_set(e, -EBADMSG, "'%s' is a directory, which cannot be signed; give the archive",
                               path);
        if (path_join(metadata, sizeof(metadata), path, "metadata.json") < 0)
                return err_set(e, -ENAMETOOLONG, "path '%.100s...' is too long", path);
        x->slot = slot_with_form(&x->slot, access(metadata, F_OK) == 0 ? FORM_ARCHIVE : FORM_WEIGHT);
        r = verify_read_dir(x->slot.form, path, NULL, &x->candidate, e);
        return r < 0 ? r : set_origin(x, NULL, "file:", path, e);
}

static int read_from(struct examination *x, struct err *e)
{
        const char *path = x->order->options->from;
        struct stat st;

        if (stat(path, &st) < 0)
                return err_sys(e, "cannot read '%s'", path);
        return S_ISDIR(st.st_mode) ? read_directory(x, path, e) : read_file(x, path, e);
}

/* ---- all of it ---- */

static int judge(struct examination *x, struct err *e)
{
        int r;

        if (x->origin.signature && strcmp(x->origin.statement.id, x->candidate.id) != 0)
                return err_set(e, -EKEYREJECTED,
                               "the signature is of model %.12s, these are the files of %.12s",
                               x->origin.statement.id, x->candidate.id);
        r = verify_purpose(&x->candidate, &x->slot, &x->order->options->features, e);
        return r < 0 ? r : verify_canary(&x->candidate, &x->slot, e);
}

int examine(void *arg, void *result, struct err *e)
{
        const struct examine_order *o = arg;
        struct examined *ret = result;
        CLEANUP(examination_done) struct examination x = { .order = o, .slot = o->slot, .trust = o->trust };
        int r;

        answer_init(&x.answer, &x.slot);
        buf_init(&x.signature, MINISIGN_TEXT_MAX);
        r = *o->options->from ? read_from(&x, e) : fetch(&x, ret, e);
        ret->form = (int)x.slot.form;
        if (r < 0 || ret->unchanged)
                return r;
        ret->fetched = true;
        (void)snprintf(ret->id, sizeof(ret->id), "%s", x.candidate.id);
        (void)snprintf(ret->model, sizeof(ret->model), "%s", model_name(x.candidate.model));
        (void)snprintf(ret->signature, sizeof(ret->signature), "%s",
                       x.signature.data ? x.signature.data : "");
        r = judge(&x, e);
        if (r < 0)
                return r;
        ret->unchanged = strcmp(ret->id, o->current_id) == 0;
        return ret->unchanged ? 0 : stage_write(o->staging, &x.candidate, &x.origin, ret->staged, e);
}
