#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `wattloop-collector sensors`: what is found, with a live reading, what is refused, and what is not used, and why.
set -u
. "$(dirname "$0")/lib.sh"

dir=$(tmpdir)
zone=$dir/sys/class/powercap/intel-rapl:0
: >"$dir/none.yaml"
hwmon=$dir/sys/class/hwmon
collector() {
        "$BIN/wattloop-collector" --config "$dir/none.yaml" --sysfs-root "$dir/sys" --msr-root "$dir/msr" \
                --features-source proc --log-level error "$@"
}
put() {
        mkdir -p "$(dirname "$1")" && echo "$2" >"$1"
}

out=$(collector sensors 2>&1)
for source in rapl rapl-perf rapl-msr acpi hwmon ipmi redfish; do
        case $out in
        *"$source "*"not used: "*) ok "a machine without $source is told why" ;;
        *) not_ok "a machine without $source is told why" "$out" ;;
        esac
done

put "$zone/name" package-0
put "$zone/max_energy_range_uj" 262143328850
put "$zone/energy_uj" 1000000
put "$dir/sys/class/powercap/intel-rapl:1/name" mystery
put "$dir/sys/class/powercap/intel-rapl:1/energy_uj" 5
put "$hwmon/hwmon0/name" power_meter
put "$hwmon/hwmon0/power1_average" 150000000
put "$hwmon/hwmon1/name" ina226
put "$hwmon/hwmon1/power1_input" 12000000
put "$hwmon/hwmon1/power1_label" "12 V rail"

# The package draws 40 W, by the clock.
draw() {
        local from=${EPOCHREALTIME/./}

        while :; do
                echo $((1000000 + 40 * (${EPOCHREALTIME/./} - from))) >"$zone/energy_uj.new"
                mv "$zone/energy_uj.new" "$zone/energy_uj"
                sleep 0.05
        done
}
start /dev/null draw
json=$(collector sensors --json)
stop "$STARTED_PID"
field() {
        jq -r "$1" <<<"$json"
}
check "the output is JSON" test -n "$(field .sensors)"
check "a RAPL zone has a live reading" \
        jq -e '.sensors[] | select(.source == "rapl-sysfs" and .component == "package") | .watts > 20 and .watts < 60' <<<"$json"
check "an ACPI meter has one" jq -e '.sensors[] | select(.source == "acpi") | .watts == 150' <<<"$json"
check "both are simulated, since the tree is not sysfs" \
        jq -e '[.sensors[].provenance] | unique == ["simulated"]' <<<"$json"
check_has "a zone that is not understood is told" "$(field '.unused[] | select(.source == "rapl") | .sensor')" mystery
check_has "a meter that is not used is told with its label" \
        "$(field '.unused[] | select(.source == "hwmon") | .sensor')" "ina226 power1 12 V rail"
check_has "a fallback names what is used instead of it" \
        "$(field '.refused[] | select(.source == "rapl-msr") | .error')" "rapl is used instead"
check_has "so does a second meter of the platform" \
        "$(field '.refused[] | select(.source == "ipmi") | .error')" "acpi is used instead"
check_has "a meter that the configuration names is used" \
        "$(collector sensors --hwmon-use 'ina226:12 V rail=dram')" "ina226/12 V rail"
check_exit 2 "a meter of nothing is misuse" collector sensors --hwmon-use 'ina226=soul'
rm "$zone/energy_uj"
check_has "a counter that is gone is told" "$(collector sensors)" "No such file"
if [ "$(id -u)" = 0 ]; then
        echo 5 >"$zone/energy_uj"
        rm -r "$dir/sys/class/powercap/intel-rapl:1"
        public=$(mktemp -d) # another user may not reach this checkout
        cp -r "$dir/sys" "$dir/none.yaml" "$public"
        chmod -R a+rX "$public"
        chmod 400 "${zone/#"$dir"/"$public"}/energy_uj"
        check_has "a counter that only root may read is told so" \
                "$(setpriv --reuid 65534 --clear-groups --bounding-set -all --inh-caps -all "$BIN/wattloop-collector" \
                        --config "$public/none.yaml" --sysfs-root "$public/sys" --features-source proc sensors 2>&1)" "root only"
        rm -rf "$public"
else
        skip "a counter that only root may read is told so" "not root"
fi

# ---- a counter that wraps between two samples that are far apart ----

rm -f "$zone/energy_uj"
put "$zone/max_energy_range_uj" 30000000000
put "$zone/energy_uj" 0
# 29 kJ within 10 s, when the counter is looked at; then it wraps, and shows 5 J
wrap() {
        sleep 8
        echo 29000000000 >"$zone/energy_uj"
        sleep 3
        echo 5000000 >"$zone/energy_uj"
}
start /dev/null wrap
joules=$(collector once --sampling-interval 12s --power-sources rapl |
        jq '.duration_ns as $ns | .power[] | select(.component == "package") | .watts * $ns / 1e9 | round')
if [ "${joules:-0}" -eq 30005 ]; then
        ok "a counter is looked at every 10 s, so that none wraps unseen"
else
        not_ok "a counter is looked at every 10 s, so that none wraps unseen" "${joules:-no} J instead of 30005"
fi
