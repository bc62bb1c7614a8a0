#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The minimum: one program, the collector, which evaluates an offline weight file in process. `make demo-minimum` runs
# it; lib.sh tells what the variables are. WEIGHT=FILE takes another weight file, one of Kepler's for instance.
set -u
STAGES=3
. "$(dirname "$0")/lib.sh"
SECONDS_OF_LOAD=$([ -n "${DEMO_QUICK:-}" ] && echo 4 || echo 10)
read -r PORT <<<"$(free_ports 1)"
BIAS=9.5 SLOPE=37

# By hand, in Kepler's form: watts at rest, and more of them in proportion to CPU time.
write_weight() {
        local package='"Bias_Weight": %s, "Categorical_Variables": {}, "Numerical_Variables": {"bpf_cpu_time_ms": {"scale": %s, "weight": %s}}'

        printf '{"model_name": "DemoByHand_0", "provenance": "simulated", "package": {"All_Weights": {'"$package"'}}}\n' \
                $BIAS "$(($(nproc --all) * 1000))" $SLOPE
}

# Joules of the package, CPU time in ms and the end of the last interval, so far.
totals() {
        get "$PORT" /metrics | awk '/^kepler_node_package_joules_total/ { j += $NF } /^wattloop_node_usage_total.feature="bpf_cpu_time_ms"/ { c = $NF }
                /^wattloop_collector_interval_end_seconds/ { e = $NF } END { printf "%.6f %.6f %.3f\n", j, c, e }'
}

# Mean watts by /metrics, and by the weight file's formula from CPU time, between two of the totals.
by_formula() {
        awk -v a="$1" -v b="$2" -v bias=$BIAS -v slope=$SLOPE -v scale="$(($(nproc --all) * 1000))" 'BEGIN { split(a, x); split(b, y); t = y[3] - x[3]
                printf "%.3f %.3f\n", (y[1] - x[1]) / t, bias + slope / scale * (y[2] - x[2]) / t }'
}

stage "a weight file, and one program"
picture <<PIC
      kernel ── CPU time, page cache, interrupts
         │
         ▼
    ┌──────────────────────┐  reads   weight JSON, made elsewhere
    │  wattloop-collector  │ ◄─────── ${WEIGHT:-$DIR/weight.json}
    └──────────────────────┘
         │  estimated watts of the node, of each container and process
         ▼
      http://127.0.0.1:$PORT/metrics ──► Prometheus, wattloop-collector top
PIC
make_cgroup || note "no cgroup of its own (not permitted here): the programs stay in the one they are in"
[ -n "${WEIGHT:-}" ] || write_weight >"$DIR/weight.json"
collector collector "$PORT" --power-sources estimate --estimate-weight "${WEIGHT:-$DIR/weight.json}" --store-path ''
claim "nothing is measured here: the node's package is '$(sensor "$PORT" provenance)', by $(sensor "$PORT" model), trained on $(sensor "$PORT" trained_on) power" \
        test "$(sensor "$PORT" provenance)" = estimated

BEFORE=$(totals)
live "$PORT" "$SECONDS_OF_LOAD"
read -r WATTS FORMULA <<<"$(by_formula "$BEFORE" "$(totals)")"
[ -n "${WEIGHT:-}" ] ||
        claim "the mean, $WATTS W, is the weight file's formula over CPU time, $FORMULA W (estimated)" near "$WATTS" "$FORMULA" 0.2
claim "there is no database and no socket, only the collector" test -z "$(find "$DIR" -name '*.db' -o -type s)"
pass "features=$FEATURES watts=$WATTS load_joules=$LOAD_JOULES claims=$CLAIMS seconds=$(elapsed "$BEGIN")"
