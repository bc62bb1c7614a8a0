#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Platform power over Redfish: the helper against a TLS server, and the collector with its helper.
set -u
. "$(dirname "$0")/lib.sh"

dir=$(tmpdir)
data=$(dirname "$0")/../data/redfish
helper=$BIN/wattloop-collector-redfish
echo watt:loop >"$dir/credentials"
echo watt:wrong >"$dir/wrong"
state() {
        echo "$1" >"$dir/state.new" && mv "$dir/state.new" "$dir/state"
}

state '{"watts": 312.5}'
start "$dir/port" python3 "$(dirname "$0")/redfish_server.py" "$data/server.pem" "$dir/state"
if ! wait_for 60 test -s "$dir/port"; then
        not_ok "the test server starts" "$(cat "$dir/port")"
        exit 0
fi
url=https://127.0.0.1:$(cat "$dir/port")

# ask OPTION...: one answer of the helper
ask() {
        "$helper" once --url "$url" --credentials "$dir/credentials" --ca-file "$data/ca.pem" "$@" 2>&1
}

check_has "watts may have a fraction" "$(ask)" "watts 312.5"
state '{"watts": 290}'
check_has "or none" "$(ask)" "watts 290"
state '{"watts": 310.25, "where": "EnvironmentMetrics"}'
check_has "newer services tell them in EnvironmentMetrics" "$(ask)" "watts 310.25"
state '{"watts": 312.5}'
check_has "the URL may be that of a chassis" "$(ask --url "$url/redfish/v1/Chassis/1U")" "watts 312.5"
check_exit 1 "the server of another authority is refused" ask --ca-file "$data/other.pem"
check_has "and the certificate is named as the reason" "$(ask --ca-file "$data/other.pem")" "certificate"
check_exit 1 "so it is without any authority" ask --ca-file ""
check_exit 0 "unless verification is switched off" ask --ca-file "" --verify-tls false
check_has "which is warned about" "$(ask --ca-file "" --verify-tls false)" "warning: verify_tls is off"
check_exit 1 "wrong credentials are refused" ask --credentials "$dir/wrong"
check_has "and named" "$(ask --credentials "$dir/wrong")" "refuses the credentials"
case $(ask --credentials "$dir/wrong") in
*wrong:* | *watt:*) not_ok "no password is printed" ;;
*) ok "no password is printed" ;;
esac
check_exit 1 "a missing file of credentials is an error" ask --credentials "$dir/nothing"
check_exit 2 "http without TLS is misuse" ask --url "http://127.0.0.1:1"
state '{"watts": 312.5, "delay": 3}'
check_has "a slow server is given up" "$(ask --timeout 500ms)" "imed out"
for body in '' '{' '[]' '{"PowerControl": [{"PowerConsumedWatts": "312"}]}' \
        '{"PowerControl": [{"PowerConsumedWatts": null}]}' '{"PowerControl": [{"PowerConsumedWatts": -3}]}' \
        '{"PowerControl": [{"PowerConsumedWatts": 1e300}]}' '{"Members": [{"@odata.id": "http://elsewhere/"}]}'; do
        state "$(jq -cn --arg body "$body" '{body: $body}')"
        check_exit 1 "the answer '$body' is an error" ask
done
state '{"watts": 312.5, "status": 500}'
check_exit 1 "the status 500 is an error" ask

# ---- the collector ----

cat >"$dir/collector.yaml" <<END
sampling: { interval: 200ms }
sysfs_root: $dir
features: { source: proc }
redfish: { url: "$url", credentials: $dir/credentials, ca_file: $data/ca.pem, interval: 200ms }
store: { path: "" }
metrics: { listen: "127.0.0.1:$(free_port)" }
END
state '{"watts": 312.5}'
check_has "sensors shows the live reading" \
        "$("$BIN/wattloop-collector" --config "$dir/collector.yaml" sensors 2>/dev/null)" "312.500 W"
check_has "sensors says why it is refused" \
        "$("$BIN/wattloop-collector" --config "$dir/collector.yaml" sensors --redfish-credentials "$dir/wrong" 2>&1)" \
        "refuses the credentials"
check_exit 2 "the collector's configuration wants https, too" \
        "$BIN/wattloop-collector" --config "$dir/collector.yaml" --redfish-url http://127.0.0.1/ --check-config

start "$dir/log" "$BIN/wattloop-collector" --config "$dir/collector.yaml" run
pid=$STARTED_PID
# shows WATTS: they are in the metrics now; in a guest, a controller is somebody else's
shows() {
        metrics=$(sed -n 's/.*\(http:.*metrics\).*/\1/p' "$dir/log")
        curl -sf "$metrics" |
                grep -qE "^wattloop_node_watts.component=\"platform\",source=\"(redfish|virtual)\",unit=\"chassis\". $1\$"
}
check "the platform's watts are exported" \
        wait_for 15 shows 312.5
state '{"watts": 100, "delay": 0}'
check "and followed" wait_for 15 shows 100
state '{"watts": 100, "delay": 3}'
ticks() {
        curl -sf "$metrics" | sed -n 's/^wattloop_collector_ticks_total //p'
}
before=$(ticks)
sleep 2
after=$(ticks)
if [ $((after - before)) -ge 7 ]; then
        ok "a slow service does not hold the collector up"
else
        not_ok "a slow service does not hold the collector up" "$before and $after ticks, 2 s apart"
fi
child=$(cat "/proc/$pid/task/$pid/children")
check "the helper is the collector's child" grep -qa redfish "/proc/${child%% *}/cmdline"
kill -KILL "${child%% *}"
sleep 1
check "the collector survives its helper" kill -0 "$pid"
check "and stops" stop "$pid"
start "$dir/log2" "$BIN/wattloop-collector" --config "$dir/collector.yaml" run
pid=$STARTED_PID
helper_of() {
        child=$(sed 's/ .*//' "/proc/$1/task/$1/children")
        grep -qa redfish "/proc/$child/cmdline"
}
wait_for 10 helper_of "$pid"
stop "$pid" KILL
check "the helper ends when the collector is killed" wait_for 5 ended "${child:-0}"
