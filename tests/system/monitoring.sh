#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What the programs export, and what deploy/ makes of it: the table of all metrics is the programs' own.
#
#       monitoring.sh              checks
#       monitoring.sh write FILE   writes the table of metrics instead
set -u
. "$(dirname "$0")/lib.sh"
dir=$(tmpdir)
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
. "$here/collector.bash"
. "$here/estimator.bash"

# ---- a fleet of one machine: measured, estimated, learned, refreshed ----
zone=$dir/sys/class/powercap/intel-rapl:0
mkdir -p "$zone/intel-rapl:0:0" "$dir/scrape" "$dir/est/store"
printf 'package-0' >"$zone/name"
printf 'dram' >"$zone/intel-rapl:0:0/name"
echo 262143328850 | tee "$zone/max_energy_range_uj" >"$zone/intel-rapl:0:0/max_energy_range_uj"
cat >"$dir/machine.py" <<'END'
import os, sys, time
zones = (sys.argv[1], sys.argv[1] + "/intel-rapl:0:0")
step = 0
while True:
    step += 1
    for i, zone in enumerate(zones):
        with open(zone + "/energy_uj.new", "w") as f:
            f.write(f"{step * (4000000 - i * 3000000)}\n")
        os.rename(zone + "/energy_uj.new", zone + "/energy_uj")
    time.sleep(0.1)
END
start "$dir/machine.log" python3 "$dir/machine.py" "$zone"
mport=$(free_port) eport=$(free_port) sport=$(free_port)
start "$dir/server.log" "$BIN/wattloop-model-server" serve --config "$dir/empty.yaml" --listen "127.0.0.1:$sport" \
        --database-path "$dir/server.db" --models-path "$dir/pipelines" --publish-interval 100ms
start_estimator "$dir/est"
wait_for 20 test -f "$zone/intel-rapl:0:0/energy_uj"
start "$dir/measured.log" "$collector" run --features-source proc --sysfs-root "$dir/sys" --sampling-interval 200ms \
        --store-path "$dir/samples.db" --metrics-listen "127.0.0.1:$mport" --metrics-processes 20
start "$dir/estimated.log" "$collector" run --features-source proc --sysfs-root "$dir/none" --sampling-interval 200ms --store-path "" \
        --estimate-socket "$dir/est/sock" --metrics-listen "127.0.0.1:$eport" --metrics-style kepler-0.10 --metrics-processes 20
wait_for 20 curl -sf "http://127.0.0.1:$sport/healthz"
python3 "$here/model_server_batches.py" n1 0 300 | curl -s --data-binary @- "http://127.0.0.1:$sport/api/v1/import" >/dev/null
push() {
        "$BIN/wattloop-trainer-client" push --config "$dir/empty.yaml" --store-path "$dir/samples.db" --state-path "$dir/state" \
                --server-url "http://127.0.0.1:$sport" --metrics-textfile "$dir/scrape/trainer-client.push.prom"
}
check "what is recorded is pushed" wait_for 10 push
refresh() {
        "$BIN/wattloop-updater" update --config "$dir/empty.yaml" --server-url "http://127.0.0.1:$sport" --server-trust unsigned \
                --store-path "$dir/est/store" --estimator-socket "$dir/est/sock"
}
check "a model is learned and installed" wait_for 30 refresh
scrape() { # PORT NAME: returns whether the text has something like PATTERN
        curl -sf "http://127.0.0.1:$1/metrics" >"$dir/scrape/$2.prom" && grep -q "$3" "$dir/scrape/$2.prom"
}
check "it gives watts" wait_for 20 scrape "$eport" collector.kepler-0.10 '^wattloop_node_watts{component="package",source="estimate"'
check "and says what it did" wait_for 20 scrape "$eport" collector.kepler-0.10 '^wattloop_estimator_model_requests_total.* [1-9]'
check "measured watts are exported beside" wait_for 20 scrape "$mport" collector.kepler-0.7 '^kepler_process_package_joules_total'
check "the server counts what was refreshed" wait_for 20 scrape "$sport" model-server.run \
        '^wattloop_server_reports_total{outcome="installed"} 1'

# ---- the table ----
for style in kepler-0.7 kepler-0.10; do
        "$B/tests/system/metric_families" $style >"$dir/scrape/collector.all.$style.prom" || exit 1
done
if [ "${1:-}" = write ]; then
        python3 "$root/tests/metrics_table.py" table "$dir/scrape" >"$2.new" && mv "$2.new" "$2"
        exit
fi
python3 "$root/tests/metrics_table.py" table "$dir/scrape" >"$dir/metrics.md"
check "docs/metrics.md is what 'make docs-metrics' makes" diff "$root/docs/metrics.md" "$dir/metrics.md"
check "every metric that a program exports is in it, and every one in it is exported or has its condition" \
        python3 "$root/tests/metrics_table.py" check "$dir/scrape" "$root/docs/metrics.md"
sed '/kepler_node_cpu_watts/d' "$root/docs/metrics.md" >"$dir/less.md"
check_has "one that is missing would be named" "$(python3 "$root/tests/metrics_table.py" check "$dir/scrape" "$dir/less.md")" \
        "collector exports kepler_node_cpu_watts"

# ---- deploy/prometheus and deploy/grafana ----
if ! command -v promtool >/dev/null || ! python3 -c 'import yaml' 2>/dev/null; then
        skip "alerts and dashboards in a real Prometheus" "needs the packages prometheus and python3-yaml"
        exit 0
fi
fport=$(free_port)
start "$dir/files.log" python3 -m http.server "$fport" --bind 127.0.0.1 --directory "$dir/scrape"
wait_for 20 curl -sf "http://127.0.0.1:$fport/trainer-client.push.prom"
start "$dir/queries" python3 "$here/monitoring.py" "$dir" "$root" "n1=wattloop-collector=127.0.0.1:$mport/metrics" \
        "n2=wattloop-collector=127.0.0.1:$eport/metrics" "n3=wattloop-collector=127.0.0.1:$fport/collector.all.kepler-0.7.prom" \
        "s=wattloop-model-server=127.0.0.1:$sport/metrics" "f=node=127.0.0.1:$fport/trainer-client.push.prom"
queries=$STARTED_PID

prom=$root/deploy/prometheus
check "promtool takes the alert rules" promtool check rules "$prom/alerts.yaml"
check "every alert fires where everything is wrong, and none where all is well" promtool test rules "$prom/alerts_test.yaml"
check_has "that is all of them, and six need no time" "$(grep -c '^          - {labels: .*alertname' "$prom/alerts_test.yaml") $(grep -c '^      - alert:' "$prom/alerts.yaml")" \
        "26 20"
check "promtool takes the example configuration" promtool check config "$prom/prometheus.yaml"
mkdir "$dir/boards" && python3 "$root/deploy/grafana/dashboards.py" "$dir/boards"
check "the dashboards are what dashboards.py makes" diff -r -x '*.py' -x __pycache__ "$root/deploy/grafana" "$dir/boards"

wait "$queries" || not_ok "the queries end well" "$(tail -n 3 "$dir/queries")"
forget "$queries"
cat "$dir/queries"
