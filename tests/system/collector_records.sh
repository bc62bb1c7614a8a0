#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The collector with a simulated powercap and hwmon tree and features from /proc: command line, samples.db, metrics.
set -u
. "$(dirname "$0")/lib.sh"

dir=$(tmpdir)
. "$(dirname "$0")/collector.bash"
sys=$dir/sys
db=$dir/state/samples.db
port=$(free_port)
url=http://127.0.0.1:$port

# Energy of the simulated socket: written aside and renamed, as a reader may come at any moment.
put() {
        printf '%s\n' "$2" >"$sys/$1.new" && mv "$sys/$1.new" "$sys/$1"
}

make_tree() {
        local zone=$sys/class/powercap/intel-rapl:0

        mkdir -p "$zone/intel-rapl:0:0" "$sys/class/hwmon/hwmon0"
        echo package-0 >"$zone/name"
        echo dram >"$zone/intel-rapl:0:0/name"
        echo 262143328850 | tee "$zone/max_energy_range_uj" >"$zone/intel-rapl:0:0/max_energy_range_uj"
        echo power_meter >"$sys/class/hwmon/hwmon0/name"
        put class/hwmon/hwmon0/power1_average 80000000
        put class/powercap/intel-rapl:0/energy_uj 262143000000
        put class/powercap/intel-rapl:0/intel-rapl:0:0/energy_uj 1000
}

query() {
        sqlite3 -readonly "$db" "$1"
}

metric() {
        curl -s "$url/metrics" | grep -F "$1"
}

# ---- command line ----
check "--help names every subcommand" \
        sh -c "$BIN/wattloop-collector --help | grep -A99 Subcommands | grep -c -E '^  (run|once|status|sensors)$' | grep -qx 4"
check "--version prints the version" sh -c "$collector --version | grep -q '^wattloop-collector [0-9]'"
check "the example configuration is valid" "$BIN/wattloop-collector" --check-config --config config/collector.yaml
printf 'sampling:\n  intervall: 3s\n' >"$dir/bad.yaml"
check_exit 2 "an unknown key is refused" "$BIN/wattloop-collector" --check-config --config "$dir/bad.yaml"
check_has "and told with file and line" "$("$BIN/wattloop-collector" --check-config --config "$dir/bad.yaml" 2>&1)" "bad.yaml:2:"
check_exit 2 "an interval out of range is refused" "$collector" --check-config --sampling-interval 1ms
check_exit 2 "estimate without a model to ask is refused" "$collector" --check-config --power-sources estimate
check_exit 2 "an address without a port is refused" "$collector" --check-config --metrics-listen 127.0.0.1
check_exit 3 "status without a recording has nothing to do" "$collector" status --store-path "$dir/none.db"

# ---- sensors, once ----
make_tree
common=(--sysfs-root "$sys" --features-source proc --store-path "$db" --sampling-interval 200ms --metrics-listen 127.0.0.1:"$port")
out=$("$collector" sensors "${common[@]}" 2>&1)
check_has "sensors lists the package as simulated" "$out" "rapl-sysfs package  0            simulated"
check_has "sensors reads the power meter" "$out" "80.000 W"
out=$("$collector" sensors --sysfs-root "$dir/nothing" --features-source proc 2>&1)
check_has "sensors says why a source is not used" "$out" "rapl       not used: no powercap tree"
check "once prints one interval as JSON" \
        sh -c "$collector once ${common[*]} 2>/dev/null | jq -e '.node.cpu_time_ns > 0 and .duration_ns > 1e8 and
        (.entities | map(.usage.cpu_time_ns) | add) == .node.cpu_time_ns and .power[0].provenance == \"simulated\"'"
if command -v valgrind >/dev/null && ! grep -qa __asan_init "$BIN/wattloop-collector"; then
        check "valgrind finds nothing in once" valgrind -q --error-exitcode=9 --leak-check=full \
                "$BIN/wattloop-collector" once "${common[@]}"
else
        skip "valgrind finds nothing in once" "no valgrind, or a build with sanitizers"
fi

# ---- run ----
start "$dir/log" "$collector" run "${common[@]}"
pid=$STARTED_PID
check "the metrics endpoint answers" wait_for 10 curl -sf "$url/healthz"
wait_for 10 metric 'wattloop_collector_interval_seconds'
for i in $(seq 1 15); do
        put class/powercap/intel-rapl:0/energy_uj $(((262143000000 + i * 1000000) % 262143328850)) # it wraps
        put class/powercap/intel-rapl:0/intel-rapl:0:0/energy_uj $((1000 + i * 100000))
        sleep 0.1
done
wait_for 5 sh -c "curl -s $url/metrics | grep -q kepler_node_dram_joules_total"
sleep 0.5
text=$(curl -s "$url/metrics")
check_has "node energy has Kepler's name and says simulated" "$text" \
        "kepler_node_package_joules_total{instance=\"$(uname -n)\",mode=\"dynamic\",package=\"0\",source=\"simulated\"}"
check "the power meter is the platform" sh -c "curl -s $url/metrics |
        awk '/^wattloop_node_watts.component=\"platform\",source=\"simulated\",unit=\"energy1\"/ { w = \$NF } END { exit !(w > 79.99 && w < 80.01) }'"
check_has "containers' CPU time has Kepler's name" "$text" \
        'kepler_container_bpf_cpu_time_ms_total{container_id="system_processes",container_name="system_processes",container_namespace="system",pod_name="system_processes",source="bpf"}'
check_has "the feature source is told" "$text" 'wattloop_collector_feature_source{source="proc"} 1'
case $text in *rapl-sysfs*) not_ok "simulated power never uses a measured source's name" ;; *) ok "simulated power never uses a measured source's name" ;; esac
joules=$(printf '%s\n' "$text" | awk '/^kepler_node_package_joules_total/ { s += $NF } END { printf "%.3f", s }')
case $joules in 15 | 15.000) ok "no joule is lost when the counter wraps" ;; *) not_ok "no joule is lost when the counter wraps" "$joules J of 15" ;; esac

check "status tells the last interval" sh -c "$collector status --store-path $db | grep -q 'features from proc'"
check "status is also JSON" sh -c "$collector status --store-path $db --json | jq -e '.file.intervals > 5'"
stop $pid
check_exit 0 "a stop by SIGTERM is clean" test $? -eq 0
check "the file is sound" test "$(query 'PRAGMA integrity_check')" = ok
check "the containers of each interval add up to the node" test "$(query "
        SELECT count(*) FROM interval i WHERE
        (SELECT sum(cpu_time_ns) FROM usage u JOIN entity USING (entity_id) WHERE kind = 'container' AND u.interval_id = i.interval_id)
        <> (SELECT cpu_time_ns FROM usage u JOIN entity USING (entity_id) WHERE kind = 'node' AND u.interval_id = i.interval_id)")" = 0
check "power is stored as simulated only" test "$(query 'SELECT group_concat(DISTINCT provenance) FROM sensor')" = simulated
check "what /proc cannot measure is NULL" test "$(query 'SELECT count(*) FROM usage WHERE cpu_cycles IS NOT NULL')" = 0
check "no two intervals overlap and there is no gap" test "$(query 'SELECT count(*) FROM interval a JOIN interval b
        ON b.interval_id = a.interval_id + 1 WHERE b.start_ms <> a.end_ms')" = 0
