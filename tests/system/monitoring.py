# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus over what real programs export, and every expression of deploy/ run in it.

usage: monitoring.py DIR ROOT NAME=JOB=HOST:PORT/PATH...    prints ok and not ok lines

DIR is for its files, ROOT the project. Each target is scraped through the relabelling of deploy/prometheus/kubernetes.yaml.
"""
import glob
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import yaml

DIR, ROOT, TARGETS = sys.argv[1], sys.argv[2], [t.split("=") for t in sys.argv[3:]]
PATIENCE = int(os.environ.get("PATIENCE", "3"))
VARIABLES = {"$__rate_interval": "1m", "$__interval": "1m", "$__range": "1m", "$instance": ".*"}
# What may be empty here, and why.
EMPTY = {
    'count(wattloop_collector_ticks_total{instance=~".*"} unless on (job, instance) wattloop_node_watts)':
        "no node here is without power",
}


def say(claim, complaints):
    print("%sok - %s%s" % ("not " if complaints else "", claim, ": " + "; ".join(complaints)[:1500] if complaints else ""))


def free_port():
    import socket
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def load_yaml(name):
    with open(os.path.join(ROOT, "deploy/prometheus", name), encoding="utf-8") as f:
        return yaml.safe_load(f)


def configure():
    """The Kubernetes job with its discovery replaced by what it would find: Debian's Prometheus has none of that kind."""
    job = load_yaml("kubernetes.yaml")["scrape_configs"][0]
    job.pop("kubernetes_sd_configs")
    job["static_configs"] = []
    for name, app, where in TARGETS:
        address, path = where.split("/", 1)
        job["static_configs"].append({"targets": [address], "labels": {
            "__meta_kubernetes_pod_annotation_prometheus_io_scrape": "true",
            "__meta_kubernetes_pod_annotation_prometheus_io_path": "/" + path,
            "__meta_kubernetes_pod_container_port_name": "metrics",
            "__meta_kubernetes_pod_label_app_kubernetes_io_name": app,
            "__meta_kubernetes_pod_node_name": name}})
    # two that no rule may let through
    for annotation, port in (("false", "metrics"), ("true", "other")):
        job["static_configs"].append({"targets": ["127.0.0.1:9"], "labels": {
            "__meta_kubernetes_pod_annotation_prometheus_io_scrape": annotation,
            "__meta_kubernetes_pod_container_port_name": port}})
    config = {"global": {"scrape_interval": "500ms", "evaluation_interval": "1s"}, "scrape_configs": [job],
              "rule_files": [os.path.join(ROOT, "deploy/prometheus/alerts.yaml")]}
    with open(os.path.join(DIR, "prometheus.yaml"), "w", encoding="utf-8") as f:
        yaml.safe_dump(config, f)


class Prometheus:
    def __init__(self):
        self.port = free_port()
        self.log = open(os.path.join(DIR, "prometheus.log"), "w", encoding="utf-8")
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "prometheus", "--config.file=" + os.path.join(DIR, "prometheus.yaml"), "--storage.tsdb.path=" + os.path.join(DIR, "tsdb"),
             "--web.listen-address=127.0.0.1:%d" % self.port], stdout=self.log, stderr=self.log)

    def ask(self, path, **query):
        url = "http://127.0.0.1:%d/api/v1/%s?%s" % (self.port, path, urllib.parse.urlencode(query))
        try:
            with urllib.request.urlopen(url, timeout=20) as reply:
                return json.load(reply)["data"]
        except urllib.error.HTTPError as e:
            return {"error": e.read().decode(errors="replace")}

    def query(self, expr):
        """The values that are numbers, or an error text."""
        data = self.ask("query", query=expr)
        if "error" in data:
            return data["error"]
        if data["resultType"] == "scalar":
            return [data["result"][1]]
        return [r["value"][1] for r in data["result"] if r["value"][1] != "NaN"]

    def wait_for_data(self):
        """Enough scrapes of every target for a rate. The time limit is patience, not a claim."""
        end = time.monotonic() + 20 * PATIENCE
        while time.monotonic() < end:
            try:
                found = self.query("count_over_time(up[5m]) >= 4 and up == 1")
                if isinstance(found, list) and len(found) == len(TARGETS):
                    return []
            except OSError:
                pass
            time.sleep(0.2)
        return ["%s: %s" % (t["labels"].get("job"), t["lastError"]) for t in self.ask("targets")["activeTargets"]] or ["no targets"]


def panels():
    for path in sorted(glob.glob(os.path.join(ROOT, "deploy/grafana/*.json"))):
        with open(path, encoding="utf-8") as f:
            board = json.load(f)
        for panel in board["panels"]:
            for target in panel["targets"]:
                yield board, panel, target["expr"]


def fill_in(expr):
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    return expr


def check_dashboards(prometheus):
    wrong, used = [], set()
    n = 0
    for board, panel, expr in panels():
        n += 1
        full = fill_in(expr)
        result = prometheus.query(full)
        used |= {full} & set(EMPTY)
        if isinstance(result, str):
            wrong.append("%s, %s: %s" % (board["uid"], panel["title"], result))
        elif not result and full not in EMPTY:
            wrong.append("%s, %s: nothing for %s" % (board["uid"], panel["title"], full))
        elif result and full in EMPTY:
            wrong.append("%s has something now: it is no exception" % full)
    say("all %d expressions of the dashboards find something (but %d: %s)" % (n, len(EMPTY), ", ".join(EMPTY.values())), wrong)
    say("every exception is an expression of a panel", sorted(set(EMPTY) - used))


def check_form():
    """What a dashboard needs to be imported by strangers."""
    wrong, boards = [], {}
    for board, panel, expr in panels():
        boards[board["uid"]] = board
        where = "%s, %s: " % (board["uid"], panel["title"])
        if panel["datasource"]["uid"] != "${datasource}" or any(t["datasource"]["uid"] != "${datasource}" for t in panel["targets"]):
            wrong.append(where + "another data source")
        if not panel["description"] or not panel["fieldConfig"]["defaults"].get("unit"):
            wrong.append(where + "no description or unit")
        wrong += [where + "unknown variable " + v for v in set(re.findall(r"\$\w+", expr)) - set(VARIABLES)]
    for uid, board in boards.items():
        ids = [p["id"] for p in board["panels"]]
        names = [v["name"] for v in board["templating"]["list"]]
        cells = [(x, y) for p in board["panels"] for x in range(p["gridPos"]["x"], p["gridPos"]["x"] + p["gridPos"]["w"])
                 for y in range(p["gridPos"]["y"], p["gridPos"]["y"] + p["gridPos"]["h"])]
        if board["id"] is not None or not 36 <= board["schemaVersion"] <= 39 or len(set(ids)) != len(ids):
            wrong.append(uid + ": an id of an instance, a wrong schemaVersion or a panel's id twice")
        if "datasource" not in names or ("$instance" in json.dumps(board["panels"])) != ("instance" in names):
            wrong.append(uid + ": its variables are not those that it uses")
        if len(set(cells)) != len(cells) or any(x > 23 for x, _ in cells):
            wrong.append(uid + ": panels overlap or leave the grid")
    say("the %d dashboards can be imported by anybody" % len(boards), wrong if boards else ["there are none"])


def check_alerts(prometheus):
    """Quiet alerts find nothing; with the comparison as a value they must find what they are about."""
    wrong, n = [], 0
    for group in load_yaml("alerts.yaml")["groups"]:
        for rule in group["rules"]:
            n += 1
            left = re.sub(r" unless .*", "", rule["expr"].replace("\n", " "))
            result = prometheus.query(re.sub(r" (==|>) ", r" \1 bool ", left))
            if isinstance(result, str) or not result:
                wrong.append("%s: %s" % (rule["alert"], result or "nothing"))
            if not rule["annotations"].get("summary") or not rule["annotations"].get("description"):
                wrong.append("%s says too little" % rule["alert"])
    say("all %d alerts are about series that our programs export" % n, wrong)
    rules = [r for g in prometheus.ask("rules")["groups"] for r in g["rules"]]
    say("Prometheus evaluates them", [r["name"] + ": " + r.get("lastError", r["health"]) for r in rules if r["health"] == "err"]
        if len(rules) == n else ["%d rules" % len(rules)])


def main():
    configure()
    prometheus = Prometheus()
    try:
        say("the scrape job finds the pods, all of them and no others", prometheus.wait_for_data())
        say("and names jobs and nodes", [] if sorted(t["labels"]["job"] + t["labels"]["node"] for t in prometheus.ask("targets")["activeTargets"])
            == sorted(app + name for name, app, _ in TARGETS) else ["other labels"])
        check_form()
        check_dashboards(prometheus)
        check_alerts(prometheus)
    finally:
        prometheus.process.kill()
        prometheus.process.wait()


main()
