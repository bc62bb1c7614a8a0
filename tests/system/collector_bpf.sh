#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Real features: CPU time of a spinning process against the scheduler's own account, a container's cgroup told apart,
# and what happens without the privilege for BPF.
set -u
. "$(dirname "$0")/lib.sh"

dir=$(tmpdir)
. "$(dirname "$0")/collector.bash"
db=$dir/samples.db
id=$(printf '%s' "$TEST_NAME$$" | sha256sum | cut -c1-64)
cgroup=

# A cgroup as a container runtime names it, where this machine has cgroups.
make_cgroup() {
        local mount

        for mount in $(awk '$3 == "cgroup2" { print $2 } $3 == "cgroup" && $4 ~ /(^|,)cpuacct(,|$)/ { print $2 }' /proc/mounts); do
                cgroup=$mount/wattloop-docker-$id.scope
                mkdir "$cgroup" 2>/dev/null && return
        done
        cgroup=
        return 1
}

right() {
        got=$(sqlite3 -readonly "$file" "SELECT ifnull(max(cpu_time_ns), 0) FROM usage JOIN entity USING (entity_id) WHERE key = '$id'")
        awk "BEGIN { exit !(($got - $want) ^ 2 <= (0.01 * $want) ^ 2) }"
}

# Spin for 5 s in the cgroup, then stop where we are and compare the totals. proc_or_bpf, tolerance in percent
compare() {
        local source=$1 file=$dir/$1.db pid spinner want got verdict

        start "$dir/$source.log" "$collector" run --features-source "$source" --store-path "$file" --metrics-listen "" \
                --sampling-interval 250ms --sysfs-root "$dir/none"
        pid=$STARTED_PID
        wait_for 10 sh -c "sqlite3 -readonly '$file' 'SELECT count(*) > 1 FROM interval' | grep -qx 1"
        start "$dir/spin.log" sh -c "echo \$\$ >'$cgroup/cgroup.procs' && exec sh -c 'while :; do :; done'"
        spinner=$STARTED_PID
        sleep 5
        kill -STOP "$spinner"
        wait_for 10 grep -q ') T' "/proc/$spinner/stat"
        read -r want _ <"/proc/$spinner/schedstat"
        wait_for 20 right # as soon as the last interval is stored
        sleep 0.5         # and nothing comes twice
        right
        verdict=$?
        { stop "$spinner" KILL; } 2>/dev/null
        check "a container's cgroup is told apart ($source)" test "$got" -gt 0
        if [ $verdict = 0 ]; then
                ok "CPU time of a spinning process is right within 1 % over 5 s ($source)"
        else
                not_ok "CPU time of a spinning process is right within 1 % over 5 s ($source)" "$got ns of $want ns"
        fi
        stop "$pid"
}

if [ "$(id -u)" != 0 ]; then
        skip "a container's cgroup is told apart" "needs root"
        exit 0
fi
if make_cgroup; then
        if "$collector" once --features-source bpf --sampling-interval 100ms --sysfs-root "$dir/none" >/dev/null 2>&1; then
                compare bpf
        else
                skip "CPU time of a spinning process is right within 1 % over 5 s (bpf)" "BPF cannot be used here"
        fi
        compare proc
        rmdir "$cgroup"
else
        skip "a container's cgroup is told apart" "no cgroup can be made"
fi

# ---- without the privilege ----
caps=-bpf,-perfmon,-sys_admin
out=$(setpriv --bounding-set "$caps" --inh-caps "$caps" "$collector" once --sampling-interval 200ms --sysfs-root "$dir/none" 2>"$dir/nocap.log")
check_has "without the privilege the features come from /proc" "$out" '"feature_source": "proc"'
check_has "and that is told" "$(cat "$dir/nocap.log")" "features from bpf cannot be used"
check "and CPU time is measured all the same" sh -c "printf '%s' '$out' | jq -e '.node.cpu_time_ns > 0'"
check_exit 1 "bpf by name is an error then" setpriv --bounding-set "$caps" --inh-caps "$caps" \
        "$collector" once --features-source bpf --sysfs-root "$dir/none"
