/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/serve/rollouts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"
#include "common/num.h"
#include "model-server/serve/publish.h"
#include "model-server/serve/rollout_state.h"
#include "model-server/serve/select.h"
#include "model/model.h"
#include "schema/rollout.h"

#define STAGED     ".new" /* a copy in work, below .rollout */
#define COPY_DEPTH 6      /* pipeline/source/output/group/model/entry */

enum form { FORM_ARCHIVE, FORM_WEIGHT, FORM_WEIGHT_NAMED, FORMS };

/* A model that is not (as it is) among those that all nodes may have. */
struct changed {
        const struct offer *offer; /* of r->newest; the array is sorted by it */
        struct rollout_part *part;
        char ids[FORMS][HASH_HEX_SIZE]; /* "" there is no such form */
        uint64_t counts[FORMS][OUTCOMES];
};

struct rollouts {
        struct rollouts_settings settings;
        char dir[CATALOG_PATH_MAX];
        atomic_bool poked;
        pthread_mutex_t lock;
        /* Under the lock. */
        struct catalog *newest, *stable; /* owned: references */
        struct rollout_state state;
        struct changed *changed; /* owned */
        size_t changed_n;
};

/* ---- copies ---- */

static int copy_file(const char *from, const char *to, struct err *e)
{
        CLEANUP(closep) int in = open(from, O_RDONLY | O_CLOEXEC), out = -1;
        ssize_t n;

        if (in < 0)
                return err_sys(e, "cannot read '%s'", from);
        out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        if (out < 0)
                return err_sys(e, "cannot make '%s'", to);
        do
                n = copy_file_range(in, NULL, out, NULL, (size_t)1 << 30, 0);
        while (n > 0);
        return n < 0 || fsync(out) < 0 ? err_sys(e, "cannot write '%s'", to) : 0;
}

/* Plain files and folders; the copy is new. */
static int copy_tree(const char *from, const char *to, int depth, struct err *e)
{
        DIR *list = opendir(from);
        int r = list ? file_mkdirs(to, 0755, e) : err_sys(e, "cannot list '%s'", from);

        for (struct dirent *entry; r == 0 && (entry = readdir(list));) {
                char a[CATALOG_PATH_MAX], b[CATALOG_PATH_MAX];
                struct stat st;

                if (entry->d_name[0] == '.')
                        continue;
                if (path_join(a, sizeof(a), from, entry->d_name) < 0 ||
                    path_join(b, sizeof(b), to, entry->d_name) < 0)
                        r = err_set(e, -ENAMETOOLONG, "models.path is too long");
                else if (stat(a, &st) < 0)
                        r = errno == ENOENT ? 0 : err_sys(e, "cannot read '%s'", a);
                else if (S_ISDIR(st.st_mode))
                        r = depth < COPY_DEPTH ? copy_tree(a, b, depth + 1, e) : 0;
                else if (S_ISREG(st.st_mode))
                        r = copy_file(a, b, e);
        }
        if (list)
                (void)closedir(list);
        return r;
}

/* ---- what is new ---- */

static int archive_digest(struct catalog *c, const struct offer *o, char ret[DIGEST_MAX])
{
        CLEANUP(closep) int fd = -1;
        size_t size;

        ret[0] = '\0';
        return o->archive_path ? offer_open_archive(c, o, &fd, &size, ret, NULL) : 0;
}

static bool same_offer(struct catalog *a, const struct offer *x, struct catalog *b, const struct offer *y)
{
        char p[DIGEST_MAX], q[DIGEST_MAX];

        if (strcmp(x->weights_named.digest, y->weights_named.digest) != 0)
                return false;
        if (*x->content_id || *y->content_id)
                return !strcmp(x->content_id, y->content_id);
        return archive_digest(a, x, p) == 0 && archive_digest(b, y, q) == 0 && !strcmp(p, q);
}

static const struct pipeline *pipeline_in(const struct catalog *c, const char *name)
{
        for (size_t i = 0; i < catalog_pipelines(c); i++)
                if (!strcmp(pipeline_name(catalog_pipeline(c, i)), name))
                        return catalog_pipeline(c, i);
        return NULL;
}

static bool is_stable(struct rollouts *r, struct catalog *c, const struct pipeline *stable,
                      const struct offer *o)
{
        const struct offer *old =
                stable ? pipeline_find(stable, o->source, o->output_type, o->group, o->name) : NULL;

        return old && same_offer(c, o, r->stable, old);
}

/* The content ids that a signature and a report name. What cannot be read is known by its digest. */
static void find_ids(struct catalog *c, struct changed *x)
{
        CLEANUP(model_archive_freep) struct model_archive *entries = NULL;
        CLEANUP(buf_done) struct buf bytes = { 0 };
        const struct offer *o = x->offer;
        char digest[DIGEST_MAX];

        if (o->weights.text)
                (void)seal_weight_id(o->weights.text, o->weights.size, x->ids[FORM_WEIGHT]);
        if (o->weights_named.text)
                (void)seal_weight_id(o->weights_named.text, o->weights_named.size, x->ids[FORM_WEIGHT_NAMED]);
        if (!o->archive_path)
                return;
        (void)snprintf(x->ids[FORM_ARCHIVE], HASH_HEX_SIZE, "%s", o->content_id);
        buf_init(&bytes, MODEL_ARCHIVE_MAX);
        if (*o->content_id || (file_read(o->archive_path, &bytes, NULL) == 0 &&
                               model_archive_unpack(bytes.data, bytes.size, &entries, NULL) == 0 &&
                               model_archive_id(entries, x->ids[FORM_ARCHIVE]) == 0))
                return;
        (void)archive_digest(c, o, digest);
        (void)snprintf(x->ids[FORM_ARCHIVE], HASH_HEX_SIZE, "%s", digest);
}

static int compare_changed(const void *a, const void *b)
{
        const struct changed *x = a, *y = b;

        return (uintptr_t)x->offer < (uintptr_t)y->offer ? -1 : x->offer != y->offer;
}

static const struct changed *find_changed(const struct rollouts *r, const struct offer *o)
{
        const struct changed key = { .offer = o };

        return r->changed_n ? bsearch(&key, r->changed, r->changed_n, sizeof(key), compare_changed) : NULL;
}

/* The pipeline's models that are new, and what they are together. */
static int add_changed(struct rollouts *r, struct catalog *c, const struct pipeline *p,
                       struct rollout_part *part, char ret_print[HASH_HEX_SIZE], struct err *e)
{
        const struct pipeline *stable = pipeline_in(r->stable, pipeline_name(p));
        CLEANUP(buf_done) struct buf ids = { 0 };

        buf_init(&ids, (size_t)PIPELINE_OFFERS_MAX * 2 * HASH_HEX_SIZE);
        for (size_t i = 0; i < pipeline_offers(p); i++) {
                const struct offer *o = pipeline_offer(p, i);
                struct changed *list;

                if (is_stable(r, c, stable, o))
                        continue;
                list = realloc(r->changed, (r->changed_n + 1) * sizeof(*list));
                if (!list)
                        return err_set(e, -ENOMEM, "out of memory");
                r->changed = list;
                list += r->changed_n++;
                *list = (struct changed){ .offer = o, .part = part };
                find_ids(c, list);
                (void)buf_printf(&ids, "%s %s\n", list->ids[FORM_ARCHIVE], list->ids[FORM_WEIGHT_NAMED]);
        }
        ret_print[0] = '\0';
        if (ids.size)
                hash_sha256_hex(ids.data, ids.size, ret_print);
        return ids.failed < 0 ? err_set(e, ids.failed, "out of memory") : 0;
}

static int load_stable(struct rollouts *r, struct err *e)
{
        struct catalog *c;
        int ret = catalog_load(r->dir, r->settings.own, &c, e);

        if (ret < 0)
                return ret;
        catalog_unref(r->stable);
        r->stable = c;
        return 0;
}

/* The newest of this pipeline are for all, from now on. -EAGAIN: the disk has newer ones by now. */
static int settle(struct rollouts *r, struct catalog *newest, const char *name, struct err *e)
{
        char from[CATALOG_PATH_MAX], staged[CATALOG_PATH_MAX];
        CLEANUP(pipeline_unrefp) struct pipeline *copy = NULL;
        const struct pipeline *p = pipeline_in(newest, name);
        int ret;

        if (path_join(from, sizeof(from), r->settings.models_path, name) < 0 ||
            path_join(staged, sizeof(staged), r->dir, STAGED) < 0)
                return err_set(e, -ENAMETOOLONG, "models.path is too long");
        ret = file_remove_tree(staged, e);
        if (ret == 0)
                ret = copy_tree(from, staged, 0, e);
        if (ret == 0)
                ret = pipeline_load(r->dir, STAGED, &copy, e);
        if (ret == 0 && (!p || pipeline_offers(p) != pipeline_offers(copy)))
                ret = err_set(e, -EAGAIN, "pipeline '%s' is changing", name);
        for (size_t i = 0; ret == 0 && i < pipeline_offers(p); i++) {
                const struct offer *o = pipeline_offer(p, i),
                                   *same = pipeline_find(copy, o->source, o->output_type, o->group, o->name);

                if (!same || !same_offer(newest, o, newest, same))
                        ret = err_set(e, -EAGAIN, "pipeline '%s' is changing", name);
        }
        if (ret == 0)
                ret = publish_put_in_place(staged, r->dir, name, e);
        (void)file_remove_tree(staged, NULL); /* the one before; a start removes it too */
        return ret;
}

/* ---- the newest ---- */

int rollouts_open(const struct rollouts_settings *settings, struct rollouts **ret, struct err *e)
{
        struct rollouts *r = calloc(1, sizeof(*r));
        int ret_code = 0;

        if (!r)
                return err_set(e, -ENOMEM, "out of memory");
        r->settings = *settings;
        (void)pthread_mutex_init(&r->lock, NULL); /* cannot fail without attributes */
        atomic_init(&r->poked, true);
        ret_code = rollout_state_open(settings->models_path, r->dir, &r->state, e);
        if (ret_code == 0)
                ret_code = publish_clean(r->dir, e);
        if (ret_code == 0)
                ret_code = load_stable(r, e);
        if (ret_code < 0) {
                rollouts_free(r);
                return ret_code;
        }
        *ret = r;
        return 0;
}

void rollouts_free(struct rollouts *r)
{
        if (!r)
                return;
        catalog_unref(r->newest);
        catalog_unref(r->stable);
        free(r->changed);
        (void)pthread_mutex_destroy(&r->lock);
        free(r);
}

/* A server that stages for the first time takes what is there as good. */
static int adopt(struct rollouts *r, struct catalog *newest, struct err *e)
{
        int ret = 0;

        for (size_t i = 0; ret == 0 && i < catalog_pipelines(newest); i++)
                ret = settle(r, newest, pipeline_name(catalog_pipeline(newest, i)), e);
        return ret < 0 ? ret : load_stable(r, e);
}

/* Pipelines that are gone are gone for all. */
static int drop_gone(struct rollouts *r, const struct catalog *newest, struct err *e)
{
        bool any = false;
        int ret = 0;

        for (size_t i = 0; ret == 0 && i < catalog_pipelines(r->stable); i++) {
                const char *name = pipeline_name(catalog_pipeline(r->stable, i));
                char path[CATALOG_PATH_MAX];

                if (pipeline_in(newest, name))
                        continue;
                any = true;
                ret = path_join(path, sizeof(path), r->dir, name) < 0
                              ? err_set(e, -ENAMETOOLONG, "models.path is too long")
                              : file_remove_tree(path, e);
        }
        return any && ret == 0 ? load_stable(r, e) : ret;
}

static int compare_all(struct rollouts *r, struct catalog *newest, int64_t now_ms, struct err *e)
{
        free(r->changed);
        r->changed = NULL;
        r->changed_n = 0;
        for (size_t i = 0; i < catalog_pipelines(newest); i++) {
                const struct pipeline *p = catalog_pipeline(newest, i);
                struct rollout_part *part = rollout_state_part(&r->state, pipeline_name(p));
                char print[HASH_HEX_SIZE];
                int ret = part ? add_changed(r, newest, p, part, print, e)
                               : err_set(e, -E2BIG, "too many pipelines");

                if (ret < 0)
                        return ret;
                if (!strcmp(print, part->print))
                        continue;
                rollout_part_begin(part, print, now_ms);
                if (*print)
                        log_info("pipeline '%s': a rollout begins with %s %% of the nodes", part->name,
                                 r->settings.stages->items[0]);
        }
        if (r->changed_n)
                qsort(r->changed, r->changed_n, sizeof(*r->changed), compare_changed);
        return 0;
}

static int set(struct rollouts *r, struct catalog *newest, int64_t now_ms, struct err *e)
{
        int ret = r->state.fresh ? adopt(r, newest, e) : drop_gone(r, newest, e);

        if (ret == 0)
                ret = compare_all(r, newest, now_ms, e);
        if (ret < 0)
                return ret;
        catalog_unref(r->newest);
        r->newest = catalog_ref(newest);
        atomic_store(&r->poked, true);
        return rollout_state_save(&r->state, e);
}

int rollouts_set(struct rollouts *r, struct catalog *newest, int64_t now_ms, struct err *e)
{
        int ret;

        (void)pthread_mutex_lock(&r->lock);
        ret = set(r, newest, now_ms, e);
        (void)pthread_mutex_unlock(&r->lock);
        return ret < 0 ? err_prefix(e, ret, "rollout") : 0;
}

/* ---- choosing ---- */

static unsigned int percent_of(const struct rollouts *r, const struct rollout_part *part)
{
        uint64_t percent = 100;

        if (part->stage < r->settings.stages->n)
                (void)num_parse_u64(r->settings.stages->items[part->stage],
                                    &percent); /* options_check() did */
        return (unsigned int)percent;
}

/* Under the lock. The statement's terms, when the model is not for all. */
static bool find_terms(const struct rollouts *r, const struct offer *o, enum form form, struct statement *ret)
{
        const struct changed *x = find_changed(r, o);

        if (!x)
                return false;
        *ret = (struct statement){ .held_back = 100 - percent_of(r, x->part), .halted = x->part->halted };
        memcpy(ret->id, x->ids[form], sizeof(ret->id));
        return true;
}

/* What was withdrawn is withdrawn for all. */
static bool still_offered(const struct catalog *newest, const struct offer *o)
{
        for (size_t i = 0; i < catalog_pipelines(newest); i++)
                if (pipeline_find(catalog_pipeline(newest, i), o->source, o->output_type, o->group, o->name))
                        return true;
        return false;
}

void rollouts_choose(struct rollouts *r, const struct model_request *request, const char *node_id,
                     enum rollout_wish wish, struct choice *ret)
{
        const enum form form = !request->weight           ? FORM_ARCHIVE
                               : request->node_type == -1 ? FORM_WEIGHT_NAMED
                                                          : FORM_WEIGHT;
        CLEANUP(catalog_unrefp) struct catalog *stable = NULL;
        struct statement terms = { 0 };
        bool found = false, current;

        do { /* once, unless another catalog takes its place meanwhile */
                catalog_unref(ret->catalog);
                catalog_unref(stable);
                found = false;
                (void)pthread_mutex_lock(&r->lock);
                ret->catalog = catalog_ref(r->newest);
                stable = catalog_ref(r->stable);
                (void)pthread_mutex_unlock(&r->lock);
                ret->offer = select_model(ret->catalog, request);
                (void)pthread_mutex_lock(&r->lock);
                current = ret->catalog == r->newest;
                if (current && ret->offer)
                        found = find_terms(r, ret->offer, form, &terms);
                (void)pthread_mutex_unlock(&r->lock);
        } while (!current);
        if (!found && wish == WISH_CANDIDATE)
                ret->offer = NULL;
        if (!found)
                return;
        if (wish == WISH_CANDIDATE || (wish == WISH_OWN && node_id && rollout_admits(&terms, node_id))) {
                ret->terms = (struct seal_terms){ terms.held_back, terms.halted };
                return;
        }
        ret->offer = select_model(stable, request);
        if (ret->offer && !still_offered(ret->catalog, ret->offer))
                ret->offer = NULL;
        catalog_unref(ret->catalog);
        ret->catalog = TAKE(stable);
}

/* ---- going on ---- */

void rollouts_poke(struct rollouts *r)
{
        atomic_store(&r->poked, true);
}

static int count(struct rollouts *r, struct store *store, struct err *e)
{
        for (size_t i = 0; i < r->changed_n; i++)
                for (int f = 0; f < FORMS; f++) {
                        struct changed *x = &r->changed[i];
                        int ret = *x->ids[f] ? store_count_outcomes(store, x->ids[f], x->part->counted_ms,
                                                                    x->counts[f], e)
                                             : 0;

                        if (ret < 0)
                                return ret;
                }
        return 0;
}

/* Halts the rollout when too large a share of those that report of one model do not want it. Returns how many
 * reported of the one that most did. */
static uint64_t judge(const struct rollouts *r, struct rollout_part *part)
{
        uint64_t most = 0;

        for (size_t i = 0; i < r->changed_n; i++)
                for (int f = 0; f < FORMS && r->changed[i].part == part; f++) {
                        const uint64_t *n = r->changed[i].counts[f],
                                       bad = n[OUTCOME_REFUSED] + n[OUTCOME_ROLLED_BACK],
                                       all = n[OUTCOME_INSTALLED] + bad;

                        most = all > most ? all : most;
                        if (part->halted || all == 0 || all < r->settings.min_reports ||
                            (double)bad <= r->settings.halt_share * (double)all)
                                continue;
                        part->halted = true;
                        (void)snprintf(part->why, sizeof(part->why),
                                       "%llu of %llu nodes refuse %.64s %.12s or went back from it",
                                       (unsigned long long)bad, (unsigned long long)all,
                                       r->changed[i].offer->name, r->changed[i].ids[f]);
                        log_warning("pipeline '%s': the rollout is halted: %s", part->name, part->why);
                }
        return most;
}

/* 1: something changed. */
static int go_on(struct rollouts *r, struct rollout_part *part, int64_t now_ms, struct err *e)
{
        bool was_halted = part->halted;
        uint64_t reported = judge(r, part);
        int ret;

        if (part->halted)
                return !was_halted;
        if (now_ms - part->since_ms < r->settings.stage_ms ||
            reported < part->reports_before + r->settings.min_reports)
                return 0;
        if (part->stage + 1 < r->settings.stages->n) {
                part->stage++;
                part->reports_before = reported;
                part->since_ms = now_ms;
                log_info("pipeline '%s': the rollout goes on to %u %% of the nodes", part->name,
                         percent_of(r, part));
                return 1;
        }
        ret = settle(r, r->newest, part->name, e);
        if (ret == -EAGAIN)
                return 0; /* the newer ones begin a rollout of their own */
        if (ret == 0)
                ret = load_stable(r, e);
        if (ret == 0)
                ret = compare_all(r, r->newest, now_ms, e);
        if (ret == 0)
                log_info("pipeline '%s': the rollout is done", part->name);
        return ret < 0 ? ret : 1;
}

static int tick(struct rollouts *r, struct store *store, int64_t now_ms, struct err *e)
{
        int ret = rollout_state_reread(&r->state, e), changed = ret > 0;

        if (ret >= 0 && (atomic_exchange(&r->poked, false) || changed))
                ret = count(r, store, e);
        for (size_t i = 0; ret >= 0 && i < r->state.n; i++)
                if (*r->state.parts[i].print) {
                        ret = go_on(r, &r->state.parts[i], now_ms, e);
                        changed |= ret > 0;
                }
        if (ret >= 0 && changed)
                ret = rollout_state_save(&r->state, e);
        return ret < 0 ? ret : changed;
}

int rollouts_tick(struct rollouts *r, struct store *store, int64_t now_ms, struct err *e)
{
        int ret;

        (void)pthread_mutex_lock(&r->lock);
        ret = r->newest ? tick(r, store, now_ms, e) : 0;
        (void)pthread_mutex_unlock(&r->lock);
        return ret < 0 ? err_prefix(e, ret, "rollout") : ret;
}

/* ---- status ---- */

static json_t *list_models(const struct rollouts *r, const struct rollout_part *part)
{
        json_t *list = json_array();
        char slot[STATEMENT_SLOT_MAX];

        for (size_t i = 0; i < r->changed_n; i++)
                for (int f = 0; f < FORMS && r->changed[i].part == part; f++) {
                        const struct changed *x = &r->changed[i];

                        if (!*x->ids[f] || f == FORM_WEIGHT) /* for those who do not report */
                                continue;
                        seal_slot(x->offer, f != FORM_ARCHIVE, slot);
                        (void)json_array_append_new(
                                list, json_pack("{s:s, s:s, s:s, s:I, s:I, s:I}", "slot", slot, "model",
                                                x->offer->name, "id", x->ids[f], "installed",
                                                (json_int_t)x->counts[f][OUTCOME_INSTALLED], "refused",
                                                (json_int_t)x->counts[f][OUTCOME_REFUSED], "rolled_back",
                                                (json_int_t)x->counts[f][OUTCOME_ROLLED_BACK]));
                }
        return list;
}

json_t *rollouts_status(struct rollouts *r)
{
        json_t *list = json_array();

        if (!r)
                return list;
        (void)pthread_mutex_lock(&r->lock);
        for (size_t i = 0; i < r->state.n; i++) {
                const struct rollout_part *part = &r->state.parts[i];

                if (*part->print)
                        (void)json_array_append_new(
                                list, json_pack("{s:s, s:I, s:I, s:I, s:b, s:s, s:I, s:o}", "pipeline",
                                                part->name, "percent", (json_int_t)percent_of(r, part),
                                                "stage", (json_int_t)part->stage + 1, "stages",
                                                (json_int_t)r->settings.stages->n, "halted", part->halted,
                                                "why", part->why, "since_ms", (json_int_t)part->since_ms,
                                                "models", list_models(r, part)));
        }
        (void)pthread_mutex_unlock(&r->lock);
        return list;
}
