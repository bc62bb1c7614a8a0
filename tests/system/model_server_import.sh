#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Uploads: what is acknowledged is there once, what is refused left nothing, and models come of it.
set -u
. "$(dirname "$0")/lib.sh"

dir=$(tmpdir)
batches="python3 $(dirname "$0")/model_server_batches.py"
port=$(free_port)
url=http://127.0.0.1:$port
printf '# tokens\nsesame\nopen\n' >"$dir/tokens"
chmod 600 "$dir/tokens"

run_server() {
        start "$dir/log" "$BIN/wattloop-model-server" serve --listen "127.0.0.1:$port" \
                --database-path "$dir/server.db" --models-path "$dir/pipelines" --auth-token-file "$dir/tokens" \
                --limits-import-bytes 200KiB --limits-import-plain-bytes 1MiB --publish-interval 100ms "$@"
        server=$STARTED_PID
        wait_for 10 curl -sf "$url/healthz"
}

# upload FILE [curl arguments]: prints the reply and then the status code
token=sesame
upload() {
        local file=$1

        shift
        curl -s -w ' %{http_code}' --data-binary "@$file" -H 'Content-Type: application/x-ndjson' \
                -H "Authorization: Bearer $token" "$@" "$url/api/v1/import"
}

status() {
        curl -s "$url/api/v1/status" | jq -c "$1"
}

run_server
$batches n1 0 60 >"$dir/first.jsonl"
gzip -nk "$dir/first.jsonl"

check_has "upload without a token is refused" \
        "$(curl -s -o /dev/null -w '%{http_code}' --data-binary "@$dir/first.jsonl" "$url/api/v1/import")" 401
check_has "upload with a wrong token is refused" "$(token=wrong upload "$dir/first.jsonl")" 401
check_has "nothing of them is stored" "$(status .samples)" 0

reply=$(upload "$dir/first.jsonl.gz" -H 'Content-Encoding: gzip')
check_has "gzip upload is stored" "$reply" '"new": 1098, "duplicate": 0, "ignored": 61} 200'
check_has "rows come of it" "$(status .rows)" 60
check_has "the same upload again adds nothing" "$(upload "$dir/first.jsonl")" '"new": 0, "duplicate": 1098, "ignored": 61} 200'
check_has "nor does it add rows" "$(status .rows)" 60

wait_for 5 test -s "$dir/pipelines/wattloop/metadata.json"
wait_for 5 sh -c "curl -s $url/best-models | grep -q SGD"
check_has "models are published and listed" "$(curl -s "$url/best-models")" \
        '{"AbsPower": {"BPFIRQ": "SGDRegressorTrainer_0", "BPFOnly": "SGDRegressorTrainer_0"}, "DynPower": {"BPFIRQ": "SGDRegressorTrainer_0", "BPFOnly": "SGDRegressorTrainer_0"}}'
check_has "their error is that of rows they had not seen" "$(status '[.models[].mae | . < 0.5] | all')" true

printf '%s\n' '{"metric":{"__name__":"x"},"values":[1],"timestamps":["a"]}' >"$dir/bad"
$batches n1 60 5 >"$dir/second.jsonl"
cat "$dir/second.jsonl" "$dir/bad" >"$dir/bad.jsonl"
before=$(status '[.samples, .rows]')
check_has "bad line is named" "$(upload "$dir/bad.jsonl")" 'line 20: '
check_has "as a bad request" "$(upload "$dir/bad.jsonl")" 400
gzip -nc "$dir/second.jsonl" | head -c 300 >"$dir/short.gz"
check_has "truncated gzip is a bad request" "$(upload "$dir/short.gz" -H 'Content-Encoding: gzip')" 400
head -c 50000000 /dev/zero | gzip -n >"$dir/bomb.gz"
check_has "gzip bomb is too large" "$(upload "$dir/bomb.gz" -H 'Content-Encoding: gzip')" 413
head -c 300000 /dev/urandom >"$dir/large"
check_has "large upload is too large" "$(upload "$dir/large")" 413
check_has "large upload without a length is too large" "$(upload "$dir/large" -H 'Transfer-Encoding: chunked')" 413
check_has "unknown encoding is named" "$(upload "$dir/bad" -H 'Content-Encoding: br')" 415
check_has "nothing of all that is stored" "$(status '[.samples, .rows]')" "$before"
check_has "and the good part goes in later" "$(upload "$dir/second.jsonl")" '"new": 90,'

$batches n2 0 40 source=simulated cores=4 >"$dir/simulated.jsonl"
check_has "simulated power is taken" "$(upload "$dir/simulated.jsonl")" 200
check_has "but not trained on" "$(status '[.rows, .refused_rows.simulated]')" '[65,40]'
check_has "and no model is published for its machine" "$(status '[.models[].node_type] | unique')" '[0]'

stop "$server"
check_has "SIGTERM ends it well" "$?" 0
run_server
check_has "after a restart everything is there" "$(status '[.rows, .refused_rows.simulated, .samples]')" '[65,40,1926]'
check_has "models are served at once" "$(curl -s "$url/best-models")" SGDRegressorTrainer_0
stop "$server"

run_server --training-provenance measured,simulated
wait_for 5 sh -c "curl -s $url/api/v1/status | jq -e '[.models[].node_type] | unique == [0,1]'"
check_has "rows are learned when their provenance is accepted later" "$(status '[.models[].node_type] | unique')" '[0,1]'
weights=$(curl -s -H 'Content-Type: application/json' "$url/model" -d '{"metrics":["bpf_cpu_time_ms","bpf_page_cache_hit"],
        "output_type":"AbsPower","node_type":1,"weight":true}')
check_has "and their models say so" "$weights" '"provenance": "simulated"'
stop "$server"
run_server
wait_for 5 sh -c "curl -s $url/api/v1/status | jq -e '[.models[].node_type] | unique == [0]'"
check_has "and are withdrawn when it is not accepted any more" "$(status '[.models[].node_type] | unique')" '[0]'
check_has "metrics count" "$(curl -s "$url/metrics")" 'wattloop_server_model_mae_watts{energy_source="rapl-sysfs"'
stop "$server"

claim="full disk is said, and nothing acknowledged is lost"
mkdir -p "$dir/small"
if mount -t tmpfs -o size=1m tmpfs "$dir/small" 2>/dev/null; then
        port=$(free_port)
        url=http://127.0.0.1:$port
        start "$dir/log" "$BIN/wattloop-model-server" serve --listen "127.0.0.1:$port" \
                --database-path "$dir/small/server.db" --models-path "$dir/pipelines2"
        server=$STARTED_PID
        wait_for 10 curl -sf "$url/healthz"
        acked=0
        for i in $(seq 0 40 4000); do
                $batches n1 "$i" 40 | gzip -n >"$dir/part.gz"
                reply=$(upload "$dir/part.gz" -H 'Content-Encoding: gzip')
                case $reply in *200) acked=$((acked + 40)) ;; *) break ;; esac
        done
        check_has "full disk answers 507" "$reply" 507
        check_has "$claim" "$(status .rows)" "$acked"
        mount -o remount,size=8m "$dir/small"
        check_has "with room again it goes on" "$(upload "$dir/part.gz" -H 'Content-Encoding: gzip')" 200
        stop "$server"
        umount "$dir/small"
else
        skip "$claim" "a small file system cannot be mounted here"
fi

sqlite3 "$dir/server.db" 'PRAGMA user_version = 99'
check_exit 1 "newer database is refused" "$BIN/wattloop-model-server" serve --listen "127.0.0.1:$port" \
        --database-path "$dir/server.db" --models-path "$dir/pipelines"
head -c 5000 /dev/urandom >"$dir/garbage.db"
check_exit 1 "file that is no database is refused" "$BIN/wattloop-model-server" serve --listen "127.0.0.1:$port" \
        --database-path "$dir/garbage.db" --models-path "$dir/pipelines"
check "and left as it was" test "$(stat -c %s "$dir/garbage.db")" = 5000
check_exit 2 "address that others can reach demands tokens" "$BIN/wattloop-model-server" serve \
        --listen "0.0.0.0:$port" --check-config
check_exit 0 "and is fine with them" "$BIN/wattloop-model-server" serve --listen "0.0.0.0:$port" \
        --auth-token-file "$dir/tokens" --check-config
