#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The collector needs three capabilities to start and none to go on: it gives up all of them, and containers that come
# after that, and processes that live less than an interval, are measured all the same.
set -u
. "$(dirname "$0")/lib.sh"

if [ "$(id -u)" != 0 ]; then
        skip "the collector has no capability once it runs" "needs root"
        exit 0
fi
dir=$(mktemp -d) # another user may not reach this checkout
trap 'lib_exit; rm -rf "$dir"' EXIT
cp "$BIN/wattloop-collector" "$dir"
: >"$dir/empty.yaml"
chmod 755 "$dir"
cgroups=$(awk '$3 == "cgroup2" { print $2 } $3 == "cgroup" && $4 ~ /(^|,)cpuacct(,|$)/ { print $2 }' /proc/mounts)
containers=0
cgroup=
id=

# A cgroup as a container runtime names it, a new one each time.
make_container() {
        local mount

        containers=$((containers + 1))
        id=$(printf '%s' "$TEST_NAME$$.$containers" | sha256sum | cut -c1-64)
        for mount in $cgroups; do
                cgroup=$mount/wattloop-docker-$id.scope
                mkdir "$cgroup" 2>/dev/null && return
        done
        return 1
}

query() {
        sqlite3 -readonly "$db" "$1"
}

sampled() { # sampled N: so many intervals from now
        local from; from=$(query 'SELECT ifnull(max(interval_id), 0) FROM interval')
        wait_for 30 sh -c "[ \"\$(sqlite3 -readonly '$db' 'SELECT max(interval_id) FROM interval')\" -ge $((${from:-0} + $1)) ]"
}

cpu_ms() {
        query "SELECT ifnull(max(cpu_time_ns), 0) / 1000000 FROM usage JOIN entity USING (entity_id) WHERE key = '$id'"
}

# enters CGROUP for good: sh -c "$enter" sh CGROUP COMMAND
enter='echo $$ >"$1/cgroup.procs" && exec sh -c "$2"'

# as WHO SOURCE KEPT COMMAND...: the collector, started by COMMAND
as() {
        local who=$1 source=$2 kept=$3 pid one

        shift 3
        db=$dir/$who.$source/samples.db
        mkdir "$dir/$who.$source" && chmod 777 "$dir/$who.$source"
        start "$dir/log" "$@" "$dir/wattloop-collector" --config "$dir/empty.yaml" run --features-source "$source" \
                --store-path "$db" --metrics-listen "" --sampling-interval 100ms
        pid=$STARTED_PID
        if ! wait_for 40 sampled 2; then
                not_ok "it starts with what it was given ($who, $source)" "$(tail -n 3 "$dir/log")"
                return
        fi
        check "no capability is left ${kept:+but $kept }($who, $source)" \
                test "$(awk '/^Cap(Eff|Prm|Inh|Amb):/ { printf "%s ", $2 }' "/proc/$pid/status")" = \
                "$(printf '%016x %016x %016x %016x ' 0 "$((kept ? 1 << kept : 0))" "$((kept ? 1 << kept : 0))" 0)"
        check "nor can one be gained ($who, $source)" grep -q '^NoNewPrivs:.1' "/proc/$pid/status"
        if make_container; then
                start /dev/null sh -c "$enter" sh "$cgroup" 'while :; do :; done'
                one=$STARTED_PID
                wait_for 10 sh -c "grep -q . '$cgroup/cgroup.procs'"
                sampled 4
                check "a container that came after that is measured ($who, $source)" test "$(cpu_ms)" -gt 0
                { stop "$one" KILL; } 2>/dev/null
                wait_for 10 rmdir "$cgroup" # once the last in it is gone
        else
                skip "a container that came after that is measured ($who, $source)" "no cgroup can be made"
        fi
        if [ "$source" = bpf ] && make_container; then
                for _ in 1 2 3 4 5 6; do
                        sh -c "$enter" sh "$cgroup" 'i=0; while [ $i -lt 5000 ]; do i=$((i+1)); done'
                done
                sampled 3
                check "and so are processes shorter than an interval ($who, $source)" test "$(cpu_ms)" -gt 0
                wait_for 10 rmdir "$cgroup" # once the last in it is gone
        fi
        check "it ends well ($who, $source)" stop "$pid"
}

caps=+bpf,+perfmon,+dac_read_search
three=(setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps "-all,$caps" --ambient-caps "-all,$caps"
        --bounding-set "-all,$caps")
none=(setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps -all --bounding-set -all)
bpf_kept=$(uname -r | awk -F. '$1 < 5 || ($1 == 5 && $2 < 19) { print 39 }')
if "$dir/wattloop-collector" --config "$dir/empty.yaml" once --features-source bpf --sampling-interval 50ms >/dev/null 2>&1; then
        as root bpf "$bpf_kept"
        as three bpf "$bpf_kept" "${three[@]}"
else
        skip "the collector has no capability once it runs" "BPF cannot be used here"
fi
as root proc 19
as nobody proc "" "${none[@]}"

# Root is an owner like others then: that is told before anything is recorded.
mkdir -m 700 "$dir/others" && chown 65534 "$dir/others"
check_has "a directory of somebody else's is refused in words" \
        "$("$dir/wattloop-collector" --config "$dir/empty.yaml" run --store-path "$dir/others/samples.db" 2>&1)" \
        "start as the user that the directory belongs to"
