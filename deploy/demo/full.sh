#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The whole loop on this machine: record, upload, train, publish, refresh, estimate. Activity is real, power is
# simulated. `make demo-full` and `make demo` run it; lib.sh tells what the variables are, and one more is here:
#
#       DEMO_SHUFFLE=1   power that has nothing to do with activity: must end in FAIL
set -u
STAGES=8
. "$(dirname "$0")/lib.sh"
REQUESTS=10000
if [ -n "${DEMO_QUICK:-}" ]; then
        TRAIN_S=23 FRESH_S=13
else
        TRAIN_S=66 FRESH_S=36
fi

# Share of the CPUs that other programs keep busy, in percent, over a second.
busy_percent() {
        local a b

        a=$(awk '/^cpu / { print $2 + $3 + $4 + $7 + $8, $5 + $6 }' /proc/stat)
        sleep 1
        b=$(awk '/^cpu / { print $2 + $3 + $4 + $7 + $8, $5 + $6 }' /proc/stat)
        awk -v a="$a" -v b="$b" 'BEGIN { split(a, x); split(b, y); t = y[1] - x[1] + y[2] - x[2];
                printf "%d\n", (t > 0 ? 100 * (y[1] - x[1]) / t : 0) }'
}

push() {
        "$BIN/wattloop-trainer-client" --store-path "$DIR/collector/samples.db" --state-path "$DIR/trainer-client" \
                --server-url "http://127.0.0.1:$SERVER_PORT" push >>"$DIR/log/trainer-client.log" 2>&1
        case $? in 0 | 3) ;; *) return 1 ;; esac # 3: nothing new to send
}

recorded() {
        local n

        n=$(sql "$DIR/collector/samples.db" 'SELECT count(*) FROM interval') && echo "${n:-0}"
}

acknowledged() {
        local last

        last=$(jq -r .interval_id "$DIR"/collector/acks/model-server.json 2>/dev/null) || last=0
        sql "$DIR/collector/samples.db" "SELECT count(*) FROM interval WHERE interval_id <= ${last:-0}"
}

write_poor_model() {
        local c

        printf '{"model_name": "PoorConstant_0", "provenance": "simulated"'
        for c in package core uncore dram; do
                printf ', "%s": {"All_Weights": {"Bias_Weight": %s, "Categorical_Variables": {}, "Numerical_Variables": {' \
                        $c "$([ $c = package ] && echo 100.0 || echo 0.0)"
                printf '"bpf_cpu_time_ms": {"scale": 1.0, "weight": 0.0}, "bpf_page_cache_hit": {"scale": 1.0, "weight": 0.0}}}}'
        done
        printf '}\n'
}

#
# The stages
#

show() {
        picture <<PIC
      training node (can measure; here simulated)             estimating node (cannot)

      kernel ──────┐                                          kernel ──────┐
      RAPL, ACPI ──┤ simulated                                             │
                   ▼                                                       ▼
      ┌──────────────────────┐                                ┌──────────────────────┐
      │  wattloop-collector  │ ─► 127.0.0.1:$COLLECTOR_PORT             │  wattloop-collector  │ ─► 127.0.0.1:$ESTIMATE_PORT
      └──────────────────────┘    /metrics, top               └──────────────────────┘    /metrics, top
                   │ samples.db                                  power │      ▲ watts
                   ▼                                           request ▼      │
      ┌────────────────────────────┐                          ┌──────────────────────┐
      │  wattloop-trainer-client   │                          │  wattloop-estimator  │
      └────────────────────────────┘                          └──────────────────────┘
                   │ batches                                               ▲ hot swap
                   ▼                                                       │
      ┌─────────────────────────┐  archive  ┌────────────────────┐ installs│
      │  wattloop-model-server  │ ────────► │  wattloop-updater  │ ────────┘
      └─────────────────────────┘           └────────────────────┘
        127.0.0.1:$SERVER_PORT, trains and publishes

      simulated sensors $DIR/sys
      estimator         $SOCKET
PIC
}

sensors() {
        stage "sensors: a simulated power tree, driven by this machine's real activity"
        make_cgroup || note "no cgroup of its own (not permitted here): the programs stay in the one they are in"
        BUSY=$(busy_percent)
        [ "$BUSY" -lt 20 ] || note "note: other programs keep this machine $BUSY % busy; power that hardly varies cannot be judged well"
        # shellcheck disable=SC2086
        simulator ${DEMO_SHUFFLE:+--shuffle}
}

servers() {
        stage "servers: the model server, and the estimator with a deliberately poor first model"
        model_server --publish-interval 1s
        keep estimator "$CGROUP" "$BIN/wattloop-estimator" --socket-path "$SOCKET" --store-path "$DIR/models" serve
        wait_for 10 test -S "$SOCKET" || fail "the estimator does not open its socket" estimator
        write_poor_model >"$DIR/poor.json"
        update weight --from "$DIR/poor.json" --estimator-socket "$SOCKET" --estimator-timeout 10s ||
                fail "the first model could not be installed" updater
        wait_for 10 served || fail "the estimator does not serve the first model" estimator
        note "the estimator serves $(served)"
}

measuring() {
        stage "collector: features of what really runs, energy from the simulated sensors"
        collector collector "$COLLECTOR_PORT" --sysfs-root "$DIR/sys" --store-path "$DIR/collector/samples.db"
        wait_for 15 eval '[ "$(recorded)" -ge 2 ]' || fail "the collector records nothing" collector
        claim "the node's package is '$(sensor "$COLLECTOR_PORT" provenance)', never called measured" \
                test "$(sensor "$COLLECTOR_PORT" provenance)" = simulated
}

push_now() { # push_now SECONDS: every five
        if [ "$1" -ge $NEXT_PUSH ]; then
                push || fail "the trainer-client could not push" trainer-client
                NEXT_PUSH=$(($1 + 5))
        fi
        STATUS="$(recorded) rows recorded, $(acknowledged) acknowledged"
}

# The recording ends while the workload still works: no last interval of nothing but ends.
recording() {
        stage "record and upload: varied work for $TRAIN_S s, pushed every few seconds"
        load train $TRAIN_S
        NEXT_PUSH=5
        watch "$COLLECTOR_PORT" $((TRAIN_S - 1)) push_now
        stop collector
        stop workload
}

training() {
        local rows

        stage "train and publish: the rest is pushed, the server publishes what it learned"
        push || fail "the trainer-client could not push" trainer-client
        RECORDED=$(recorded) ACKNOWLEDGED=$(acknowledged)
        [ "$RECORDED" = "$ACKNOWLEDGED" ] || fail "$RECORDED rows recorded but $ACKNOWLEDGED acknowledged" trainer-client
        # A server may hold back the newest rows of a recording; nearly all must have been learned.
        rows=$((RECORDED * 9 / 10))
        wait_for 20 published_all $rows || fail "no model was published, or $rows rows not learned" model-server
        IFS=$'\t' read -r MODEL MODEL_MAE MODEL_ROWS _ MODEL_PROVENANCE <<<"$(published)"
        note "$RECORDED rows recorded and acknowledged; $MODEL is made of $MODEL_ROWS, MAE $MODEL_MAE W on held-out blocks ($MODEL_PROVENANCE)"
}

refresh() {
        local client line

        stage "refresh: the estimator swaps models while a client asks without pause"
        start client "$CGROUP" "$BIN/wattloop-demo-client" --socket "$SOCKET" --rate 3000 --requests $REQUESTS --swaps 1 --seconds 40
        client=$PID
        sleep 1.5
        update archive --server-url "http://127.0.0.1:$SERVER_PORT" --estimator-socket "$SOCKET" --estimator-timeout 10s ||
                fail "the updater could not install the trained model" updater
        SERVED=$(served) || fail "the estimator does not tell what it serves" estimator
        MODEL=${SERVED%% *}
        claim "the estimator serves what the updater installed: $MODEL $(installed archive | cut -c 1-12)" test "${SERVED#* }" = "$(installed archive)"
        wait $client
        line=$(tail -n 1 "$DIR/log/client.log")
        CLIENT_REQUESTS=$(sed -n 's/.*requests=\([0-9]*\).*/\1/p' <<<"$line")
        CLIENT_FAILED=$(sed -n 's/.*failed=\([0-9]*\).*/\1/p' <<<"$line")
        SWAPS=$(sed -n 's/.*swaps=\([0-9]*\).*/\1/p' <<<"$line")
        [ -n "$CLIENT_REQUESTS" ] || fail "the client did not finish" client
        note "$line"
        claim "not one of $CLIENT_REQUESTS requests failed" test "$CLIENT_FAILED" -eq 0
        claim "the estimator swapped models meanwhile" test "$SWAPS" -ge 1
        [ "$CLIENT_REQUESTS" -ge $REQUESTS ] || fail "only $CLIENT_REQUESTS requests" client
}

estimating() {
        stage "estimate: a collector without sensors, on work that was not trained on, for $FRESH_S s"
        collector estimating-collector "$ESTIMATE_PORT" --sysfs-root "$DIR/no-sensors" --power-sources estimate \
                --estimate-socket "$SOCKET" --store-path "$DIR/estimating/samples.db"
        claim "the node's package is '$(sensor "$ESTIMATE_PORT" provenance)' by this model, trained on $(sensor "$ESTIMATE_PORT" trained_on) power" \
                test "$(sensor "$ESTIMATE_PORT" provenance) $(sensor "$ESTIMATE_PORT" model_id)" = "estimated ${SERVED#* }"
        compare "$ESTIMATE_PORT" $FRESH_S
        load fresh $((FRESH_S + 2)) --seed 7
        watch "$ESTIMATE_PORT" $((FRESH_S + 1)) phase
        claim_sums "$ESTIMATE_PORT"
        wait "$COMPARE"
        VERDICT=$(sed -n '$p' "$DIR/log/compare.log")
}
phase() {
        STATUS=$(tail -n 1 "$DIR/log/workload.log" 2>/dev/null)
}

judging() {
        local mae range constant entry result

        stage "judge: estimates against the simulated power, interval by interval"
        case $VERDICT in
        intervals=*) ;;
        *) fail "nothing to compare" compare ;;
        esac
        mae=$(sed -n 's/.* mae=\([0-9.]*\).*/\1/p' <<<"$VERDICT")
        range=$(sed -n 's/.*range=\([0-9.]*\).*/\1/p' <<<"$VERDICT")
        constant=$(sed -n 's/.*constant_mae=\([0-9.]*\).*/\1/p' <<<"$VERDICT")
        result="features=$FEATURES model=$MODEL mae=$mae range=$range swaps=$SWAPS requests=$CLIENT_REQUESTS failed=$CLIENT_FAILED"
        TIMES+=("$STAGE_NAME|$(elapsed "$STAGE_AT")")
        printf '\n%-90s %s\n' stage seconds
        for entry in "${TIMES[@]}"; do
                printf '%-90s %s\n' "${entry%|*}" "${entry#*|}"
        done
        printf '\n%s rows recorded, %s acknowledged; features from %s\n' "$RECORDED" "$ACKNOWLEDGED" "$FEATURES"
        printf 'model %s: MAE %s W (simulated) on held-out blocks of %s rows\n' "$MODEL" "$MODEL_MAE" "$MODEL_ROWS"
        printf 'client: %s requests, %s failed, %s swaps\n\n' "$CLIENT_REQUESTS" "$CLIENT_FAILED" "$SWAPS"
        sed '$d' "$DIR/log/compare.log"
        printf '\nwanted (simulated): MAE at most %s W (5 %% of the range) and %s W (a third of the best constant); is %s W\n' \
                "$(awk "BEGIN { printf \"%.2f\", $range * 0.05 }")" "$(awk "BEGIN { printf \"%.2f\", $constant / 3 }")" "$mae"
        printf 'in %s s; logs and data: %s\n' "$(elapsed "$BEGIN")" "$DIR"
        case $VERDICT in
        *verdict=pass) pass "$result" ;;
        *) fail "the estimates are too far off: $result" ;;
        esac
}

mkdir -p "$DIR"/{collector,trainer-client,estimating}
read -r SERVER_PORT COLLECTOR_PORT ESTIMATE_PORT <<<"$(free_ports 3)"
show
sensors
servers
measuring
recording
training
refresh
estimating
judging
