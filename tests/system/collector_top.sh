#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `top` against a collector over a sensor that is a directory and over a weight file: as JSON, as text and on a terminal.
set -u
. "$(dirname "$0")/lib.sh"
dir=$(tmpdir)
. "$(dirname "$0")/collector.bash"

zone=$dir/sys/class/powercap/intel-rapl:0
mkdir -p "$zone"
printf 'package-0' >"$zone/name"
echo 262143328850 >"$zone/max_energy_range_uj"
echo 1000000 >"$zone/energy_uj"
cat >"$dir/meter.py" <<'END'
import os, sys, time
uj = 1000000
while True: # its power grows, so that not all of it is idle
    uj += 2000000 + uj // 4
    with open(sys.argv[1] + ".new", "w") as f:
        f.write(f"{uj % 200000000000}\n")
    os.rename(sys.argv[1] + ".new", sys.argv[1])
    time.sleep(0.2)
END
start "$dir/meter.log" python3 "$dir/meter.py" "$zone/energy_uj"

collect() { # LOG OPTION...: started, its address in $address
        local log=$1

        shift
        start "$log" "$collector" run --features-source proc --sampling-interval 200ms --metrics-listen 127.0.0.1:0 --store-path "" "$@"
        wait_for 10 grep -q 'metrics at' "$log"
        address=$(sed -n 's|.*metrics at http://\([^/]*\)/.*|\1|p' "$log")
}
top() {
        "$collector" top --metrics-listen "$address" "$@"
}
has() { # JQ-EXPRESSION: true of what top says now
        top --once --json | jq -e "$1"
}

collect "$dir/log" --sysfs-root "$dir/sys" --metrics-processes 5
pid=$STARTED_PID
check "the node's sensor is there, with what stands behind it" wait_for 10 has \
        '.node[0] | .component == "package" and .watts > 0 and .provenance == "simulated"'
check "what uses power has watts and their pedigree" wait_for 10 has \
        '[.entities[] | select(.kind == "container" and .watts > 0)] | length > 0 and all(.pedigree == "simulated")'
check "processes are there where they are counted" wait_for 10 has '[.entities[] | select(.kind == "process")] | length > 0'
check "a component that is not read is null, never zero" has '.entities | length > 0 and all(.dram == null)'
check "the largest comes first" has '[.entities[].watts] | . == (sort | reverse)'
check "or the first name" sh -c "'$collector' top --metrics-listen $address --json --sort name |
        jq -e '[.entities[].name] | . == sort'"
check_has "where there is no terminal a table is printed once" "$(top | cat)" "PEDIGREE"
check_exit 2 "an unknown order is refused" top --sort colour
printf '#!/bin/sh\nexec %s top --metrics-listen %s --sampling-interval 300ms\n' "$collector" "$address" >"$dir/top"
chmod +x "$dir/top"
python3 "$(dirname "$0")/top_terminal.py" "$dir/top"
stop "$pid"
check_exit 1 "no collector is an error" top --once
check_has "that says where it was looked for" "$(top --once 2>&1)" "$address"
check_exit 3 "without metrics.listen there is nobody to ask" "$collector" top --metrics-listen ""

printf '{"model_name": "SGDRegressorTrainer_7", "provenance": "simulated", "package": {"All_Weights": {"Bias_Weight": 12.5, "Categorical_Variables": {}, "Numerical_Variables": {"bpf_cpu_time_ms": {"scale": 1000.0, "weight": 1.0}}}}}' >"$dir/weight.json"
collect "$dir/log2" --sysfs-root "$dir/none" --estimate-weight "$dir/weight.json"
check "an estimate names its model, its id and what that was trained on" wait_for 10 has \
        '.node[0] | .provenance == "estimated" and .model == "SGDRegressorTrainer_7" and (.model_id | length) == 64 and .trained_on == "simulated"'
check "and every row says that it is estimated" has '.entities | length > 0 and all(.pedigree == "estimated")'
stop "$STARTED_PID"
