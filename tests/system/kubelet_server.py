#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A kubelet over TLS for tests: kubelet_server.py CERTIFICATE STATE

Prints its port. STATE is a JSON file that is read at each request: {"token": "t1", "pods": [{"uid", "name", "namespace",
"containers": {name: id}}], "delay": seconds, "status": 200, "body": text in place of the list}. Requests are logged to
STATE.log, the status of one a line.
"""
import http.server
import json
import ssl
import sys
import time

STATE = sys.argv[2]


def pod(p):
    return {"metadata": {"uid": p["uid"], "name": p["name"], "namespace": p["namespace"], "annotations": {"x": "y" * 2000}},
            "status": {"containerStatuses": [{"name": n, "containerID": "containerd://" + i}
                                             for n, i in p.get("containers", {}).items()],
                       "initContainerStatuses": [{"name": "init", "containerID": ""}]}}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        state = json.load(open(STATE))
        time.sleep(state.get("delay", 0))
        status = state.get("status", 200 if self.path == "/pods" else 404)
        if self.headers.get("Authorization") != "Bearer " + state["token"]:
            status = 401
        with open(STATE + ".log", "a") as log:
            log.write(f"{status}\n")
        body = state.get("body", json.dumps({"kind": "PodList", "items": [pod(p) for p in state["pods"]]})).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            pass  # the client did not wait

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        pass  # a handshake that the client gave up


server = Server(("127.0.0.1", 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(server.server_address[1], flush=True)
server.serve_forever()
