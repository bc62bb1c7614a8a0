#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An estimator's socket for commands: fake_estimator.py SOCKET STORE FILE. FILE holds the mode, read at each connection:
serve (whatever `current` names), refuse (what `current` names is refused), stale (refused until a reload has ended,
which takes a while), never (serves nothing), hang (no answer), garbage (answers that are no JSON), close."""
import json
import os
import socket
import sys
import time

PATH, STORE, FILE = sys.argv[1:4]
MODE = ""


def installed():
    for source in ("rapl-sysfs", "acpi"):
        for output in ("AbsPower", "DynPower"):
            for form in ("archive", "weight"):
                link = os.path.join(STORE, source, output, form, "current")
                if os.path.islink(link):
                    yield source, output, form, os.readlink(link)


reload_ends = None


def status():
    models, refused = [], []
    reloaded = reload_ends is not None and time.monotonic() > reload_ends
    for source, output, form, model_id in installed():
        if MODE == "serve" or MODE == "stale" and reloaded:
            models.append({"energy_source": source, "output_type": output, "form": form, "id": model_id})
        elif MODE in ("refuse", "stale"):
            refused.append({"path": "/".join((STORE, source, output, form, model_id)), "error": "does not taste well"})
    answer = {"version": "0", "models": models, "refused": refused}
    if MODE == "stale":
        answer["reloads"] = int(reloaded)
    return answer


listener = socket.socket(socket.AF_UNIX)
listener.bind(PATH)
listener.listen(16)
held = []
while True:
    peer, _ = listener.accept()
    with open(FILE, encoding="ascii") as f:
        before, MODE = MODE, f.read().strip()
    if MODE != before:
        reload_ends = None
    if MODE == "hang":
        held.append(peer)
        continue
    try:
        command = json.loads(peer.recv(1024))["command"] if MODE != "close" else ""
        if command == "reload":
            reload_ends = time.monotonic() + 0.1
        if MODE == "garbage":
            peer.sendall(b"<html>")
        elif MODE != "close":
            peer.sendall(json.dumps(status() if command == "status" else {"reload": "started"}).encode())
    except (OSError, ValueError):
        pass  # the client has had enough
    peer.close()
