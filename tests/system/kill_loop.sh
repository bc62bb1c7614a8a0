#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# kill -9 of collector, trainer-client and model-server at KILLS random moments from SEED while they record and upload: nothing
# that was acknowledged is lost, nothing is there twice, and in the end all that was recorded is at the server.
set -u
. "$(dirname "$0")/lib.sh"
KILLS=${KILLS:-20} # make soak-kills: 300
RANDOM=${SEED:-20261}
[ -x "$BIN/wattloop-demo-simulator" ] || { echo "make $BIN/wattloop-demo-simulator first" >&2; exit 1; }

dir=$(tmpdir)
mkdir -p "$dir"/{collector,trainer-client,server}
port=$(free_port)
cgroup=$(awk '$3 == "cgroup" && $4 ~ /(^|,)cpuacct(,|$)/ { print $2; exit }' /proc/mounts)
cgroup=${cgroup:-$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)}

collector=0 client=0 server=0 simulator=0

start_collector() {
        start "$dir/collector.log" "$BIN/wattloop-collector" --sampling-interval 100ms --sysfs-root "$dir/sys" \
                --store-path "$dir/collector/samples.db" --metrics-listen '' run
        collector=$STARTED_PID
}

push_options=(--store-path "$dir/collector/samples.db" --state-path "$dir/trainer-client"
        --server-url "http://127.0.0.1:$port" --retry-base 20ms --retry-max 200ms)
start_client() {
        start "$dir/trainer-client.log" "$BIN/wattloop-trainer-client" "${push_options[@]}" \
                --follow true --follow-interval 100ms push
        client=$STARTED_PID
}

start_server() {
        start "$dir/model-server.log" "$BIN/wattloop-model-server" --listen "127.0.0.1:$port" \
                --database-path "$dir/server/server.db" --models-path "$dir/server/pipelines" \
                --training-provenance simulated --publish-interval 1s serve
        server=$STARTED_PID
}

# A program that gave up because another was away is started again, as a service manager would.
revive() {
        ended $collector && { forget $collector; start_collector; revived=$((revived + 1)); }
        ended $client && { forget $client; start_client; revived=$((revived + 1)); }
        ended $server && { forget $server; start_server; revived=$((revived + 1)); }
}

acknowledge_log() {
        cat "$dir/collector/acks/model-server.json" >>"$dir/acks.seen" 2>/dev/null && echo >>"$dir/acks.seen"
}

kill_one() {
        local name=$1 pid=${!1}

        kill -KILL "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
        forget "$pid"
        "start_$name"
}

recorded() {
        sqlite3 -readonly "$dir/collector/samples.db" '.timeout 2000' 'SELECT count(*) FROM interval'
}

start "$dir/simulator.log" "$BIN/wattloop-demo-simulator" --root "$dir/sys" --cgroup "$cgroup" --truth "$dir/truth.log"
simulator=$STARTED_PID
wait_for 5 test -s "$dir/truth.log"
start_server
start_collector
wait_for 10 eval '[ "$(recorded)" -ge 3 ]' || {
        not_ok "the collector records" "$(tail -n 3 "$dir/collector.log")"
        exit 0
}
start_client

kills=0 revived=0
declare -A killed=([collector]=0 [client]=0 [server]=0)
names=(collector client server)
while [ $kills -lt "$KILLS" ]; do
        sleep "0.$((RANDOM % 800 + 100))"
        acknowledge_log
        name=${names[RANDOM % 3]}
        kill_one "$name" 2>/dev/null
        killed[$name]=$((killed[$name] + 1))
        kills=$((kills + 1))
        revive
done

sleep 1
revive
check "the server answers after the last kill" wait_for 10 curl -sf --noproxy '*' "http://127.0.0.1:$port/healthz"
stop $client
stop $collector
acknowledge_log
final_push() {
        "$BIN/wattloop-trainer-client" "${push_options[@]}" push
        case $? in 0 | 3) ;; *) return 1 ;; esac
}
check "a last push is acknowledged" final_push
acknowledge_log
learned() { # what the last push brought is folded into rows a moment later
        [ "$(sqlite3 -readonly "$dir/server/server.db" '.timeout 2000' 'SELECT count(*) FROM row')" -ge $(($(recorded) * 95 / 100)) ]
}
wait_for 30 learned
check "the server ends cleanly" stop $server
stop $simulator

echo "# $kills kills: ${killed[collector]} collector, ${killed[client]} trainer-client, ${killed[server]} model-server;" \
        "$revived restarts after a program gave up"
PYTHONPATH=$(dirname "$0") python3 - "$dir" <<'PY'
import json, sqlite3, sys
import server_db

base = sys.argv[1]


def connect(path):
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True)


def verdict(claim, wrong):
    print(f"ok - {claim}" if not wrong else f"not ok - {claim}: {wrong}")


local = connect(f"{base}/collector/samples.db")
remote = connect(f"{base}/server/server.db")

intervals = local.execute("SELECT interval_id, epoch, start_ms, end_ms, measured_ns, feature_source FROM interval"
                          " JOIN epoch USING (epoch_id) ORDER BY interval_id").fetchall()
ends = {i: (epoch, end) for i, epoch, _, end, _, _ in intervals}
starts = {i: (epoch, start) for i, epoch, start, _, _, _ in intervals}

# What the intervals demand: (series, time stamp) -> value. A sample at the start of an interval repeats what was
# before; it may be there or not, so it is allowed but not demanded.
wanted, allowed = {}, set()
for i, epoch, start, end, measured_ns, _ in intervals:
    wanted[("wattloop_node_measured_seconds_total", epoch, end)] = measured_ns / 1e9
    allowed.add(("wattloop_node_measured_seconds_total", epoch, start))
for i, component, unit, uj in local.execute("SELECT interval_id, component, unit, energy_uj FROM power JOIN sensor"
                                            " USING (sensor_id)"):
    name = (f"kepler_node_{component}_joules_total", unit)
    wanted[(name, *ends[i])] = uj / 1e6
    allowed.add((name, *starts[i]))
scale = {"cpu_time_ns": ("bpf_cpu_time_ms", 1e-6), "page_cache_pages": ("bpf_page_cache_hit", 1e-6),
         "net_tx_irq": ("bpf_net_tx_irq", 1), "net_rx_irq": ("bpf_net_rx_irq", 1), "block_irq": ("bpf_block_irq", 1),
         "page_cache_read_pages": ("page_cache_read", 1e-6), "page_cache_added_pages": ("page_cache_added", 1e-6)}
for column, (feature, factor) in scale.items():
    for i, key, value in local.execute(f"SELECT interval_id, key, {column} FROM usage JOIN entity USING (entity_id)"
                                       f" WHERE kind = 'container' AND {column} IS NOT NULL"):
        name = (f"kepler_container_{feature}_total", key)
        wanted[(name, *ends[i])] = value * factor
        allowed.add((name, *starts[i]))

# The modes of an energy series add up.
got, modes = {}, {}
for label, ts, value in ((label, *sample) for label, chunk in server_db.series(f"{base}/server/server.db") for sample in chunk):
    name = label["__name__"]
    if name.startswith("kepler_node_") and name.endswith("_joules_total"):
        key = ((name, label["package"]), label["epoch"], ts)
        got[key] = got.get(key, 0) + value
        modes.setdefault(key, []).append(label["mode"])
    elif name.startswith("kepler_container_"):
        key = ((name, label["container_id"]), label["epoch"], ts)
        if key in got:
            modes[key] = ["twice", "twice"]
        got[key] = value
    elif name == "wattloop_node_measured_seconds_total":
        got[(name, label["epoch"], ts)] = value

kinds = {"intervals": len(intervals), "samples": len(wanted)}
print(f"# {kinds['intervals']} intervals of {len({e for e, _ in ends.values()})} epoch(s), features from {intervals[-1][5]};"
      f" {kinds['samples']} samples wanted, {len(got)} at the server")
verdict("enough was recorded between the kills to mean something", "" if len(intervals) >= 60 else f"{len(intervals)} intervals")
missing = [k for k in wanted if k not in got]
verdict("every recorded interval is at the server", f"{len(missing)} samples missing, as {missing[:3]}" if missing else "")
twice = [k for k, m in modes.items() if len(m) != len(set(m))]
verdict("no sample is there twice", f"{len(twice)}, as {twice[:3]}" if twice else "")
phantoms = [k for k in got if k not in wanted and k not in allowed]
verdict("the server has nothing that was not recorded", f"{len(phantoms)}, as {phantoms[:3]}" if phantoms else "")
other = [(k, wanted[k], got[k]) for k in wanted if k in got and abs(wanted[k] - got[k]) > 1e-6 + 1e-9 * abs(wanted[k])]
verdict("all values are those that were recorded", f"{len(other)} differ, as {other[:3]}" if other else "")

acks = []
for line in open(f"{base}/acks.seen"):
    if line.strip():
        acks.append(json.loads(line))
acks = [a for a in acks if a["interval_id"] > 0]  # before the first batch
vanished = [a for a in acks if ends.get(a["interval_id"]) != (a["epoch"], a["end_ms"])]
verdict("every acknowledgement names an interval that is still recorded", f"{vanished[:2]}" if vanished else "")
last = max((a["interval_id"] for a in acks), default=0)
lost = [i for i, end in ends.items() if i <= last and ("wattloop_node_measured_seconds_total", *end) not in got]
verdict("no acknowledged interval is lost", f"{len(lost)} lost" if lost else "" if last == intervals[-1][0] else f"acknowledged {last} of {intervals[-1][0]}")

rows = remote.execute("SELECT epoch, start_ms, end_ms FROM row JOIN epoch USING (epoch_id) ORDER BY epoch, end_ms").fetchall()
overlap = [(a, b) for a, b in zip(rows, rows[1:]) if a[0] == b[0] and b[1] < a[2]]
verdict("no training row overlaps another: no joule is learned twice", f"{overlap[:2]}" if overlap else "")
extra = [r for r in rows if (r[0], r[2]) not in set(ends.values())]
verdict("each training row ends where an interval ended", f"{extra[:2]}" if extra else "")
verdict("nearly every interval became a training row", f"{len(rows)} of {len(intervals)}" if len(rows) < 0.95 * len(intervals) else "")
learned = connect(f"{base}/server/server.learn.db").execute("SELECT ifnull(sum(rows), 0) FROM score").fetchone()[0]
verdict("each row was learned once", f"learned {learned}, there are {len(rows)} rows" if learned > len(rows) else "")
PY
