/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/kubelet.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "collector/cgroup_name.h"
#include "collector/helper.h"

#define HELPER "wattloop-collector-kubelet"

/* Under the id of a container, and under the uid of a pod, for its sandbox, which is in no list. */
struct named {
        char key[65];
        struct entity_names names;
};

struct table {
        struct named *items; /* owned, sorted by key once it is complete */
        size_t n, cap, pods;
};

struct kubelet {
        struct helper *helper;
        struct table table, next; /* in use; being told */
        bool telling;             /* between "begin" and "end" */
        uint64_t generation;      /* of table */
        uint64_t named;           /* the generation by which the entities were named */
        uint64_t now_ns, answered_ns, ran_ns;
        uint64_t answers, errors;
        int error; /* new since the last kubelet_run; 0: none */
        struct err why;
};

static void table_done(struct table *t)
{
        free(t->items);
        *t = (struct table){ 0 };
}

void kubelet_close(struct kubelet *k)
{
        if (!k)
                return;
        helper_stop(k->helper);
        table_done(&k->table);
        table_done(&k->next);
        free(k);
}

static int compare(const void *a, const void *b)
{
        return strcmp(((const struct named *)a)->key, ((const struct named *)b)->key);
}

static struct named *add(struct table *t)
{
        if (t->n == KUBELET_CONTAINERS_MAX)
                return NULL;
        if (t->n == t->cap) {
                size_t cap = t->cap ? t->cap * 2 : 64;
                struct named *items = realloc(t->items, cap * sizeof(*items));

                if (!items)
                        return NULL;
                t->items = items;
                t->cap = cap;
        }
        t->items[t->n] = (struct named){ 0 };
        return &t->items[t->n++];
}

/* The n fields of a line, separated by blanks; false when it has not just so many. */
static bool fields_of(char *line, char **ret, size_t n)
{
        char *save = NULL;
        size_t found = 0;

        for (char *f = strtok_r(line, " ", &save); f; f = strtok_r(NULL, " ", &save)) {
                if (found == n)
                        return false;
                ret[found++] = f;
        }
        return found == n;
}

#define COPY(to, from) ((void)snprintf(to, sizeof(to), "%s", from)) /* the helper has checked lengths */

/* "pod UID NAMESPACE NAME", "container ID UID NAMESPACE POD NAME" */
static void take_named(struct kubelet *k, char *line, bool pod)
{
        char *f[6];
        struct named *item;
        size_t uid = pod ? 1 : 2;

        if (!k->telling || !fields_of(line, f, pod ? 4 : 6) || !(item = add(&k->next)))
                return;
        COPY(item->key, f[1]);
        COPY(item->names.pod_id, f[uid]);
        COPY(item->names.container_namespace, f[uid + 1]);
        COPY(item->names.pod_name, f[uid + 2]);
        if (!pod)
                COPY(item->names.container_name, f[uid + 3]);
        k->next.pods += pod;
}

static void answered(struct kubelet *k)
{
        k->answers++;
        k->answered_ns = k->now_ns;
}

static void take_all(struct kubelet *k)
{
        if (!k->telling)
                return;
        k->telling = false;
        if (k->next.n)
                qsort(k->next.items, k->next.n, sizeof(k->next.items[0]), compare);
        table_done(&k->table);
        k->table = k->next;
        k->next = (struct table){ 0 };
        k->generation++;
        answered(k);
}

static void take_error(struct kubelet *k, const char *text)
{
        char *end;
        long number = strtol(text, &end, 10);

        k->errors++;
        k->error = err_set(&k->why, number > 0 && number < 4096 ? (int)-number : -EPROTO, "%.250s",
                           *end == ' ' ? end + 1 : end);
}

static void take_line(void *context, char *line)
{
        struct kubelet *k = context;

        if (!strncmp(line, "pod ", 4)) {
                take_named(k, line, true);
        } else if (!strncmp(line, "container ", 10)) {
                take_named(k, line, false);
        } else if (!strcmp(line, "begin")) {
                table_done(&k->next);
                k->telling = true;
        } else if (!strcmp(line, "end")) {
                take_all(k);
        } else if (!strcmp(line, "same")) {
                answered(k);
        } else if (!strncmp(line, "error ", 6)) {
                take_error(k, line + 6);
        }
}

int kubelet_open(const struct kubelet_options *o, struct kubelet **ret, struct err *e)
{
        char interval[32];
        const char *const arguments[] = { "run",          "--url",        o->url,
                                          "--token-file", o->token_file,  "--ca-file",
                                          o->ca_file,     "--verify-tls", o->verify_tls ? "true" : "false",
                                          "--interval",   interval,       NULL };
        CLEANUP(kubelet_closep) struct kubelet *k = calloc(1, sizeof(*k));
        const struct helper_options options = {
                .name = HELPER, .path = o->helper, .arguments = arguments, .line = take_line, .context = k
        };
        int r;

        if (!k)
                return err_set(e, -ENOMEM, "out of memory");
        (void)snprintf(interval, sizeof(interval), "%lldms", o->interval_ms);
        r = helper_start(&options, &k->helper, e);
        if (r < 0)
                return r;
        *ret = TAKE(k);
        return 0;
}

int kubelet_fd(const struct kubelet *k)
{
        return helper_fd(k->helper);
}

int kubelet_run(struct kubelet *k, uint64_t now_ns, struct err *e)
{
        int r;

        k->now_ns = now_ns;
        k->error = 0;
        r = helper_tend(k->helper, k->ran_ns ? now_ns - k->ran_ns : 0);
        k->ran_ns = now_ns;
        if (r < 0 && r != -EPIPE)
                return err_set(e, r, "cannot start '%s' again: %s", HELPER, strerror(-r));
        return k->error < 0 ? err_set(e, k->error, "%s", k->why.text) : 0;
}

static const struct named *find(const struct table *t, const char *key)
{
        struct named wanted;

        (void)snprintf(wanted.key, sizeof(wanted.key), "%s", key);
        return t->n ? bsearch(&wanted, t->items, t->n, sizeof(t->items[0]), compare) : NULL;
}

static void name_entity(const struct kubelet *k, struct entity *entity)
{
        const struct named *known = find(&k->table, entity->key);
        char pod[POD_ID_MAX];

        if (!known && cgroup_path_pod(entity->cgroup, pod))
                known = find(&k->table, pod);
        if (!known || (entity->names && !memcmp(entity->names, &known->names, sizeof(known->names))))
                return;
        if (!entity->names)
                entity->names = malloc(sizeof(*entity->names));
        if (!entity->names)
                return;
        *entity->names = known->names;
        entity->store_id = 0; /* written again, with its name */
}

/* Only when there may be something new: all entities when the table is, else those without a name. */
void kubelet_name(struct kubelet *k, struct window *w)
{
        bool all = k->named != k->generation;

        for (size_t i = 0; i < w->n; i++)
                if (w->entities[i]->kind == ENTITY_CONTAINER && (all || !w->entities[i]->names))
                        name_entity(k, w->entities[i]);
        k->named = k->generation;
}

void kubelet_stats(const struct kubelet *k, uint64_t now_ns, struct kubelet_stats *ret)
{
        *ret = (struct kubelet_stats){ .pods = k->table.pods,
                                       .containers = k->table.n - k->table.pods,
                                       .answers = k->answers,
                                       .errors = k->errors,
                                       .age_ns = k->answers ? now_ns - k->answered_ns : UINT64_MAX };
}
