#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A model server's POST /model, honest or not: model_source.py PORT DIR.

DIR/mode says how to answer (read at each request), DIR/bias which model there is; DIR/requests.log gets a line per
request. Also a maker of models: model_source.py make FILE BIAS writes an archive (.zip) or a weight JSON."""
import base64
import hashlib
import http.server
import io
import json
import os
import sys
import time
import zipfile

FEATURES = ["bpf_cpu_time_ms", "bpf_page_cache_hit"]
NAME = "SGDRegressorTrainer_0"


def weight(bias, components=("package", "dram"), feature="bpf_page_cache_hit"):
    numeric = {"bpf_cpu_time_ms": {"scale": 8000.0, "weight": 40.0}, feature: {"scale": 1.0, "weight": 0.5}}
    result = {c: {"All_Weights": {"Bias_Weight": bias, "Categorical_Variables": {}, "Numerical_Variables": numeric}}
              for c in components}
    result.update(model_name=NAME, mae=1.5, machine_spec={"cores": 8}, provenance="simulated")
    return result


def archive(bias, output_type="AbsPower", model_class="weight", extra=(), **kwargs):
    doc = weight(bias, **kwargs)
    components = [k for k, v in doc.items() if isinstance(v, dict) and "All_Weights" in v]
    features = sorted(doc[components[0]]["All_Weights"]["Numerical_Variables"])
    metadata = {"model_name": NAME, "model_class": model_class, "model_file": NAME + ".json", "features": features,
                "fe_files": [], "output_type": output_type, "mae": 1.5, "provenance": "simulated",
                "wattloop_version": 1, "machine_spec": {"cores": 8}}
    component_map = {c: {"model_file": "weight.json", "features": features, "fe_files": []} for c in components}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("metadata.json", json.dumps(metadata))
        z.writestr(NAME + ".json", json.dumps(component_map))
        z.writestr("weight.json", json.dumps(doc))
        for name, content in extra:
            z.writestr(name, content)
    return out.getvalue()


def model(is_weight, bias, **kwargs):
    if is_weight:
        kwargs.pop("output_type", None)
        return json.dumps(weight(bias, **kwargs)).encode()
    return archive(bias, **kwargs)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def file(self, name, default):
        try:
            with open(os.path.join(DIR, name), encoding="utf-8") as f:
                return f.read().strip()
        except FileNotFoundError:
            return default

    def answer(self, status, body, content_type, digest=None, length=None):
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        if digest is not None:
            self.send_header("Digest", "sha-256=" + base64.b64encode(hashlib.sha256(digest).digest()).decode())
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            pass  # the client has had enough

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path != "/model":
            self.answer(404, b"not found", "text/html")
            return
        request = json.loads(body)
        mode, bias = self.file("mode", "ok"), float(self.file("bias", "20"))
        with open(os.path.join(DIR, "requests.log"), "a", encoding="utf-8") as log:
            log.write(json.dumps({"path": self.path, "accept": self.headers.get("Accept", ""),
                                  "token": self.headers.get("Authorization", ""), "body": request}) + "\n")
        is_weight = bool(request["weight"])
        kind = "application/json" if is_weight else "application/zip"
        good = model(is_weight, bias)
        if mode == "ok":
            self.answer(200, good, kind, digest=good)
        elif mode == "plain":  # upstream gives no digest
            self.answer(200, good, kind)
        elif mode == "fresh":  # another model at each request
            fresh = model(is_weight, time.time_ns() % 10**9 / 1e8 + 1)
            self.answer(200, fresh, kind, digest=fresh)
        elif mode in ("400", "500"):
            self.answer(int(mode), b"cannot find model for {} at the moment", "text/html; charset=utf-8")
        elif mode == "html":
            self.answer(200, b"<!doctype html><title>welcome</title>", "text/html")
        elif mode == "html-as-model":
            self.answer(200, b"<!doctype html><title>welcome</title>", kind)
        elif mode == "empty":
            self.answer(200, b"", kind)
        elif mode == "truncated":
            self.answer(200, good[:len(good) // 2], kind)
        elif mode == "short":  # promises more than it sends
            self.answer(200, good, kind, length=len(good) + 1000)
        elif mode == "digest":
            self.answer(200, good, kind, digest=b"something else")
        elif mode == "huge":
            self.answer(200, b"x" * (20 << 20), kind)
        elif mode == "claims-huge":
            self.answer(200, good, kind, length=1 << 40)
        elif mode == "nan":
            self.answer(200, model(is_weight, float("nan")), kind)
        elif mode == "zero":
            self.answer(200, model(is_weight, -1e5), kind)
        elif mode == "giant":
            self.answer(200, model(is_weight, 1e9), kind)
        elif mode == "wrong-output":
            self.answer(200, model(is_weight, bias, output_type="DynPower"), kind)
        elif mode == "wrong-component":
            self.answer(200, model(is_weight, bias, components=("platform",)), kind)
        elif mode == "other-feature":
            self.answer(200, model(is_weight, bias, feature="cpu_cycles"), kind)
        elif mode == "scikit":
            self.answer(200, archive(bias, model_class="scikit"), kind)
        elif mode == "evil-path":
            self.answer(200, archive(bias, extra=[("../evil", "x")]), kind)
        elif mode == "reserved-name":
            self.answer(200, archive(bias, extra=[("wattloop.json", "{}")]), kind)
        elif mode == "bomb":
            self.answer(200, archive(bias, extra=[("bomb.json", b"\0" * (100 << 20))]), kind)
        elif mode == "hang":
            time.sleep(60)
        elif mode == "close":
            self.close_connection = True


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True


if __name__ == "__main__" and sys.argv[1] == "make":
    with open(sys.argv[2], "wb") as out_file:
        out_file.write(model(not sys.argv[2].endswith(".zip"), float(sys.argv[3])))
elif __name__ == "__main__":
    DIR = sys.argv[2]
    Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
