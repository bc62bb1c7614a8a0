#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A model server's import, honest or not: import_server.py PORT LOG

Each request takes the next mode, a line of LOG.modes, whenever that file is new; the last one stays: ok, 204, 400, 401, 413, 429, 500, 503, 507, redirect, html (a 200
that is no acknowledgement), less (acknowledges less than it got), hang, close (no answer), half (a cut answer), drop
(stores the batch, then closes without an answer), slow (ok, with a pause before and behind the storing), big:N (413 for more than N intervals, else ok).
LOG gets a line per request: MODE BATCH SAMPLES SHA256. LOG.samples collects what was stored, a sample a line."""
import gzip
import hashlib
import http.server
import json
import os
import sys
import threading
import time

PORT, LOG = int(sys.argv[1]), sys.argv[2]
lock, modes, read_ns = threading.Lock(), ["ok"], 0


def next_mode():
    global modes, read_ns
    with lock:
        try:
            changed_ns = os.stat(LOG + ".modes").st_mtime_ns
        except FileNotFoundError:
            changed_ns = read_ns
        if changed_ns != read_ns:
            read_ns = changed_ns
            with open(LOG + ".modes", encoding="utf-8") as file:
                modes = file.read().split()
        return modes.pop(0) if len(modes) > 1 else modes[0]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        lines = [json.loads(line) for line in gzip.decompress(body).splitlines()]
        samples = sum(len(line["values"]) for line in lines)
        batch = self.headers.get("Wattloop-Batch", "-")
        mode = next_mode()
        first, last = (int(n) for n in batch.split("/")[-1].split("-"))
        if mode.startswith("big:"):
            mode = "413" if last - first + 1 > int(mode[4:]) else "ok"
        with open(LOG, "a", encoding="utf-8") as log:
            log.write(f"{mode} {batch} {samples} {hashlib.sha256(body).hexdigest()}\n")
        if mode == "slow":
            time.sleep(0.02)
        if mode in ("ok", "204", "drop", "less", "slow"):
            with open(LOG + ".samples", "a", encoding="utf-8") as out:
                for line in lines:
                    series = json.dumps(line["metric"], sort_keys=True)
                    for ts, value in zip(line["timestamps"], line["values"]):
                        out.write(f"{series} {ts} {value}\n")
        counts = {"samples": samples, "new": samples, "duplicate": 0, "ignored": 0}
        self.close_connection = True
        if mode == "slow":
            time.sleep(0.02)
        if mode in ("ok", "slow"):
            self.answer(200, json.dumps(counts).encode(), Content_Type="application/json")
        elif mode == "less":
            self.answer(200, json.dumps(dict(counts, samples=samples - 1)).encode())
        elif mode == "204":
            self.answer(204)
        elif mode == "html":
            self.answer(200, b"<html>welcome</html>", Content_Type="text/html")
        elif mode == "redirect":
            self.answer(302, Location="http://127.0.0.1:1/")
        elif mode == "hang":
            time.sleep(60)
        elif mode == "half":
            self.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"samples": 1')
        elif mode in ("close", "drop"):
            pass
        elif mode in ("429", "503"):
            self.answer(int(mode), b'{"error": "busy"}', Retry_After="0")
        else:
            self.answer(int(mode), b'{"error": "words of the server"}')


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True


Server(("127.0.0.1", PORT), Handler).serve_forever()
