#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# How the model server judges what it learns: trials on unseen rows, drift, replay, excluded nodes, shares.
set -u
. "$(dirname "$0")/lib.sh"

dir=$(tmpdir)
here=$(dirname "$0")

run_server() { # [options]
        port=$(free_port)
        url=http://127.0.0.1:$port
        start "$dir/log" "$BIN/wattloop-model-server" serve --listen "127.0.0.1:$port" --database-path "$dir/server.db" \
                --models-path "$dir/pipelines" --publish-interval 100ms "$@"
        server=$STARTED_PID
        wait_for 10 curl -sf "$url/healthz"
}
status() { curl -s "$url/api/v1/status"; }
learned() { status | jq -e --argjson n "$1" '.learning.learned_row >= $n and .learning.last_row == .learning.learned_row' >/dev/null; }
# send NODE FIRST COUNT [key=value ...] and wait until all rows are learned
sent=0
send() {
        python3 "$here/model_server_batches.py" "$@" | curl -s --data-binary @- "$url/api/v1/import" >/dev/null
        sent=$((sent + $3))
        wait_for 20 learned $sent
}
history() { status | jq -r '[.learning.history[] | select(.energy_source == "rapl-sysfs" and .feature_group == "BPFOnly")] | '"$1"; }
champion() { status | jq -r '.models[] | select(.energy_source == "rapl-sysfs" and .feature_group == "BPFOnly" and .output_type == "'"${1:-AbsPower}"'").content_id'; }

published() { [ -n "$(champion)" ]; }

run_server
send n1 0 300
wait_for 60 published
check_has "the first model is published without a rival" "$(history '.[-1] | [.outcome, .reason, .trial_rows] | @csv')" '"champion","first",0'
for i in 300 360 420; do send n1 $i 60; done
check_has "a challenger that is not better is rejected" "$(history 'map(.outcome) | unique | @csv')" rejected
stable=$(champion)

# The same workload, but the machine draws 25 W more: what was learned is wrong by that.
sed 's/package = 20 + /package = 45 + /' "$here/model_server_batches.py" >"$dir/changed.py"
send_changed() {
        python3 "$dir/changed.py" "$@" | curl -s --data-binary @- "$url/api/v1/import" >/dev/null
        sent=$((sent + $3))
        wait_for 20 learned $sent
}
for i in 0 60 120 180; do send_changed n1 $i 60 epoch=e2 base=1700100000000; done
check_has "drift triggers training" "$(history 'map(.reason) | unique | @csv')" drift
check "a better challenger becomes champion" test "$(champion)" != "$stable"
check_has "on rows that neither had seen, and of which it says how many" \
        "$(history '[.[] | select(.outcome == "champion" and .reason == "drift")][0] | [.trial_rows >= 15, .mae < 0.99 * .champion_mae] | @csv')" \
        'true,true'
check_has "each node has its error by group and component" \
        "$(status | jq -c '[.learning.scores[] | select(.node_id == "n1" and .feature_group == "BPFOnly") | .trainer + "/" + .component] | sort')" \
        '["SGDRegressorTrainer/dram","SGDRegressorTrainer/package","SGDRegressorTrainer/platform","online/dram","online/package","online/platform"]'

archive=$dir/pipelines/wattloop/rapl-sysfs/AbsPower/BPFOnly/SGDRegressorTrainer_0.zip
check_has "a model names the uploads that it was made from" \
        "$(unzip -p "$archive" metadata.json | jq -r '(.batches | length) == .batches_n and (.batches[0] | length) == 64')" true
check_has "and the first upload's hash is its" "$(unzip -p "$archive" metadata.json | jq -r '.batches[0]')" \
        "$(python3 "$here/model_server_batches.py" n1 0 300 | sha256sum | cut -d ' ' -f 1)"
replay() { "$BIN/wattloop-model-server" replay --database-path "$dir/server.db" --models-path "$dir/pipelines" "$@"; }
check_has "replay makes it again, bit for bit" "$(replay "$archive" "$dir/again.zip")" 'the same, bit for bit'
check "down to the archive's bytes" cmp "$archive" "$dir/again.zip"
check_has "also by its content id, also DynPower" "$(replay "$(champion DynPower)")" 'the same, bit for bit'
all_replayed() {
        sqlite3 "$dir/server.learn.db" "SELECT content_id FROM model WHERE energy_source = 'rapl-sysfs' AND
                feature_group = 'BPFOnly' ORDER BY model_id DESC LIMIT 6" | while read -r id; do
                replay "$id" | grep -q 'bit for bit' || echo "$id"
        done
}
check_has "and so are the latest challengers, online ones too" "$(all_replayed | wc -l)" 0
stop "$server"
sqlite3 "$dir/server.db" 'DELETE FROM row WHERE row_id = 5'
check_exit 1 "without one of its rows it differs" replay "$archive"
check_has "and replay says in what" "$(replay "$archive")" 'dataset_sha256: was'
check_exit 1 "an unknown model is an error" replay 0123456789

# A loud node, a quiet one, and one that lies.
rm -rf "$dir"/server* "$dir/pipelines"
sent=0
run_server
send loud 0 400
send quiet 0 40 base=1700000000500
send_changed liar 0 60 base=1700000001000
send quiet 40 160 base=1700000000500
send quiet 200 100 base=1700000000500
check_has "models are made of all nodes' rows" "$(sqlite3 "$dir/server.learn.db" "SELECT metadata FROM model WHERE fit = 'batch' ORDER BY model_id DESC LIMIT 1" | jq -c '.nodes | sort')" '["liar","loud","quiet"]'
latest=$(sqlite3 "$dir/server.learn.db" "SELECT content_id FROM model WHERE fit = 'batch' AND output_type = 'AbsPower' ORDER BY model_id DESC LIMIT 1")
check_has "but none gives more than half" \
        "$(sqlite3 "$dir/server.learn.db" "SELECT metadata FROM model WHERE content_id = '$latest'" | jq '.rows < 760 and .rows >= 100')" true
check_has "a model can be made anew without a node" "$(replay --training-exclude-nodes liar "$latest" "$dir/without.zip")" 'made anew'
check_has "which is then not in it" "$(unzip -p "$dir/without.zip" metadata.json | jq -c '[.nodes, .excluded]')" '[["loud","quiet"],["liar"]]'
stop "$server"
run_server --training-exclude-nodes liar
relearned() { status | jq -e '(.models | length) == 8 and .learning.learned_row == .learning.last_row' >/dev/null; }
check "an excluded node's rows are learned no more, and models come without it" wait_for 20 relearned
check_has "all of them" "$(find "$dir/pipelines" -name metadata.json -path '*SGD*' -exec jq -c .nodes {} + | grep -c liar)" 0
check_has "nor is it scored" "$(status | jq -c '[.learning.scores[].node_id] | unique')" '["loud","quiet"]'
stop "$server"

# General models among the champions: each is served, and the estimator makes of it what it was trained for.
rm -rf "$dir"/server* "$dir/pipelines"
sent=0
run_server --training-trainers SGDRegressorTrainer,XgboostFitTrainer,BlendTrainer
send n1 0 300
cat >"$dir/rows.py" <<'PY'
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("batches", sys.argv[1])
batches = importlib.util.module_from_spec(spec)
spec.loader.exec_module(batches)
rows, watts = [], []
for i in range(1000, 1050):
    use = [batches.rates(i, c, 2) for c in range(2)]
    rows.append([sum(u["bpf_cpu_time_ms"] for u in use), sum(u["bpf_page_cache_hit"] for u in use)])
    watts.append(20 + 0.04 * rows[-1][0] + 3e-4 * sum(u["bpf_net_rx_irq"] for u in use))
if sys.argv[2] == "request":
    print(json.dumps({"metrics": ["bpf_cpu_time_ms", "bpf_page_cache_hit"], "values": rows, "output_type": "AbsPower",
                      "source": "rapl-sysfs", "system_features": [], "system_values": []}))
else:
    powers = json.load(sys.stdin)["powers"]["package"]
    error = sum(abs(a - b) for a, b in zip(powers, watts)) / len(watts)
    print("near" if len(powers) == len(watts) and error < 0.05 * (max(watts) - min(watts)) else "%.2f W off" % error)
PY
for trainer in XgboostFitTrainer BlendTrainer; do
        archive=$dir/pipelines/wattloop/rapl-sysfs/AbsPower/BPFOnly/${trainer}_0.zip
        check "$trainer is published" wait_for 60 test -e "$archive"
        check_has "and replayed bit for bit" "$(replay "$archive")" 'the same, bit for bit'
        rm -f "$dir/served.zip"
        curl -sf -o "$dir/served.zip" -H 'Accept: application/vnd.wattloop.model+zip' \
                "$url/api/v1/models?metrics=bpf_cpu_time_ms,bpf_page_cache_hit&output_type=AbsPower&source=rapl-sysfs&trainer_name=$trainer"
        check "the server gives it to who asks for it" cmp "$archive" "$dir/served.zip"
        check_has "and the estimator's watts are near the machine's on rows it never saw" \
                "$(python3 "$dir/rows.py" "$here/model_server_batches.py" request | "$BIN/wattloop-estimator" predict "$dir/served.zip" |
                        python3 "$dir/rows.py" "$here/model_server_batches.py" judge)" near
done
stop "$server"
