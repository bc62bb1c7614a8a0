/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/serve/page.h"

#include <math.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/num.h"
#include "model-server/serve/plot.h"

#define FRESH_MS INT64_C(600000) /* a node that was heard of since is green */
#define STALE_MS INT64_C(86400000)

static const char style[] =
        ":root{color-scheme:light "
        "dark;--bg:#f6f7f9;--card:#fff;--ink:#1b2430;--soft:#647084;--line:#e3e7ed;--accent:#0b7a75;"
        "--warm:#d9622b;--good:#2a9d5c;--mid:#d8a21b;--bad:#c8443b}"
        "@media(prefers-color-scheme:dark){:root{--bg:#10151c;--card:#18202a;--ink:#e4e9f0;--soft:#93a0b4;--"
        "line:#28323f;"
        "--accent:#3fc1b7;--warm:#ff9462;--good:#4fcf8b;--mid:#e9bd4a;--bad:#f0766d}}"
        "*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 "
        "system-ui,sans-serif}"
        "main{max-width:1180px;margin:0 auto;padding:28px 20px "
        "60px}header{display:flex;align-items:baseline;gap:14px;"
        "flex-wrap:wrap}h1{font-size:26px;margin:0;letter-spacing:-.02em}h1 b{color:var(--accent)}header "
        "p{margin:0;"
        "color:var(--soft)}h2{font-size:18px;margin:38px 0 12px}h3{font-size:15px;margin:0 0 "
        "2px}.card{background:var(--card);"
        "border:1px solid var(--line);border-radius:12px;padding:4px "
        "16px;overflow-x:auto}.tiles{display:grid;gap:12px;"
        "grid-template-columns:repeat(auto-fit,minmax(150px,1fr));margin-top:22px}.tile{background:var(--"
        "card);border:1px solid "
        "var(--line);border-radius:12px;padding:14px 16px}.tile "
        "b{display:block;font-size:26px;font-weight:650;"
        "letter-spacing:-.02em;font-variant-numeric:tabular-nums}.tile span{color:var(--soft);font-size:13px}"
        "table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}th{text-align:left;font-"
        "weight:600;"
        "font-size:12.5px;color:var(--soft);padding:10px 14px 8px 0;border-bottom:1px solid "
        "var(--line);white-space:nowrap}"
        "td{padding:8px 14px 8px 0;border-bottom:1px solid var(--line);vertical-align:top}tr:last-child "
        "td{border-bottom:0}"
        "td.n,th.n{text-align:right;padding-right:26px}code{font:13px "
        "ui-monospace,monospace;color:var(--soft)}.dot{display:inline-block;width:9px;"
        "height:9px;border-radius:50%;margin-right:8px;background:var(--bad)}.fresh{background:var(--good)}."
        "stale{"
        "background:var(--mid)}.tag{font-size:12px;padding:1px 8px;border-radius:99px;border:1px solid "
        "var(--line);"
        "color:var(--soft);white-space:nowrap}.champion{color:var(--good);border-color:var(--good)}.rejected,"
        ".withdrawn{"
        "color:var(--bad);border-color:var(--bad)}.simulated,.virtual{color:var(--warm);border-color:var(--"
        "warm)}"
        ".plot{padding:16px;margin-bottom:14px}.plot p{margin:0 0 "
        "8px;color:var(--soft);font-size:13px}.pair{display:flex;"
        "flex-wrap:wrap;gap:10px}.pair svg:first-child{flex:1 1 250px;max-width:330px}.pair "
        "svg:last-child{flex:2 1 480px;"
        "min-width:0}svg text{font:10.5px "
        "system-ui,sans-serif;fill:var(--soft)}.end{text-anchor:end}.mid{text-anchor:middle}"
        "svg "
        ".label{font-size:11px}.grid{stroke:var(--line);fill:none}.ideal{stroke:var(--soft);stroke-dasharray:"
        "4 4;fill:none}"
        ".dots{fill:var(--accent);fill-opacity:.55}.measured{stroke:var(--accent);fill:none;stroke-width:3.4;"
        "stroke-opacity:.55}"
        ".estimated{"
        "stroke:var(--warm);fill:none;stroke-width:1.7}.none{color:var(--soft);padding:14px "
        "0;margin:0}a{color:var(--accent)}"
        "footer{margin-top:40px;color:var(--soft);font-size:13px}";

/* Failures of writing stick to `out`. */
#define PUT(...) ((void)buf_printf(out, __VA_ARGS__))

static const char *text_of(const json_t *object, const char *key)
{
        const char *text = json_string_value(json_object_get(object, key));

        return text ? text : "";
}

static int64_t int_of(const json_t *object, const char *key)
{
        return json_integer_value(json_object_get(object, key));
}

static void put_text(struct buf *out, const json_t *object, const char *key)
{
        html_text(out, text_of(object, key));
}

/* A cell with the API's number, whole in an attribute; `digits` -1: as it is. */
static void put_number(struct buf *out, const json_t *object, const char *key, int digits)
{
        const json_t *value = json_object_get(object, key);
        char whole[NUM_TEXT_MAX] = "";

        if (!json_is_number(value)) {
                PUT("<td class=\"n\" data-%s=\"\">–</td>", key);
                return;
        }
        if (json_is_integer(value))
                (void)snprintf(whole, sizeof(whole), "%lld", (long long)json_integer_value(value));
        else
                (void)num_format_double(whole, json_number_value(value));
        PUT("<td class=\"n\" data-%s=\"%s\">", key, whole);
        if (digits < 0)
                PUT("%s</td>", whole);
        else
                PUT("%.*f</td>", digits, json_number_value(value));
}

static void put_age(struct buf *out, const char *key, int64_t then_ms, int64_t now_ms)
{
        int64_t s = (now_ms - then_ms) / 1000;

        PUT("<td data-%s=\"%lld\">", key, (long long)then_ms);
        if (!then_ms)
                PUT("–");
        else if (s < 120)
                PUT("%lld s ago", (long long)(s < 0 ? 0 : s));
        else if (s < 7200)
                PUT("%lld min ago", (long long)(s / 60));
        else if (s < 172800)
                PUT("%lld h ago", (long long)(s / 3600));
        else
                PUT("%lld days ago", (long long)(s / 86400));
        PUT("</td>");
}

static void put_tile(struct buf *out, const char *name, long long value, const char *words)
{
        PUT("<div class=\"tile\" data-%s=\"%lld\"><b>%lld</b><span>%s</span></div>", name, value, value,
            words);
}

static void put_head(struct buf *out, const json_t *status)
{
        const json_t *accepted = json_object_get(status, "accepted_provenance"),
                     *learning = json_object_get(status, "learning");
        long long behind = int_of(learning, "last_row") - int_of(learning, "learned_row");

        PUT("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
            "content=\"width=device-width,initial-scale=1\"><title>Wattloop model "
            "server</title><style>%s</style></head>"
            "<body><main><header><h1><b>Wattloop</b> model server</h1><p>",
            style);
        put_text(out, status, "version");
        PUT(" · learns from ");
        for (size_t i = 0; i < json_array_size(accepted); i++) {
                PUT("%s", i ? ", " : "");
                html_text(out, json_string_value(json_array_get(accepted, i)));
        }
        PUT(" power</p></header><div class=\"tiles\">");
        put_tile(out, "nodes", (long long)json_array_size(json_object_get(status, "nodes")), "nodes");
        put_tile(out, "rows", int_of(status, "rows"), "training rows");
        put_tile(out, "samples", int_of(status, "samples"), "samples stored");
        put_tile(out, "models", (long long)json_array_size(json_object_get(status, "models")),
                 "models published");
        put_tile(out, "behind", behind < 0 ? 0 : behind, "rows not learned yet");
        put_tile(out, "refused", int_of(status, "batches_refused"), "batches refused");
        PUT("</div>");
}

static void put_section(struct buf *out, const char *title, const json_t *list, const char *nothing,
                        const char *columns)
{
        PUT("<h2>%s</h2><div class=\"card\">", title);
        if (json_array_size(list))
                PUT("<table><thead><tr>%s</tr></thead><tbody>", columns);
        else
                PUT("<p class=\"none\">%s</p>", nothing);
}

static void end_section(struct buf *out, const json_t *list, size_t shown)
{
        PUT("%s</div>", json_array_size(list) ? "</tbody></table>" : "");
        if (json_array_size(list) > shown)
                PUT("<p class=\"none\">%zu more are in <a href=\"/api/v1/status\">the API</a>.</p>",
                    json_array_size(list) - shown);
}

static size_t shown_of(const json_t *list)
{
        return json_array_size(list) < PAGE_ROWS_MAX ? json_array_size(list) : PAGE_ROWS_MAX;
}

static void put_nodes(struct buf *out, const json_t *status, int64_t now_ms)
{
        const json_t *nodes = json_object_get(status, "nodes");
        size_t n = shown_of(nodes);

        put_section(out, "Nodes", nodes, "No node has sent anything yet.",
                    "<th>Node</th><th>Id</th><th class=\"n\">Type</th><th class=\"n\">Rows</th><th "
                    "class=\"n\">Refused "
                    "rows</th><th>Last seen</th>");
        for (size_t i = 0; i < n; i++) {
                const json_t *node = json_array_get(nodes, i);
                int64_t age_ms = now_ms - int_of(node, "last_seen_ms");

                PUT("<tr class=\"node\" data-node_id=\"");
                put_text(out, node, "node_id");
                PUT("\"><td><span class=\"dot %s\"></span>", age_ms < FRESH_MS   ? "fresh"
                                                             : age_ms < STALE_MS ? "stale"
                                                                                 : "");
                put_text(out, node, "node_name");
                PUT("</td><td><code>");
                put_text(out, node, "node_id");
                PUT("</code></td>");
                put_number(out, node, "node_type", -1);
                put_number(out, node, "rows", -1);
                put_number(out, node, "refused_rows", -1);
                put_age(out, "last_seen_ms", int_of(node, "last_seen_ms"), now_ms);
                PUT("</tr>");
        }
        end_section(out, nodes, n);
}

static void put_tag(struct buf *out, const char *text)
{
        PUT("<span class=\"tag ");
        html_text(out, text);
        PUT("\">");
        html_text(out, text);
        PUT("</span>");
}

static void put_rollouts(struct buf *out, const json_t *status, int64_t now_ms)
{
        const json_t *rollouts = json_object_get(status, "rollouts");
        size_t n = shown_of(rollouts);

        put_section(
                out, "Rollouts under way", rollouts, "None: what is published is for all nodes.",
                "<th>Pipeline</th><th class=\"n\">Nodes, %</th><th class=\"n\">Stage</th><th>Since</th><th "
                "class=\"n\">Installed</th><th class=\"n\">Refused</th><th class=\"n\">Went "
                "back</th><th>State</th>");
        for (size_t i = 0; i < n; i++) {
                const json_t *rollout = json_array_get(rollouts, i),
                             *models = json_object_get(rollout, "models");
                static const char *const counts[] = { "installed", "refused", "rolled_back" };
                bool halted = json_is_true(json_object_get(rollout, "halted"));

                PUT("<tr class=\"rollout\" data-halted=\"%d\"><td>", halted);
                put_text(out, rollout, "pipeline");
                PUT("</td>");
                put_number(out, rollout, "percent", -1);
                PUT("<td class=\"n\">%lld of %lld</td>", (long long)int_of(rollout, "stage"),
                    (long long)int_of(rollout, "stages"));
                put_age(out, "since_ms", int_of(rollout, "since_ms"), now_ms);
                for (int c = 0; c < 3; c++) {
                        long long sum = 0;

                        for (size_t m = 0; m < json_array_size(models); m++)
                                sum += int_of(json_array_get(models, m), counts[c]);
                        PUT("<td class=\"n\" data-%s=\"%lld\">%lld</td>", counts[c], sum, sum);
                }
                PUT("<td>");
                put_tag(out, halted ? "halted" : "running");
                PUT(" ");
                put_text(out, rollout, "why");
                PUT("</td></tr>");
        }
        end_section(out, rollouts, n);
}

static void put_fleet(struct buf *out, const json_t *status, int64_t now_ms)
{
        const json_t *fleet = json_object_get(status, "fleet");
        long long all = int_of(status, "fleet_nodes");
        size_t n = shown_of(fleet);

        put_section(out, "Fleet", fleet, "No node has reported an update yet.",
                    "<th>Node</th><th>Slot</th><th>Serves</th><th>Since</th><th>Last "
                    "outcome</th><th>Of</th><th>When</th>"
                    "<th>Why</th>");
        for (size_t i = 0; i < n; i++) {
                const json_t *node = json_array_get(fleet, i);

                PUT("<tr class=\"fleet\" data-node_id=\"");
                put_text(out, node, "node_id");
                PUT("\" data-id=\"%.64s\" data-outcome=\"", text_of(node, "id"));
                put_text(out, node, "outcome");
                PUT("\"><td>");
                put_text(out, node, "node_name");
                PUT("<br><code>%.12s</code></td><td>", text_of(node, "node_id"));
                put_text(out, node, "slot");
                PUT("</td><td>");
                put_text(out, node, "model");
                PUT(" <code>%.12s</code></td>", text_of(node, "id"));
                put_age(out, "since_ms", int_of(node, "since_ms"), now_ms);
                PUT("<td>");
                put_tag(out, text_of(node, "outcome"));
                PUT("</td><td>");
                put_text(out, node, "outcome_model");
                PUT(" <code>%.12s</code></td>", text_of(node, "outcome_id"));
                put_age(out, "outcome_ms", int_of(node, "outcome_ms"), now_ms);
                PUT("<td>");
                put_text(out, node, "why");
                PUT("</td></tr>");
        }
        end_section(out, fleet, n);
        if (all > (long long)json_array_size(fleet))
                PUT("<p class=\"none\">Of %lld; those that went wrong come first.</p>", all);
}

static const json_t *champion_of(const json_t *status, const char *content_id)
{
        const json_t *list = json_object_get(json_object_get(status, "learning"), "champions");

        for (size_t i = 0; i < json_array_size(list); i++)
                if (!strcmp(text_of(json_array_get(list, i), "content_id"), content_id))
                        return json_array_get(list, i);
        return NULL;
}

static void put_models(struct buf *out, const json_t *status, int64_t now_ms)
{
        const json_t *models = json_object_get(status, "models");
        size_t n = shown_of(models);

        put_section(out, "Published models", models,
                    "No model yet: one is published as soon as a component has rows enough.",
                    "<th>Model</th><th>Source</th><th>Output</th><th>Group</th><th>Power</th><th "
                    "class=\"n\">Rows</th><th "
                    "class=\"n\" title=\"over held-out blocks of the rows it was made of\">MAE, W</th><th "
                    "class=\"n\" "
                    "title=\"worst component, over the last 50 rows that it had not seen\">recent MAE, "
                    "W</th><th>Champion "
                    "since</th>");
        for (size_t i = 0; i < n; i++) {
                const json_t *model = json_array_get(models, i);
                const char *id = text_of(model, "content_id");

                PUT("<tr class=\"model\" data-content_id=\"");
                html_text(out, id);
                PUT("\"><td><a href=\"/?model=");
                html_text(out, id);
                PUT("#plots\">");
                put_text(out, model, "model");
                PUT("</a><br><code>%.12s</code></td><td>", id);
                put_text(out, model, "energy_source");
                PUT("</td><td>");
                put_text(out, model, "output_type");
                PUT("</td><td>");
                put_text(out, model, "feature_group");
                PUT("</td><td>");
                put_tag(out, text_of(model, "provenance"));
                PUT("</td>");
                put_number(out, model, "rows", -1);
                put_number(out, model, "mae", -1);
                put_number(out, champion_of(status, id), "recent_mae", 2);
                put_age(out, "published_ms", int_of(model, "published_ms"), now_ms);
                PUT("</tr>");
        }
        end_section(out, models, n);
}

static void put_history(struct buf *out, const json_t *status, int64_t now_ms)
{
        const json_t *history = json_object_get(json_object_get(status, "learning"), "history");
        size_t n = shown_of(history);

        put_section(out, "Champions and challengers", history, "Nothing has been decided yet.",
                    "<th>When</th><th>Model</th><th>Source</th><th>Group</th><th>Outcome</th><th>Why "
                    "trained</th><th>Fit</th>"
                    "<th class=\"n\">Trial rows</th><th class=\"n\">Challenger MAE, W</th><th "
                    "class=\"n\">Champion MAE, W</th>");
        for (size_t i = 0; i < n; i++) {
                const json_t *d = json_array_get(history, i);

                PUT("<tr class=\"decision\">");
                put_age(out, "decided_ms", int_of(d, "decided_ms"), now_ms);
                PUT("<td>");
                put_text(out, d, "model");
                PUT(" <code>%.8s</code></td><td>", text_of(d, "content_id"));
                put_text(out, d, "energy_source");
                PUT("</td><td>");
                put_text(out, d, "feature_group");
                PUT("</td><td>");
                put_tag(out, text_of(d, "outcome"));
                PUT("</td><td>");
                put_text(out, d, "reason");
                PUT("</td><td>");
                put_text(out, d, "fit");
                PUT("</td>");
                put_number(out, d, "trial_rows", -1);
                put_number(out, d, "mae", 3);
                put_number(out, d, "champion_mae", 3);
                PUT("</tr>");
        }
        end_section(out, history, n);
}

static void put_scores(struct buf *out, const json_t *status)
{
        const json_t *scores = json_object_get(json_object_get(status, "learning"), "scores");
        size_t n = shown_of(scores);

        put_section(out, "Error before learning, by node", scores,
                    "No row has been predicted before it was learned.",
                    "<th>Node</th><th>Predicted by</th><th>Group</th><th>Component</th><th "
                    "class=\"n\">Rows</th><th "
                    "class=\"n\">MAE, W</th><th class=\"n\">recent MAE, W</th>");
        for (size_t i = 0; i < n; i++) {
                const json_t *score = json_array_get(scores, i);

                PUT("<tr class=\"score\"><td><code>");
                put_text(out, score, "node_id");
                PUT("</code></td><td>");
                put_text(out, score, "trainer");
                PUT("</td><td>");
                put_text(out, score, "feature_group");
                PUT("</td><td>");
                put_text(out, score, "component");
                PUT("</td>");
                put_number(out, score, "rows", -1);
                put_number(out, score, "mae", 3);
                put_number(out, score, "recent_mae", 3);
                PUT("</tr>");
        }
        end_section(out, scores, n);
}

static void put_refused(struct buf *out, const json_t *status, int64_t now_ms)
{
        const json_t *refused = json_object_get(status, "refused_batches");
        size_t n = shown_of(refused);

        put_section(out, "Batches refused since the start", refused, "None.",
                    "<th>When</th><th>Batch</th><th class=\"n\">Status</th><th>Why</th>");
        for (size_t i = 0; i < n; i++) {
                const json_t *batch = json_array_get(refused, i);

                PUT("<tr class=\"refused\">");
                put_age(out, "received_ms", int_of(batch, "received_ms"), now_ms);
                PUT("<td><code>");
                put_text(out, batch, "batch");
                PUT("</code></td>");
                put_number(out, batch, "status", -1);
                PUT("<td>");
                put_text(out, batch, "reason");
                PUT("</td></tr>");
        }
        end_section(out, refused, n);
}

static void put_plot(struct buf *out, const json_t *model, const json_t *champion, const char *component,
                     const json_t *points)
{
        const json_t *live = json_object_get(json_object_get(champion, "live_mae"), component);
        char title[256];

        (void)snprintf(title, sizeof(title), "%.64s, %.32s of %.32s, measured against estimated",
                       text_of(model, "model"), component, text_of(model, "energy_source"));
        PUT("<div class=\"card plot\"><h3>");
        put_text(out, model, "model");
        PUT(" · ");
        put_text(out, model, "feature_group");
        PUT(" · ");
        html_text(out, component);
        PUT("</h3><p>");
        if (json_is_number(live))
                PUT("MAE %.2f W over the %zu rows shown, none of which it had seen", json_number_value(live),
                    json_array_size(points));
        PUT("</p><div class=\"pair\">");
        plot_scatter(out, points, title);
        plot_time(out, points, title);
        PUT("</div></div>");
}

static void put_plots(struct buf *out, struct server *s, const json_t *status, const char *wanted)
{
        const json_t *models = json_object_get(status, "models");
        size_t shown = 0;

        PUT("<h2 id=\"plots\">Measured against estimated</h2>");
        for (size_t i = 0; i < json_array_size(models) && shown < PAGE_PLOTS_MAX; i++) {
                const json_t *model = json_array_get(models, i);
                const char *id = text_of(model, "content_id"), *component;
                CLEANUP(json_decrefp)
                json_t *points = wanted && strcmp(wanted, id) != 0 ? NULL : learn_points(s->learn, id);
                json_t *list;

                json_object_foreach (points, component, list) {
                        put_plot(out, model, champion_of(status, id), component, list);
                }
                shown += points != NULL && json_object_size(points);
        }
        if (!shown)
                PUT("<div class=\"card\"><p class=\"none\">%s</p></div>",
                    wanted ? "There are no rows that this model has not seen; DynPower cannot be measured. "
                             "<a href=\"/\">All "
                             "models</a>"
                           : "No published model has met a row that it has not seen.");
}

void page_handle(struct server *s, const struct call *call, struct reply *reply)
{
        CLEANUP(json_decrefp) json_t *status = NULL;
        struct buf *out = &reply->body;
        int64_t now_ms = clock_wall_ms();
        struct err e;
        int r = server_status(s, &status, &e);

        if (r < 0) {
                (void)log_error(r, "cannot tell the status: %s", e.text);
                reply_error(reply, 500, "%s", e.text);
                return;
        }
        reply->type = "text/html; charset=utf-8";
        reply_header(reply, "Content-Security-Policy",
                     "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; "
                     "frame-ancestors 'none'; base-uri 'none'");
        reply_header(reply, "X-Content-Type-Options", "nosniff");
        reply_header(reply, "Referrer-Policy", "no-referrer");
        reply_header(reply, "Cache-Control", "no-store");
        put_head(out, status);
        put_nodes(out, status, now_ms);
        put_models(out, status, now_ms);
        put_rollouts(out, status, now_ms);
        put_fleet(out, status, now_ms);
        put_plots(out, s, status, call->query(call, "model"));
        put_history(out, status, now_ms);
        put_scores(out, status);
        put_refused(out, status, now_ms);
        PUT("<footer>The same as JSON: <a href=\"/api/v1/status\">/api/v1/status</a>; for Prometheus: <a "
            "href=\"/metrics\">/metrics</a>.</footer></main></body></html>\n");
}
