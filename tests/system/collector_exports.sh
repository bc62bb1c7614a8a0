#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# /metrics over a machine that is a directory: containers of every runtime, pods named by a kubelet over TLS that is
# slow, refuses, and rotates its token; read by Prometheus' own parser.
set -u
. "$(dirname "$0")/lib.sh"

dir=$(tmpdir)
. "$(dirname "$0")/collector.bash"
data=$(dirname "$0")/../data/redfish
helper=$BIN/wattloop-collector-kubelet
uid1=11111111-2222-3333-4444-555555555555
uid2=aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee
id() { printf '%064x' "$1"; }

# ---- a machine ----
proc=$dir/proc cg=$dir/cg zone=$dir/sys/class/powercap/intel-rapl:0
groups=(
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${uid1//-/_}.slice/cri-containerd-$(id 1).scope"
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${uid1//-/_}.slice/cri-containerd-$(id 2).scope"
        "/kubepods/besteffort/pod$uid2/$(id 3)"
        "/system.slice/docker-$(id 4).scope"
        "/machine.slice/libpod-$(id 5).scope/container"
        "/system.slice/crio-$(id 6).scope"
        "/system.slice/sshd.service"
)
mkdir -p "$proc/sys/kernel/random" "$zone"
echo 00000000-0000-0000-0000-000000000001 >"$proc/sys/kernel/random/boot_id"
printf 'processor\t: %d\nvendor_id\t: Acme\nmodel name\t: Acme "Z1"\nphysical id\t: 0\ncore id\t\t: %d\n\n' 0 0 1 1 >"$proc/cpuinfo"
echo "cgroup2 $cg cgroup2 rw 0 0" >"$proc/mounts"
printf 'package-0' >"$zone/name"
echo 262143328850 >"$zone/max_energy_range_uj"
put() { # FILE TEXT: as a kernel's file, never half written
        printf '%s\n' "$2" >"$1.new" && mv "$1.new" "$1"
}
for i in "${!groups[@]}"; do
        mkdir -p "$cg${groups[i]}" "$proc/$((100 + i))"
        echo "$((100 + i)) (p) S 1 1 1 0 -1 4194304 0 0 0 0 1 0 0 0 20 0 1 0 5 0 0 0 0" >"$proc/$((100 + i))/stat"
        echo "0::${groups[i]}" >"$proc/$((100 + i))/cgroup"
done
# Everything's counters go on, five steps a second; files are as a kernel's, never half written.
cat >"$dir/machine.py" <<'END'
import os, sys, time
proc, zone, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
def put(path, text):
    with open(path + ".new", "w") as f:
        f.write(text)
    os.rename(path + ".new", path)
step = 0
while True:
    step += 1
    for i in range(n):
        put(f"{proc}/{100 + i}/schedstat", f"{step * 4000000 * (i + 1)} 0 1\n")
    put(zone + "/energy_uj", f"{step * 4000000}\n")
    time.sleep(0.2)
END
start "$dir/machine.log" python3 "$dir/machine.py" "$proc" "$zone" ${#groups[@]}
wait_for 60 test -f "$zone/energy_uj"

# ---- the helper alone ----
pods1='{"uid": "'$uid1'", "name": "web-0", "namespace": "shop", "containers": {"nginx": "'$(id 1)'"}}'
pods2='{"uid": "'$uid2'", "name": "db-0", "namespace": "shop", "containers": {"postgres": "'$(id 3)'"}}'
state() { # TOKEN REST
        put "$dir/state" "{\"token\": \"$1\", \"pods\": [$pods1, $pods2]$2}"
}
state t1 ""
put "$dir/token" t1
start "$dir/port" python3 "$(dirname "$0")/kubelet_server.py" "$data/server.pem" "$dir/state"
if ! wait_for 60 test -s "$dir/port"; then
        not_ok "the test server starts" "$(cat "$dir/port")"
        exit 0
fi
url=https://127.0.0.1:$(cat "$dir/port")
ask() {
        "$helper" once --url "$url" --token-file "$dir/token" --ca-file "$data/ca.pem" "$@" 2>&1
}
check_has "the helper tells containers" "$(ask)" "container $(id 1) $uid1 shop web-0 nginx"
check_has "and pods" "$(ask)" "pod $uid2 shop db-0"
check_exit 1 "a kubelet of another authority is refused" ask --ca-file "$data/other.pem"
check_has "and its certificate named as the reason" "$(ask --ca-file "$data/other.pem")" "certificate"
check_exit 0 "unless verification is switched off" ask --ca-file "" --verify-tls false
put "$dir/wrong" t0
check_has "a token that is refused is named" "$(ask --token-file "$dir/wrong")" "refuses the token (401)"
case $(ask --token-file "$dir/wrong") in *t0*) not_ok "no token is printed" ;; *) ok "no token is printed" ;; esac
check_exit 1 "a missing token is an error" ask --token-file "$dir/nothing"
check_exit 2 "a token is never sent over http" ask --url http://127.0.0.1:1
state t1 ', "delay": 3'
check_has "a slow kubelet is given up" "$(ask --timeout 500ms)" "imed out"
for body in '' '{' '[]' '{}' '{\"items\": 7}' '{\"items\": {}}'; do
        state t1 ", \"body\": \"$body\""
        check_exit 1 "an answer that is no list is refused: $body" ask
done
state t1 ", \"body\": \"{\\\"items\\\": [7, {}, {\\\"metadata\\\": {\\\"uid\\\": \\\"a b\\\", \\\"name\\\": \\\"n\\\\nend\\\", \\\"namespace\\\": \\\"s\\\"}}]}\""
check "names that would break a line are left out" test "$(ask)" = "$(printf 'begin\nend')"
state t1 ""

# ---- the collector ----
collect() { # LOG OPTION...: started, with metrics at $metrics
        local log=$1

        shift
        start "$log" "$collector" run --procfs-root "$proc" --sysfs-root "$dir/sys" --features-source proc \
                --sampling-interval 200ms --metrics-listen 127.0.0.1:0 "$@"
        wait_for 10 grep -q 'metrics at' "$log"
        metrics=$(sed -n 's/.*metrics at \(http[^ ]*\).*/\1/p' "$log")
}
scrape() {
        curl -s "$metrics"
}
seen() { # TEXT: in /metrics
        scrape | grep -qF -- "$1"
}
lint() { # CLAIM: by Prometheus' own parser; what it finds to say about Kepler's choice of names is exit status 3
        command -v promtool >/dev/null || { skip "$1" "there is no promtool"; return; }
        scrape | promtool check metrics >"$dir/lint" 2>&1
        [ $? -eq 1 ] && not_ok "$1" "$(cat "$dir/lint")" || ok "$1"
}
kubelet=(--kubelet-url "$url" --kubelet-token-file "$dir/token" --kubelet-ca-file "$data/ca.pem" --kubelet-interval 300ms)

echo worker >"$proc/103/comm"
collect "$dir/log7" --store-path "$dir/samples.db" --store-processes true --metrics-processes 50 "${kubelet[@]}"
pid=$STARTED_PID
check "a container has its pod's names" wait_for 30 seen \
        "kepler_container_bpf_cpu_time_ms_total{container_id=\"$(id 1)\",container_name=\"nginx\",container_namespace=\"shop\",pod_name=\"web-0\",source=\"bpf\"}"
check "a sandbox, which is in no list, has its pod's" wait_for 30 seen \
        "container_id=\"$(id 2)\",container_name=\"\",container_namespace=\"shop\",pod_name=\"web-0\""
check "so it is with the cgroupfs driver" wait_for 30 seen \
        "container_id=\"$(id 3)\",container_name=\"postgres\",container_namespace=\"shop\",pod_name=\"db-0\""
for i in 4 5 6; do
        check "a container of no pod has none ($i)" wait_for 10 seen "container_id=\"$(id $i)\",container_name=\"\",container_namespace=\"\""
done
check "energy is divided" wait_for 30 seen "kepler_container_package_joules_total{container_id=\"$(id 6)\""
check "the database learns the names" wait_for 30 sh -c \
        "sqlite3 -readonly '$dir/samples.db' \"SELECT pod_name || container_name FROM entity WHERE key = '$(id 1)'\" | grep -qx web-0nginx"
check "processes have rows, with their commands" wait_for 30 sh -c "sqlite3 -readonly '$dir/samples.db' \
        \"SELECT max(cpu_time_ns) > 0 FROM usage JOIN entity USING (entity_id) WHERE kind = 'process' AND command = 'worker'\" | grep -qx 1"
check "and series, with the container they are in" wait_for 30 sh -c "curl -s $metrics |
        grep -q '^kepler_process_bpf_cpu_time_ms_total{command=\"worker\",container_id=\"$(id 4)\",pid=\"103\",source=\"bpf\",vm_id=\"\"} [1-9]'"
check "and energy in both of Kepler's forms" sh -c "curl -s $metrics >'$dir/text' &&
        grep -q '^kepler_process_package_joules_total{command=\"worker\",.*,mode=\"dynamic\",pid=\"103\",' '$dir/text' &&
        grep -q '^kepler_process_joules_total{command=\"worker\",.*,mode=\"dynamic\",pid=\"103\",' '$dir/text'"
lint "Prometheus' parser takes the metrics of Kepler 0.7"
check "no series is there twice" test -z "$(scrape | grep -v '^#' | sed 's/ [^ ]*$//' | sort | uniq -d)"
check "the parts add up to the node" test "$(scrape | sed -n 's/^wattloop_collector_attribution_errors_total //p')" = 0
for name in cpu_seconds_total resident_bytes last_tick_age_seconds tick_late_seconds missed_ticks_total \
        'part_seconds{part="features"}' 'part_seconds{part="power"}' kubelet_pods; do
        check "the collector tells of itself: $name" seen "wattloop_collector_$name"
done

put "$dir/state" "$(sed 's/t1/t2/' "$dir/state")"
check "a token that expired is an error that is counted" wait_for 30 sh -c \
        "curl -s $metrics | grep -q 'wattloop_collector_kubelet_errors_total [1-9]'"
check "and said" wait_for 30 grep -q "refuses the token" "$dir/log7"
check "names stay meanwhile" seen 'pod_name="web-0"'
pods1=${pods1/web-0/web-1}
state t2 ""
put "$dir/token" t2
check "the rotated token is used" wait_for 30 seen 'pod_name="web-1"'
state t2 ', "delay": 5'
before=$(scrape | sed -n 's/^wattloop_collector_ticks_total //p')
sleep 1
after=$(scrape | sed -n 's/^wattloop_collector_ticks_total //p')
check "a kubelet that hangs does not hold up sampling" test "$after" -gt $((before + 1))
state t2 ""
stop "$pid"
check "no helper is left" sh -c "! ps -eo args | grep -F '$helper run --url $url' | grep -qv grep"

collect "$dir/log10" --store-path "" --metrics-style kepler-0.10 --metrics-processes 2 "${kubelet[@]}"
pid=$STARTED_PID
check "0.10: containers have runtime, pod and zone" wait_for 30 sh -c "curl -s $metrics | grep -q \
        'kepler_container_cpu_joules_total{container_id=\"$(id 1)\",container_name=\"nginx\",node_name=\"[^\"]*\",pod_id=\"$uid1\",runtime=\"containerd\",state=\"running\",zone=\"package\"}'"
for pair in "3 kubepods" "4 docker" "5 podman" "6 crio"; do
        set -- $pair
        check "0.10: the runtime $2 is known" sh -c "curl -s $metrics | grep -q 'kepler_container_cpu_watts{container_id=\"$(id "$1")\".*runtime=\"$2\"'"
done
check "0.10: pods have sums" wait_for 30 sh -c "curl -s $metrics | grep -q \
        'kepler_pod_cpu_watts{node_name=\"[^\"]*\",pod_id=\"$uid2\",pod_name=\"db-0\",pod_namespace=\"shop\",state=\"running\",zone=\"package\"}'"
check "0.10: as many processes as are asked for" wait_for 30 sh -c \
        "test \"\$(curl -s $metrics | grep -c '^kepler_process_cpu_joules_total{comm=.*,vm_id=\"\",zone=\"package\"}')\" = 2"
check "0.10: the node has its processors" seen 'kepler_node_cpu_info{core_id="1",model_name="Acme \"Z1\"",physical_id="0",processor="1",vendor_id="Acme"} 1'
check "0.10: and its power" seen 'kepler_node_cpu_watts{'
lint "Prometheus' parser takes the metrics of Kepler 0.10"
check "0.10: no series is there twice" test -z "$(scrape | grep -v '^#' | sed 's/ [^ ]*$//' | sort | uniq -d)"
stop "$pid"

collect "$dir/logn" --store-path "" --metrics-containers 2
pid=$STARTED_PID
check "containers over the limit are summed up" wait_for 30 seen 'container_id="other_containers"'
check "and counted" wait_for 30 seen 'wattloop_collector_hidden_containers 4'
stop "$pid"
check_exit 2 "the rule model wants a weight file" "$collector" --attribution-rule model --check-config
