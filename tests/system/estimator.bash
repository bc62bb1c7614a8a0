# SPDX-License-Identifier: Apache-2.0
# What the estimator's system tests share; sourced behind lib.sh.
# shellcheck shell=bash

ESTIMATOR=$BIN/wattloop-estimator
CONFIG=$(tmpdir)/empty.yaml # so that no installed configuration takes part
: >"$CONFIG"
REQUEST='{"metrics":["bpf_cpu_time_ms"],"values":[[1],[2]],"output_type":"AbsPower","source":"acpi","system_features":["cpu_architecture"],"system_values":["x"],"trainer_name":"","filter":""}'

# const_weights W: a model called Const_<W> that always says W watts
const_weights() {
        printf '{"model_name": "Const_%d", "machine_spec": {"cores": 4}, "platform": {"All_Weights": {"Bias_Weight": %s, "Categorical_Variables": {}, "Numerical_Variables": {"bpf_cpu_time_ms": {"scale": 100.0, "weight": 0.0}}}}}' "$1" "$1"
}

# install_weights STORE PLACE <weights: as the updater does; prints the id. PLACE is like acpi/AbsPower
install_weights() {
        local form=$1/$2/weight text id

        text=$(cat)
        id=$(printf '11 weight.json%d %s' "${#text}" "$text" | sha256sum | cut -d ' ' -f 1)
        mkdir -p "$form/$id" && printf '%s' "$text" >"$form/$id/weight.json"
        ln -sfn "$id" "$form/.new" && mv -T "$form/.new" "$form/current"
        printf '%s\n' "$id"
}

# ask SOCKET TEXT [PIECE_BYTES DELAY]: sends, prints the reply (one JSON object) or what came before the end
ask() {
        python3 - "$@" <<'PY'
import json, socket, sys, time
s = socket.socket(socket.AF_UNIX)
s.settimeout(20)
s.connect(sys.argv[1])
data = sys.argv[2].encode()
piece, delay = (int(sys.argv[3]), float(sys.argv[4])) if len(sys.argv) > 3 else (len(data) or 1, 0)
for i in range(0, len(data), piece):
    if i: time.sleep(delay)
    s.sendall(data[i:i + piece])
reply = b""
while True:
    got = s.recv(65536)
    reply += got
    try: json.loads(reply); break
    except ValueError: pass
    if not got: break
print(reply.decode())
PY
}

# start_estimator DIR [OPTION...]: serves DIR/sock from DIR/store; returns when it answers
start_estimator() {
        local dir=$1

        shift
        start "$dir/log" "$ESTIMATOR" serve --config "$CONFIG" --socket-path "$dir/sock" --store-path "$dir/store" "$@"
        wait_for 10 ask "$dir/sock" '{"command":"status"}'
}

# status_of SOCKET JQ: one value of the status
status_of() {
        ask "$1" '{"command":"status"}' | jq -r "$2"
}

# model_is SOCKET NAME [PLACE]: the status says that this model serves
model_is() {
        [ "$(status_of "$1" '.models[0].model')" = "$2" ]
}

# reloads_are SOCKET N: at least N reloads have finished
reloads_are() {
        [ "$(status_of "$1" .reloads)" -ge "$2" ]
}
