#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The work of updater_fleet.sh: updater_fleet.py BUILD DIR."""
import hashlib
import http.server
import json
import os
import shutil
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
import zipfile

from updater_lab import NOW, SLOT, Lab, check, entries_of, id_of, is_whole, ok, pack

BUILD, DIR = sys.argv[1:3]
lab = Lab(BUILD, DIR)
ROOT = ("--trust-root-keys", "root.pub")
WEIGHT_SLOT = "rapl-sysfs/AbsPower/weight"
BOTH = ("--models", f"{SLOT},{WEIGHT_SLOT}")
KEYS = lab.key_list()
reports = []
version = 1


def weight_of(entries):
    return {"weight.json": entries.get("weight.json", b"")}


def api(entries, **signing):
    """A server of ours: keys, models of both forms with tags, reports."""
    global version
    version += 1
    offered = {}
    for slot, e, body, kind in ((SLOT, entries, pack(entries), "application/zip"),
                                (WEIGHT_SLOT, weight_of(entries), weight_of(entries)["weight.json"], "application/json")):
        offered["weight=true" if slot == WEIGHT_SLOT else "weight=false"] = (
            body, lab.sign(body, id_of(e), version=version, slot=slot, **signing), kind, f'"{version}"')

    def answer(h):
        if h.path == "/api/v1/keys":
            h.reply(KEYS[0], kind="application/json")
        elif h.path == "/api/v1/keys.minisig":
            h.reply(KEYS[1], kind="text/plain")
        elif h.path == "/api/v1/report":
            reports.append((dict(h.headers), json.loads(h.body)))
            h.reply(b'{"new": 1, "duplicate": 0}', kind="application/json")
        elif h.path.startswith("/api/v1/models"):
            body, signature, kind, tag = next(v for k, v in offered.items() if k in h.path)
            if h.headers.get("If-None-Match") == tag:
                h.reply(status=304, kind=None, ETag=tag, Content_Length=None)
            else:
                h.reply(body, signature=signature, kind=kind, ETag=tag)
        else:
            h.reply(b"not found", status=404, kind="text/html")
    return answer


def update(*args, **options):
    options.setdefault("trust", ROOT)
    options.setdefault("sock", "")
    return lab.run(lab.command("update", *args, **options))


def current(slot=SLOT):
    try:
        return os.readlink(os.path.join(lab.store, slot, "current"))
    except OSError:
        return None


def fresh_store():
    shutil.rmtree(lab.store, ignore_errors=True)


# ---- the server, and what it is told ----
A, B, C = entries_of(20), entries_of(21), entries_of(22)
token = os.path.join(DIR, "token")
with open(token, "w", encoding="ascii") as f:
    f.write("secret-token\n")
lab.answer = api(A)
r, out = update(*BOTH, "--server-token-file", token)
check("signed models of both forms are installed", r == 0 and current() == id_of(A) and
      current(WEIGHT_SLOT) == id_of(weight_of(A)), out)
told = reports[0][1] if reports else {}
check("the server is told of both in one report, with the token",
      len(reports) == 1 and [x["outcome"] for x in told["reports"]] == ["installed"] * 2 and len(told["node_id"]) == 32 and
      {x["slot"] for x in told["reports"]} == {SLOT, WEIGHT_SLOT} and told["reports"][0]["id"] == id_of(A) and
      reports[0][0].get("Authorization") == "Bearer secret-token", str(reports))
del lab.requests[:]
r, out = update(*BOTH)
check("an unchanged model is one small question, and nothing is reported", r == 3 and len(reports) == 1 and
      [q[0] for q in lab.requests] == ["GET", "GET"], f"{r} {out} {[q[:2] for q in lab.requests]}")
good = lab.answer
lab.answer = lambda h: good(h) if "report" not in h.path else h.reply(b"later", status=503, kind="text/plain")
bad = api({**B, "weight.json": b"[]"})
lab.answer = lambda h: bad(h) if "report" not in h.path else h.reply(b"later", status=503, kind="text/plain")
r, out = update()
lab.answer = bad
update()
told = [x for _, t in reports[1:] for x in t["reports"]]
check("a refusal whose report was lost is told with the next run, with the reason", r == 1 and len(reports) == 2 and
      [x["outcome"] for x in told] == ["refused"] and "weight.json" in told[0]["why"], str(told))

# ---- mirrors ----
mirror = os.path.join(DIR, "mirror")
lab.answer = api(B)


def make_mirror(*args):
    return lab.run(lab.command("mirror", mirror, *args, trust=ROOT))


r, out = make_mirror(*BOTH)
files = {os.path.relpath(os.path.join(d, f), mirror) for d, _, fs in os.walk(mirror) for f in fs if not d.endswith(".state")}
check("mirror makes plain files", r == 0 and files >= {
    f"{SLOT}/current.minisig", f"{SLOT}/{id_of(B)}.zip", f"{WEIGHT_SLOT}/current.minisig", "api/v1/keys",
    "api/v1/keys.minisig"}, f"{out} {files}")
r, out = make_mirror(*BOTH)
check("a mirror of the same is nothing new", r == 3, out)
with open(os.path.join(mirror, SLOT, "current.minisig"), "rb") as f:
    carried = f.read()
check("its signatures are the server's own", carried == lab.sign(pack(B), id_of(B), version=version) or
      b"version:%d " % version in carried, carried.decode())
fresh_store()
r, out = update(*BOTH, "--from", mirror)
check("a mirror is installed from a directory, keys and all", r == 0 and current() == id_of(B) and
      current(WEIGHT_SLOT) == id_of(weight_of(B)), out)
r, out = update(*BOTH, "--from", mirror)
check("and is nothing new the second time", r == 3, out)
stale = lab.answer
lab.answer = api(A, age=NOW - 5)
r, out = make_mirror()
check("a mirror refuses what it would refuse to install: signed before what it has", r == 1 and "before" in out, out)
lab.answer = api({**C, "weight.json": b"[]"})
r, out = make_mirror()
check("and a bad model, and goes on offering the one before", r == 1 and "weight.json" in out and
      os.path.exists(os.path.join(mirror, SLOT, id_of(B) + ".zip")), out)
check("models without signatures cannot be mirrored", lab.run(lab.command(
    "mirror", mirror, "--server-trust", "unsigned", trust=()))[0] == 2)


def serve_mirror():
    """nginx in front of the mirror; None when there is none."""
    nginx = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    if not nginx:
        return None
    with __import__("socket").socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    home = os.path.join(DIR, "nginx")
    os.makedirs(home, exist_ok=True)
    os.chmod(DIR, 0o755)
    with open(os.path.join(home, "conf"), "w", encoding="ascii") as conf:
        conf.write(f"""{"user root;" if os.geteuid() == 0 else ""} daemon off; pid {home}/pid; error_log {home}/error.log;
            events {{}} http {{ access_log {home}/access.log; client_body_temp_path {home}; proxy_temp_path {home};
            fastcgi_temp_path {home}; uwsgi_temp_path {home}; scgi_temp_path {home};
            server {{ listen 127.0.0.1:{port}; root {mirror}; }} }}""")
    child = subprocess.Popen([nginx, "-e", os.path.join(home, "error.log"), "-p", home, "-c", os.path.join(home, "conf")])
    for _ in range(100):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/keys").read()
            break
        except OSError:
            time.sleep(0.05)
    return child, f"http://127.0.0.1:{port}"


served = serve_mirror()
if served:
    nginx, url = served
    access = os.path.join(DIR, "nginx", "access.log")
    fresh_store()
    r, out = update(*BOTH, url=url)
    check("models are installed from a mirror behind nginx", r == 0 and current() == id_of(B) and is_whole(lab.slot), out)
    open(access, "w", encoding="ascii").close()
    r, out = update(url=url)
    with open(access, encoding="ascii") as f:
        lines = f.read().splitlines()
    check("an unchanged model is one conditional question to nginx", r == 3 and len(lines) == 1 and "304" in lines[0],
          f"{r} {out} {lines}")
    lab.answer = api(C)
    make_mirror(*BOTH)
    r, out = update(url=url)
    check("what the mirror fetched since is installed from it", r == 0 and current() == id_of(C), out)
    zip_path = os.path.join(mirror, SLOT, id_of(C) + ".zip")
    with open(zip_path, "r+b") as f:
        f.seek(400)
        f.write(b"\0\0\0\0")
    fresh_store()
    r, out = update(url=url)
    check("a mirror that lies is found out", r == 1 and current() is None and "does not fit" in out, out)
    nginx.terminate()
    nginx.wait()
else:
    print("skip - mirrors behind nginx: there is no nginx", flush=True)

# ---- staged rollouts ----
fresh_store()
lab.answer = api(A)
update()
asked = [h for m, p, h, _ in lab.requests if p.startswith("/api/v1/models")][-1]
node = asked.get("Wattloop-Node", "")
check("the server is told who asks", len(node) == 32 and node == reports[0][1]["node_id"], str(asked))
place = 100 * int(hashlib.sha256(f"{node}/{id_of(B)}".encode()).hexdigest()[:8], 16) / 2**32
lab.answer = api(B, more=" halted:1")
r, out = update()
check("what is halted is installed by nobody", r == 3 and current() == id_of(A) and "halted" in out, out)
lab.answer = api(B, more=f" rollout:{int(place)}")
r, out = update()
check("a rollout that has not come to this machine is waited for", r == 3 and current() == id_of(A), out)
lab.answer = api(B, more=f" rollout:{int(place) + 1}")
r, out = update()
check("and installed when it has", r == 0 and current() == id_of(B), out)

# ---- upstream's layouts ----
fresh_store()
download, weights, log = (os.path.join(DIR, n) for n in ("download", "model_weight", "reloads"))
sidecar_slot = os.path.join(download, "rapl-sysfs", "AbsPower")
upstream = (*BOTH, "--kepler-sidecar-path", download, "--kepler-weight-path", weights,
            "--kepler-reload", f"/bin/sh,-c,echo \"$0\" >>{log},two words; $(id)")
weights_only = (*upstream[:1], WEIGHT_SLOT, *upstream[2:])
lab.answer = api(A)
r, out = update(*weights_only)
kepler = os.path.join(weights, "intel_rapl_AbsPowerModel.json")
check("a weight is written where Kepler's exporter reads it", r == 0 and open(kepler, "rb").read() == A["weight.json"], out)
check("and the command is run, without a shell between", open(log, encoding="ascii").read() == "two words; $(id)\n")
r, out = update(*weights_only)
check("an unchanged one runs nothing", r == 3 and open(log, encoding="ascii").read().count("\n") == 1, out)
os.remove(kepler)
update(*weights_only)
check("a file that went is written again", os.path.exists(kepler))
r, out = update(*upstream)
check("an archive that the sidecar cannot load is not given to it, in words", r == 1 and "sidecar cannot load" in out and
      not os.path.exists(sidecar_slot), out)
r, out = update(*weights_only[:2], "--kepler-weight-path", weights + "2", "--kepler-reload", "/bin/false")
check("a command that fails is a failure", r == 1 and "/bin/false" in out and os.path.exists(weights + "2"), out)



def tree_model(number):
    """An archive of a class that upstream's sidecar loads: two components of two trees each, in XGBoost's own format."""
    def trees(watts):
        def tree(split, low, high):
            return {"left_children": [1, -1, -1], "right_children": [2, -1, -1], "split_indices": [0, 0, 0],
                    "split_conditions": [split, low, high], "default_left": [0, 0, 0]}
        return {"learner": {"learner_model_param": {"base_score": str(watts), "num_feature": "2"},
                            "objective": {"name": "reg:squarederror"}, "gradient_booster": {
                                "name": "gbtree", "model": {"trees": [tree(500, 0.5, 7.25), tree(4000, 0, 20.5)]}}},
                "version": [2, 1, 1]}
    features = ["bpf_cpu_time_ms", "bpf_page_cache_hit"]
    documents = {
        "metadata.json": {"model_name": "XgboostFitTrainer_0", "model_class": "xgboost", "model_file": "XgboostFitTrainer_0.json",
                          "features": features, "fe_files": [], "output_type": "AbsPower", "mae": 1.5, "wattloop_version": 1},
        "XgboostFitTrainer_0.json": {c: {"model_file": c + ".json", "features": features, "fe_files": []}
                                     for c in ("package", "dram")},
        "package.json": trees(30 + number), "dram.json": trees(number)}
    return {name: json.dumps(d).encode() for name, d in documents.items()}


def sidecar(directory, rows):
    """What upstream's sidecar answers from its directory, by its own way of reading it: no object within the metadata but
    the one, the component map that the metadata names, columns in the map's order, watts never below 0."""
    def load(name):
        with open(os.path.join(directory, name), encoding="utf-8") as f:
            return json.load(f)
    metadata = load("metadata.json")
    assert metadata["model_class"] == "xgboost" and not any(isinstance(v, dict) for v in metadata.values())
    powers = {}
    for component, part in load(metadata["model_file"]).items():
        assert part["fe_files"] == []
        learner = load(part["model_file"])["learner"]
        powers[component] = []
        for row in rows:
            x = [row[f] for f in part["features"]]
            y = float(learner["learner_model_param"]["base_score"])
            for t in learner["gradient_booster"]["model"]["trees"]:
                n = 0
                while t["left_children"][n] != -1:
                    n = t["left_children" if x[t["split_indices"][n]] < t["split_conditions"][n] else "right_children"][n]
                y += t["split_conditions"][n]
            powers[component].append(max(y, 0.0))
    return powers


def predicted(archive, rows):
    """What wattloop-estimator says of the same."""
    path = os.path.join(DIR, "tree.zip")
    with open(path, "wb") as f:
        f.write(archive)
    names = list(rows[0])
    r = subprocess.run([os.path.join(BUILD, "bin", "wattloop-estimator"), "predict", path, "--config", lab.empty],
                       input=json.dumps({"metrics": names, "values": [[row[n] for n in names] for row in rows],
                                         "output_type": "AbsPower", "source": "rapl-sysfs", "system_features": [],
                                         "system_values": [], "trainer_name": "", "filter": ""}).encode() + b"\n",
                       stdout=subprocess.PIPE, check=False)
    return json.loads(r.stdout)["powers"]


rows = [{"bpf_page_cache_hit": 3.0, "bpf_cpu_time_ms": t} for t in (0.0, 499.5, 500.0, 3999.0, 8000.0)]
for number in (1, 2):
    trees = tree_model(number)
    lab.answer = api(trees)
    r, out = update("--kepler-sidecar-path", download)
    check("an archive lies where upstream's sidecar looks, its files and nothing else" if number == 1 else
          "and the next one takes its place", r == 0 and sorted(os.listdir(sidecar_slot)) == sorted(trees) and
          os.listdir(os.path.dirname(sidecar_slot)) == ["AbsPower"], out)
    check(f"what the sidecar loads there says the watts of the model that was published ({number})",
          sidecar(sidecar_slot, rows) == predicted(pack(trees), rows) and
          sidecar(sidecar_slot, rows)["package"] == [30.5 + number, 30.5 + number, 37.25 + number, 37.25 + number, 57.75 + number],
          str(predicted(pack(trees), rows)))

# ---- upstream's server ----
sent = []


def upstream_server(entries):
    """POST /model and nothing else; no digest, no signature, a tag that never comes again, a zip that is packed anew for
    each request: in another order, with other dates, compressed or not."""
    def answer(h):
        if (h.command, h.path) != ("POST", "/model"):
            h.reply(b"<!doctype html><title>404 Not Found</title>", status=404, kind="text/html; charset=utf-8",
                    Connection="close")
            return
        n = len(sent)
        members = list(entries.items())
        sent.append(pack(members[n % len(members):] + members[:n % len(members)], (2001 + n, 1 + n, 1, n, n, 2 * n),
                         zipfile.ZIP_STORED if n % 3 == 2 else zipfile.ZIP_DEFLATED))
        h.reply(sent[-1], Connection="close", ETag=None if n % 2 else f'"{n}"', Last_Modified=f"Mon, 0{1 + n} Jan 2024 00:00:00 GMT")
    return answer


fresh_store()
lab.answer = upstream_server(A)
unsigned = {"trust": ("--server-trust", "unsigned")}
r, out = update(**unsigned)
check("a model of upstream's server is installed", r == 0 and current() == id_of(A), out)
before = os.stat(os.path.join(lab.slot, "current", "wattloop.json"))
results = [update(**unsigned) for _ in range(6)]
check(f"packed anew it is recognised by its content: nothing new, {len(results)} times",
      [r for r, _ in results] == [3] * 6 and current() == id_of(A), str(results))
check("though no two of its zips were the same", len(set(sent)) == len(sent) == 7)
after = os.stat(os.path.join(lab.slot, "current", "wattloop.json"))
check("and nothing of it was written again", (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns))
lab.answer = upstream_server(B)
r, out = update(**unsigned)
check("another model from there is installed", r == 0 and current() == id_of(B), out)

# ---- proxy and certificates ----
class Proxy(http.server.BaseHTTPRequestHandler):
    seen = []

    def log_message(self, *args):
        pass

    def do_GET(self):
        Proxy.seen.append(self.path)
        self.send_response(407)
        self.send_header("Content-Length", "0")
        self.end_headers()


proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
threading.Thread(target=proxy.serve_forever, daemon=True).start()
r, out = update("--server-proxy", f"http://127.0.0.1:{proxy.server_address[1]}", url="http://models.example:8100")
check("the proxy is used", r == 1 and Proxy.seen and Proxy.seen[0].startswith("http://models.example:8100/api"), out)

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(os.path.join(DIR, "tls.pem"), os.path.join(DIR, "tls.key"))
context.load_verify_locations(os.path.join(DIR, "tls.pem"))
context.verify_mode = ssl.CERT_REQUIRED
https = f"https://127.0.0.1:{lab.serve(context)}"
lab.answer = api(A)
tls = ("--server-ca-file", os.path.join(DIR, "tls.pem"))
mine = ("--server-client-cert-file", os.path.join(DIR, "tls.pem"), "--server-client-key-file", os.path.join(DIR, "tls.key"))
fresh_store()
r, out = update(*tls, url=https)
check("a server that wants a certificate refuses without", r == 1, out)
r, out = update(*tls, *mine, url=https)
check("and takes ours", r == 0 and is_whole(lab.slot), out)

# ---- the canary on this machine's rows ----
samples = os.path.join(DIR, "samples.db")
db = sqlite3.connect(samples)
schema = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "schema")
for n in (1, 2, 3):
    with open(os.path.join(schema, f"samples.{n:03d}.sql"), encoding="utf-8") as f:
        db.executescript(f.read())
db.executescript(f"PRAGMA user_version = 3; PRAGMA application_id = {0x574c5331}; PRAGMA journal_mode = WAL;"
                 "INSERT INTO epoch VALUES (1, 'e', 'b', 'n', 'n', 1, '{}');"
                 "INSERT INTO entity (entity_id, kind, key) VALUES (1, 'node', '');")
for i in range(1, 31):  # half a CPU: 500 bpf_cpu_time_ms a second, 2.5 W by these models
    db.execute("INSERT INTO interval VALUES (?, 1, ?, ?, 1000000000, ?, 'bpf', 'exact', '', NULL)",
               (i, i * 1000, i * 1000 + 1000, i * 10**9))
    db.execute("INSERT INTO usage (interval_id, entity_id, cpu_time_ns, page_cache_pages, net_tx_irq, net_rx_irq, block_irq) "
               "VALUES (?, 1, ?, 0, 0, 0, 0)", (i, i * 5 * 10**8))
db.commit()  # and stays open, as the collector's
canary = ("--canary-samples", samples, "--canary-disagreement", "50")
fresh_store()
lab.answer = api(A)
update(*canary)
lab.answer = api(entries_of(40))
r, out = update(*canary)
check("a model that says another thing than the serving one on this machine's rows is refused",
      r == 1 and current() == id_of(A) and "away from the model that serves" in out and "29 rows" in out, out)
r, out = update("--canary-samples", samples, "--canary-disagreement", "150")
check("within the bound it is installed", r == 0 and current() == id_of(entries_of(40)), out)
lab.answer = api(entries_of(200))
r, out = update("--canary-samples", os.path.join(DIR, "missing.db"))
check("where nothing was recorded there is nothing to compare", r == 0, out)
lab.close()
