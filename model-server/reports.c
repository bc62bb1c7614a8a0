/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/reports.h"

#include <errno.h>
#include <string.h>

#include "common/hash.h"
#include "common/json.h"
#include "schema/vocabulary.h"

#define NODE_ID_DIGITS 32
#define AHEAD_MAX_MS   INT64_C(86400000) /* a node's clock may be so much before ours */

struct taken {
        struct report report;
        char node_name[REPORT_NAME_MAX + 1], model[REPORT_NAME_MAX + 1], why[REPORT_WHY_MAX + 1];
};

static bool is_hex(const char *text, size_t digits)
{
        return strlen(text) == digits && strspn(text, "0123456789abcdef") == digits;
}

static bool is_slot(const char *text)
{
        static const char *const forms[] = { "archive", "weight" };
        char slot[96];

        for (size_t s = 0; s < energy_sources_n; s++)
                for (int o = 0; output_types[o]; o++)
                        for (int f = 0; f < 2; f++) {
                                (void)snprintf(slot, sizeof(slot), "%s/%s/%s", energy_sources[s].name,
                                               output_types[o], forms[f]); /* of our own tables: it fits */
                                if (!strcmp(slot, text))
                                        return true;
                        }
        return false;
}

/* Cut between characters. */
static void cut_text(const json_t *object, const char *key, char *ret, size_t size)
{
        const char *text = json_string_value(json_object_get(object, key));
        size_t n = text ? strlen(text) : 0;

        if (n > size - 1) {
                n = size - 1;
                while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
                        n--;
        }
        if (n)
                memcpy(ret, text, n);
        ret[n] = '\0';
}

static int read_report(const json_t *object, const char *node_id, const char *node_name, int64_t now_ms,
                       struct taken *t, struct err *e)
{
        const char *outcome, *slot, *id;
        long long time_ms;
        int r = json_get_int(object, "time_ms", &time_ms, e);

        if (r == 0)
                r = json_get_string(object, "slot", &slot, e);
        if (r == 0)
                r = json_get_string(object, "outcome", &outcome, e);
        if (r == 0)
                r = json_get_string(object, "id", &id, e);
        if (r < 0)
                return err_prefix(e, -EBADMSG, "report");
        t->report = (struct report){ .node_id = node_id,
                                     .node_name = node_name,
                                     .slot = slot,
                                     .id = id,
                                     .time_ms = time_ms,
                                     .outcome = outcome_find(outcome) };
        if (t->report.outcome < 0)
                return err_set(e, -EBADMSG,
                               "report: outcome '%.32s' is none of installed, refused, rolled-back", outcome);
        if (!is_slot(slot))
                return err_set(e, -EBADMSG, "report: '%.64s' is no slot", slot);
        if (*id && !is_hex(id, HASH_HEX_SIZE - 1))
                return err_set(e, -EBADMSG, "report: id is no content id");
        if (time_ms < 0 || time_ms > now_ms + AHEAD_MAX_MS)
                return err_set(e, -EBADMSG, "report: time_ms %lld is not of now or before", time_ms);
        cut_text(object, "model", t->model, sizeof(t->model));
        cut_text(object, "why", t->why, sizeof(t->why));
        t->report.model = t->model;
        t->report.why = t->why;
        return 0;
}

static int check_head(const json_t *object, const char *token_node, const char **ret_id, struct err *e)
{
        const json_t *list = json_object_get(object, "reports");
        int r = json_get_string(object, "node_id", ret_id, e);

        if (r < 0)
                return err_prefix(e, -EBADMSG, "report");
        if (!is_hex(*ret_id, NODE_ID_DIGITS))
                return err_set(e, -EBADMSG, "report: node_id is not 32 hex digits");
        if (token_node && strcmp(token_node, *ret_id) != 0)
                return err_set(e, -EACCES, "this token is of node '%.64s'", token_node);
        if (!json_is_array(list))
                return err_set(e, -EBADMSG, "report: no array 'reports'");
        if (json_array_size(list) > REPORTS_MAX)
                return err_set(e, -E2BIG, "more than %d reports at a time", REPORTS_MAX);
        return 0;
}

int reports_take(struct store *store, const char *body, size_t size, const char *token_node, int64_t now_ms,
                 size_t ret_new[OUTCOMES], size_t *ret_n, struct err *e)
{
        CLEANUP(json_decrefp) json_t *object = NULL;
        const json_t *list;
        const char *node_id;
        struct taken t;
        int r = json_parse(body, size, "report", &object, e);

        if (r == 0)
                r = check_head(object, token_node, &node_id, e);
        if (r < 0)
                return r;
        list = json_object_get(object, "reports");
        *ret_n = json_array_size(list);
        memset(ret_new, 0, OUTCOMES * sizeof(*ret_new));
        cut_text(object, "node_name", t.node_name, sizeof(t.node_name));
        r = store_begin(store, e);
        for (size_t i = 0; r >= 0 && i < *ret_n; i++) {
                r = read_report(json_array_get(list, i), node_id, t.node_name, now_ms, &t, e);
                if (r == 0)
                        r = store_add_report(store, &t.report, now_ms, e);
                if (r > 0)
                        ret_new[t.report.outcome]++;
        }
        if (r >= 0)
                r = store_commit(store, e);
        if (r < 0)
                store_rollback(store);
        return r;
}
