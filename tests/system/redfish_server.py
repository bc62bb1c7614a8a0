#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A Redfish service over TLS for tests: redfish_server.py CERTIFICATE STATE

Prints its port. STATE is a JSON file that is read at each request: {"watts": 312.5, "delay": seconds,
"where": "Power" or "EnvironmentMetrics", "status": 200, "body": text in place of the resource}. Wants user "watt" with
password "loop". Requests are logged to STATE.log, one path a line.
"""
import base64
import http.server
import json
import ssl
import sys
import time

STATE = sys.argv[2]
WANTED = "Basic " + base64.b64encode(b"watt:loop").decode()


def resource(path, state):
    watts = state.get("watts")
    if path == "/redfish/v1/Systems":
        return {"Members": [{"@odata.id": "/redfish/v1/Systems/437XR"}]}
    if path == "/redfish/v1/Systems/437XR":
        return {"Id": "437XR", "Links": {"Chassis": [{"@odata.id": "/redfish/v1/Chassis/1U"}]}}
    if path == "/redfish/v1/Chassis/1U/" + state.get("where", "Power"):
        if path.endswith("Power"):
            return {"PowerControl": [{"Name": "System", "PowerConsumedWatts": watts}]}
        return {"PowerWatts": {"Reading": watts}}
    return None


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        state = json.load(open(STATE))
        with open(STATE + ".log", "a") as log:
            log.write(self.path + "\n")
        time.sleep(state.get("delay", 0))
        found = resource(self.path, state)
        status = state.get("status", 200 if found else 404)
        if self.headers.get("Authorization") != WANTED:
            status = 401
        body = state.get("body", json.dumps(found)).encode()
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
