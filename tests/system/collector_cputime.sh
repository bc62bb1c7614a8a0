#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# CPU time of everything in a cgroup, by what the collector recorded of its processes, against the cgroup's own exact
# counter, for loads of every kind: within 0.5 % and 20 ms. What is used before a process is moved into the cgroup is the
# machine's, not the load's, and when tasks crowd the CPUs a kernel may not tell of a few deaths (docs/decisions.md).
# `make soak-cputime` runs 30 seconds each.
set -u
. "$(dirname "$0")/lib.sh"

dir=$(tmpdir)
. "$(dirname "$0")/collector.bash"
seconds=${SECONDS_EACH:-1} seed=${SEED:-1} interval=${INTERVAL:-200ms}
[ -x "$B/tests/system/cpu_load" ] || { echo "make $B/tests/system/cpu_load first" >&2; exit 1; }

# A cgroup as a runtime names it, and the counter that is exact for it.
make_cgroup() {
        local id mount

        id=$(printf '%s' "$1$$" | sha256sum | cut -c1-64)
        for mount in $(awk '$3 == "cgroup2" { print $2 } $3 == "cgroup" && $4 ~ /(^|,)cpuacct(,|$)/ { print $2 }' /proc/mounts); do
                cgroup=$mount/wattloop-docker-$id.scope key=$id
                mkdir "$cgroup" 2>/dev/null && return
        done
        return 1
}

exact_ns() {
        if [ -e "$cgroup/cpuacct.usage" ]; then
                cat "$cgroup/cpuacct.usage"
        else
                awk '$1 == "usage_usec" { printf "%d\n", $2 * 1000 }' "$cgroup/cpu.stat"
        fi
}

recorded_ns() {
        sqlite3 -readonly "$dir/samples.db" "SELECT ifnull(max(cpu_time_ns), 0) FROM usage JOIN entity USING (entity_id)
                WHERE kind = 'container' AND key = '$key'"
}

# Within 0.5 % and 20 ms of the counter.
right() {
        got=$(recorded_ns)
        awk "BEGIN { exit !(($got - $want) ^ 2 <= (0.005 * $want + 2e7) ^ 2) }"
}

if [ "$(id -u)" != 0 ] || ! "$collector" once --features-source bpf --sampling-interval 100ms --sysfs-root "$dir/none" >/dev/null 2>&1; then
        skip "CPU time is exact for loads of every kind" "needs root and BPF"
        exit 0
fi
start "$dir/log" "$collector" run --features-source bpf --store-path "$dir/samples.db" --metrics-listen "" \
        --sampling-interval "$interval" --sysfs-root "$dir/none"
wait_for 10 sh -c "sqlite3 -readonly '$dir/samples.db' 'SELECT count(*) > 1 FROM interval' | grep -qx 1"
for kind in ${KINDS:-cpu forks pool sleepers mixed}; do
        make_cgroup "$kind" || { skip "CPU time of $kind is within 0.5 %" "no cgroup can be made"; continue; }
        made=$("$B/tests/system/cpu_load" "$cgroup/cgroup.procs" "$kind" "$seconds" "$seed")
        sleep 0.5
        want=$(exact_ns)
        wait_for 20 right # deaths are told within a grace period, the longer the busier the machine is
        sleep 0.5         # and nothing comes twice
        rmdir "$cgroup"
        right
        verdict=$?
        figures=$(awk "BEGIN { printf \"%.6f s of %.6f s, %+.3f %%, %d processes\", $got / 1e9, $want / 1e9, 100 * ($got / $want - 1), $made }")
        if [ $verdict = 0 ]; then
                ok "CPU time of $kind is within 0.5 % and 20 ms of the cgroup's ($figures)"
        else
                not_ok "CPU time of $kind is within 0.5 % and 20 ms of the cgroup's" "$figures"
        fi
done
