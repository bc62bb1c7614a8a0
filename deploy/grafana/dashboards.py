#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the dashboards beside this file: dashboards.py [DIR]. For Grafana 10 and 11: import the JSON, or provision the
folder. What a panel shows is one line here; the rest is what Grafana wants around it."""
import json
import os
import sys

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
WHERE = 'instance=~"$instance"'
MEASURED = 'source!~"estimate|simulated|virtual"'
RATE = "[$__rate_interval]"


def panel(kind, title, unit, description, *targets, width=12, height=8, **options):
    """targets: (expression, legend) each."""
    defaults = {"unit": unit, "color": {"mode": "palette-classic"}}
    if kind == "timeseries":
        defaults["custom"] = {"drawStyle": "line", "fillOpacity": options.get("fill", 0), "lineWidth": 1, "showPoints": "never",
                              "stacking": {"mode": "normal" if options.get("stack") else "none", "group": "A"}}
        shown = {"legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
                 "tooltip": {"mode": "multi", "sort": "desc"}}
    elif kind == "stat":
        shown = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "colorMode": "value",
                 "graphMode": "area", "textMode": "auto"}
    else:
        shown = {"showHeader": True}
    instant = kind == "table"
    return {"type": kind, "title": title, "description": description, "datasource": DATASOURCE,
            "fieldConfig": {"defaults": defaults, "overrides": []}, "options": shown,
            "gridPos": {"w": width, "h": height},
            "targets": [{"refId": chr(ord("A") + i), "datasource": DATASOURCE, "expr": expr, "legendFormat": legend,
                         "instant": instant, "range": not instant, "format": "table" if instant else "time_series"}
                        for i, (expr, legend) in enumerate(targets)]}


def stat(title, unit, description, expr):
    return panel("stat", title, unit, description, (expr, ""), width=6, height=4)


def lines(title, unit, description, *targets, **options):
    return panel("timeseries", title, unit, description, *targets, **options)


def dashboard(uid, title, description, instances, *panels):
    """instances: the metric whose instances the variable offers; None: no such variable."""
    x = y = row = 0
    for number, p in enumerate(panels, 1):
        if x + p["gridPos"]["w"] > 24:
            x, y, row = 0, y + row, 0
        p["id"] = number
        p["gridPos"] = {"x": x, "y": y, **p["gridPos"]}
        x, row = x + p["gridPos"]["w"], max(row, p["gridPos"]["h"])
    variables = [{"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1,
                  "hide": 0, "includeAll": False, "multi": False, "options": [], "regex": "", "current": {}}]
    if instances:
        query = "label_values(%s, instance)" % instances
        variables.append({"name": "instance", "label": "Node", "type": "query", "datasource": DATASOURCE, "definition": query,
                          "query": {"query": query, "refId": "instances"}, "refresh": 2, "hide": 0, "includeAll": True,
                          "allValue": ".*", "multi": True, "options": [], "regex": "", "sort": 1,
                          "current": {"text": "All", "value": "$__all"}})
    return {"id": None, "uid": uid, "title": title, "description": description, "tags": ["wattloop"], "schemaVersion": 38,
            "version": 1, "editable": True, "graphTooltip": 1, "refresh": "1m", "time": {"from": "now-6h", "to": "now"},
            "timepicker": {}, "timezone": "", "annotations": {"list": []}, "links": [], "templating": {"list": variables},
            "panels": list(panels)}


POWER = dashboard(
    "wattloop-power", "Wattloop: power", "What the fleet draws, measured and estimated, and who draws it.",
    "wattloop_collector_ticks_total",
    stat("Measured", "watt", "Power of the packages that have a sensor.",
         'sum(wattloop_node_watts{component="package",%s,%s})' % (MEASURED, WHERE)),
    stat("Estimated", "watt", "Power of the packages whose power a model says.",
         'sum(wattloop_node_watts{component="package",source="estimate",%s})' % WHERE),
    stat("Nodes", "none", "Collectors that answer.", 'count(wattloop_collector_ticks_total{%s})' % WHERE),
    stat("Nodes without power", "none", "Neither measured nor estimated; empty when there are none.",
         'count(wattloop_collector_ticks_total{%s} unless on (job, instance) wattloop_node_watts)' % WHERE),
    lines("Fleet power by component", "watt", "Of every component, by where its power comes from: the name of a sensor only where it was "
          "measured, else estimate, simulated or virtual. A platform contains its packages, a package its core: do not add them up.",
          ('sum by (component, source) (wattloop_node_watts{%s})' % WHERE, "{{component}} {{source}}")),
    lines("Power of packages by node", "watt", "The ten that draw most.",
          ('topk(10, sum by (instance, source) (wattloop_node_watts{component="package",%s}))' % WHERE,
           "{{instance}} {{source}}")),
    lines("Containers", "watt", "Dynamic power of the ten that use most. Nodes with Kepler's names up to 0.9, then those with the names "
          "since 0.10.",
          ('topk(10, sum by (container_namespace, pod_name, container_name) (rate(kepler_container_joules_total{mode="dynamic",%s}%s)))'
           % (WHERE, RATE), "{{container_namespace}} {{pod_name}} {{container_name}}"),
          ('topk(10, sum by (pod_id, container_name) (kepler_container_cpu_watts{zone=~"package|dram",%s}))' % WHERE,
           "{{pod_id}} {{container_name}}")),
    lines("What belongs to no container", "watt", "Idle power, and dynamic power of intervals in which nothing was active.",
          ('sum by (component, mode) (rate(wattloop_unattributed_joules_total{%s}%s))' % (WHERE, RATE), "{{component}} {{mode}}"),
          stack=True, fill=20),
    lines("Idle power", "watt", "Of all nodes together, by both rules, where it is known.",
          ('sum by (component, rule) (wattloop_node_idle_watts{%s})' % WHERE, "{{component}} {{rule}}")),
    lines("CPU time", "none", "CPUs that are busy, as the collectors account for them.",
          ('sum(rate(wattloop_node_usage_total{feature="bpf_cpu_time_ms",%s}%s)) / 1000' % (WHERE, RATE), "CPUs")),
    lines("Collectors: CPU time", "percentunit", "What recording costs, of one CPU; the ten that use most.",
          ('topk(10, rate(wattloop_collector_cpu_seconds_total{%s}%s))' % (WHERE, RATE), "{{instance}}")),
    lines("Collectors: what went wrong", "none", "A second. Missed ticks and failed stores lose no energy: it goes into the next interval.",
          ('sum(rate(wattloop_collector_missed_ticks_total{%s}%s))' % (WHERE, RATE), "missed ticks"),
          ('sum(rate(wattloop_collector_power_errors_total{%s}%s))' % (WHERE, RATE), "power not read"),
          ('sum(rate(wattloop_collector_store_errors_total{%s}%s))' % (WHERE, RATE), "not stored"),
          ('sum(rate(wattloop_collector_dropped_events_total{%s}%s))' % (WHERE, RATE), "events lost")),
)

MODELS = dashboard(
    "wattloop-models", "Wattloop: models", "How good the models are, how old, who has which, and what became of refreshes.",
    "wattloop_estimator_up",
    stat("Estimators up", "none", "That answered their collector's last question.", 'sum(wattloop_estimator_up{%s})' % WHERE),
    stat("Estimators down", "none", "Their nodes have no estimated watts.", 'sum(1 - wattloop_estimator_up{%s})' % WHERE),
    stat("Worst error", "watt", "Mean absolute error of the worst published model for absolute power, on blocks that it has not seen.",
         'max(wattloop_server_model_mae_watts{output_type="AbsPower"})'),
    stat("Oldest model", "s", "Since the server published it.", 'max(time() - wattloop_server_model_published_timestamp_seconds)'),
    lines("Error of published models", "watt", "Mean absolute error of the worst component, on blocks held out.",
          ("wattloop_server_model_mae_watts", "{{energy_source}} {{output_type}} {{feature_group}} {{model}}")),
    lines("Live error", "watt", "Mean difference between measured and estimated power, on nodes that have both.",
          ('avg by (component) (abs(sum by (job, instance, component) (wattloop_node_watts{source="estimate"})'
           ' - on (job, instance, component) sum by (job, instance, component) (wattloop_node_watts{%s})))' % MEASURED,
           "{{component}}")),
    lines("Age of published models", "s", "Since the server published them: a new champion begins at zero.",
          ("time() - wattloop_server_model_published_timestamp_seconds",
           "{{energy_source}} {{output_type}} {{feature_group}} {{model}}")),
    lines("Rows behind the models", "none", "That the least trained component has learned.",
          ("wattloop_server_model_rows", "{{energy_source}} {{output_type}} {{feature_group}} {{model}}")),
    lines("Refreshes by outcome", "none", "What nodes reported in the last hour.",
          ("sum by (outcome) (increase(wattloop_server_reports_total[1h]))", "{{outcome}}"), stack=True, fill=20),
    lines("Trials", "none", "Champions and challengers in the last hour.",
          ("sum(increase(wattloop_server_models_trained_total[1h]))", "trained"),
          ("sum(increase(wattloop_server_challengers_promoted_total[1h]))", "promoted"),
          ("sum(increase(wattloop_server_challengers_rejected_total[1h]))", "rejected"),
          ("sum(increase(wattloop_server_drifts_total[1h]))", "because of drift")),
    lines("Nodes by model", "none", "How many estimators have loaded which model: two for a while during a rollout.",
          ('count by (model, id, output_type) (wattloop_estimator_model_info{%s})' % WHERE, "{{output_type}} {{model}} {{id}}"),
          stack=True, fill=20),
    lines("Age of loaded models", "s", "Since the estimator loaded it; the oldest of all nodes.",
          ('max by (energy_source, output_type) (wattloop_estimator_model_age_seconds{%s})' % WHERE,
           "{{energy_source}} {{output_type}}")),
    lines("Requests", "reqps", "Power requests to all estimators.",
          ('sum(rate(wattloop_estimator_requests_total{%s}%s))' % (WHERE, RATE), "requests"),
          ('sum(rate(wattloop_estimator_failures_total{%s}%s))' % (WHERE, RATE), "with an error"),
          ('sum(rate(wattloop_estimator_rows_total{%s}%s))' % (WHERE, RATE), "rows")),
    lines("Time to answer", "s", "From complete request to complete reply.",
          ('histogram_quantile(0.5, sum by (le) (rate(wattloop_estimator_answer_seconds_bucket{%s}%s)))' % (WHERE, RATE), "median"),
          ('histogram_quantile(0.99, sum by (le) (rate(wattloop_estimator_answer_seconds_bucket{%s}%s)))' % (WHERE, RATE), "99 of 100")),
    lines("Swaps and refusals", "none", "Models swapped a second; models in the stores that do not load.",
          ('sum(rate(wattloop_estimator_swaps_total{%s}%s))' % (WHERE, RATE), "swaps"),
          ('sum(wattloop_estimator_refused_models{%s})' % WHERE, "refused models")),
    panel("table", "Loaded models", "none", "Every estimator's models, by content hash.",
          ('wattloop_estimator_model_info{%s}' % WHERE, "")),
)

DELIVERY = dashboard(
    "wattloop-delivery", "Wattloop: delivery", "From the databases of the nodes into the model server: lag, loss, refusals.", None,
    stat("Worst lag", "s", "How old the newest interval is that a destination has of the node that is most behind.",
         "max(time() - wattloop_trainer_client_position_timestamp_seconds)"),
    stat("Waiting", "none", "Recorded intervals that are not acknowledged, of all nodes.",
         "sum(wattloop_trainer_client_backlog_intervals)"),
    stat("Quarantined", "none", "Refused batches that are kept on the nodes.", "sum(wattloop_trainer_client_quarantine_batches)"),
    stat("Since the last batch", "s", "Since the model server stored one.",
         "min(time() - wattloop_server_last_import_timestamp_seconds)"),
    lines("Lag by destination", "s", "The node that is most behind.",
          ("max by (destination) (time() - wattloop_trainer_client_position_timestamp_seconds)", "{{destination}}"),
          ("max by (destination) (time() - wattloop_trainer_client_last_acknowledged_timestamp_seconds)",
           "{{destination}}: last acknowledged")),
    lines("Backlog", "none", "Intervals that wait, by destination.",
          ("sum by (destination) (wattloop_trainer_client_backlog_intervals)", "{{destination}}")),
    lines("Lost and refused", "none", "Intervals that retention took before they were sent, and that a destination was past, in the last day.",
          ("sum by (destination) (increase(wattloop_trainer_client_removed_unsent_intervals_total[1d]))", "{{destination}} lost"),
          ("sum by (destination) (increase(wattloop_trainer_client_refused_intervals_total[1d]))", "{{destination}} refused")),
    lines("Quarantine", "bytes", "Batches that were refused for what they are.",
          ("sum by (destination) (wattloop_trainer_client_quarantine_bytes)", "{{destination}}")),
    lines("Samples into the server", "none", "A second, by what became of them. Duplicates are batches that came twice, and harmless.",
          ("sum by (result) (rate(wattloop_server_samples_total%s))" % RATE, "{{result}}"), stack=True, fill=20),
    lines("Intervals by verdict", "none", "A second: which of them became training rows.",
          ("sum by (verdict) (rate(wattloop_server_intervals_total%s))" % RATE, "{{verdict}}"), stack=True, fill=20),
    lines("Batches", "none", "A second.",
          ("sum(rate(wattloop_server_imports_total%s))" % RATE, "stored"),
          ("sum(rate(wattloop_server_imports_refused_total%s))" % RATE, "refused")),
    lines("Requests to the server", "reqps", "By status code.",
          ("sum by (code) (rate(wattloop_server_requests_total%s))" % RATE, "{{code}}"), stack=True, fill=20),
    lines("Learning", "none", "Rows a second that the learning thread has seen, and those left out as a node had given its share.",
          ("sum(rate(wattloop_server_rows_learned_total%s))" % RATE, "learned"),
          ("sum(rate(wattloop_server_rows_left_out_total%s))" % RATE, "left out")),
)

if __name__ == "__main__":
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    for board in (POWER, MODELS, DELIVERY):
        with open(os.path.join(folder, board["uid"] + ".json"), "w", encoding="utf-8") as f:
            json.dump(board, f, indent=2)
            f.write("\n")
