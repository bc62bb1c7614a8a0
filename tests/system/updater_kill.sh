#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# kill -9 of the updater at random moments: `current` names a complete model at any time.
set -u
. "$(dirname "$0")/lib.sh"

here=$(cd "$(dirname "$0")" && pwd)
dir=$(tmpdir)
port=$(free_port)
web=$dir/web
store=$dir/models
slot=$store/rapl-sysfs/AbsPower/archive
ROUNDS=${ROUNDS:-100}
mkdir -p "$web"
echo fresh >"$web/mode" # a new model at each request
start "$dir/server.out" python3 "$here/model_source.py" "$port" "$web"
wait_for 10 python3 -c "import socket; socket.create_connection(('127.0.0.1', $port), 1)"

update=("$BIN/wattloop-updater" update --server-trust unsigned --server-url "http://127.0.0.1:$port"
        --store-path "$store" --estimator-socket "")
"${update[@]}" >/dev/null

# Kills in a loop and looks at `current` after each: prints "KILLED SWITCHED BROKEN".
result=$(python3 - "$ROUNDS" "$slot/current" "${update[@]}" <<'PY'
import hashlib
import os
import random
import subprocess
import sys
import time

rounds, link, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]


def is_whole():
    digest = hashlib.sha256()
    for name in sorted(n for n in os.listdir(link) if n != "wattloop.json"):
        with open(os.path.join(link, name), "rb") as f:
            data = f.read()
        digest.update(f"{len(name)} {name}{len(data)} ".encode() + data)
    return digest.hexdigest() == os.readlink(link) and os.path.exists(os.path.join(link, "wattloop.json"))


start = time.monotonic()
for _ in range(3):
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
usual = (time.monotonic() - start) / 3
killed = switched = broken = 0
before = os.readlink(link)
for _ in range(rounds):
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    time.sleep(random.uniform(0, usual * 1.1))
    child.kill()
    killed += child.wait() != 0
    broken += not is_whole()
    switched += os.readlink(link) != before
    before = os.readlink(link)
print(killed, switched, broken)
PY
)
read -r killed switched broken <<<"$result"
[ "$broken" = 0 ] && ok "current named a complete model after each of $ROUNDS kills" ||
        not_ok "current named a complete model after each of $ROUNDS kills" "$result"
[ "$killed" -ge $((ROUNDS / 3)) ] && [ "$switched" -ge 1 ] &&
        ok "kills hit running updaters ($killed) before and behind the switch ($switched)" ||
        not_ok "kills hit running updaters before and behind the switch" "$result"
check "an update that is left alone works" "${update[@]}"
[ -d "$store/.staging" ] && [ -z "$(ls -A "$store/.staging")" ] && [ "$(find "$slot" -mindepth 1 -maxdepth 1 -type d | wc -l)" = 2 ] &&
        ok "and clears up behind the others" || not_ok "and clears up behind the others" "$(ls -A "$store/.staging" "$slot")"
