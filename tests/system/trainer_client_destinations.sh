#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The trainer-client's destinations: what each gets, what its answer does, and what happens when the world breaks.
set -u
. "$(dirname "$0")/lib.sh"

here=$(cd "$(dirname "$0")" && pwd)
dir=$(tmpdir)
db=$dir/samples.db
captures=$here/../../../shared/captures/train
port=$(free_port)

client() {
        "$BIN/wattloop-trainer-client" "$@" --store-path "$db" --state-path "$dir/state" --retry-base 5ms \
                --retry-max 50ms --retry-attempts 2
}

fresh() { # INTERVALS CONTAINERS [KEY=VALUE...]
        rm -rf "$dir/state" "$dir/acks" "$db" "$db-wal" "$db-shm"
        "$B/tests/system/recording" "$db" "$@" >/dev/null
}

listens() {
        python3 -c "import socket; socket.create_connection(('127.0.0.1', $1), 1)"
}

# ---- kepler-trainer ----
if [ -f "$captures/small_counteronly_rapl_T2.response.zip" ]; then
        cp "$captures/small_counteronly_rapl_T2.response.zip" "$dir/reply.zip"
        check "the checker of POST /train takes what upstream takes" python3 -c "
import sys; sys.path.insert(0, '$here'); import kepler_trainer
kepler_trainer.check(open('$captures/small_counteronly_rapl_T2.request.json').read())"
else
        python3 "$here/model_source.py" pipeline "$dir/reply.zip" 2>/dev/null ||
                python3 - "$dir/reply.zip" <<'PYTHON'
import json, sys, zipfile
weights = {"platform": {"All_Weights": {"Bias_Weight": 20.5, "Categorical_Variables": {}, "Numerical_Variables": {
    "bpf_cpu_time_ms": {"scale": 8000.0, "weight": 44.0}, "bpf_page_cache_hit": {"scale": 1.0, "weight": 0.5}}}}}
model = "acpi/AbsPower/BPFOnly/SGDRegressorTrainer_0"
with zipfile.ZipFile(sys.argv[1], "w") as z:
    z.writestr("metadata.json", json.dumps({"name": "invented", "init_time": "2026-01-01"}))
    z.writestr(model + "/metadata.json", json.dumps({"model_name": "SGDRegressorTrainer_0", "model_class": "scikit",
               "features": ["bpf_cpu_time_ms", "bpf_page_cache_hit"], "fe_files": [], "mae": 1.5, "mape": 2.5,
               "model_file": "SGDRegressorTrainer_0.json", "output_type": "AbsPower"}))
    z.writestr(model + "/weight.json", json.dumps(weights))
PYTHON
fi
start "$dir/trainer.out" python3 "$here/kepler_trainer.py" "$port" "$dir/train.log" "$dir/reply.zip"
trainer=$STARTED_PID
wait_for 10 listens "$port"
kepler() {
        client "$@" --destinations kepler-trainer --kepler-trainer-url "http://127.0.0.1:$port" \
                --kepler-trainer-models-path "$dir/models" --kepler-trainer-batch-intervals 150
}
fresh 320 3 gap_every=60 churn=40
out=$(kepler push 2>&1)
r=$?
[ $r -eq 0 ] && [ "$(wc -l <"$dir/train.log")" = 2 ] && ! grep -q wrong "$dir/train.log" &&
        ok "Kepler's trainer gets requests that keep every rule of upstream's" ||
        not_ok "Kepler's trainer gets requests that keep every rule of upstream's" "$r $out $(cat "$dir/train.log")"
out=$(python3 "$here/kepler_trainer.py" --break "$dir/train.log.body" 2>&1)
[ "$out" = "39 rules broken" ] && ok "and would be refused if they broke any of them" ||
        not_ok "and would be refused if they broke any of them" "$out"
cmp -s "$dir/reply.zip" "$dir/models/kepler.zip" && ok "its reply is stored" || not_ok "its reply is stored"
[ "$(jq -c .zero "$dir/train.log" | sort -u)" = '["core","uncore"]' ] && ok "meters that the machine lacks count zero" ||
        not_ok "meters that the machine lacks count zero" "$(cat "$dir/train.log")"
[ "$(client status --json --destinations kepler-trainer | jq .interval_id)" = 300 ] &&
        ok "a recording that is too short to train on waits for more" ||
        not_ok "a recording that is too short to train on waits for more" "$(client status --json --destinations kepler-trainer)"
serverport=$(free_port)
start "$dir/server.log" "$BIN/wattloop-model-server" serve --listen "127.0.0.1:$serverport" --database-path "$dir/server.db" \
        --models-path "$dir/models"
server=$STARTED_PID
serves() {
        [ "$(curl -sf "http://127.0.0.1:$serverport/best-models" | jq '[.[] | length] | add > 0')" = true ]
}
check "and the model server serves it" wait_for 10 serves
evaluated() { # whatever group it is of, as an upstream client asks, and as an estimator answers
        curl -sf -o "$dir/got.zip" -H 'Content-Type: application/json' "http://127.0.0.1:$serverport/model" --data-binary "$1" &&
                "$BIN/wattloop-estimator" inspect "$dir/got.zip"
}
metrics=$(unzip -p "$dir/reply.zip" '*/AbsPower/*/metadata.json' | jq -c -s '.[0].features')
source=$(unzip -Z1 "$dir/reply.zip" | sed -n 's|/AbsPower/.*||p' | sed 's|.*/||' | head -n 1)
check "as a model that the estimator can load" evaluated \
        "{\"metrics\": $metrics, \"output_type\": \"AbsPower\", \"source\": \"$source\"}"
fresh 150 3 measured=0
out=$(kepler push 2>&1)
check_has "a batch without measured power is parked with words" "$out" "no measured power"
[ "$(client status --json --destinations kepler-trainer | jq .refused_intervals)" = 150 ] && ok "and counted" || not_ok "and counted"
printf 'PK no zip' >"$dir/reply.zip"
fresh 150 3
out=$(kepler push 2>&1)
[ $? -eq 1 ] && check_has "an answer that is no zip acknowledges nothing" "$out" "without a pipeline" ||
        not_ok "an answer that is no zip acknowledges nothing" "$out"
stop "$trainer"

# ---- file and import ----
client keygen "$dir/key" >/dev/null
fresh 50 2
bundles() {
        client "$@" --destinations file --file-path "$dir/stick" --file-secret-key-file "$dir/key"
}
check "bundles are written" bundles push --batch-intervals 10
[ "$(ls "$dir/stick" | tr '\n' ' ')" = "000001.jsonl.gz 000002.jsonl.gz 000003.jsonl.gz 000004.jsonl.gz 000005.jsonl.gz manifest.json manifest.json.minisig " ] &&
        ok "numbered, with a signed manifest" || not_ok "numbered, with a signed manifest" "$(ls "$dir/stick")"
if command -v minisign >/dev/null; then
        check "minisign verifies the manifest" minisign -qV -p "$dir/key.pub" -m "$dir/stick/manifest.json"
else
        skip "minisign verifies the manifest" "minisign is not installed"
fi
check_exit 3 "a second push has nothing to write" bundles push
check "audit finds the bundles whole" bundles audit
other=$dir/otherside
into() {
        "$BIN/wattloop-trainer-client" import "$1" --state-path "$other" --import-public-key-file "$dir/key.pub" \
                --server-url "http://127.0.0.1:$serverport" --retry-attempts 2 --retry-base 5ms
}
cp -r "$dir/stick" "$dir/bad"
printf x >>"$dir/bad/000002.jsonl.gz"
out=$(into "$dir/bad" 2>&1)
[ $? -eq 1 ] && check_has "a bundle that was changed is refused by name" "$out" "000002.jsonl.gz" ||
        not_ok "a bundle that was changed is refused by name" "$out"
check_has "the others are forwarded" "$out" "4 bundles acknowledged by model-server"
check_has "and the missing number is named" "$out" "bundles 2 to 2 of node 'node-1'"
out=$(into "$dir/stick" 2>&1)
check_has "import goes on where it stopped" "$out" "1 bundles acknowledged by model-server, 4 were there"
# kepler_node_info says nothing that the server keeps: 50 intervals and the start
samples=$(($(jq '[.bundles[].samples] | add' "$dir/stick/manifest.json") - 51))
[ "$(curl -s "http://127.0.0.1:$serverport/api/v1/status" | jq .samples)" = "$samples" ] && ok "everything arrives ($samples samples)" ||
        not_ok "everything arrives" "$(curl -s "http://127.0.0.1:$serverport/api/v1/status") of $samples"
sed -i 's/"samples": /"samples": 1/' "$dir/bad/manifest.json"
out=$(into "$dir/bad" 2>&1)
[ $? -eq 1 ] && check_has "a manifest that was changed imports nothing" "$out" "nothing is imported" ||
        not_ok "a manifest that was changed imports nothing" "$out"
rm "$dir/stick/000001.jsonl.gz"
"$B/tests/system/recording" "$db" 10 2 >/dev/null
bundles push >/dev/null
[ "$(jq -c '[.bundles[].number]' "$dir/stick/manifest.json")" = "[2,3,4,5,6]" ] && ok "what was taken away leaves the manifest, numbers go on" ||
        not_ok "what was taken away leaves the manifest, numbers go on" "$(jq -c '[.bundles[].number]' "$dir/stick/manifest.json")"

# ---- several at once; export; audit ----
fresh 30 2
out=$(client push --destinations model-server,file --server-url "http://127.0.0.1:$serverport" --file-path "$dir/two" \
        --file-secret-key-file "$dir/key" --metrics-textfile "$dir/push.prom" 2>&1)
[ "$(client status --json --destinations model-server,file | jq -c '[.destinations[].interval_id]')" = "[30,30]" ] &&
        ok "two destinations have cursors of their own" || not_ok "two destinations have cursors of their own" "$out"
check_has "metrics are written for a textfile collector" "$(cat "$dir/push.prom")" \
        'wattloop_trainer_client_backlog_intervals{destination="file"} 0'
out=$(client audit --server-url "http://127.0.0.1:$serverport" --json)
[ "$(jq -c '[.lost_samples, .doubled_samples, .intervals]' <<<"$out")" = "[0,0,30]" ] && ok "audit finds no hole at the model server" ||
        not_ok "audit finds no hole at the model server" "$out"
csv=$(client export --csv)
[ "$(wc -l <<<"$csv")" = 91 ] && ok "export has a row per container and interval, and one for the node" ||
        not_ok "export has a row per container and interval, and one for the node" "$(wc -l <<<"$csv")"
want=$(sqlite3 "$db" "SELECT printf('%.6f', sum(cpu_time_ns) / 1e6) FROM usage WHERE interval_id = 30")
got=$(client export --jsonl | jq -s 'map(select(.container_id == "node") | .bpf_cpu_time_ms) | add' | xargs printf '%.6f')
[ "$want" = "$got" ] && ok "its deltas add up to the totals" || not_ok "its deltas add up to the totals" "$got, not $want"
want=$(sqlite3 "$db" "SELECT printf('%.3f', energy_uj / 1e6 / 90) FROM power WHERE interval_id = 30 AND sensor_id = 1")
got=$(client export --jsonl | jq -s 'map(select(.container_id == "node") | .package_watts) | add / 30' | xargs printf '%.3f')
[ "$want" = "$got" ] && ok "and its watts to the energy" || not_ok "and its watts to the energy" "$got, not $want"

# ---- a real VictoriaMetrics, with and without deduplication; a real Prometheus ----
if command -v victoria-metrics >/dev/null; then
        vm=$(free_port)
        start "$dir/vm.log" victoria-metrics -storageDataPath "$dir/vm" -httpListenAddr "127.0.0.1:$vm" -retentionPeriod=10y \
                -memory.allowedBytes=128MB
        wait_for 20 curl -sf "http://127.0.0.1:$vm/health"
        into_vm() {
                client "$@" --destinations victoriametrics --victoriametrics-url "http://127.0.0.1:$vm"
        }
        settle() { # a new series can be found after a second or two
                curl -s "http://127.0.0.1:$vm/internal/force_flush"
                sleep 3
        }
        fresh 40 2 churn=7 gap_every=9
        check "VictoriaMetrics takes the batches, newest first" into_vm push --victoriametrics-order newest --batch-intervals 7
        settle
        out=$(into_vm audit 2>&1)
        [ $? -eq 1 ] && check_has "audit names a VictoriaMetrics without deduplication" "$out" "without -dedup.minScrapeInterval=1ms" ||
                not_ok "audit names a VictoriaMetrics without deduplication" "$out"
        check_has "and finds every sample" "$out" " 0 lost, 0 doubled"
        rm -r "$dir/state"
        into_vm push >/dev/null
        settle
        out=$(into_vm audit --json 2>/dev/null)
        [ "$(jq '.doubled_samples > 100 and .lost_samples == 0' <<<"$out")" = true ] && ok "what was sent twice is found there" ||
                not_ok "what was sent twice is found there" "$(head -c 300 <<<"$out")"
        curl -s "http://127.0.0.1:$vm/api/v1/admin/tsdb/delete_series?match[]=kepler_node_dram_joules_total"
        out=$(into_vm audit 2>/dev/null)
        check_has "and a hole is named" "$out" "hole: intervals 1-"
else
        skip "VictoriaMetrics takes the batches" "victoria-metrics is not installed"
fi
if command -v prometheus >/dev/null; then
        prom=$(free_port)
        echo 'scrape_configs: []' >"$dir/prom.yml"
        start "$dir/prom.log" prometheus --config.file="$dir/prom.yml" --storage.tsdb.path="$dir/prom" \
                --web.enable-remote-write-receiver --web.listen-address="127.0.0.1:$prom"
        wait_for 20 curl -sf "http://127.0.0.1:$prom/-/ready"
        into_prom() {
                client "$@" --destinations prometheus-remote-write --remote-write-url "http://127.0.0.1:$prom/api/v1/write"
        }
        fresh 100 2 churn=7 gap_every=9
        check "Prometheus takes the batches by remote-write" into_prom push --batch-intervals 30
        check "and holds what was recorded" into_prom audit
        rm -r "$dir/state"
        out=$(into_prom push 2>&1)
        [ "$(client status --json --destinations prometheus-remote-write | jq -c '[.interval_id, .refused_intervals]')" = "[100,0]" ] &&
                ok "what it has already counts as acknowledged" || not_ok "what it has already counts as acknowledged" "$out"
        fresh 3000 1 start_ms=$(($(date +%s) * 1000 - 3 * 3600000)) step_ms=3000
        out=$(into_prom push --batch-intervals 500 2>&1)
        got=$(client status --json --destinations prometheus-remote-write | jq -c '.refused_intervals > 1000 and .refused_intervals < 3000 and .interval_id == 3000')
        [ "$got" = true ] && check_has "what is out of its bounds is parked, the rest arrives" "$out" "parked" ||
                not_ok "what is out of its bounds is parked, the rest arrives" "$(client status --json --destinations prometheus-remote-write) $out"
        check_exit 3 "and never sent again" into_prom push
else
        skip "Prometheus takes the batches by remote-write" "prometheus is not installed"
fi

# ---- the world breaks ----
fresh 5 1
out=$(client push --server-url http://no-such-host.invalid:8100 2>&1)
[ $? -eq 1 ] && check_has "a name that does not resolve is said" "$out" "resolve" || not_ok "a name that does not resolve is said" "$out"
[ "$(client status --json | jq .interval_id)" = 0 ] && ok "and nothing moves" || not_ok "and nothing moves"
openssl req -x509 -newkey rsa:2048 -nodes -keyout "$dir/tls.key" -out "$dir/tls.pem" -days 2 -subj /CN=localhost \
        -addext "subjectAltName = DNS:localhost" 2>/dev/null
tls=$(free_port)
cat >"$dir/tls.py" <<'PYTHON'
import http.server, json, ssl, sys, gzip
port, d = int(sys.argv[1]), sys.argv[2]
class H(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = gzip.decompress(self.rfile.read(int(self.headers["Content-Length"])))
        n = sum(len(json.loads(line)["values"]) for line in body.splitlines())
        ok = self.headers.get("Authorization") == "Bearer " + open(d + "/want").read().strip()
        text = json.dumps({"samples": n} if ok else {"error": "another token"}).encode()
        self.send_response(200 if ok else 401)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
s = http.server.ThreadingHTTPServer(("127.0.0.1", port), H)
c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
c.load_cert_chain(d + "/tls.pem", d + "/tls.key")
c.load_verify_locations(d + "/tls.pem")
c.verify_mode = ssl.CERT_REQUIRED
s.socket = c.wrap_socket(s.socket, server_side=True)
s.serve_forever()
PYTHON
start "$dir/tls.log" python3 "$dir/tls.py" "$tls" "$dir"
echo one >"$dir/want"
echo one >"$dir/token"
wait_for 10 listens "$tls"
secure() {
        client "$@" --server-url "https://localhost:$tls" --server-token-file "$dir/token"
}
out=$(secure push 2>&1)
[ $? -eq 1 ] && check_has "a certificate that nobody vouches for is refused" "$out" "certificate" ||
        not_ok "a certificate that nobody vouches for is refused" "$out"
out=$(secure push --server-ca-file "$dir/tls.pem" 2>&1) && not_ok "without our certificate the server sends us away" "$out" ||
        ok "without our certificate the server sends us away"
mutual=(--server-ca-file "$dir/tls.pem" --server-client-cert-file "$dir/tls.pem" --server-client-key-file "$dir/tls.key")
check "with CA, certificate, key and token it goes through" secure push "${mutual[@]}"
start "$dir/follow.log" "$BIN/wattloop-trainer-client" push --follow --follow-interval 100ms --store-path "$db" \
        --state-path "$dir/state" --server-url "https://localhost:$tls" --server-token-file "$dir/token" "${mutual[@]}"
follower=$STARTED_PID
echo two >"$dir/want"
echo two >"$dir/token"
"$B/tests/system/recording" "$db" 5 1 >/dev/null
at_ten() { [ "$(client status --json | jq .interval_id)" = 10 ]; }
check "a rotated token needs no restart" wait_for 10 at_ten
stop "$follower"

# Through a proxy that notes where it was asked to go, to a store that wants a user.
cat >"$dir/proxy.py" <<'PYTHON'
import base64, http.server, sys
log = sys.argv[2]
class H(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        user = base64.b64decode(self.headers.get("Authorization", "Basic ").split(" ")[1]).decode()
        with open(log, "a") as f:
            f.write(f"{self.path} {user}\n")
        self.send_response(204 if user == "writer:s3 cret" else 401)
        self.send_header("Content-Length", "0")
        self.end_headers()
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), H).serve_forever()
PYTHON
proxy=$(free_port)
start "$dir/proxy.out" python3 "$dir/proxy.py" "$proxy" "$dir/proxy.log"
wait_for 10 listens "$proxy"
echo "s3 cret" >"$dir/password"
through() {
        client "$@" --destinations victoriametrics --victoriametrics-url http://store.invalid:8428 \
                --victoriametrics-proxy "http://127.0.0.1:$proxy" --victoriametrics-user writer
}
fresh 5 1
out=$(through push 2>&1)
[ $? -eq 1 ] && check_has "without the user's password the store's refusal is told" "$out" 401 ||
        not_ok "without the user's password the store's refusal is told" "$out"
check "with it the batch goes through the proxy" through push --victoriametrics-password-file "$dir/password"
check_has "which resolves the name" "$(tail -n 1 "$dir/proxy.log")" "http://store.invalid:8428/api/v1/import"

fresh 20 1
sqlite3 "$db" "PRAGMA wal_checkpoint(TRUNCATE)" >/dev/null
cp "$db" "$dir/whole.db"
python3 - "$db" <<'PYTHON'
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(0, 2)
    size = f.tell()
    for at in range(8192, size, 4096):
        f.seek(at)
        f.write(b"\xff" * 4096)
PYTHON
out=$(client push --server-url "http://127.0.0.1:$serverport" 2>&1)
[ $? -eq 1 ] && check_has "a corrupt database is named" "$out" "database" || not_ok "a corrupt database is named" "$out"
stop "$server"
