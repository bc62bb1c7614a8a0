# SPDX-License-Identifier: Apache-2.0
"""What the updater's tests share: signed models of every kind, a server that answers as a test wants, the updater with a
store of its own, and an estimator beside it."""
import base64
import hashlib
import http.server
import io
import json
import os
import random
import socket
import subprocess
import threading
import time
import zipfile

import model_source

SLOT = "rapl-sysfs/AbsPower/archive"
NOW = int(time.time())


def ok(claim):
    print("ok - " + claim, flush=True)


def not_ok(claim, why=""):
    print("not ok - " + claim + (": " + " ".join(why.split())[:600] if why else ""), flush=True)


def check(claim, condition, why=""):
    ok(claim) if condition else not_ok(claim, why)
    return bool(condition)


def entries_of(bias, padding=8000, **kwargs):
    """A model's entries; the padding does not compress, so that an archive is as large as a published one."""
    kwargs.setdefault("output_type", "AbsPower")
    with zipfile.ZipFile(io.BytesIO(model_source.archive(bias, **kwargs))) as z:
        entries = {name: z.read(name) for name in z.namelist()}
    metadata = json.loads(entries["metadata.json"])
    metadata["note"] = random.Random(bias).randbytes(padding // 2).hex()
    entries["metadata.json"] = json.dumps(metadata).encode()
    return entries


def pack(entries, date=(2024, 1, 1, 0, 0, 0), method=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for name, data in entries.items() if isinstance(entries, dict) else entries:
            z.writestr(zipfile.ZipInfo(name, date), data, method)
    return out.getvalue()


def id_of(entries):
    h = hashlib.sha256()
    for name in sorted(entries):
        h.update(f"{len(name)} {name}{len(entries[name])} ".encode() + entries[name])
    return h.hexdigest()


def is_whole(slot):
    """`current` names a complete model: its files have the id under which they lie."""
    link = os.path.join(slot, "current")
    try:
        entries = {}
        for name in os.listdir(link):
            if name != "wattloop.json":
                with open(os.path.join(link, name), "rb") as f:
                    entries[name] = f.read()
        return id_of(entries) == os.readlink(link) and os.path.exists(os.path.join(link, "wattloop.json"))
    except OSError:
        return False


class Lab:
    """Directories, keys, programs. `answer(handler)` answers the server's requests and may be changed at any time."""

    def __init__(self, build, directory):
        self.build, self.dir = build, directory
        self.tools = os.path.join(build, "tests", "system")
        self.store = os.path.join(directory, "models")
        self.slot = os.path.join(self.store, SLOT)
        self.sock = os.path.join(directory, "est.sock")
        self.empty = os.path.join(directory, "empty.yaml")
        os.makedirs(directory, exist_ok=True)
        open(self.empty, "w", encoding="utf-8").close()
        self.answer = None
        self.requests = []
        self.estimator = None
        self.server = None
        self.port = self.serve()
        self.key("release")
        self.key("root")

    # ---- keys and signatures ----

    def key(self, name):
        path = os.path.join(self.dir, name)
        if not os.path.exists(path + ".key"):
            subprocess.run([os.path.join(self.tools, "signer"), "keys", path], check=True)
        return path

    def key_id(self, name):
        with open(self.key(name) + ".pub", encoding="ascii") as f:
            return base64.b64decode(f.read().splitlines()[1])[2:10][::-1].hex()

    def sign_with_comment(self, data, comment, key="release"):
        path = os.path.join(self.dir, f"to-sign.{threading.get_ident()}")
        with open(path, "wb") as f:
            f.write(data)
        return subprocess.run([os.path.join(self.tools, "signer"), "sign", self.key(key) + ".key", path, comment],
                              check=True, stdout=subprocess.PIPE).stdout

    def sign(self, data, model_id, version=6, age=10, expires=0, slot=SLOT, key="release", more=""):
        comment = (f"wattloop:1 version:{version} time:{NOW - age} expires:{expires} id:{model_id} slot:{slot} "
                   f"model:{model_source.NAME}{more}")
        return self.sign_with_comment(data, comment, key)

    def key_list(self, version=1, keys=("release",), revoked=(), expires=0, root="root"):
        """A list of release keys and its signature."""
        members = []
        for name in keys:
            name, until = name if isinstance(name, tuple) else (name, 0)
            with open(self.key(name) + ".pub", encoding="ascii") as f:
                members.append({"key": f.read().splitlines()[1], "expires_s": until})
        text = json.dumps({"wattloop_keys": 1, "version": version, "time_s": NOW, "expires_s": expires,
                           "keys": members, "revoked": [self.key_id(r) for r in revoked]}).encode()
        return text, self.sign_with_comment(text, "keys", root)

    # ---- the server ----

    def serve(self, context=None):
        lab = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_GET(self):
                self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.close_connection = True
                lab.requests.append((self.command, self.path, dict(self.headers), self.body))
                try:
                    lab.answer(self)
                except OSError:
                    pass  # the client has had enough

            do_POST = do_GET

            def reply(self, body=b"", status=200, kind="application/zip", signature=None, **headers):
                self.send_response(status)
                if kind:
                    self.send_header("Content-Type", kind)
                if signature is not None:
                    self.send_header("Wattloop-Signature", base64.b64encode(signature).decode())
                headers.setdefault("Content_Length", len(body))
                for name, value in headers.items():
                    if value is not None:
                        self.send_header(name.replace("_", "-"), str(value))
                self.end_headers()
                self.wfile.write(body)

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request, client_address):
                pass  # handshakes that fail are what some tests want

        server = Server(("127.0.0.1", 0), Handler)
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        else:
            self.server = server
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server.server_address[1]

    # ---- the programs ----

    def command(self, *args, program=None, trust=("--trust-keys", "release.pub"), url=None, sock=None):
        trust = [os.path.join(self.dir, t) if t.endswith(".pub") else t for t in trust]
        return [program or os.path.join(self.build, "bin", "wattloop-updater"), *args, "--config", self.empty,
                "--store-path", self.store, "--server-url", url or f"http://127.0.0.1:{self.port}",
                "--estimator-socket", self.sock if sock is None else sock, *trust]

    def faulty(self, *args, **kwargs):
        return self.command(*args, program=os.path.join(self.tools, "updater_faults"), **kwargs)

    @staticmethod
    def run(command, **env):
        r = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **env},
                           check=False)
        return r.returncode, r.stdout.decode(errors="replace")

    def start_estimator(self):
        with open(os.path.join(self.dir, "estimator.log"), "ab") as log:
            self.estimator = subprocess.Popen(
                [os.path.join(self.build, "bin", "wattloop-estimator"), "serve", "--config", self.empty,
                 "--socket-path", self.sock, "--store-path", self.store], stdout=log, stderr=log)
        for _ in range(200):
            try:
                return self.ask({"command": "status"})
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("the estimator does not answer")

    def ask(self, request):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(10)
            s.connect(self.sock)
            s.sendall(json.dumps(request).encode())
            reply = b""
            while True:
                got = s.recv(65536)
                reply += got
                try:
                    return json.loads(reply)
                except ValueError:
                    if not got:
                        raise OSError("no whole answer") from None

    def served(self):
        """The id that the estimator serves, by asking it for watts."""
        reply = self.ask({"metrics": model_source.FEATURES, "values": [[4000, 1]], "output_type": "AbsPower",
                          "source": "rapl-sysfs", "system_features": [], "system_values": [], "trainer_name": "",
                          "filter": ""})
        return reply.get("id") if reply.get("powers") else None

    def current(self):
        try:
            return os.readlink(os.path.join(self.slot, "current"))
        except OSError:
            return None

    def staging(self):
        try:
            return os.listdir(os.path.join(self.store, ".staging"))
        except OSError:
            return []

    def close(self):
        if self.estimator:
            self.estimator.kill()
            self.estimator.wait()
