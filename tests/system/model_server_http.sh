#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The HTTP side: what Kepler's clients send is answered as they expect, and bad clients hold nobody up.
set -u
. "$(dirname "$0")/lib.sh"

dir=$(tmpdir)
here=$(dirname "$0")
port=$(free_port)
url=http://127.0.0.1:$port
captures=$here/../../../shared/captures/model-server

start "$dir/log" "$BIN/wattloop-model-server" serve --listen "127.0.0.1:$port" --database-path "$dir/server.db" \
        --models-path "$dir/pipelines" --limits-idle-time 3s --limits-request-time 4s
server=$STARTED_PID
wait_for 10 curl -sf "$url/healthz"

# ask BODY [curl arguments]: head and body of the answer to POST /model
ask() {
        local body=$1

        shift
        curl -si -H 'Content-Type: application/json' "$@" -d "$body" "$url/model"
}
bpf='"metrics":["bpf_cpu_time_ms","bpf_page_cache_hit"],"output_type":"AbsPower"'

check_has "without a model the answer quotes the request" "$(ask "{$bpf,\"weight\":true}")" \
        "cannot find model for {'metrics': ['bpf_cpu_time_ms', 'bpf_page_cache_hit'], 'output_type': 'AbsPower', 'weight': True} at the moment"
python3 "$here/model_server_batches.py" n1 0 60 >"$dir/batch.jsonl"
curl -s --data-binary "@$dir/batch.jsonl" "$url/api/v1/import" >/dev/null
wait_for 5 sh -c "curl -s $url/best-models | grep -q SGD"

go='"source":"intel_rapl","node_type":0,"weight":true,"trainer_name":"SGDRegressorTrainer","filter":"",
        "machine_spec":{"vendor":"acme","processor":"acme_z1","cores":8,"chips":1,"memory":31,"frequency":3100,"threads_per_core":2}'
check_has "the exporter's request is answered with weights" "$(ask "{$bpf,$go}")" '"package": {"All_Weights": {"Bias_Weight": '
check_has "without a name, as node type 0 was asked for" "$(ask "{$bpf,$go}" | grep -c model_name)" 0
check_has "any node type gets the name, too" "$(ask "{$bpf,\"weight\":true}")" \
        '"machine_spec": {"chips": 1, "cores": 8, "frequency": 3100, "memory": 31, "processor": "acme_z1"}, "mae": '
check_has "weights carry a digest" "$(ask "{$bpf,\"weight\":true}")" 'Digest: sha-256='
check_has "another trainer's weights are not there" "$(ask "{$bpf,\"weight\":true,\"trainer_name\":\"LogisticRegressionTrainer\"}")" 'HTTP/1.1 400'
check_has "our archive is not given to clients that cannot load it" "$(ask "{$bpf}")" 'HTTP/1.1 400'
check_has "and is to those that ask for it" \
        "$(ask "{$bpf}" -H 'Accept: application/vnd.wattloop.model+zip' | head -n 20 | tr -d '\0')" \
        'Content-Disposition: attachment; filename=SGDRegressorTrainer_0.zip'
curl -s -H 'Content-Type: application/json' -H 'Accept: application/vnd.wattloop.model+zip' -d "{$bpf}" "$url/model" >"$dir/model.zip"
check_has "it is a zip of three entries" "$(python3 -m zipfile -l "$dir/model.zip" | awk 'NR > 1 { print $1 }' | tr '\n' ' ')" \
        'SGDRegressorTrainer_0.json metadata.json weight.json'
check_has "unknown key is a bad request" "$(ask "{$bpf,\"surprise\":1}")" "unknown key 'surprise'"
check_has "not JSON is a bad request" "$(ask '{"metrics":')" 'HTTP/1.1 400'
check_has "other content type is refused" "$(curl -si -H 'Content-Type: text/plain' -d '{}' "$url/model")" 'HTTP/1.1 415'
check_has "GET /model says what is allowed" "$(curl -si "$url/model")" 'Allow: OPTIONS, POST'
check_has "unknown path is not found" "$(curl -si "$url/nothing")" 'HTTP/1.1 404'
check_has "HEAD is answered" "$(curl -sI "$url/healthz")" 'HTTP/1.1 200'
check_has "unknown group is a bad request" "$(curl -s "$url/best-models?feature-group=Nope")" "failed to get best model list: 'Nope'"
check_has "source without models is a bad request" "$(curl -s "$url/best-models?energy-source=hmc")" "failed to get best model list: 'hmc'"
check_has "best models can be filtered" "$(curl -s "$url/best-models?output-type=AbsPower&filter=mae:-1")" '{"AbsPower": {}}'
head -c 400000 /dev/zero | tr '\0' ' ' >"$dir/large"
check_has "large request is too large" "$(ask "@$dir/large")" 'HTTP/1.1 413'

# Replays what upstream's server was sent; for good weight requests the keys of the answer must be alike, and
# whatever upstream refused, or could not answer, must be a client error here.
claim="requests that upstream's server was sent are answered alike"
cat >"$dir/replay.py" <<'PY'
import glob, http.client, json, os, sys
bad, n = [], 0
for path in sorted(glob.glob(sys.argv[1] + "/*.request.http")):
    name = os.path.basename(path)[:-len(".request.http")]
    head, _, body = open(path, "rb").read().partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    method, target, _ = lines[0].split(" ")
    c = http.client.HTTPConnection("127.0.0.1", int(sys.argv[2]), timeout=5)
    c.request(method, target, body, dict(l.split(": ", 1) for l in lines[1:]))
    r = c.getresponse()
    text = r.read()
    n += 1
    if r.status >= 500 or (name.startswith("err_") and name != "err_pipeline_unknown" and r.status < 400):
        bad.append("%s: %d" % (name, r.status))
    answer = path.replace(".request.", ".response.")
    if not os.path.exists(answer):  # what upstream's estimator was seen to send
        if r.status not in (200, 400):
            bad.append("%s: %d" % (name, r.status))
        continue
    theirs, _, said = open(answer, "rb").read().partition(b"\r\n\r\n")
    if said.startswith(b"cannot find model for") and r.status == 400 and text != said:
        bad.append("%s: %r" % (name, text))
    if theirs.split(b" ")[1] in (b"400", b"405") and name.startswith("err_") and r.status != int(theirs.split(b" ")[1]) and \
            r.status != 415:
        bad.append("%s: %d" % (name, r.status))
    if r.status == 200 and r.headers["Content-Type"] == "application/json" and b"All_Weights" in text:
        ours = json.loads(text)
        want = json.load(open(sys.argv[1] + "/weight_rapl-sysfs_AbsPower_SGDRegressorTrainer.body.json"))
        extra = set(ours) - set(want)
        part = set(ours["package"]["All_Weights"]) ^ set(want["package"]["All_Weights"])
        if extra or part or set(want) - set(ours) - {"core", "uncore"}:
            bad.append("%s: keys %s" % (name, sorted(extra | part)))
print("bad: %s" % bad if bad else "alike %d" % (n > 50))
PY
if [ -d "$captures" ]; then
        check_has "$claim" "$(python3 "$dir/replay.py" "$captures" "$port" 2>&1)" 'alike 1'
else
        skip "$claim" "the captures are not here"
fi

cat >"$dir/abuse.py" <<'PY'
import os, resource, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
port, what = int(sys.argv[1]), sys.argv[2]

def connect():
    return socket.create_connection(("127.0.0.1", port), timeout=20)

def healthy():
    s = connect()
    begin = time.monotonic()
    s.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = b""
    while True:
        piece = s.recv(4096)
        if not piece:
            break
        answer += piece
    return answer.endswith(b"ok") and time.monotonic() - begin < 1

def ends_within(s, seconds, trickle=b""):
    end = time.monotonic() + seconds
    s.settimeout(0.3)
    while time.monotonic() < end:
        try:
            if trickle:
                s.sendall(trickle)
            if not s.recv(4096):
                return True
        except socket.timeout:
            pass
        except OSError:
            return True
    return False

if what == "idle":
    crowd = [connect() for _ in range(1000)]
    print("served" if all(healthy() for _ in range(20)) else "starved")
    print("closed" if all(ends_within(s, 8) for s in crowd) else "kept")
elif what == "slow":
    head, body = connect(), connect()
    body.sendall(b"POST /model HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n")
    head.sendall(b"GET /")
    print("closed" if ends_within(head, 8, b"a") and ends_within(body, 8, b" ") else "kept")
elif what == "garbage":
    for data in [b"\0" * 100, os.urandom(5000), b"GET\r\n\r\n", b"POST /model HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
                 b"POST /model HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n", b"\r\n" * 10000,
                 b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 20000, b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n",
                 b"POST /api/v1/import HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b""]:
        s = connect()
        try:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            while s.recv(4096):
                pass
        except OSError:
            pass
    print("alive" if healthy() else "dead")
PY
check_has "1000 idle connections starve nobody" "$(python3 "$dir/abuse.py" "$port" idle 2>&1 | tr '\n' ' ')" "served closed"
check_has "clients that trickle are closed" "$(python3 "$dir/abuse.py" "$port" slow 2>&1)" closed
check_has "garbage does not stop the server" "$(python3 "$dir/abuse.py" "$port" garbage 2>&1)" alive

# The database is held up: what asks for the status waits in a short line, so that uploads need not wait behind it.
cat >"$dir/line.py" <<'PY'
import http.client, sqlite3, sys, threading
port, database, batch = int(sys.argv[1]), sys.argv[2], open(sys.argv[3], "rb").read()
answers = []

def ask(method, path, body=None):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    c.request(method, path, body)
    answers.append((path, c.getresponse().status))

db = sqlite3.connect(database, isolation_level=None)
db.execute("BEGIN IMMEDIATE")
threads = [threading.Thread(target=ask, args=("POST", "/api/v1/import", batch))]
threads[0].start()
threads[0].join(0.5) # it is in work, and waits for the database
threads += [threading.Thread(target=ask, args=("GET", "/api/v1/status")) for i in range(20)]
for t in threads[1:]: t.start()
threads[-1].join(1)
db.execute("ROLLBACK")
for t in threads: t.join()
status = [a[1] for a in answers if "status" in a[0]]
print("upload", dict(answers)["/api/v1/import"], "status", status.count(200), "later", status.count(503))
PY
check_has "requests that wait for the database wait in a short line" \
        "$(python3 "$dir/line.py" "$port" "$dir/server.db" "$dir/batch.jsonl" 2>&1)" "upload 200 status 4 later 16"
check_has "and afterwards are answered again" "$(curl -s -o "$dir/answer" -w '%{http_code}' "$url/api/v1/status")" 200

# Told to stop while an upload is in work: it is finished and acknowledged.
cat >"$dir/slow.py" <<'PY'
import socket, sys, time
data = open(sys.argv[2], "rb").read()
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20)
s.sendall(b"POST /api/v1/import HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nConnection: close\r\n"
          b"Content-Length: %d\r\n\r\n" % len(data) + data[:-1])
time.sleep(0.3)
open(sys.argv[2] + ".begun", "w").close()
time.sleep(0.3)
s.sendall(data[-1:])
answer = b""
while piece := s.recv(4096):
    answer += piece
print(answer.partition(b"\r\n\r\n")[2].decode())
PY
python3 "$here/model_server_batches.py" n2 0 2000 containers=8 | gzip -n >"$dir/big.gz"
python3 "$dir/slow.py" "$port" "$dir/big.gz" >"$dir/answer" &
client=$!
wait_for 60 test -e "$dir/big.gz.begun"
stop "$server"
check_has "SIGTERM lets the upload in work finish, and exits 0" "$? $(wait "$client"; cat "$dir/answer")" '0 {"samples": '
check_has "what it acknowledged is there" "$(sqlite3 "$dir/server.db" 'SELECT sum(rows) FROM row_count')" 2060

port=$(free_port)
url=http://127.0.0.1:$port
start "$dir/log" "$BIN/wattloop-model-server" serve --listen "127.0.0.1:$port" --database-path "$dir/server.db" \
        --models-path "$dir/pipelines" --serve-prefer-machine-spec
server=$STARTED_PID
wait_for 10 curl -sf "$url/healthz"
check_has "node type 0 with a spec can be taken as any" "$(ask "{$bpf,$go}")" '"model_name": "SGDRegressorTrainer_0"'
check_exit 1 "a second server on the same database is refused" "$BIN/wattloop-model-server" serve \
        --listen "127.0.0.1:$(free_port)" --database-path "$dir/server.db" --models-path "$dir/pipelines"
check_exit 1 "a port in use is refused" "$BIN/wattloop-model-server" serve --listen "127.0.0.1:$port" \
        --database-path "$dir/other.db" --models-path "$dir/pipelines"
stop "$server"

# Few descriptors, and connections that want them all: the server keeps those that it needs itself.
cat >"$dir/few.py" <<'PY'
import http.client, socket, sys, time
port, batch = int(sys.argv[1]), open(sys.argv[2], "rb").read()
c = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
c.connect()
crowd = []
for i in range(400):
    crowd.append(socket.socket())
    crowd[-1].settimeout(5)
    crowd[-1].connect(("127.0.0.1", port))
c.request("POST", "/api/v1/import", batch)
print("upload", len(c.getresponse().read()) > 0)
for i in range(50):
    c.request("GET", "/best-models")
    if b"SGD" in c.getresponse().read():
        print("published")
        break
    time.sleep(0.1)
PY
port=$(free_port)
url=http://127.0.0.1:$port
start "$dir/log" bash -c 'ulimit -n 256 && exec "$@"' limited "$BIN/wattloop-model-server" serve --listen "127.0.0.1:$port" \
        --database-path "$dir/few.db" --models-path "$dir/few"
server=$STARTED_PID
wait_for 10 curl -sf "$url/healthz"
check_has "with few descriptors and many connections it still publishes" \
        "$(python3 "$dir/few.py" "$port" "$dir/batch.jsonl" 2>&1 | tr '\n' ' ')" "upload True published"
stop "$server"

# Big archives, and clients that do not read what they asked for.
cat >"$dir/greedy.py" <<'PY'
import json, os, socket, sys, zipfile
port, models = int(sys.argv[1]), sys.argv[2]
body = json.dumps({"metrics": ["bpf_cpu_time_ms", "bpf_page_cache_hit"], "output_type": "AbsPower"}).encode()
request = b"POST /model HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
if port == 0: # the pipeline, before the server starts
    group = models + "/big/rapl-sysfs/AbsPower/BPFOnly"
    os.makedirs(group)
    open(models + "/big/metadata.json", "w").write("{}")
    with zipfile.ZipFile(group + "/KNeighborsRegressorTrainer_0.zip", "w") as z:
        z.writestr("metadata.json", json.dumps({"model_name": "KNeighborsRegressorTrainer_0", "model_class": "scikit", "mae": 1}))
        z.writestr("package.pkl", b"x" * (15 << 20))
    sys.exit()

def ask(request=request):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.settimeout(10)
    s.connect(("127.0.0.1", port))
    s.sendall(request)
    return s, s.recv(12).decode()

crowd = [ask() for i in range(22)]
print([a[1][-3:] for a in crowd].count("200"), "of", len(crowd))
print("small", ask(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")[1][-3:])
for c in crowd: c[0].close()
for i in range(50):
    if ask()[1].endswith("200"):
        print("again")
        break
PY
python3 "$dir/greedy.py" 0 "$dir/big"
port=$(free_port)
url=http://127.0.0.1:$port
start "$dir/log" "$BIN/wattloop-model-server" serve --listen "127.0.0.1:$port" --database-path "$dir/big.db" --models-path "$dir/big"
server=$STARTED_PID
wait_for 10 curl -sf "$url/healthz"
check_has "archives that nobody reads lie on the disk and hold up nobody" \
        "$(python3 "$dir/greedy.py" "$port" "$dir/big" 2>&1 | tr '\n' ' ')" "22 of 22 small 200 again"
stop "$server"
