#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The estimator as its clients and its operator see it: replies, commands, start and stop.
set -u
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/estimator.bash"

dir=$(tmpdir)
sock=$dir/sock
mkdir -p "$dir/store"

# ---- an empty store ----
start_estimator "$dir" --compat-socket "$dir/compat" --socket-mode 0600 --store-watch false
pid=$STARTED_PID
check_has "an empty store answers that there is no model" "$(ask "$sock" "$REQUEST")" \
        '{"powers": {}, "msg": "failed to get model from request: no AbsPower model for acpi"}'
check "the socket has the configured mode" test "$(stat -c %a "$sock")" = 600

# ---- a model arrives ----
id=$(const_weights 41 | install_weights "$dir/store" acpi/AbsPower)
check_has "reload is answered at once" "$(ask "$sock" '{"command": "reload"}')" '{"reload": "started"}'
check "status tells the new model's id" wait_for 5 eval '[ "$(status_of "$sock" ".models[0].id")" = "$id" ]'
reply=$(ask "$sock" "$REQUEST")
check_has "a power request is answered in Kepler's shape" "$reply" \
        '{"powers": {"platform": [41.0, 41.0]}, "msg": "", "core_ratio": '
check_has "the reply carries the model and its id behind core_ratio" "$reply" \
        ", \"model\": \"Const_41\", \"id\": \"$id\", \"mae\": null, \"in_domain\": [true, true]}"
check_has "rows beyond what the model was trained on are told" "$(ask "$sock" "${REQUEST/\[1\],\[2\]/[100],[100.5]}")" \
        '"in_domain": [true, false]}'
check "core_ratio is this machine's CPUs over the model's cores" \
        test "$(jq .core_ratio <<<"$reply")" = "$(jq -n "$(nproc --all)/4")"
check_has "Kepler's own socket path answers too" "$(ask "$dir/compat" "$REQUEST")" '[41.0, 41.0]'
check_has "a DynPower request gets no AbsPower model" "$(ask "$sock" "${REQUEST/AbsPower/DynPower}")" \
        'no DynPower model for acpi'
check_has "a missing feature is named" "$(ask "$sock" "${REQUEST/bpf_cpu_time_ms/cpu_cycles}")" \
        '{"powers": [], "msg": "feature '"'bpf_cpu_time_ms'"

# ---- hang-up reloads as well ----
const_weights 42 | install_weights "$dir/store" acpi/AbsPower >/dev/null
sleep 0.3
check "without store.watch a new model waits" model_is "$sock" Const_41
kill -HUP "$pid"
check "SIGHUP reloads the store" wait_for 5 model_is "$sock" Const_42
check "status tells age, load time and what each model has answered" test \
        "$(status_of "$sock" '.models[0] | [.age_ms >= 0, .load_ms > 0, .requests == 0, .errors == 0] | all')" = true

# ---- a bad model ----
const_weights 10000000 | install_weights "$dir/store" acpi/AbsPower >"$dir/bad"
n=$(status_of "$sock" .reloads)
ask "$sock" '{"command":"reload"}' >/dev/null
wait_for 5 reloads_are "$sock" $((n + 1))
check_has "a model that fails its self-check is refused while the old one serves" "$(ask "$sock" "$REQUEST")" '[42.0, 42.0]'
check_has "status names the refused model" "$(status_of "$sock" '.refused[0].path')" "$(cat "$dir/bad")"
check_has "status says why it was refused" "$(status_of "$sock" '.refused[0].error')" 'predicts 1e+07 W for platform'
check_has "the log says so too" "$(cat "$dir/log")" 'is refused: model'
check "status counts" test "$(status_of "$sock" '[.swaps == 2, .errors >= 3, .requests > .errors, .pid == '"$pid"'] | all')" = true

# ---- one per socket ----
check_exit 1 "a second estimator on the socket does not start" \
        timeout 10 "$ESTIMATOR" serve --config "$CONFIG" --socket-path "$sock" --store-path "$dir/store"
check_has "it says that another one is serving" \
        "$(timeout 10 "$ESTIMATOR" serve --config "$CONFIG" --socket-path "$sock" --store-path "$dir/store" 2>&1)" \
        'another estimator is serving'
check_has "and the first goes on" "$(ask "$sock" "$REQUEST")" '[42.0, 42.0]'

# ---- ends ----
stop "$pid"
check "SIGTERM ends it with status 0" test $? -eq 0
check "and removes its sockets" test ! -e "$sock" -a ! -e "$dir/compat"
rm -f "$dir/store/acpi/AbsPower/weight/current"
const_weights 44 | install_weights "$dir/store" acpi/AbsPower >/dev/null
start_estimator "$dir"
stop "$STARTED_PID" KILL
check "a killed one leaves its socket" test -S "$sock"
start_estimator "$dir"
check_has "the next one takes over the stale socket and serves" "$(ask "$sock" "$REQUEST")" '[44.0, 44.0]'
check_has "its replies have a pedigree unless it is switched off" "$(ask "$sock" "$REQUEST")" '"in_domain"'
stop "$STARTED_PID" INT
check "SIGINT ends it as well" test ! -e "$sock"
echo precious >"$sock"
check_exit 1 "a file in the socket's place is not replaced" \
        timeout 10 "$ESTIMATOR" serve --config "$CONFIG" --socket-path "$sock" --store-path "$dir/store"
check "but kept" grep -q precious "$sock"
rm -f "$sock"

# ---- command line ----
check "the example configuration is valid" "$ESTIMATOR" --check-config --config config/estimator.yaml
check_exit 2 "a mode that is no mode is misuse" "$ESTIMATOR" serve --config "$CONFIG" --socket-mode 0999
printf 'socket:\n  pat: /x\n' >"$dir/bad.yaml"
check_exit 2 "an unknown key is misuse" "$ESTIMATOR" --check-config --config "$dir/bad.yaml"
printf 'limits: {clients: 0}\n' >"$dir/bad.yaml"
check_exit 2 "a value out of range is misuse" "$ESTIMATOR" --check-config --config "$dir/bad.yaml"
check_exit 2 "a socket path that is too long is misuse" "$ESTIMATOR" serve --config "$CONFIG" \
        --socket-path "/$(head -c 200 /dev/zero | tr '\0' x)"
check "--version and --help work" eval '"$ESTIMATOR" --version | grep -q wattloop && "$ESTIMATOR" --help | grep -q predict'
