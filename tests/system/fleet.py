#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A simulated fleet: fleet.py URL NODES TOKEN BIAS_MAX STATE. Each node asks for its model as wattloop-updater does, says
who it is, judges the model by its bias (its canary: more than BIAS_MAX W at rest is refused), and reports what is new.
STATE remembers what the nodes have. Prints one JSON object: how many nodes were answered with which model, how many
refused, and how many were given a model that the statement does not admit them to."""
import base64
import collections
import hashlib
import http.client
import io
import json
import os
import re
import sys
import time
import urllib.parse
import zipfile

URL, NODES, TOKEN, BIAS_MAX, STATE = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4]), sys.argv[5]
SLOT = "rapl-sysfs/AbsPower/archive"
QUERY = ("/api/v1/models?metrics=bpf_cpu_time_ms,bpf_page_cache_hit&output_type=AbsPower&source=rapl-sysfs"
         "&node_type=-1&weight=false&trainer_name=")
connection = http.client.HTTPConnection(urllib.parse.urlparse(URL).netloc, timeout=30)


def ask(method, path, body=None, headers=None):
    while True:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        data = response.read()
        if response.status != 503:
            return response, data
        time.sleep(0.05)


def place(node, model):
    return 100 * int(hashlib.sha256(f"{node}/{model}".encode()).hexdigest()[:8], 16) / 2**32


def report(node, name, model, outcome, why, when):
    headers = {"Content-Type": "application/json", "Authorization": "Bearer " + TOKEN}
    response, data = ask("POST", "/api/v1/report", json.dumps({"node_id": node, "node_name": name, "reports": [
        {"time_ms": when, "slot": SLOT, "outcome": outcome, "id": model, "model": "SGDRegressorTrainer_0", "why": why}]}), headers)
    assert response.status == 200, (response.status, data)
    assert json.loads(data) in ({"new": 1, "duplicate": 0}, {"new": 0, "duplicate": 1}), data


has = {}
if os.path.exists(STATE):
    with open(STATE, encoding="utf-8") as f:
        has = json.load(f)
answers, refused, misplaced = collections.Counter(), 0, 0
for i in range(NODES):
    node, name = "%032x" % (i * 2654435761), "node-%04d" % i
    response, data = ask("GET", QUERY, headers={"Accept": "application/vnd.wattloop.model+zip", "Wattloop-Node": node})
    assert response.status == 200, (response.status, data[:200])
    statement = base64.b64decode(response.headers["Wattloop-Signature"]).decode()
    words = dict(w.split(":", 1) for w in re.search("\ntrusted comment: (.*)", statement)[1].split())
    percent = int(words.get("rollout", 100))
    misplaced += place(node, words["id"]) >= percent or words.get("halted") == "1"
    weight = json.loads(zipfile.ZipFile(io.BytesIO(data)).read("weight.json"))
    bias = weight["package"]["All_Weights"]["Bias_Weight"]
    answers[words["id"]] += 1
    if bias > BIAS_MAX:
        refused += 1
        report(node, name, words["id"], "refused", f"the canary says {bias} W at rest", int(time.time() * 1000))
    elif has.get(node) != words["id"]:
        report(node, name, words["id"], "installed", "", int(time.time() * 1000))
        has[node] = words["id"]
with open(STATE, "w", encoding="utf-8") as f:
    json.dump(has, f)
print(json.dumps({"answers": answers, "refused": refused, "misplaced": misplaced}))
