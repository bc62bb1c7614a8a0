#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The model server is killed again and again while batches come in: what it acknowledged is there exactly once.
set -u
. "$(dirname "$0")/lib.sh"

dir=$(tmpdir)
here=$(dirname "$0")
port=$(free_port)
url=http://127.0.0.1:$port
ROUNDS=15 BATCH=7 BATCHES=120

run_server() {
        start "$dir/log" "$BIN/wattloop-model-server" serve --listen "127.0.0.1:$port" \
                --database-path "$dir/server.db" --models-path "$dir/pipelines" --publish-interval 100ms
        server=$STARTED_PID
        wait_for 10 curl -sf "$url/healthz"
}

# Sends batch after batch, each until it is acknowledged.
cat >"$dir/send.py" <<'PY'
import gzip, importlib.util, sys, time, urllib.request
spec = importlib.util.spec_from_file_location("batches", sys.argv[1])
batches = importlib.util.module_from_spec(spec)
spec.loader.exec_module(batches)
size, n = int(sys.argv[3]), int(sys.argv[4])
for i in range(n):
    data = gzip.compress("\n".join(batches.batch("n1", i * size, size)).encode(), mtime=0)
    while True:
        try:
            request = urllib.request.Request(sys.argv[2], data, {"Content-Encoding": "gzip"})
            if urllib.request.urlopen(request, timeout=10).status == 200:
                break
        except OSError:
            time.sleep(0.02)
    time.sleep(0.02)
print("sent")
PY

run_server
start "$dir/sent" python3 "$dir/send.py" "$here/model_server_batches.py" "$url/api/v1/import" $BATCH $BATCHES
sender=$STARTED_PID
for i in $(seq $ROUNDS); do
        sleep "0.$(printf '%02d' $((RANDOM % 30)))"
        stop "$server" KILL
        run_server || break
done
wait_for 60 ended "$sender"
check_has "all batches are acknowledged in the end" "$(cat "$dir/sent")" sent

rows=$((BATCH * BATCHES))
check_has "each acknowledged interval is one row" "$(curl -s "$url/api/v1/status" | jq -c '[.rows, .samples]')" \
        "[$rows,$(((rows + 1) * 18))]"
check_has "no row is there twice, and none overlaps another" \
        "$(sqlite3 "$dir/server.db" 'SELECT count(*), sum(end_ms - start_ms), count(DISTINCT end_ms) FROM row')" \
        "$rows|$((rows * 3000))|$rows"
caught_up() { [ "$(curl -s "$url/api/v1/status" | jq .learning.learned_row)" = "$rows" ]; }
check "the learning thread catches up" wait_for 20 caught_up
check_has "it learned each row once" "$(sqlite3 "$dir/server.learn.db" 'SELECT rows FROM score')" "$rows"
check_has "the database is whole" "$(sqlite3 "$dir/server.db" 'PRAGMA integrity_check')" ok

# The same rows without a kill give the same learners, bit for bit.
states() {
        sqlite3 "$1" 'SELECT node_type, hex(state) FROM online ORDER BY 1' | sha256sum
}
killed=$(states "$dir/server.learn.db")
stop "$server"
mv "$dir/server.db" "$dir/killed.db"
rm -f "$dir"/server.db-* "$dir"/server.learn.db*
run_server
start "$dir/sent2" python3 "$dir/send.py" "$here/model_server_batches.py" "$url/api/v1/import" $BATCH $BATCHES
wait_for 60 ended "$STARTED_PID"
wait_for 20 caught_up
stop "$server"
check_has "and what it knows is the same as without a kill" "$(states "$dir/server.learn.db")" "$killed"
check_has "no staging is left behind" "$(find "$dir/pipelines/.staging" -mindepth 1 2>/dev/null | wc -l)" 0
