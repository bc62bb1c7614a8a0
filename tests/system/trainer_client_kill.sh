#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# kill -9 of the trainer-client at random moments, while intervals are recorded: no sample is lost, none is changed.
set -u
. "$(dirname "$0")/lib.sh"

here=$(cd "$(dirname "$0")" && pwd)
dir=$(tmpdir)
port=$(free_port)
db=$dir/samples.db
ROUNDS=${ROUNDS:-15} # many more: make soak-chaos

echo slow >"$dir/log.modes"
start "$dir/server.out" python3 "$here/import_server.py" "$port" "$dir/log"
wait_for 10 python3 -c "import socket; socket.create_connection(('127.0.0.1', $port), 1)"

push=("$BIN/wattloop-trainer-client" push --store-path "$db" --state-path "$dir/state" --batch-intervals 2
        --server-url "http://127.0.0.1:$port")
killed=0
regressed=
last=0
for ((i = 0; i < ROUNDS; i++)); do
        python3 "$here/samples_db.py" "$db" 6
        "${push[@]}" >/dev/null 2>&1 &
        pid=$!
        sleep "0.$(printf %03d $((RANDOM % 300)))"
        kill -KILL $pid 2>/dev/null
        wait $pid 2>/dev/null
        [ $? -eq 137 ] && killed=$((killed + 1))
        now=$(jq .interval_id "$dir/state/model-server.json" 2>/dev/null || echo 0)
        [ "$now" -ge "$last" ] || regressed="$last then $now"
        last=$now
done 2>/dev/null
[ -z "$regressed" ] && ok "the cursor is whole and never goes back ($killed of $ROUNDS runs killed)" ||
        not_ok "the cursor is whole and never goes back" "$regressed"
[ $killed -gt $((ROUNDS / 4)) ] && ok "the kills hit running clients" || not_ok "the kills hit running clients" "$killed"

out=$("${push[@]}" 2>&1)
r=$?
[ $r -eq 0 ] || [ $r -eq 3 ] && ok "a run that is left alone finishes the work" ||
        not_ok "a run that is left alone finishes the work" "$out"
want=$(((ROUNDS * 6 + 1) * 15))
got=$(cut -f1 "$dir/log.samples" | sort -u | wc -l)
[ "$got" = $want ] && ok "every sample arrived ($got)" || not_ok "every sample arrived" "$got of $want"
# Series and time stamp without the value: twice the same key with two values would be a lie.
keys=$(sort -u "$dir/log.samples" | sed 's/ [^ ]*$//' | sort -u | wc -l)
[ "$keys" = "$got" ] && ok "samples that were sent twice are the same" || not_ok "samples that were sent twice are the same" "$keys keys"
