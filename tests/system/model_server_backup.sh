#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A backup is taken while the server takes batches in; restored elsewhere after a kill, it serves the same models, takes
# batches that are sent again without a duplicate, and goes on learning. A restore harms nothing that is there.
set -u
. "$(dirname "$0")/lib.sh"

dir=$(tmpdir)
batches="python3 $(dirname "$0")/model_server_batches.py"
mkdir -p "$dir/etc"
printf 'sesame\n' >"$dir/etc/tokens"
chmod 600 "$dir/etc/tokens"
"$BIN/wattloop-model-server" keys make "$dir/etc/release" >/dev/null

server_options() { # WHERE
        options=(--database-path "$dir/$1/server.db" --models-path "$dir/$1/pipelines" --auth-token-file "$dir/etc/tokens"
                --signing-key-file "$dir/etc/release")
}
run_server() { # WHERE
        server_options "$1"
        port=$(free_port) url=http://127.0.0.1:$port
        start "$dir/log" "$BIN/wattloop-model-server" serve --listen "127.0.0.1:$port" --publish-interval 100ms "${options[@]}"
        server=$STARTED_PID
        wait_for 10 curl -sf "$url/healthz"
}
backup() { "$BIN/wattloop-model-server" backup "$@" "${options[@]}"; }
restore() { "$BIN/wattloop-model-server" restore "$@" "${options[@]}"; }
upload() {
        curl -s --data-binary "@$1" -H 'Content-Type: application/x-ndjson' -H 'Authorization: Bearer sesame' "$url/api/v1/import"
}
models() { # content ids of what is served
        curl -s "$url/api/v1/status" | jq -c '[.models[] | [.name, .id, .mae]] | sort'
}
weights() {
        curl -s -H 'Content-Type: application/json' "$url/model" \
                -d '{"metrics":["bpf_page_cache_hit","bpf_cpu_time_ms"],"output_type":"AbsPower","weight":true,"source":"rapl-sysfs"}' | sha256sum
}
learned() { curl -s "$url/best-models" | grep -q SGD; }
rows() { sqlite3 -readonly "$1" 'SELECT count(*), count(DISTINCT epoch_id || provenance || end_ms) FROM row'; }

$batches n1 0 60 >"$dir/first"
for i in $(seq 0 14); do $batches n2 $((i * 5)) 5 >"$dir/b$i"; done
run_server one
upload "$dir/first" >/dev/null
wait_for 20 learned
for i in $(seq 0 14); do upload "$dir/b$i"; echo; done >"$dir/acks" &
sending=$!
wait_for 20 test -s "$dir/acks"
check "a backup is taken while batches come in" backup "$dir/backup"
wait $sending
check "and refuses none of them" test "$(grep -c '"new"' "$dir/acks")" = 15
check "its database is whole" test "$(sqlite3 "file:$dir/backup/server.db?immutable=1" 'PRAGMA integrity_check')" = ok
in_backup=$(rows "file:$dir/backup/server.db?immutable=1")
check "and holds what had come in by then" awk "BEGIN { exit !(${in_backup%%|*} >= 60 && ${in_backup%%|*} <= 135) }"
check_has "a manifest says what each file was" "$(jq -c '[.format, (.files | map(.name) | index("server.db") != null)]' "$dir/backup/manifest.json")" '[1,true]'
check "no key is in it" sh -c "! grep -rqF -e '$(sed -n 2p "$dir/etc/release")' -e sesame '$dir/backup'"
check_exit 1 "a backup is not written over" backup "$dir/backup"
check_exit 1 "a running server's database is not restored over" restore "$dir/backup" --force
check "and it goes on" learned

# the same again with nothing coming in: what is served then must be served afterwards
sleep 0.5 # publish.interval
until a=$(models) && sleep 0.4 && [ "$a" = "$(models)" ]; do :; done
check "keys are in one that was asked for them" backup "$dir/second" --keys
check "readable by their owner alone" test "$(stat -c %a "$dir/second" "$dir/second/keys/tokens" "$dir/second/keys/signing.key" | tr '\n' ' ')" = "700 600 600 "
served=$(models) weighed=$(weights) had=$(rows "$dir/one/server.db")
stop "$server" KILL

server_options two
cp -r "$dir/second" "$dir/bad"
file=$(cd "$dir/bad" && find pipelines -name '*.zip' | head -n 1)
printf x >>"$dir/bad/$file"
check_exit 1 "a backup with a changed file is refused" restore "$dir/bad"
cp "$dir/second/$file" "$dir/bad/$file" && truncate -s -4096 "$dir/bad/server.db"
check_exit 1 "so is one that is cut" restore "$dir/bad"
rm "$dir/bad/server.db"
check_exit 1 "or lacks a file" restore "$dir/bad"
jq '.files[0].name = "../etc/tokens"' "$dir/second/manifest.json" >"$dir/bad/manifest.json"
check_exit 1 "or names one outside" restore "$dir/bad"
check "and nothing is made" test ! -e "$dir/two/server.db" -a ! -e "$dir/two/pipelines"
check "a backup is restored elsewhere" restore "$dir/second"
run_server two
check "the same models are served, by content" test "$(models)" = "$served"
check "and the same weights" test "$(weights)" = "$weighed"
check_has "a batch that is sent again adds nothing" "$(upload "$dir/first")" '"new": 0'
for i in $(seq 0 14); do upload "$dir/b$i"; done >"$dir/again"
check "nor does any other" test "$(grep -o '"new": [0-9]*' "$dir/again" | sort -u)" = '"new": 0'
check "no row is there twice, and none is missing" test "$(rows "$dir/two/server.db")" = "$had"
$batches n2 75 5 >"$dir/more"
upload "$dir/more" >/dev/null
check "and it goes on learning" wait_for 10 test "$(curl -s "$url/api/v1/status" | jq .rows)" = $((${had%%|*} + 5))
stop "$server" TERM

check_exit 1 "over a database there is no restore" restore "$dir/backup"
check "but with --force" restore "$dir/backup" --force
check "which keeps what was there" test "$(rows "$dir/two/server.db.before")" = "$((${had%%|*} + 5))|$((${had%%|*} + 5))"
run_server two
for i in $(seq 0 14); do upload "$dir/b$i"; done >/dev/null
check "a backup from amid the batches takes those that it lacks, each once" test "$(rows "$dir/two/server.db")" = "$had"
stop "$server" TERM
sqlite3 "$dir/two/server.db" 'PRAGMA user_version = 99' && backup "$dir/newer" >/dev/null 2>&1
server_options three
check_exit 1 "a newer version's backup is refused" restore "$dir/newer"

server_options two
mkdir "$dir/small"
if [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=64k tmpfs "$dir/small" 2>/dev/null; then
        check_exit 1 "on a full disk there is no backup" backup "$dir/small/b"
        check "nor a part of one" test -z "$(ls -A "$dir/small")"
        umount "$dir/small"
else
        skip "on a full disk there is no backup" "needs root and a tmpfs"
fi
