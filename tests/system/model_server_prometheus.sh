#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Samples that lie in VictoriaMetrics or Prometheus are learned from as if they had been uploaded.
set -u
. "$(dirname "$0")/lib.sh"

dir=$(tmpdir)
here=$(dirname "$0")
base=$((($(date +%s) - 7200) * 1000 + 123)) # stamps of a clock of its own, off every grid

python3 "$here/model_server_batches.py" n1 0 100 "base=$base" >"$dir/batch.jsonl"

# run_server NAME [options]: $url
run_server() {
        local name=$1

        shift
        url=http://127.0.0.1:$(free_port)
        start "$dir/$name.log" "$BIN/wattloop-model-server" serve --listen "${url#http://}" --database-path "$dir/$name.db" \
                --models-path "$dir/$name" --publish-interval 100ms "$@"
        server=$STARTED_PID
        wait_for 10 curl -sf "$url/healthz"
}
learned() { curl -s "$url/api/v1/status" | jq -e --argjson n "$1" '.rows == $n and .learning.learned_row == $n and (.models | length) == 8' >/dev/null; }
# The weights of all models; the rows that a model is made of do not say how they came.
models() {
        (cd "$dir/$1/wattloop" && find . -name weight.json | LC_ALL=C sort | xargs sha256sum)
}
same_models() {
        [ -s "$dir/embedded.models" ] && models "$1" | cmp - "$dir/embedded.models"
}

run_server embedded
curl -s --data-binary "@$dir/batch.jsonl" "$url/api/v1/import" >/dev/null
check "what is uploaded is learned" wait_for 20 learned 100
stop "$server"
models embedded >"$dir/embedded.models"

claims=("VictoriaMetrics' samples become the same rows" "and the same models" "reading again adds nothing")
if command -v victoria-metrics >/dev/null; then
        vm=127.0.0.1:$(free_port)
        start "$dir/vm.log" victoria-metrics "-httpListenAddr=$vm" -storageDataPath="$dir/vm" -retentionPeriod=1y
        vm_pid=$STARTED_PID
        wait_for 20 curl -sf "http://$vm/health"
        curl -s --data-binary "@$dir/batch.jsonl" "http://$vm/api/v1/import"
        curl -s "http://$vm/internal/force_flush"
        run_server vm --data-prometheus-url "http://$vm/" --data-interval 200ms --data-lookback 3h
        check "${claims[0]}" wait_for 40 learned 100
        check "${claims[1]}" same_models vm
        samples=$(curl -s "$url/api/v1/status" | jq .samples)
        sleep 1
        check_has "${claims[2]}" "$(curl -s "$url/api/v1/status" | jq -c '[.rows, .samples]')" "[100,$samples]"
        stop "$server"
        stop "$vm_pid"
else
        for claim in "${claims[@]}"; do skip "$claim" "victoria-metrics is not installed"; done
fi

claims=("Prometheus' samples become the same rows" "and the same models, too")
if command -v promtool >/dev/null && command -v prometheus >/dev/null; then
        python3 - "$dir/batch.jsonl" >"$dir/metrics.txt" <<'PY'
import json, sys
families = {}
for line in open(sys.argv[1]):
    s = json.loads(line)
    labels = ",".join("%s=%s" % (k, json.dumps(v)) for k, v in sorted(s["metric"].items()) if k != "__name__")
    for v, t in zip(s["values"], s["timestamps"]):
        families.setdefault(s["metric"]["__name__"], []).append((labels, t, v))
for name, samples in sorted(families.items()):
    print("# TYPE %s gauge" % name)
    for labels, t, v in samples:
        print("%s{%s} %r %d.%03d" % (name, labels, v, t // 1000, t % 1000))
print("# EOF")
PY
        promtool tsdb create-blocks-from openmetrics "$dir/metrics.txt" "$dir/prometheus" >"$dir/promtool.log" 2>&1
        echo 'global: {}' >"$dir/prometheus.yml"
        prom=127.0.0.1:$(free_port)
        start "$dir/prometheus.log" prometheus "--config.file=$dir/prometheus.yml" "--storage.tsdb.path=$dir/prometheus" \
                "--web.listen-address=$prom" --storage.tsdb.retention.time=1y
        prom_pid=$STARTED_PID
        wait_for 30 curl -sf "http://$prom/-/ready"
        run_server prometheus --data-prometheus-url "http://$prom" --data-interval 200ms --data-lookback 3h
        check "${claims[0]}" wait_for 40 learned 100
        check "${claims[1]}" same_models prometheus
        stop "$server"
        stop "$prom_pid"
else
        for claim in "${claims[@]}"; do skip "$claim" "prometheus is not installed"; done
fi

# A server that is not there, then lies, then is there: nothing stops, and all is read in the end.
cat >"$dir/liar.py" <<'PY'
import http.server, json, sys
class Liar(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{"status": "success", "data": 7' if "label" in self.path else b"[]"
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a):
        pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Liar).serve_forever()
PY
liar=$(free_port)
run_server liar --data-prometheus-url "http://127.0.0.1:$liar" --data-interval 100ms
check "a source that is not there is complained about" wait_for 15 grep -q 'cannot read from data.prometheus_url' "$dir/liar.log"
start "$dir/liar.out" python3 "$dir/liar.py" "$liar"
sleep 1
check_has "one that lies stops nothing" "$(curl -s "$url/healthz")" ok
check "and the server stops when it is told to" stop "$server"
