#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A network through the whole chain: converted, published, served and signed, fetched, verified, installed, swapped in under
# a running estimator, evaluated; never given to an upstream client. Then docs/networks.md: export, train, convert, publish.
set -u
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/estimator.bash"

here=$(dirname "$0")
dir=$(tmpdir)
port=$(free_port)
url=http://127.0.0.1:$port
sock=$dir/est.sock
convert() { "$BIN/wattloop-model-server" convert --config "$CONFIG" "$@"; }
model_server() {
        "$BIN/wattloop-model-server" "$@" --config "$CONFIG" --models-path "$dir/pipelines" --signing-key-file "$dir/key"
}
update() {
        "$BIN/wattloop-updater" update --config "$CONFIG" --server-url "$url" --store-path "$dir/store" --estimator-socket "$sock" --trust-keys "$dir/key.pub"
}
# answers REQUEST: of the running estimator, watts and the model's id
answers() { ask "$sock" "$1" | jq -c '[(.powers | map_values(map(. * 1000 | round / 1000))), .id]'; }
predicts() { echo "$1" | "$ESTIMATOR" predict --config "$CONFIG" "$2" | jq -c '.powers | map_values(map(. * 1000 | round / 1000))'; }
archive_id() { readlink "$dir/store/rapl-sysfs/AbsPower/archive/current"; }
query='metrics=bpf_cpu_time_ms,bpf_page_cache_hit,bpf_net_tx_irq,bpf_net_rx_irq,bpf_block_irq&output_type=AbsPower&source=rapl-sysfs&node_type=-1'
status() { curl -s -o "$dir/got" -w '%{http_code}' "$@"; }

# max(0, 0.0625 cpu - 2) + 3 page cache + 10; inputs and output have the names of features and of a component.
mkdir -p "$dir/one"
python3 - "$dir/one" <<'PY'
import json, struct, sys
config = lambda name, **more: dict(more, name=name, dtype="float32")
layer = lambda kind, name, inputs, **more: {"name": name, "class_name": kind, "config": config(name, **more),
                                            "inbound_nodes": [[[i, 0, 0, {}] for i in inputs]] if inputs else []}
topology = {"class_name": "Model", "keras_version": "2.15.0", "config": {"name": "m", "layers": [
    layer("InputLayer", "bpf_cpu_time_ms", [], batch_input_shape=[None, 1]), layer("InputLayer", "bpf_page_cache_hit", [], batch_input_shape=[None, 1]),
    layer("Dense", "busy", ["bpf_cpu_time_ms"], units=1, activation="relu"), layer("Concatenate", "both", ["busy", "bpf_page_cache_hit"], axis=-1),
    layer("Dropout", "drop", ["both"], rate=0.5), layer("Dense", "package", ["drop"], units=1, activation="linear")],
    "input_layers": [["bpf_cpu_time_ms", 0, 0], ["bpf_page_cache_hit", 0, 0]], "output_layers": [["package", 0, 0]]}}
weights = [("busy/kernel", [1, 1], [0.0625]), ("busy/bias", [1], [-2]), ("package/kernel", [2, 1], [1, 3]), ("package/bias", [1], [10])]
with open(sys.argv[1] + "/weights.bin", "wb") as f:
    f.write(b"".join(struct.pack(f"<{len(v)}f", *v) for _, _, v in weights))
with open(sys.argv[1] + "/model.json", "w") as f:
    json.dump({"modelTopology": topology, "weightsManifest": [{"paths": ["weights.bin"], "weights": [
        {"name": n, "shape": s, "dtype": "float32"} for n, s, _ in weights]}]}, f)
PY
two='{"metrics":["bpf_page_cache_hit","bpf_cpu_time_ms"],"values":[[2,100],[0,10]],"output_type":"AbsPower","source":"rapl-sysfs","system_features":["cpu_architecture"],"system_values":["x"],"trainer_name":"","filter":""}'
check "a network whose inputs and output have names is converted without being told them" convert "$dir/one/model.json" --out "$dir/one.zip" --mae 40
check_has "it answers what was worked out by hand" "$(predicts "$two" "$dir/one.zip")" '{"package":[20.25,10]}'
check_exit 2 "convert says what is missing" convert "$dir/one/model.json"
check_has "an archive without an error is said never to be chosen" "$(convert "$dir/one/model.json" --out "$dir/none.zip" 2>&1)" "give --rows or --mae"

# ---- served, fetched, verified, evaluated ----
model_server keys make "$dir/key" >/dev/null
check "it is published like any other model" model_server publish "$dir/one.zip"
start "$dir/server.log" "$BIN/wattloop-model-server" serve --config "$CONFIG" --listen "127.0.0.1:$port" --database-path "$dir/server.db" \
        --models-path "$dir/pipelines" --signing-key-file "$dir/key"
wait_for 20 curl -sf "$url/healthz"
start "$dir/est.log" "$ESTIMATOR" serve --config "$CONFIG" --socket-path "$sock" --store-path "$dir/store"
wait_for 20 test -S "$sock"
check "the updater fetches, verifies and installs it" update
check "the estimator evaluates it" wait_for 10 sh -c "[ '$(predicts "$two" "$dir/one.zip")' = '{\"package\":[20.25,10]}' ]"
check_has "over its socket, by the id that was installed" "$(answers "$two")" "[{\"package\":[20.25,10]},\"$(archive_id)\"]"

# ---- upstream's clients ----
body='{"metrics":["bpf_cpu_time_ms","bpf_page_cache_hit"],"output_type":"AbsPower","source":"rapl-sysfs","node_type":-1,"weight":false,"trainer_name":"","filter":""}'
check_has "an upstream client is never given it" "$(status -H 'Content-Type: application/json' -d "$body" "$url/model") $(cat "$dir/got")" "400 cannot find model"
check_has "nor its weights" "$(status -H 'Content-Type: application/json' -d "${body/\"weight\":false/\"weight\":true}" "$url/model")" 400
check_has "nor by a query without our media type" "$(status "$url/api/v1/models?$query")" 404
check_has "nor by another's" "$(status -H 'Accept: application/zip, */*' "$url/api/v1/models?$query")" 404
check_has "who accepts it is" "$(status -H 'Accept: application/vnd.wattloop.model+zip' "$url/api/v1/models?$query")" 200

# ---- docs/networks.md ----
five='{"metrics":["bpf_cpu_time_ms","bpf_page_cache_hit","bpf_net_tx_irq","bpf_net_rx_irq","bpf_block_irq"],"values":[[300,0.0003,8,9,2],[100,0.0001,4,5,1]],"output_type":"AbsPower","source":"rapl-sysfs","system_features":["cpu_architecture"],"system_values":["x"],"trainer_name":"","filter":""}'
if ! [ -d "$B/node/node_modules/@tensorflow/tfjs-backend-cpu" ] || ! command -v node >/dev/null; then
        skip "a network is trained on exported rows" "make check-networks installs TensorFlow.js"
        exit 0
fi
"$B/tests/system/recording" "$dir/samples.db" 400 3 >/dev/null
check "rows are exported" sh -c "'$BIN/wattloop-trainer-client' export --csv --config '$CONFIG' --store-path '$dir/samples.db' >'$dir/rows.csv'"
errors=$(NODE_PATH=$B/node/node_modules node "$here/../networks/train.js" "$dir/rows.csv" "$dir/trained" 2>"$dir/node.err") &&
        ok "TensorFlow.js trains a network on them" || not_ok "TensorFlow.js trains a network on them" "$(tail -n 3 "$dir/node.err")"
out=$(convert "$dir/trained/model.json" --out "$dir/two.zip" --features "$(jq -r '.metrics | join(",")' <<<"$five")" --components package,dram \
        --scaler "$dir/trained/scaler.json" --rows "$dir/trained/held-back.csv" 2>&1)
check_has "it is converted, and scored on held-back rows as TensorFlow.js scores it" "$out" "package: mean absolute error ${errors% *} W"
check_has "each component" "$out" "dram: mean absolute error ${errors#* } W"
check_has "metadata tell the error and where the power came from" "$(unzip -p "$dir/two.zip" metadata.json | jq -c '[.mae > 0, .provenance, .model_class]')" \
        '[true,"measured","network"]'
before=$(archive_id)
check "it is published" model_server publish "$dir/two.zip"
served() { [ "$(update >/dev/null 2>&1; archive_id)" != "$before" ]; }
check "the server signs it, the updater installs it" wait_for 20 served
want=$(predicts "$five" "$dir/two.zip")
swapped() { [ "$(answers "$five")" = "[$want,\"$(archive_id)\"]" ]; }
check "and the running estimator has swapped to it: it answers as the converted archive does" wait_for 10 swapped || answers "$five"
