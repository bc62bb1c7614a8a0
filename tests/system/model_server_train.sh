#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# POST /train: a recording goes in, a pipeline comes out, is served, fetched and evaluated with equal predictions.
set -u
. "$(dirname "$0")/lib.sh"

dir=$(tmpdir)
here=$(dirname "$0")
port=$(free_port)
url=http://127.0.0.1:$port
captured=$here/../../../shared/captures/train/small_counteronly_rapl_T2.request.json
json='Content-Type: application/json'

run_server() {
        start "$dir/log" "$BIN/wattloop-model-server" serve --listen "127.0.0.1:$port" --database-path "$dir/server.db" \
                --models-path "$dir/pipelines" "$@"
        server=$STARTED_PID
        wait_for 10 curl -sf "$url/healthz"
}
run_server

# An invented recording in the shape of Prometheus' answers: 80 rows of two containers.
python3 - >"$dir/request.json" <<'PY'
import json, math
def rows(total): return [[1700000000 + 3 * i, "%.6f" % total(i)] for i in range(81)]
def sums(rate):
    out, s = [], 0.0
    for i in range(81):
        out.append(s)
        s += 3 * rate(i)
    return out
cpu = [sums(lambda i, k=k: 700 + 500 * math.sin(0.7 * i + k)) for k in range(2)]
page = [sums(lambda i, k=k: 1 + math.sin(1.3 * i + 2 * k)) for k in range(2)]
joules = [20 * 3 * i + 0.04 * (cpu[0][i] + cpu[1][i]) for i in range(81)]
dram = [4 * 3 * i + 2 * (page[0][i] + page[1][i]) for i in range(81)]
def container(name, totals):
    return [{"metric": {"__name__": name, "job": "kepler", "container_id": "c%d" % k, "pod_name": "p", "container_name": "n%d" % k,
                        "container_namespace": "ns"}, "values": rows(lambda i: totals[k][i])} for k in range(2)]
def node(name, totals):
    return [{"metric": {"__name__": name, "job": "kepler", "package": "0", "mode": "dynamic", "source": "rapl-sysfs", "instance": "n1"},
             "values": rows(lambda i: totals[i])}]
recording = {"kepler_container_bpf_cpu_time_ms_total": container("kepler_container_bpf_cpu_time_ms_total", cpu),
             "kepler_container_bpf_page_cache_hit_total": container("kepler_container_bpf_page_cache_hit_total", page),
             "kepler_node_package_joules_total": node("kepler_node_package_joules_total", joules),
             "kepler_node_dram_joules_total": node("kepler_node_dram_joules_total", dram)}
print(json.dumps({"name": "mine", "energy_source": "rapl-sysfs", "prom_response": recording,
                  "trainer": {"abs_trainers": ["SGDRegressorTrainer"], "dyn_trainers": ["SGDRegressorTrainer"],
                              "isolator": "MinIdleIsolator", "isolator_args": {}, "idle_prom_response": {}}}))
PY

head=$(curl -s -D - -o "$dir/mine.zip" -H "$json" --data-binary "@$dir/request.json" "$url/train")
check_has "a recording is answered with a pipeline" "$head" 'HTTP/1.1 200'
check_has "as upstream names it" "$head" 'filename=mine.zip'
check_has "with its digest" "$head" 'Digest: sha-256='
check_has "it has models of both outputs, and their weights" "$(python3 -m zipfile -l "$dir/mine.zip" | awk '{ print $1 }' | tr '\n' ' ')" \
        'rapl-sysfs/AbsPower/BPFOnly/SGDRegressorTrainer_0.zip rapl-sysfs/AbsPower/BPFOnly/SGDRegressorTrainer_0.json rapl-sysfs/DynPower/BPFOnly'

# Asynchronous: 202, progress, and the same bytes.
answer=$(curl -s -D "$dir/head" -H "$json" -H 'Prefer: respond-async' --data-binary "@$dir/request.json" "$url/train")
check_has "a client that does not want to wait gets a status URL" "$(cat "$dir/head")" 'HTTP/1.1 202'
status=$(sed -n 's/^Location: \(.*\)\r$/\1/p' "$dir/head")
check_has "which the body names, too" "$answer" "$status"
trained() { curl -s "$url$status" | grep -q '"state": "done", "done": 2, "total": 2, "progress": 1.000'; }
check "and tells the progress" wait_for 10 trained
curl -s "$url$(curl -s "$url$status" | jq -r .result)" >"$dir/later.zip"
check "its result is the same model" cmp <(unzip -p "$dir/mine.zip" 'rapl-sysfs/AbsPower/*/weight.json') \
        <(unzip -p "$dir/later.zip" 'rapl-sysfs/AbsPower/*/weight.json')
check_has "an unknown training is not found" "$(curl -si "$url/api/v1/train?id=0")" 'HTTP/1.1 404'

claim="upstream's captured request is answered as upstream answers"
if [ -f "$captured" ]; then
        head=$(curl -s -D - -o "$dir/captured.zip" -H "$json" --data-binary "@$captured" "$url/train")
        check_has "$claim" "$head $(python3 -m zipfile -l "$dir/captured.zip" | awk '{ print $1 }' | tr '\n' ' ')" \
                'rapl-sysfs/AbsPower/CounterOnly/SGDRegressorTrainer_0.zip'
else
        skip "$claim" "the captures are not here"
fi
check_has "a request without a recording is a bad one" "$(curl -si -H "$json" -d '{"name":"x"}' "$url/train")" 'HTTP/1.1 400'
check_has "as is one for an unknown trainer, in words" \
        "$(sed 's/SGDRegressorTrainer/NopeTrainer/g' "$dir/request.json" | curl -si -H "$json" --data-binary @- "$url/train")" "NopeTrainer"
stop "$server"

# Put beside the server's own, the pipeline is served, fetched, installed and evaluated.
mkdir -p "$dir/pipelines/mine"
(cd "$dir/pipelines/mine" && python3 -m zipfile -e "$dir/mine.zip" .)
run_server
bpf='{"metrics":["bpf_cpu_time_ms","bpf_page_cache_hit"],"output_type":"AbsPower","source":"rapl-sysfs"'
curl -s -H "$json" -H 'Accept: application/vnd.wattloop.model+zip' -d "$bpf}" "$url/model" >"$dir/fetched.zip"
curl -s -H "$json" -d "$bpf,\"weight\":true}" "$url/model" >"$dir/fetched.json"
check "it is served as it was trained" cmp "$dir/fetched.zip" \
        "$dir/pipelines/mine/rapl-sysfs/AbsPower/BPFOnly/SGDRegressorTrainer_0.zip"
python3 - "$BIN/wattloop-estimator" "$dir" <<'PY' >"$dir/compare"
import json, subprocess, sys
estimator, d = sys.argv[1:3]
weights = json.load(open(d + "/fetched.json"))
rows = [[17.5 * i, 0.013 * i] for i in range(100)]
request = json.dumps({"metrics": ["bpf_cpu_time_ms", "bpf_page_cache_hit"], "values": rows, "output_type": "AbsPower",
                      "source": "rapl-sysfs", "system_features": [], "system_values": [], "trainer_name": "", "filter": ""})
answer = subprocess.run([estimator, "predict", d + "/fetched.zip"], input=request + "\n", capture_output=True, text=True)
powers = json.loads(answer.stdout)["powers"]
worst = 0.0
for component, predicted in powers.items():
    w = weights[component]["All_Weights"]
    for row, y in zip(rows, predicted):
        want = w["Bias_Weight"]
        for x, name in zip(row, ["bpf_cpu_time_ms", "bpf_page_cache_hit"]):
            n = w["Numerical_Variables"][name]
            want += n["weight"] * (x / n["scale"])
        worst = max(worst, abs(max(want, 0) - y))
print("components", ",".join(sorted(powers)), "equal" if worst < 1e-9 else "differ by %g" % worst)
# and the recording's own law, package = 20 + 0.04 cpu
print("law", all(abs(y - 20 - 0.04 * r[0]) < 0.05 for r, y in zip(rows, powers["package"])))
PY
check_has "the estimator predicts what the weights say" "$(cat "$dir/compare")" "components dram,package equal"
check_has "which is what the recording says" "$(cat "$dir/compare")" "law True"
stop "$server"
