#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The collector's retention and a push that runs as another user of the same group: what is not acknowledged stays,
# until the disk budget forces it out; what the push may not read, write or know is said.
set -u
. "$(dirname "$0")/lib.sh"
GROUP=4242 # nobody's

if [ "$(id -u)" != 0 ]; then
        skip "retention waits for a push that runs as another user" "needs root"
        exit 0
fi
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d) # where another user may go
trap 'lib_exit; rm -rf "$dir"' EXIT
chmod 755 "$dir"
cp "$BIN/wattloop-trainer-client" "$dir/"
install -d -m 2775 -g $GROUP "$dir/lib"
install -d -o 65534 "$dir/state"
db=$dir/lib/samples.db
port=$(free_port)
start "$dir/server.out" python3 "$here/import_server.py" "$port" "$dir/log"
wait_for 30 python3 -c "import socket; socket.create_connection(('127.0.0.1', $port), 1)"

collect() { # [OPTION...]
        start "$dir/collector.log" "$BIN/wattloop-collector" run --store-path "$db" --sampling-interval 100ms \
                --metrics-listen '' "$@"
        collector=$STARTED_PID
}

client() { # in the group of the directory, not the owner of anything there
        setpriv --reuid 65534 --regid 65534 --groups $GROUP --inh-caps=-all "$dir/wattloop-trainer-client" "$@" \
                --store-path "$db" --state-path "${state:-$dir/state}" --server-url "http://127.0.0.1:$port" \
                --retry-attempts 2 --retry-base 5ms --metrics-textfile "$dir/state/push.prom"
}

sql() {
        sqlite3 -readonly "$db" '.timeout 5000' "$1"
}

grown() { # INTERVALS
        [ "$(sql 'SELECT max(interval_id) FROM interval')" -ge "$1" ]
}

removed() { # UP_TO
        [ "$(sql 'SELECT removed_up_to FROM retention')" -ge "$1" ]
}

cursor() {
        client status --json | jq .interval_id
}

# ---- the age: 60 intervals that are ten days old ----
"$B/tests/system/recording" "$db" 60 2 start_ms=$(($(date +%s) * 1000 - 10 * 86400000)) step_ms=1000 >/dev/null
out=$(port=$(free_port); client push 2>&1)
[ $? -eq 1 ] && [ "$(jq .interval_id "$dir/lib/acks/model-server.json")" = 0 ] &&
        ok "a push that reaches nobody tells the collector that it waits" ||
        not_ok "a push that reaches nobody tells the collector that it waits" "$out"
collect
check "the collector goes on recording" wait_for 60 grown 66
[ "$(sql 'SELECT min(interval_id) FROM interval')" = 1 ] && ok "and removes nothing that was not acknowledged" ||
        not_ok "and removes nothing that was not acknowledged" "$(sql 'SELECT * FROM retention')"
check "a push as another user sends what is recorded meanwhile" client push
check "then the old ones go" wait_for 60 removed 59
[ "$(sql 'SELECT removed_unsent FROM retention')" = 0 ] && [ "$(cut -d' ' -f2 "$dir/log" | head -n 1 | grep -o '[0-9]*-[0-9]*$')" = 1-60 ] &&
        ok "all of them were sent" || not_ok "all of them were sent" "$(cat "$dir/log")"

# ---- the collector does not run: ended, and killed with a WAL that is not checkpointed ----
stop "$collector"
client push >/dev/null 2>&1
[ "$(cursor)" = "$(sql 'SELECT max(interval_id) FROM interval')" ] && ok "a push while the collector is stopped sends the rest" ||
        not_ok "a push while the collector is stopped sends the rest" "$(client push 2>&1)"
seen=$(cursor)
collect
check "the collector takes up its database again" wait_for 60 grown $((seen + 3))
stop "$collector" KILL 2>/dev/null
client push >/dev/null 2>&1
[ "$(cursor)" -ge $((seen + 3)) ] && [ "$(cursor)" = "$(sql 'SELECT max(interval_id) FROM interval')" ] &&
        ok "a push after a kill -9 of the collector sends the rest" ||
        not_ok "a push after a kill -9 of the collector sends the rest" "$(client push 2>&1)"

# ---- the disk budget: 3000 intervals, some 2 MiB, in a database that may have one ----
"$B/tests/system/recording" "$db" 3000 20 >/dev/null
collect --store-retention-size 1MiB
check "over the disk budget intervals go that nobody has" wait_for 60 removed $((seen + 50))
stop "$collector"
[ "$(sql 'SELECT count(*) = max(interval_id) - min(interval_id) + 1 AND min(interval_id) = removed_up_to + 1 FROM interval, retention')" = 1 ] &&
        ok "the oldest first" || not_ok "the oldest first" "$(sql 'SELECT min(interval_id), max(interval_id), count(*) FROM interval')"
unsent=$(sql 'SELECT removed_unsent FROM retention')
[ "$unsent" -gt 0 ] && [ "$(client status --json | jq -c '[.removed_unsent, .lost_intervals > 0]')" = "[$unsent,true]" ] &&
        ok "status counts them" || not_ok "status counts them" "$(client status --json), not $unsent"
check_has "and the collector's" "$("$BIN/wattloop-collector" status --store-path "$db" 2>&1)" "$unsent of them unsent"
check_has "push names them" "$(client push 2>&1)" "intervals before they were sent"
check_has "and counts them in a metric" "$(cat "$dir/state/push.prom")" \
        "wattloop_trainer_client_removed_unsent_intervals_total{destination=\"model-server\"} $unsent"

# ---- what this user may not ----
rm -rf "$dir/lib/acks"
chmod 2755 "$dir/lib"
out=$(client push 2>&1)
check_has "a destination that the collector cannot be told of is said" "$out" "does not know of destination model-server"
install -d -m 755 "$dir/lib/acks"
echo '{"destination": "model-server", "interval_id": 0, "epoch": ""}' >"$dir/lib/acks/model-server.json"
check_has "one that it knows longer ago, too" "$(client push 2>&1)" "may keep intervals longer"
before=$(cursor)
chmod 600 "$db"
out=$(client push 2>&1)
[ $? -eq 1 ] && check_has "a database that may not be read is an error by name" "$out" "$db" ||
        not_ok "a database that may not be read is an error by name" "$out"
install -d -m 755 "$dir/alone"
install -m 644 "$db" "$dir/alone/samples.db"
db=$dir/alone/samples.db
out=$(client push 2>&1)
[ $? -eq 1 ] && check_has "a read-only database without its -wal and -shm files is an error that says so" "$out" "-shm files" ||
        not_ok "a read-only database without its -wal and -shm files is an error that says so" "$out"
cp "$dir/lib/samples.db-wal" "$dir/lib/samples.db-shm" "$dir/alone/"
check "with copies of them beside it is read" client status
db=$dir/lib/samples.db
chmod 644 "$db"
[ "$(cursor)" = "$before" ] && ok "and nothing moved" || not_ok "and nothing moved" "$(cursor), not $before"
out=$(state=$dir/lib/state; client push 2>&1)
[ $? -eq 1 ] && check_has "a state directory that cannot be made is an error" "$out" "$dir/lib/state" ||
        not_ok "a state directory that cannot be made is an error" "$out"
