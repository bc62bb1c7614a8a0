#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Clocks that are not the kernel's: in a time namespace, whose monotonic and boot clocks are eleven days ahead, lives
# shorter than an interval are charged as the kernel does, and joules are right. (Steps of the wall clock and suspend:
# tests/unit/collector/test_window.c, by clocks that are given.)
set -u
. "$(dirname "$0")/lib.sh"

dir=$(tmpdir)
. "$(dirname "$0")/collector.bash"
ahead=(unshare --time --monotonic 1000000 --boottime 1000000 --fork --kill-child)
zone=$dir/sys/class/powercap/intel-rapl:0
if [ "$(id -u)" != 0 ] || ! "${ahead[@]}" true 2>/dev/null; then
        skip "lives are charged in a time namespace" "no time namespace can be made"
        exit 0
fi

id=$(printf '%s' "$TEST_NAME$$" | sha256sum | cut -c1-64)
cgroup=
exact_ns() {
        if [ -e "$cgroup/cpu.stat" ] && grep -q usage_usec "$cgroup/cpu.stat"; then
                awk '$1 == "usage_usec" { print $2 * 1000 }' "$cgroup/cpu.stat"
        else
                cat "$cgroup/cpuacct.usage"
        fi
}
charged() { # their deaths have been told
        got=$(sqlite3 -readonly "$db" "SELECT ifnull(max(cpu_time_ns), 0) FROM usage JOIN entity USING (entity_id) WHERE key = '$id'")
        echo "$got ns of $want ns"
        awk "BEGIN { exit !(($got - $want) ^ 2 <= (0.05 * $want) ^ 2) }"
}
drawn() { # 40 W, the longer the nearer: what is read is as old as the drawing loop was late
        watts=$(sqlite3 -readonly "$db" "SELECT 1000.0 * (max(energy_uj) - min(energy_uj)) / (max(measured_ns) - min(measured_ns))
                FROM power JOIN interval USING (interval_id)")
        echo "$watts W of 40 W"
        awk "BEGIN { exit !(($watts - 40) ^ 2 < 16) }"
}
for mount in $(awk '$3 == "cgroup2" { print $2 } $3 == "cgroup" && $4 ~ /(^|,)cpuacct(,|$)/ { print $2 }' /proc/mounts); do
        cgroup=$mount/wattloop-docker-$id.scope
        mkdir "$cgroup" 2>/dev/null && break
        cgroup=
done

mkdir -p "$zone"
echo package-0 >"$zone/name"
echo 262143328850 >"$zone/max_energy_range_uj"
# 40 W, by the clock
draw() {
        while :; do
                echo "$((40 * ${EPOCHREALTIME/./} % 262143328850))" >"$zone/energy_uj.new"
                mv "$zone/energy_uj.new" "$zone/energy_uj"
                sleep 0.02
        done
}
start /dev/null draw

for source in bpf proc; do
        db=$dir/$source.db
        if ! "$collector" once --features-source $source --sampling-interval 50ms --sysfs-root "$dir/none" >/dev/null 2>&1; then
                skip "lives are charged in a time namespace ($source)" "$source cannot be used here"
                continue
        fi
        start "$dir/$source.log" "${ahead[@]}" "$collector" run --features-source $source --sysfs-root "$dir/sys" \
                --store-path "$db" --metrics-listen "" --sampling-interval 500ms
        pid=$STARTED_PID
        wait_for 40 sh -c "sqlite3 -readonly '$db' 'SELECT count(*) > 1 FROM interval' | grep -qx 1"
        if [ -n "$cgroup" ]; then
                before=$(exact_ns)
                # Lives of a few ms; /proc shows only those that are there when it is read, so there it is one that stays.
                lives=8 loops=30000 linger=0
                [ $source = bpf ] || lives=1 loops=300000 linger=1.2
                # shellcheck disable=SC2016
                sh -c 'echo $$ >"$1/cgroup.procs"; i=0; while [ $i -lt $2 ]; do i=$((i+1))
                        sh -c "i=0; while [ \$i -lt $3 ]; do i=\$((i+1)); done; sleep $4"; done' \
                        sh "$cgroup" $lives $loops $linger # what enters forks; its own time before that is little
                want=$(($(exact_ns) - before))
                check "lives are charged in a time namespace ($source)" wait_for 40 charged
        else
                skip "lives are charged in a time namespace ($source)" "no cgroup can be made"
        fi
        check "joules are those drawn ($source)" wait_for 60 drawn
        check "intervals follow each other ($source)" test "$(sqlite3 -readonly "$db" "SELECT count(*) FROM
                (SELECT start_ms - lag(end_ms) OVER (ORDER BY interval_id) AS apart FROM interval) WHERE apart <> 0")" = 0
        stop "$pid" KILL # unshare takes the collector with it
done
[ -z "$cgroup" ] || wait_for 10 rmdir "$cgroup"
