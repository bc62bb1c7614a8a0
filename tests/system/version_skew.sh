#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Programs of today beside those of a version before and after: databases of before are read and taken over with all that
# is in them, what a later version adds to messages is passed over, and formats that only it knows are refused in words.
set -u
. "$(dirname "$0")/lib.sh"

here=$(cd "$(dirname "$0")" && pwd)
dir=$(tmpdir)
cd "$here/../.." || exit
mapfile -t samples_sql < <(ls schema/samples.*.sql)
mapfile -t server_sql < <(ls schema/server.*.sql)

# a server's database as the version before made it, with a node in it
before=$((${#server_sql[@]} - 1))
cat "${server_sql[@]:0:before}" >"$dir/server.sql"
sqlite3 "$dir/server.db" "PRAGMA journal_mode = WAL" "PRAGMA application_id = $((0x574c5356))" "PRAGMA user_version = $before" \
        ".read $dir/server.sql" "INSERT INTO node (node_id, node_name, last_seen_ms) VALUES ('old', 'of before', 1)" >/dev/null
port=$(free_port) url=http://127.0.0.1:$port
start "$dir/log" "$BIN/wattloop-model-server" serve --listen "127.0.0.1:$port" --publish-interval 100ms \
        --database-path "$dir/server.db" --models-path "$dir/pipelines"
server=$STARTED_PID
check "a server takes the database of the version before" wait_for 10 curl -sf "$url/healthz"
check "brings it to its own" test "$(sqlite3 -readonly "$dir/server.db" 'PRAGMA user_version')" = ${#server_sql[@]}
check "and keeps what was in it" test "$(sqlite3 -readonly "$dir/server.db" "SELECT node_name FROM node WHERE node_id = 'old'")" = "of before"

# collectors' databases: every version that there was, read by the trainer-client as it is
for version in $(seq ${#samples_sql[@]}); do
        db=$dir/v$version.db
        python3 "$here/samples_db.py" "$db" 4 "$(printf "%032d" "$version")" >/dev/null
        for i in $(seq 2 "$version"); do
                sqlite3 "$db" "BEGIN" ".read ${samples_sql[i - 1]}" "PRAGMA user_version = $i" "COMMIT"
        done
        check "a trainer-client sends what a collector's database of version $version holds" "$BIN/wattloop-trainer-client" push \
                --store-path "$db" --state-path "$dir/state$version" --server-url "$url"
        check "and leaves it at that version" test "$(sqlite3 -readonly "$db" 'PRAGMA user_version')" = "$version"
        check "the server has it" test "$(sqlite3 -readonly "$dir/server.db" \
                "SELECT count(*) FROM epoch WHERE epoch = '$(printf "%032d" "$version")'")" = 1
done
older=$dir/v$((${#samples_sql[@]} - 1)).db
start "$dir/collector.log" "$BIN/wattloop-collector" run --store-path "$older" --sampling-interval 1s --features-source proc \
        --sysfs-root "$dir" --metrics-listen "127.0.0.1:$(free_port)"
at_own_version() { test "$(sqlite3 -readonly "$older" 'PRAGMA user_version')" = ${#samples_sql[@]}; }
check "a collector takes over the database of the version before" wait_for 10 at_own_version
stop "$STARTED_PID"
check "with its intervals" test "$(sqlite3 -readonly "$older" "SELECT count(*) >= 4 FROM interval")" = 1

# later versions: databases are refused, and stay as they are
db=$dir/v${#samples_sql[@]}.db
sqlite3 "$db" "PRAGMA user_version = $((${#samples_sql[@]} + 1))"
refused() { "$BIN/wattloop-$1" "${@:2}" 2>&1; }
check_has "a later collector's database is refused by the trainer-client" "$(refused trainer-client push --store-path "$db" \
        --state-path "$dir/s" --server-url "$url")" "newer"
check_has "and by the collector" "$(refused collector run --store-path "$db" --features-source proc --metrics-listen "127.0.0.1:$(free_port)")" "newer"
check "which leave its version" test "$(sqlite3 -readonly "$db" 'PRAGMA user_version')" = $((${#samples_sql[@]} + 1))

# later versions' messages
post() { # PATH TYPE BODY-FILE
        curl -s -w ' %{http_code}' -H "Content-Type: $2" --data-binary "@$3" "$url$1"
}
python3 "$here/model_server_batches.py" n1 0 60 >"$dir/batch"
jq -c '.later = {"a": [1]} | .metric.later_label = "x"' "$dir/batch" >"$dir/later"
echo '{"metric":{"__name__":"wattloop_of_tomorrow_total","node_id":"n1","epoch":"e1"},"values":[1],"timestamps":[1700000000000]}' >>"$dir/later"
check_has "a later client's batch, with fields, labels and series of its own, is taken" "$(post /api/v1/import application/x-ndjson "$dir/later")" " 200"
check "and learned from" wait_for 20 sh -c "curl -s $url/best-models | grep -q SGD"
echo '{"node_id": "0123456789abcdef0123456789abcdef", "node_name": "n1", "later": 1, "reports": [{"time_ms": 1700000000000, "slot": "rapl-sysfs/AbsPower/weight",
        "outcome": "installed", "id": "", "model": "m", "why": "", "later": [2]}]}' >"$dir/report"
check_has "a later updater's report, with more fields, is taken" "$(post /api/v1/report application/json "$dir/report")" '"new": 1'
sed 's/"installed"/"improved"/' "$dir/report" >"$dir/unknown"
check_has "an outcome that nobody knows is refused in words" "$(post /api/v1/report application/json "$dir/unknown")" 'outcome'

# what is served: a weight object with fields of a later server
curl -s -H 'Content-Type: application/json' "$url/model" >"$dir/weight.json" \
        -d '{"metrics":["bpf_page_cache_hit","bpf_cpu_time_ms"],"output_type":"AbsPower","weight":true,"source":"rapl-sysfs"}'
jq '.later = {"x": 1} | .package.later = 2' "$dir/weight.json" >"$dir/weight-later.json"
request='{"metrics":["bpf_cpu_time_ms","bpf_page_cache_hit"],"values":[[1000,1]],"output_type":"AbsPower","source":"rapl-sysfs","system_features":[],"system_values":[]}'
watts() { "$BIN/wattloop-estimator" predict "$1" 2>/dev/null | jq -c '.powers'; }
check "a weight file predicts" test -n "$(watts "$dir/weight.json" <<<"$request")"
check_has "the same with fields that a later server adds" "$(watts "$dir/weight-later.json" <<<"$request")" "$(watts "$dir/weight.json" <<<"$request")"
check_has "a power request with a key that is not Kepler's is refused in words, as by Kepler's sidecar" \
        "$(jq -c '.later = {"a": 1}' <<<"$request" | "$BIN/wattloop-estimator" predict "$dir/weight.json")" "unknown key 'later'"

# formats that only a later version knows
"$BIN/wattloop-model-server" backup "$dir/backup" --database-path "$dir/server.db" --models-path "$dir/pipelines" >/dev/null 2>&1
jq '.format = 2' "$dir/backup/manifest.json" >"$dir/manifest" && cp "$dir/manifest" "$dir/backup/manifest.json"
check_has "a backup of a later format is refused in words" "$(refused model-server restore "$dir/backup" --database-path "$dir/o.db" \
        --models-path "$dir/o")" "backup format 2; this version knows 1"
stop "$server"
sqlite3 "$dir/server.db" "PRAGMA user_version = $((${#server_sql[@]} + 1))"
check_has "a later server's database is refused" "$(refused model-server serve --listen "127.0.0.1:$port" --database-path "$dir/server.db" \
        --models-path "$dir/pipelines")" "newer"
