#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The model server is killed again and again while batches come in and models are published: what it acknowledged is
# there exactly once, and what it publishes is whole at any moment. SOAK_ROUNDS kills (5; 100 is the whole proof, make
# soak-model-server), at times that follow from SOAK_SEED.
set -u
. "$(dirname "$0")/lib.sh"

dir=$(tmpdir)
here=$(dirname "$0")
port=$(free_port)
url=http://127.0.0.1:$port
ROUNDS=${SOAK_ROUNDS:-5} BATCH=7
BATCHES=$((ROUNDS * 8))
RANDOM=${SOAK_SEED:-1}

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

# What lies on the disk when the server is gone: each model's directory, zip and weights are there, whole, and say the same.
cat >"$dir/whole.py" <<'PY'
import glob, json, os, sys, zipfile
root, n = sys.argv[1], 0
if not os.path.exists(root):
    sys.exit(0)  # nothing published yet
json.load(open(root + "/metadata.json"))
json.load(open(root + "/node_type_index.json"))
for group in glob.glob(root + "/*/*/*/"):
    names = {f.split(".")[0] for f in os.listdir(group)}
    for name in names:
        with zipfile.ZipFile(group + name + ".zip") as z:
            assert z.testzip() is None
            for entry in z.namelist():
                assert z.read(entry) == open(group + name + "/" + entry, "rb").read(), (name, entry)
            assert json.loads(z.read("weight.json")) == json.load(open(group + name + ".json")), name
        n += 1
rows = sum(len(open(f).readlines()) - 1 for f in glob.glob(root + "/*.csv"))
assert rows == n, (rows, n)
print(n)
PY
# Asks for models all the time: each answer is whole.
cat >"$dir/fetch.py" <<'PY'
import base64, hashlib, io, json, sys, time, urllib.request, zipfile
url, n = sys.argv[1], 0
query = url + "/api/v1/models?metrics=bpf_cpu_time_ms,bpf_page_cache_hit&output_type=AbsPower"
while True:
    try:
        request = urllib.request.Request(query, headers={"Accept": "application/vnd.wattloop.model+zip"})
        answer = urllib.request.urlopen(request, timeout=5)
        body, digest = answer.read(), answer.headers["Digest"]
    except OSError:
        time.sleep(0.01)
        continue
    except Exception as e:  # the server was killed in mid-answer
        continue
    if len(body) != int(answer.headers["Content-Length"]):
        continue
    if digest != "sha-256=" + base64.b64encode(hashlib.sha256(body).digest()).decode():
        print("bad digest", flush=True)
    with zipfile.ZipFile(io.BytesIO(body)) as z:
        if z.testzip() or len(z.namelist()) != 3:
            print("bad zip", flush=True)
    n += 1
    if n % 50 == 0:
        print("fetched", n, flush=True)
PY

run_server
start "$dir/fetched" python3 "$dir/fetch.py" "$url"
start "$dir/sent" python3 "$dir/send.py" "$here/model_server_batches.py" "$url/api/v1/import" $BATCH $BATCHES
sender=$STARTED_PID
for i in $(seq $ROUNDS); do
        sleep "0.$(printf '%02d' $((RANDOM % 30)))"
        stop "$server" KILL
        python3 "$dir/whole.py" "$dir/pipelines/wattloop" >>"$dir/whole" 2>&1 || broken=$((${broken:-0} + 1))
        killed=$i
        run_server || break
done
wait_for $((60 + ROUNDS)) ended "$sender"
check_has "$ROUNDS kills" "${killed:-0}" "$ROUNDS"
check_has "the pipeline on the disk was whole after each" "${broken:-0} $(tail -n 1 "$dir/whole")" "0 "
check_has "and so was every answer" "$(grep bad "$dir/fetched")$(tail -n 1 "$dir/fetched")" fetched
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
