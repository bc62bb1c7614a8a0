#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The collector is killed at random moments, meets damaged and foreign files, a full disk and a taken port.
set -u
. "$(dirname "$0")/lib.sh"

dir=$(tmpdir)
. "$(dirname "$0")/collector.bash"
db=$dir/samples.db
base=(--sysfs-root "$dir/none" --sampling-interval 50ms --features-source proc)

query() {
        sqlite3 -readonly "$db" "$1"
}

# ---- kill -9 ----
lost=0
stored=0
for i in $(seq 1 20); do
        start "$dir/log" "$collector" run "${base[@]}" --store-path "$db" --metrics-listen ""
        pid=$STARTED_PID
        sleep 0.$((1 + RANDOM % 4))$((RANDOM % 10))
        # what a reader has seen stays, however the writer ends
        seen=$(query 'SELECT ifnull(max(interval_id), 0) FROM interval' 2>/dev/null || echo 0)
        { stop "$pid" KILL; } 2>/dev/null
        now=$(query 'SELECT ifnull(max(interval_id), 0) FROM interval' 2>/dev/null || echo 0)
        [ "${now:-0}" -ge "${seen:-0}" ] && [ "${now:-0}" -ge "$stored" ] || lost=$((lost + 1))
        stored=${now:-0}
done
check "20 kills lose no stored interval" test $lost -eq 0
check "and were in the midst of it" test "$stored" -ge 5
check "the file is sound after 20 kills" test "$(query 'PRAGMA integrity_check')" = ok
check "the epoch of the boot goes on" test "$(query 'SELECT count(*) FROM epoch')" = 1
check "stamps strictly grow" test "$(query 'SELECT count(*) FROM interval a JOIN interval b
        ON b.interval_id = (SELECT min(interval_id) FROM interval WHERE interval_id > a.interval_id)
        WHERE b.end_ms <= a.end_ms OR b.start_ms < a.end_ms OR b.measured_ns <= a.measured_ns')" = 0
check "totals never go down" test "$(query 'SELECT count(*) FROM usage_delta WHERE cpu_time_ns < 0 OR page_cache_pages < 0')" = 0

# ---- one writer ----
start "$dir/first.log" "$collector" run "${base[@]}" --store-path "$db" --metrics-listen ""
pid=$STARTED_PID
wait_for 10 grep -q epoch "$dir/first.log"
check_exit 1 "a second collector on the same file is refused" "$collector" run "${base[@]}" --store-path "$db" --metrics-listen ""
stop "$pid"

# ---- damaged and foreign files ----
head -c 100000 /dev/urandom >"$dir/garbage.db"
start "$dir/garbage.log" "$collector" run "${base[@]}" --store-path "$dir/garbage.db" --metrics-listen ""
pid=$STARTED_PID
check "a corrupt file is replaced by a new one" \
        wait_for 10 sh -c "sqlite3 -readonly '$dir/garbage.db' 'SELECT max(interval_id) > 1 FROM interval' | grep -qx 1"
stop "$pid"
check "the corrupt one is kept aside" sh -c "ls '$dir'/garbage.db.corrupt-*"
check_has "and that is told" "$(cat "$dir/garbage.log")" "corrupt database moved to"

# damage behind the first page: found when rows are read or written
start "$dir/damaged.log" "$collector" run "${base[@]}" --store-path "$dir/damaged.db" --metrics-listen ""
pid=$STARTED_PID
wait_for 10 sh -c "sqlite3 -readonly '$dir/damaged.db' 'SELECT max(interval_id) > 5 FROM interval' | grep -qx 1"
stop "$pid"
rm -f "$dir"/damaged.db-wal "$dir"/damaged.db-shm # they would repair it
dd if=/dev/urandom of="$dir/damaged.db" bs=4096 seek=1 count=30 conv=notrunc status=none
start "$dir/damaged.log" "$collector" run "${base[@]}" --store-path "$dir/damaged.db" --metrics-listen ""
pid=$STARTED_PID
check "a file with damaged pages is replaced too" \
        wait_for 10 sh -c "sqlite3 -readonly '$dir/damaged.db' 'SELECT max(interval_id) > 1 FROM interval' | grep -qx 1"
stop "$pid"
check "and kept" sh -c "ls '$dir'/damaged.db.corrupt-*"

# damage under its hands, and for a while nowhere to put the file aside: directories have every name it could get
start "$dir/later.log" "$collector" run "${base[@]}" --store-path "$dir/later.db" --metrics-listen ""
pid=$STARTED_PID
wait_for 10 sh -c "sqlite3 -readonly '$dir/later.db' 'SELECT max(interval_id) > 5 FROM interval' | grep -qx 1"
now=$(date +%s)
for i in $(seq 0 60); do
        mkdir "$dir/later.db.corrupt-$(date -u -d "@$((now + i))" +%Y%m%dT%H%M%SZ)"
done
sqlite3 "$dir/later.db" '.timeout 5000' 'PRAGMA wal_checkpoint(TRUNCATE)' >/dev/null
version=$(sqlite3 -readonly "$dir/later.db" 'PRAGMA user_version')
dd if=/dev/urandom of="$dir/later.db" bs=4096 seek=1 count=30 conv=notrunc status=none
sqlite3 "$dir/later.db" '.timeout 5000' 'PRAGMA user_version = '"$version" # the collector's cached pages are void now
check "a file that cannot be put aside is told" wait_for 10 grep -q "nothing is stored" "$dir/later.log"
rmdir "$dir"/later.db.corrupt-*
check "and recording goes on once it can" \
        wait_for 10 sh -c "sqlite3 -readonly '$dir/later.db' 'SELECT max(interval_id) > 1 FROM interval' 2>/dev/null | grep -qx 1"
stop "$pid"

sqlite3 "$db" 'PRAGMA user_version = 99'
before=$(sha256sum <"$db")
out=$("$collector" run "${base[@]}" --store-path "$db" --metrics-listen "" 2>&1)
check_exit 0 "a newer file ends the program with status 1" test $? -eq 1
check_has "and is named as newer" "$out" "newer version"
check "and is left as it was" test "$before" = "$(sha256sum <"$db")"

# ---- a taken port ----
port=$(free_port)
python3 -c "import socket, time; s = socket.socket(); s.bind(('127.0.0.1', $port)); s.listen(); time.sleep(60)" &
STARTED+=($!)
wait_for 5 sh -c "exec 3<>/dev/tcp/127.0.0.1/$port" || wait_for 5 bash -c "exec 3<>/dev/tcp/127.0.0.1/$port"
check_exit 1 "a taken port is an error" "$collector" run "${base[@]}" --store-path "" --metrics-listen "127.0.0.1:$port"

# ---- a full disk ----
mkdir "$dir/small"
if [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=2m tmpfs "$dir/small" 2>/dev/null; then
        db=$dir/small/samples.db
        port=$(free_port)
        start "$dir/full.log" "$collector" run "${base[@]}" --store-path "$db" --metrics-listen "127.0.0.1:$port"
        pid=$STARTED_PID
        wait_for 10 sh -c "sqlite3 -readonly '$db' 'SELECT max(interval_id) > 3 FROM interval' | grep -qx 1"
        dd if=/dev/zero of="$dir/small/fill" bs=1k status=none 2>/dev/null # until it is full
        check "a full disk is counted" wait_for 60 sh -c \
                "curl -s http://127.0.0.1:$port/metrics | grep -q '^wattloop_collector_store_errors_total [1-9]'"
        rm -f "$dir/small/fill"
        before=$(query 'SELECT max(interval_id) FROM interval')
        check "recording goes on when there is room again" wait_for 60 sh -c \
                "sqlite3 -readonly '$db' 'SELECT max(interval_id) > $before + 3 FROM interval' | grep -qx 1"
        stop "$pid"
        check "nothing is missing in between" test "$(query 'SELECT count(*) FROM interval a JOIN interval b
                ON b.interval_id = a.interval_id + 1 WHERE b.start_ms <> a.end_ms')" = 0
        check "the file is sound after the full disk" test "$(query 'PRAGMA integrity_check')" = ok

        for what in "with its file" "without one"; do
                [ "$what" = "with its file" ] || rm -f "$db"*
                dd if=/dev/zero of="$dir/small/fill" bs=1k status=none 2>/dev/null
                port=$(free_port)
                start "$dir/full.log" "$collector" run "${base[@]}" --store-path "$db" --metrics-listen "127.0.0.1:$port"
                pid=$STARTED_PID
                check "it starts on a full disk, $what" wait_for 20 sh -c \
                        "curl -s http://127.0.0.1:$port/metrics | grep -q '^wattloop_collector_store_errors_total [1-9]'"
                rm -f "$dir/small/fill"
                check "and records when there is room, $what" wait_for 20 sh -c \
                        "sqlite3 -readonly '$db' 'SELECT count(*) > 2 FROM interval' | grep -qx 1"
                stop "$pid"
        done
        umount "$dir/small"
else
        skip "a full disk is counted" "needs root and mount"
fi
