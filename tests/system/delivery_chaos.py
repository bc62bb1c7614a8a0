#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Deliveries through bad proxies: delivery_chaos.py BIN RECORDING DIRECTORY BATCHES SEED RESULT

A recording is pushed to a model server, a VictoriaMetrics and a Prometheus, each behind a proxy that cuts, delays,
duplicates, truncates and answers 5xx, 429 and 413 at random, while the client is killed every few seconds. Then what
the destinations hold is compared with the database, sample by sample: nothing may be lost, doubled, of another value or
extra. RESULT gets the counts as JSON; destinations whose program is not installed are named in `skipped`."""
import collections
import http.client
import http.server
import json
import math
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request

import server_db

BIN, RECORDING, DIR, BATCHES, SEED, RESULT = sys.argv[1:7]
BATCHES, SEED = int(BATCHES), int(SEED)
BATCH_INTERVALS, ENTITIES, STEP_MS = 2, 3, 3000
KILL_S = (1.0, 5.0)
FEATURES = [("bpf_cpu_time_ms", 6), ("bpf_page_cache_hit", 6), ("bpf_net_tx_irq", 0), ("bpf_net_rx_irq", 0),
            ("bpf_block_irq", 0), ("cpu_cycles", 0), ("cpu_instructions", 0), ("cache_miss", 0)]
DB = os.path.join(DIR, "samples.db")
procs = []


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(name, *command):
    with open(os.path.join(DIR, name + ".log"), "ab") as log:
        procs.append(subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL))


def get(url, data=None, timeout=120):
    with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=timeout) as answer:
        return answer.read()


def wait_for(url):
    for _ in range(600):
        try:
            return get(url, timeout=2)
        except OSError:
            time.sleep(0.1)
    sys.exit(f"{url} does not answer")


class Proxy(http.server.BaseHTTPRequestHandler):
    """One kind of trouble per request; about half get through unharmed."""
    protocol_version = "HTTP/1.1"
    upstream, dice, counts, lock = 0, None, None, threading.Lock()

    def log_message(self, *_):
        pass

    def forward(self, body, length=None):
        c = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=60)
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection", "content-length")}
        headers["Content-Length"] = str(length if length is not None else len(body))
        try:
            c.request(self.command, self.path, body, headers)
            if length is not None:
                c.sock.shutdown(socket.SHUT_WR)
            answer = c.getresponse()
            return answer.status, answer.read()
        finally:
            c.close()

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.close_connection = True
        with self.lock:
            what = self.dice.choices(
                ["pass", "delay", "drop", "lost", "duplicate", "truncate", "half", "500", "503", "429", "date", "413"],
                [60, 6, 5, 7, 6, 4, 4, 3, 3, 2, 1, 1])[0]
            pause = self.dice.random() * 0.05
            self.counts[what] += 1
        try:
            self.trouble(what, pause, body)
        except (OSError, http.client.HTTPException):
            pass  # the client was killed, or the upstream closed

    def trouble(self, what, pause, body):
        if what in ("500", "503", "413"):
            self.answer(int(what), b'{"error": "the proxy says so"}')
        elif what == "429":
            self.answer(429, b"slow down", Retry_After="0")
        elif what == "date":
            self.answer(503, b"later", Retry_After=time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()))
        elif what == "drop":
            pass
        elif what == "truncate":
            self.forward(body[:len(body) // 2], len(body))
        else:
            if what == "delay":
                time.sleep(pause)
            status, text = self.forward(body)
            if what == "duplicate":
                status, text = self.forward(body)
            if what == "lost":
                return
            if what == "half":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + text)
                return
            self.answer(status, text)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def make_proxy(upstream, seed):
    handler = type("Handler", (Proxy,), {"upstream": upstream, "dice": random.Random(seed),
                                         "counts": collections.Counter()})
    server = Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1], handler


# ---- what was recorded ----

def recorded():
    """{series: {ts: value}} of every row: the containers' features and the node's energy, at the intervals' ends; and
    {(epoch, ts)} of the intervals' starts, where what was before may be said again."""
    want = collections.defaultdict(dict)
    db = sqlite3.connect(f"file:{DB}?mode=ro", uri=True)
    starts = set(db.execute("SELECT epoch, start_ms FROM interval JOIN epoch USING (epoch_id)"))
    for row in db.execute("SELECT epoch, key, end_ms, cpu_time_ns, page_cache_pages, net_tx_irq, net_rx_irq, block_irq,"
                          " cpu_cycles, cpu_instructions, cache_miss FROM usage JOIN interval USING (interval_id)"
                          " JOIN epoch USING (epoch_id) JOIN entity USING (entity_id) WHERE kind = 'container'"):
        for (name, decimals), total in zip(FEATURES, row[3:]):
            want[(f"kepler_container_{name}_total", row[0], row[1])][row[2]] = total / 10 ** decimals
    for epoch, component, unit, end_ms, energy, idle in db.execute(
            "SELECT epoch, component, unit, end_ms, energy_uj, idle_uj FROM power JOIN interval USING (interval_id)"
            " JOIN epoch USING (epoch_id) JOIN sensor USING (sensor_id)"):
        name = f"kepler_node_{component}_joules_total"
        want[(name, epoch, f"{unit}/dynamic")][end_ms] = (energy - idle) / 1e6
        want[(name, epoch, f"{unit}/idle")][end_ms] = idle / 1e6
    db.close()
    return want, starts


def key_of(metric):
    name = metric["__name__"]
    if name.startswith("kepler_container_"):
        return name, metric["epoch"], metric["container_id"]
    if name.startswith("kepler_node_") and name.endswith("_joules_total"):
        return name, metric["epoch"], f"{metric['package']}/{metric['mode']}"
    return None


def compare(want, starts, series):
    """series: (key, [(ts, value)]). Samples that are missing, that are there more than once, with another value, or that
    nobody recorded."""
    seen = collections.defaultdict(list)
    for key, samples in series:
        for ts, value in samples if key else ():
            seen[(key, ts)].append(value)
    lost = doubled = other = 0
    extra = sum(ts not in want.get(key, ()) and (key[1], ts) not in starts for key, ts in seen)
    for key, samples in want.items():
        for ts, value in samples.items():
            got = seen.get((key, ts), [])
            lost += not got
            doubled += len(got) > 1
            other += any(not math.isclose(v, value, rel_tol=1e-12, abs_tol=1e-12) for v in got)
    return {"lost": lost, "doubled": doubled, "other": other, "extra": extra}


def from_victoriametrics(base):
    get(base + "/internal/force_flush")
    time.sleep(2)
    for name in [f"kepler_container_{f}_total" for f, _ in FEATURES] + [
            f"kepler_node_{c}_joules_total" for c in ("package", "dram", "platform")]:
        for line in get(base + "/api/v1/export?start=0&match[]=" + name).splitlines():
            one = json.loads(line)
            yield key_of(one["metric"]), list(zip(one["timestamps"], one["values"]))


def from_prometheus(base, first_ms, last_ms):
    for name in [f"kepler_container_{f}_total" for f, _ in FEATURES] + [
            f"kepler_node_{c}_joules_total" for c in ("package", "dram", "platform")]:
        at = first_ms
        while at <= last_ms:  # an hour at a time
            end = at + 3600000
            query = urllib.parse.quote(f"{name}[{3600000 - 1}ms]")
            answer = json.loads(get(f"{base}/api/v1/query?query={query}&time={(end - 1) / 1000:.3f}"))
            for one in answer["data"]["result"]:
                yield key_of(one["metric"]), [(round(t * 1000), float(v)) for t, v in one["values"]]
            at = end


# ---- the course ----

def main():
    dice = random.Random(SEED)
    skipped = []
    shutil.rmtree(DIR, ignore_errors=True)
    os.makedirs(DIR)
    rows = int(subprocess.check_output([RECORDING, DB, str(BATCHES * BATCH_INTERVALS), str(ENTITIES),
                                        f"step_ms={STEP_MS}", f"seed={SEED + 1}", "gap_every=97", "churn=211",
                                        "epochs=3", "measured=0"]))
    server, vm, prom = free_port(), free_port(), free_port()
    start("model-server", BIN + "/wattloop-model-server", "serve", "--listen", f"127.0.0.1:{server}", "--database-path",
          DIR + "/server.db", "--models-path", DIR + "/models")
    wait_for(f"http://127.0.0.1:{server}/healthz")
    names = {"model-server": ("server", server, "")}
    if shutil.which("victoria-metrics"):
        start("victoriametrics", "victoria-metrics", "-storageDataPath", DIR + "/vm", "-httpListenAddr", f"127.0.0.1:{vm}",
              "-dedup.minScrapeInterval=1ms", "-retentionPeriod=10y", "-search.maxUniqueTimeseries=10000000",
              "-memory.allowedBytes=256MB")
        wait_for(f"http://127.0.0.1:{vm}/health")
        names["victoriametrics"] = ("victoriametrics", vm, "")
    else:
        skipped.append("victoriametrics")
    if shutil.which("prometheus"):
        with open(DIR + "/prometheus.yml", "w", encoding="utf-8") as f:
            f.write("scrape_configs: []\n")
        start("prometheus", "prometheus", "--config.file=" + DIR + "/prometheus.yml", "--storage.tsdb.path=" + DIR + "/prom",
              "--web.enable-remote-write-receiver", f"--web.listen-address=127.0.0.1:{prom}",
              "--storage.tsdb.retention.time=10y", "--query.max-samples=500000000")
        wait_for(f"http://127.0.0.1:{prom}/-/ready")
        names["prometheus-remote-write"] = ("remote-write", prom, "/api/v1/write")
    else:
        skipped.append("prometheus-remote-write")

    common = [BIN + "/wattloop-trainer-client", "--store-path", DB, "--state-path", DIR + "/state", "--destinations",
              ",".join(names), "--batch-intervals", str(BATCH_INTERVALS), "--retry-base", "5ms", "--retry-max", "100ms",
              "--retry-attempts", "50"]
    through, direct, proxies = list(common), list(common), {}
    for n, (name, (section, port, path)) in enumerate(names.items()):
        proxy, handler = make_proxy(port, SEED * 7 + n)
        proxies[name] = handler
        through += [f"--{section}-url", f"http://127.0.0.1:{proxy}{path}", f"--{section}-timeout", "10s"]
        direct += [f"--{section}-url", f"http://127.0.0.1:{port}{path}"]
    if "prometheus-remote-write" in names:
        through += ["--remote-write-query-url", f"http://127.0.0.1:{prom}"]

    kills, runs, done, begin, told = 0, 0, False, time.monotonic(), time.monotonic()
    while not done:
        with open(DIR + "/client.log", "ab") as log:
            client = subprocess.Popen(through + ["push"], stdout=log, stderr=log)
        runs += 1
        try:
            done = client.wait(timeout=dice.uniform(*KILL_S)) in (0, 3)
        except subprocess.TimeoutExpired:
            client.send_signal(signal.SIGKILL)
            client.wait()
            kills += 1
        if time.monotonic() - told > 30:
            told = time.monotonic()
            at = {n: json.load(open(f"{DIR}/state/{n}.json", encoding="utf-8"))["interval_id"] // BATCH_INTERVALS
                  for n in names if os.path.exists(f"{DIR}/state/{n}.json")}
            print(f"{told - begin:.0f} s, {kills} kills, batches of {BATCHES}: {at}", file=sys.stderr, flush=True)
    # what the proxy's 413 put into quarantine goes now, past the proxy
    quarantined = sum(len(f) for _, _, f in os.walk(DIR + "/state/quarantine")) // 2
    subprocess.run(direct + ["push", "--quarantined"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)

    want, starts = recorded()
    first = min(min(s) for s in want.values())
    last = max(max(s) for s in want.values())
    result = {"batches": BATCHES, "seed": SEED, "rows": rows, "samples": sum(len(s) for s in want.values()),
              "kills": kills, "runs": runs, "quarantined": quarantined, "seconds": round(time.monotonic() - begin, 1),
              "skipped": skipped, "proxy": {n: dict(h.counts) for n, h in proxies.items()}, "destinations": {}}
    states = {n: json.load(open(f"{DIR}/state/{n}.json", encoding="utf-8")) for n in names}
    if "victoriametrics" in names:
        result["destinations"]["victoriametrics"] = compare(want, starts, from_victoriametrics(f"http://127.0.0.1:{vm}"))
    if "prometheus-remote-write" in names:
        result["destinations"]["prometheus-remote-write"] = compare(
            want, starts, from_prometheus(f"http://127.0.0.1:{prom}", first, last))
    result["destinations"]["model-server"] = compare(want, starts, (
        (key_of(labels), samples) for labels, samples in server_db.series(DIR + "/server.db")))
    for name, state in states.items():
        result["destinations"][name]["refused_intervals"] = state["refused_intervals"]
        result["destinations"][name]["behind"] = BATCHES * BATCH_INTERVALS - state["interval_id"]
    with open(RESULT, "w", encoding="utf-8") as f:
        json.dump(result, f, indent=1)
        f.write("\n")
    wrong = [f"{n}: {what} {count}" for n, counts in result["destinations"].items() for what, count in counts.items() if count]
    print(f"{BATCHES} batches, {result['samples']} samples, {kills} kills, {result['seconds']} s:",
          "; ".join(wrong) or f"each sample exactly once at {', '.join(result['destinations'])}")
    return 1 if wrong else 0


try:
    sys.exit(main())
finally:
    for p in procs:
        p.kill()
        p.wait()
