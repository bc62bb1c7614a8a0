#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The trainer-client against honest and lying servers: the cursor moves on an acknowledgement and only then.
set -u
. "$(dirname "$0")/lib.sh"

here=$(cd "$(dirname "$0")" && pwd)
dir=$(tmpdir)
port=$(free_port)
db=$dir/samples.db
# Of one interval: 5 features of 2 containers, power in 2 modes, info, node, measured time.
PER_INTERVAL=15

start "$dir/server.out" python3 "$here/import_server.py" "$port" "$dir/log"
wait_for 30 python3 -c "import socket; socket.create_connection(('127.0.0.1', $port), 1)"

# serve MODE...: what the server answers from now on, into a fresh log
serve() {
        rm -f "$dir/log" "$dir/log.samples"
        printf '%s\n' "$@" >"$dir/modes"
        mv "$dir/modes" "$dir/log.modes"
}

client() {
        "$BIN/wattloop-trainer-client" "$@" --store-path "$db" --state-path "$dir/state" \
                --server-url "http://127.0.0.1:$port" --server-timeout "${timeout:-20s}" --retry-base 10ms --retry-max 50ms \
                --retry-attempts 3
}

cursor() {
        client status --json | jq .interval_id
}

fresh() { # INTERVALS
        rm -rf "$dir/state" "$dir/acks" "$db" "$db-wal" "$db-shm"
        [ -e "$dir/fresh-$1.db" ] || python3 "$here/samples_db.py" "$dir/fresh-$1.db" "$1"
        cp "$dir/fresh-$1.db" "$db"
}

# ---- the ordinary course ----
fresh 20
serve ok
out=$(client push)
[ $? -eq 0 ] && [ "$(cursor)" = 20 ] && ok "everything is sent and acknowledged" || not_ok "everything is sent and acknowledged" "$out"
check_has "one line sums up what was sent" "$out" "20 intervals"
n=$(sort -u "$dir/log.samples" | wc -l)
[ "$n" = $((20 * PER_INTERVAL + PER_INTERVAL)) ] && ok "every sample arrives, and the epoch's zeros" ||
        not_ok "every sample arrives, and the epoch's zeros" "$n"
check_exit 3 "a second push has nothing to send" client push
[ "$(jq -r .interval_id "$dir/acks/model-server.json")" = 20 ] &&
        ok "the collector is told what was acknowledged" || not_ok "the collector is told what was acknowledged"
python3 "$here/samples_db.py" "$db" 3
client push >/dev/null
check_has "new intervals are sent from the cursor on" "$(tail -n 1 "$dir/log")" "/21-23 "
rm -rf "$dir/acks"
client push >/dev/null 2>&1
[ -e "$dir/acks/model-server.json" ] && ok "a lost acknowledgement file is written again" ||
        not_ok "a lost acknowledgement file is written again"

# ---- answers that are no acknowledgement ----
for mode in 401 403 404 429 500 503 507 redirect html less hang close half; do
        fresh 1
        serve "$mode"
        out=$([ "$mode" != hang ] || timeout=300ms; client push 2>&1)
        [ $? -eq 1 ] && [ "$(cursor)" = 0 ] && [ -n "$out" ] && ok "no acknowledgement, no progress: $mode" ||
                not_ok "no acknowledgement, no progress: $mode" "$out"
done
fresh 1
serve 401
check_has "the server's words are passed on" "$(client push 2>&1)" "words of the server"
for mode in 400 422 413; do
        fresh 3
        serve $([ "$mode" = 413 ] && echo 413 413) "$mode" ok
        out=$(client push --batch-intervals 1 2>&1)
        [ "$(cursor)" = 3 ] && [ "$(grep -c '^ok' "$dir/log")" = 2 ] &&
                check_has "a batch that is refused with $mode goes into quarantine, the others on" "$out" "words of the server" ||
                not_ok "a batch that is refused with $mode goes into quarantine, the others on" "$out; $(cat "$dir/log")"
done
check_has "with the words beside it" "$(cat "$dir"/state/quarantine/model-server/*-1-1.txt)" "words of the server"
first=$(head -n 1 "$dir/log" | cut -d' ' -f4)
[ "$(sha256sum "$dir"/state/quarantine/model-server/*-1-1.jsonl.gz | cut -d' ' -f1)" = "$first" ] &&
        ok "and its bytes as they were sent" || not_ok "and its bytes as they were sent"
[ "$(client status --json | jq -c '[.quarantined_batches, .quarantine_batches]')" = "[1,1]" ] && ok "status counts it" ||
        not_ok "status counts it" "$(client status --json)"
out=$(client push --quarantined 2>&1)
[ "$(client status --json | jq -c .quarantine_batches)" = 0 ] && [ "$(tail -n 1 "$dir/log" | cut -d' ' -f4)" = "$first" ] &&
        ok "push --quarantined sends it once more" || not_ok "push --quarantined sends it once more" "$out"
fresh 3
serve 400
out=$(client push --batch-intervals 1 --quarantine-bytes 0 2>&1)
[ $? -eq 1 ] && [ "$(cursor)" = 0 ] && check_has "a full quarantine stops the push, nothing is lost" "$out" "quarantine is full" ||
        not_ok "a full quarantine stops the push, nothing is lost" "$out"
out=$(port=$(free_port); client push 2>&1)
[ $? -eq 1 ] && [ "$(cursor)" = 0 ] && check_has "a dead server moves nothing" "$out" "onnect" ||
        not_ok "a dead server moves nothing" "$out"
fresh 1
serve 204
check "204 is an acknowledgement" client push

# ---- trying again ----
fresh 5
serve 503 close ok
check "temporary failures are tried again" client push
[ "$(wc -l <"$dir/log")" = 3 ] && ok "as often as needed" || not_ok "as often as needed" "$(cat "$dir/log")"
fresh 5
serve drop ok
check "a lost answer is followed by the same batch" client push
[ "$(cut -d' ' -f4 "$dir/log" | sort -u | wc -l)" = 1 ] && ok "with the same bytes" || not_ok "with the same bytes"
fresh 9
serve big:2
check "a batch that is too large is halved" client push
[ "$(cursor)" = 9 ] && ok "until all of it went through" || not_ok "until all of it went through" "$(cat "$dir/log")"
fresh 20
serve ok
check "a batch over limit_bytes is split before it is sent" client push --server-limit-bytes 700
[ "$(cursor)" = 20 ] && [ "$(wc -l <"$dir/log")" -gt 1 ] && ok "and all of it arrives" || not_ok "and all of it arrives" "$(cat "$dir/log")"
fresh 20
began=${EPOCHREALTIME/./}
check "rate_bytes bounds what is sent in a second" client push --batch-intervals 2 --server-rate-bytes 8000
[ $((${EPOCHREALTIME/./} - began)) -gt 300000 ] && [ "$(cursor)" = 20 ] && ok "by waiting" || not_ok "by waiting" "$((${EPOCHREALTIME/./} - began)) us"

# ---- what is in the database ----
fresh 3
python3 "$here/samples_db.py" "$db" 2 "$(printf 'b%.0s' {1..32})"
serve ok
client push >/dev/null
[ "$(cut -d' ' -f2 "$dir/log" | sed 's/.*\///' | tr '\n' ' ')" = "1-3 4-5 " ] &&
        ok "a batch holds one epoch" || not_ok "a batch holds one epoch" "$(cat "$dir/log")"
fresh 6
client push >/dev/null
fresh_db=$dir/other.db
python3 "$here/samples_db.py" "$fresh_db" 2 "$(printf 'c%.0s' {1..32})"
rm -f "$db" "$db-wal" "$db-shm"
mv "$fresh_db" "$db"
out=$(client push 2>&1)
check_has "a replaced database is sent from its beginning" "$out" "is not the database"
[ "$(cursor)" = 2 ] && ok "and then counts as the cursor's own" || not_ok "and then counts as the cursor's own" "$out"
fresh 6
sqlite3 "$db" "PRAGMA foreign_keys = ON; DELETE FROM interval WHERE interval_id <= 4; UPDATE retention SET removed_up_to = 4"
out=$(client push 2>&1)
check_has "intervals that retention took are counted" "$out" "removed 4 intervals"
[ "$(cursor)" = 6 ] && ok "and the rest is sent" || not_ok "and the rest is sent" "$out"
mkdir -p "$dir/state"
fresh 2
mkdir -p "$dir/state"
printf '{"torn' >"$dir/state/model-server.json"
out=$(client push 2>&1)
[ $? -eq 0 ] && check_has "a damaged cursor means sending again" "$out" "damaged" || not_ok "a damaged cursor means sending again" "$out"

rm -f "$db" "$db-wal" "$db-shm"
out=$(client push 2>&1)
[ $? -eq 1 ] && check_has "a missing database is named" "$out" "$db" || not_ok "a missing database is named" "$out"
head -c 20000 /dev/urandom >"$db"
out=$(client push 2>&1)
[ $? -eq 1 ] && check_has "a corrupt database is an error" "$out" "not a database" || not_ok "a corrupt database is an error" "$out"
fresh 1
sqlite3 "$db" "PRAGMA user_version = 99"
out=$(client push 2>&1)
[ $? -eq 1 ] && check_has "a newer database is an error" "$out" "newer" || not_ok "a newer database is an error" "$out"

# ---- what people named ----
fresh 1
sqlite3 "$db" "UPDATE entity SET pod_name = 'web-0', container_name = 'shop', container_namespace = 'prod' WHERE kind = 'container'"
echo "a key that all nodes share" >"$dir/names.key"
names() { # FORM OPTION...: what the server is sent of a pod's name
        local form=$1

        shift
        rm -rf "$dir/state" "$dir/log.samples"
        client push --upload-names "$form" "$@" >/dev/null
        grep -c "web-0\|shop\|prod" "$dir/log.samples"
}
n=$(names full)
[ "$n" -gt 0 ] && ok "names leave the node as they are by default" || not_ok "names leave the node as they are by default" "$n"
n=$(names none)
[ "$n" = 0 ] && ok "with upload.names none no name leaves it" || not_ok "with upload.names none no name leaves it" "$n"
n=$(names hash --upload-names-key-file "$dir/names.key")
keyed=$(grep -o '"pod_name": "[0-9a-f]\+"' "$dir/log.samples" | sort -u)
[ "$n" = 0 ] && [[ $keyed =~ ^\"pod_name\":\ \"[0-9a-f]{32}\"$ ]] && ok "with hash it is a hash that leaves, the same for every sample" ||
        not_ok "with hash it is a hash that leaves, the same for every sample" "$n $keyed"
n=$(names hash)
unkeyed=$(grep -o '"pod_name": "[0-9a-f]\+"' "$dir/log.samples" | sort -u)
[ "$n" = 0 ] && [ "$unkeyed" != "$keyed" ] && ok "the hash depends on the key" || not_ok "the hash depends on the key" "$n $unkeyed"
echo short >"$dir/names.key"
out=$(client push --upload-names hash --upload-names-key-file "$dir/names.key" 2>&1)
[ $? -eq 1 ] && check_has "a key that is too short is refused" "$out" "16 to 64 bytes" || not_ok "a key that is too short is refused" "$out"
out=$(client push --upload-names hash --upload-names-key-file "$dir/none" 2>&1)
[ $? -eq 1 ] && check_has "a key that is not there stops the push, and says so" "$out" "upload.names_key_file" ||
        not_ok "a key that is not there stops the push, and says so" "$out"

# ---- surroundings ----
fresh 1
mkdir -p "$dir/state"
exec {lock}>"$dir/state/model-server.lock"
flock "$lock"
out=$(client push 2>&1)
[ $? -eq 1 ] && check_has "two pushes at a time are refused" "$out" "another wattloop-trainer-client" ||
        not_ok "two pushes at a time are refused" "$out"
exec {lock}>&-
fresh 1
touch "$dir/acks"
out=$(client push 2>&1)
[ $? -eq 0 ] && check_has "acknowledgements that cannot be written are warned about" "$out" "warning" ||
        not_ok "acknowledgements that cannot be written are warned about" "$out"
fresh 500
check_has "progress shows on a terminal" "$(script -qec "$(printf '%q ' "$BIN/wattloop-trainer-client" push --store-path "$db" \
        --state-path "$dir/state" --server-url "http://127.0.0.1:$port" --batch-intervals 50)" /dev/null 2>&1)" "intervals/s"

fresh 1
start "$dir/follow.out" "$BIN/wattloop-trainer-client" push --follow --follow-interval 200ms --store-path "$db" \
        --state-path "$dir/state" --server-url "http://127.0.0.1:$port"
follower=$STARTED_PID
cursor_is() { [ "$(cursor)" = "$1" ]; }
wait_for 10 cursor_is 1
python3 "$here/samples_db.py" "$db" 2
check "follow sends what comes later" wait_for 10 cursor_is 3
stop "$follower"
[ $? -eq 0 ] && ok "follow ends on SIGTERM" || not_ok "follow ends on SIGTERM"

# A disk that is full when the cursor is written: acknowledged, yet sent again, and nothing is lost.
small=$dir/small
mkdir -p "$small"
if [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=64k tmpfs "$small" 2>/dev/null; then
        fresh 4
        mkdir -p "$small/state"
        full() {
                "$BIN/wattloop-trainer-client" push --store-path "$db" --state-path "$small/state" \
                        --server-url "http://127.0.0.1:$port"
        }
        : >"$small/state/model-server.lock"
        head -c 70000 /dev/zero >"$small/filler" 2>/dev/null
        out=$(full 2>&1)
        [ $? -eq 1 ] && check_has "a full disk is an error that says so" "$out" "No space left" ||
                not_ok "a full disk is an error that says so" "$out"
        rm "$small/filler"
        check "with room again the batch is sent again" full
        umount "$small"
else
        skip "a full disk is an error that says so" "needs root and mount"
fi
