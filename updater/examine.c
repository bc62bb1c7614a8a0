/* SPDX-License-Identifier: Apache-2.0 */
#include "updater/examine.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "common/clock.h"
#include "common/file.h"
#include "schema/rollout.h"
#include "updater/mirror.h"
#include "updater/request.h"
#include "updater/samples.h"
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

/* Those of a mirror on a disk. */
static int read_keys(const char *mirror, struct buf *list, struct buf *signature, struct err *e)
{
        char path[PATH_MAX];
        int r;

        if (path_join(path, sizeof(path), mirror, "api/v1/keys.minisig") < 0)
                return err_set(e, -ENAMETOOLONG, "path '%.100s...' is too long", mirror);
        r = file_read(path, signature, e);
        if (r < 0)
                return r;
        path[strlen(path) - strlen(".minisig")] = '\0';
        return file_read(path, list, e);
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
        r = *o->options->from ? read_keys(o->options->from, &list, &signature, e)
                              : request_keys(o->options, &list, &signature, e);
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

/* Is it for other machines, or for none any more? A mirror passes it on. */
static bool is_held(const struct examination *x)
{
        return x->origin.signature && !x->order->for_mirror && !x->order->trust.downgrade &&
               !rollout_admits(&x->origin.statement, x->order->machine->node_id);
}

/* The model first, as most often there is nothing new; then the keys by which it is judged. */
static int fetch(struct examination *x, struct examined *ret, struct err *e)
{
        const struct examine_order *order = x->order;
        const struct options *o = order->options;
        const struct question question = { .slot = &x->slot,
                                           .spec = &order->machine->spec,
                                           .etag = order->etag,
                                           .current_id = order->current_id,
                                           .node_id = order->for_mirror ? "" : order->machine->node_id,
                                           .is_mirror = order->is_mirror };
        int r;

        r = request_model(o, &question, &x->answer, e);
        ret->retry_after_ms = x->answer.retry_after_ms;
        ret->unchanged = x->answer.unchanged;
        ret->is_mirror = x->answer.is_mirror;
        (void)snprintf(ret->etag, sizeof(ret->etag), "%s", x->answer.etag);
        if (r < 0 || ret->unchanged)
                return r;
        r = refresh_keys(x, ret, e);
        if (r == 0)
                r = check_signature(x, &x->answer.bytes, &x->answer.signature, e);
        ret->held = r == 0 && is_held(x);
        if (r == 0 && !ret->held)
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

/* The directory of a mirror (mirror.h): what current.minisig names. */
static int read_mirror(struct examination *x, const char *root, struct examined *ret, struct err *e)
{
        CLEANUP(buf_done) struct buf signature, bytes;
        struct minisign_signature parsed;
        struct statement statement;
        char name[MIRROR_PATH_MAX], path[PATH_MAX];
        int r;

        buf_init(&signature, MINISIGN_TEXT_MAX);
        buf_init(&bytes, MODEL_ARCHIVE_MAX);
        mirror_path(&x->slot, NULL, name);
        if (path_join(path, sizeof(path), root, name + 1) < 0)
                return err_set(e, -ENAMETOOLONG, "path '%.100s...' is too long", root);
        r = file_read(path, &signature, e);
        if (r == 0)
                r = minisign_parse_signature(signature.data ? signature.data : "", signature.size, &parsed,
                                             e);
        if (r == 0)
                r = statement_parse(parsed.comment, &statement, e);
        if (r < 0)
                return r;
        mirror_path(&x->slot, statement.id, name);
        if (path_join(path, sizeof(path), root, name + 1) < 0)
                return err_set(e, -ENAMETOOLONG, "path '%.100s...' is too long", root);
        r = file_read(path, &bytes, e);
        if (r == 0)
                r = refresh_keys(x, ret, e);
        if (r == 0)
                r = check_signature(x, &bytes, &signature, e);
        ret->held = r == 0 && is_held(x);
        if (r == 0 && !ret->held)
                r = verify_unpack(x->slot.form, bytes.data ? bytes.data : "", bytes.size, NULL, &x->candidate,
                                  e);
        return r < 0 ? r : set_origin(x, &bytes, "file:", path, e);
}

static int read_from(struct examination *x, struct examined *ret, struct err *e)
{
        const char *path = x->order->options->from;
        struct stat st;

        if (stat(path, &st) < 0)
                return err_sys(e, "cannot read '%s'", path);
        if (!S_ISDIR(st.st_mode))
                return read_file(x, path, e);
        return mirror_has(path, &x->slot) ? read_mirror(x, path, ret, e) : read_directory(x, path, e);
}

/* ---- all of it ---- */

/* With the model that serves, on what this machine did last. Where there is nothing to compare with or on,
 * that is so. */
static int compare(const struct examination *x, struct err *e)
{
        const struct examine_order *o = x->order;
        CLEANUP(samples_freep) struct samples *samples = NULL;
        struct candidate serving = { 0 };
        int r = 0;

        if (!*o->current_dir || !*o->options->canary_samples || o->options->canary_disagreement == 0)
                return 0;
        if (samples_read(o->options->canary_samples, &samples, NULL) == 0 && samples->n > 0 &&
            verify_read_dir(x->slot.form, o->current_dir, NULL, &serving, NULL) == 0)
                r = verify_agreement(&x->candidate, &serving, samples,
                                     (double)o->options->canary_disagreement, e);
        candidate_done(&serving);
        return r;
}

/* For a mirror: the bytes that were signed, under their id. */
static int stage_bytes(const struct examination *x, char ret[PATH_MAX], struct err *e)
{
        if (path_join(ret, PATH_MAX, x->order->staging, x->candidate.id) < 0)
                return err_set(e, -ENAMETOOLONG, "path '%.100s...' is too long", x->order->staging);
        return file_write_atomic(ret, x->answer.bytes.data, x->answer.bytes.size, 0644, e);
}

static int judge(struct examination *x, struct err *e)
{
        int r;

        if (x->origin.signature && strcmp(x->origin.statement.id, x->candidate.id) != 0)
                return err_set(e, -EKEYREJECTED,
                               "the signature is of model %.12s, these are the files of %.12s",
                               x->origin.statement.id, x->candidate.id);
        r = verify_purpose(&x->candidate, &x->slot, &x->order->options->features, e);
        if (r == 0)
                r = verify_canary(&x->candidate, &x->slot, e);
        return r < 0 || strcmp(x->candidate.id, x->order->current_id) == 0 ? r : compare(x, e);
}

int examine(void *arg, void *result, struct err *e)
{
        const struct examine_order *o = arg;
        struct examined *ret = result;
        CLEANUP(examination_done) struct examination x = { .order = o, .slot = o->slot, .trust = o->trust };
        int r;

        answer_init(&x.answer, &x.slot);
        buf_init(&x.signature, MINISIGN_TEXT_MAX);
        r = *o->options->from ? read_from(&x, ret, e) : fetch(&x, ret, e);
        ret->form = (int)x.slot.form;
        ret->unchanged |= ret->held;
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
        if (o->for_mirror)
                return stage_bytes(&x, ret->staged, e);
        ret->unchanged = strcmp(ret->id, o->current_id) == 0;
        return ret->unchanged ? 0 : stage_write(o->staging, &x.candidate, &x.origin, ret->staged, e);
}
