#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A machine without sensors: the collector asks a weight file or an estimator for watts, through failures of both.
set -u
. "$(dirname "$0")/lib.sh"
dir=$(tmpdir)
. "$(dirname "$0")/collector.bash"
. "$(dirname "$0")/estimator.bash"

port=$(free_port)
metrics=http://127.0.0.1:$port/metrics
base=(--sysfs-root "$dir/none" --features-source proc --sampling-interval 100ms --metrics-listen "127.0.0.1:$port")

# A model that says W watts for the package whatever happens.
package_weights() {
        printf '{"model_name": "SGDRegressorTrainer_%d", "provenance": "simulated", "package": {"All_Weights": {"Bias_Weight": %s, "Categorical_Variables": {}, "Numerical_Variables": {"bpf_cpu_time_ms": {"scale": 1000.0, "weight": 0.0}}}}}' "$1" "$2"
}

# shows TEXT: it is in the metrics now
shows() {
        curl -s "$metrics" | grep -qF "$1"
}
lacks() {
        curl -s "$metrics" >"$dir/metrics" && ! grep -qF "$1" "$dir/metrics"
}
watts='wattloop_node_watts{component="package",source="estimate",unit="0"}'

# ---- a weight file ----
package_weights 0 12.5 >"$dir/weight.json"
start "$dir/weight.log" "$collector" run "${base[@]}" --store-path "$dir/samples.db" --estimate-weight "$dir/weight.json"
pid=$STARTED_PID
check "without sensors the configured model gives the watts" wait_for 10 shows "$watts 12.5"
check "and is named with what it was trained on" shows 'model="SGDRegressorTrainer_0",provenance="simulated"} 1'
package_weights 1 20 >"$dir/weight.json.new" && mv "$dir/weight.json.new" "$dir/weight.json"
check "a new weight file is used at once" wait_for 10 shows "$watts 20"
echo 'not json' >"$dir/weight.json"
sleep 0.5
check "a bad weight file leaves the old model" wait_for 2 shows "$watts 20"
check_has "and is told" "$(cat "$dir/weight.log")" "is not used"
check "without an estimator there are no metrics of one" lacks wattloop_estimator_
stop "$pid"
check "estimated power is stored as such, with its model" test "$(sqlite3 -readonly "$dir/samples.db" "
        SELECT count(*) > 0 FROM power JOIN sensor USING (sensor_id) WHERE provenance = 'estimated' AND
        model LIKE 'SGDRegressorTrainer_1 %' AND length(model) = 22 + 64")" = 1
check "and never as anything else" test "$(sqlite3 -readonly "$dir/samples.db" "
        SELECT count(*) FROM sensor WHERE provenance <> 'estimated'")" = 0

# ---- an estimator ----
est=$dir/estimator
mkdir -p "$est"
start "$dir/socket.log" "$collector" run "${base[@]}" --store-path "" --estimate-socket "$est/sock"
pid=$STARTED_PID
check "without an estimator the collector runs" wait_for 10 shows 'wattloop_collector_power_errors_total'
check "and shows no watts" lacks 'wattloop_node_watts{'
check "nor figures of the estimator, but that it is down" shows 'wattloop_estimator_up 0'
package_weights 2 30 | install_weights "$est/store" rapl-sysfs/AbsPower >/dev/null
start_estimator "$est"
estimator=$STARTED_PID
check "the estimator's answer is exported" wait_for 10 shows "$watts 30"
check "with the model's name and provenance" wait_for 5 shows 'model="SGDRegressorTrainer_2",provenance="simulated"} 1'
check "its own figures are exported beside" wait_for 20 shows 'wattloop_estimator_up 1'
check_has "with the models it has loaded" "$(curl -s "$metrics")" \
        "wattloop_estimator_model_info{energy_source=\"rapl-sysfs\",form=\"weight\",id=\"$(basename "$(readlink "$est/store/rapl-sysfs/AbsPower/weight/current")")\""
answered() {
        curl -s "$metrics" | awk '/^wattloop_estimator_requests_total/ { n = $2 } /^wattloop_estimator_rows_total/ { rows = $2 }
                /^wattloop_estimator_answer_seconds_count/ { c = $2 } END { exit !(n > 0 && rows > 0 && c == n) }'
}
check "what it answered, and how fast" wait_for 20 answered
kill -STOP "$estimator"
check "one that hangs does not keep a scrape from its answer" wait_for 20 shows 'wattloop_estimator_up 0'
kill -CONT "$estimator"
check "and is heard again" wait_for 20 shows 'wattloop_estimator_up 1'
{ stop "$estimator" KILL; } 2>/dev/null
check "a dead estimator is a gap, not a zero" wait_for 10 lacks 'wattloop_node_watts{'
rm -f "$est/sock"
start_estimator "$est"
estimator=$STARTED_PID
check "and its return is noticed" wait_for 10 shows "$watts 30"
package_weights 3 41 | install_weights "$est/store" rapl-sysfs/AbsPower >/dev/null
ask "$est/sock" '{"command":"reload"}' >/dev/null
check "a swap of the model is followed" wait_for 10 shows "$watts 41"
sleep 0.5
check "and the idle part is the new model's: all of it" sh -c \
        "curl -s $metrics | grep -qE '^kepler_node_package_joules_total.*mode=\"dynamic\".* 0\$'"
stop "$estimator"
rm -f "$est/sock"
echo garbage >"$dir/mode"
start "$dir/fake.log" python3 "$(dirname "$0")/fake_estimator.py" "$est/sock" "$est/store" "$dir/mode"
check "one that talks nonsense is down" wait_for 20 shows 'wattloop_estimator_up 0'
check "and shows nothing of itself" lacks wattloop_estimator_requests_total
check_has "the log says why" "$(cat "$dir/socket.log")" 'no metrics of the estimator'
stop "$pid"
check_exit 0 "a stop is clean" test $? -eq 0
