# SPDX-License-Identifier: Apache-2.0
"""Makes batches (contract 2) of an invented node for the model server's system tests.

usage: model_server_batches.py NODE FIRST COUNT [key=value ...]

Intervals FIRST .. FIRST+COUNT-1 of 3 s each; the same arguments give the same bytes, and neighbouring ranges
fit together. Power is linear: package = 20 + 0.04 cpu + 3e-4 irq W (cpu in ms/s), dram = 4 + 2 page cache W,
platform = 1.3 package + 15 W.
keys: source (rapl-sysfs; platform gets acpi, or the same when it is not a sensor), epoch, cores, containers, base.
"""
import json
import math
import sys

STEP_MS = 3000


def rates(i, c, containers):
    """Per-second usage of container c in interval i."""
    cpu = (1500 + 1400 * math.sin(i * 0.7 + c)) / containers
    cache = (2 + 1.5 * math.sin(i * 1.3 + 2 * c)) / containers
    irq = (3000 + 2500 * math.sin(i * 0.31 + 3 * c)) / containers
    return {"bpf_cpu_time_ms": cpu, "bpf_page_cache_hit": cache, "bpf_net_rx_irq": irq,
            "bpf_net_tx_irq": irq * (1 + 0.2 * math.sin(i)), "bpf_block_irq": 10 + 5 * math.cos(i * 0.9)}


def batch(node, first, count, source="rapl-sysfs", epoch="e1", cores=8, containers=2, base=1700000000000):
    names = list(rates(0, 0, 1))
    containers, cores, base = int(containers), int(cores), int(base)
    totals = {(c, f): 0.0 for c in range(containers) for f in names}
    joules = {"package": 0.0, "dram": 0.0, "platform": 0.0}
    series = {}

    def put(name, ts, value, **labels):
        labels = dict(labels, __name__=name, job="wattloop", instance="node-" + node, node_id=node, epoch=epoch)
        series.setdefault(json.dumps(labels, sort_keys=True), []).append((ts, value))

    def sample(i):
        ts = base + i * STEP_MS
        for (c, f), v in totals.items():
            put("kepler_container_%s_total" % f, ts, round(v, 6), container_id="c%d" % c, pod_name="p",
                container_name="n%d" % c, container_namespace="ns", source="bpf")
        for comp, v in joules.items():
            wire = "acpi" if comp == "platform" and source == "rapl-sysfs" else source
            for mode, share in (("dynamic", 0.75), ("idle", 0.25)):
                put("kepler_node_%s_joules_total" % comp, ts, round(v * share, 6), package="0", mode=mode, source=wire)
        put("wattloop_node_measured_seconds_total", ts, i * STEP_MS / 1000)
        put("wattloop_node", ts, 1, boot_id="b", definition="exact", feature_source="bpf", processor="acme_z1",
            cores=str(cores), chips="1", memory="31", frequency="3100", batch_version="1")
        put("kepler_node_info", ts, 1, cpu_architecture="Zed Lake", source="os")

    if first == 0:
        sample(0)
    for i in range(first + count):
        use = {f: 0.0 for f in names}
        for c in range(containers):
            for f, v in rates(i, c, containers).items():
                totals[c, f] += v * STEP_MS / 1000
                use[f] += v
        package = 20 + 0.04 * use["bpf_cpu_time_ms"] + 3e-4 * use["bpf_net_rx_irq"]
        watts = {"package": package, "dram": 4 + 2 * use["bpf_page_cache_hit"], "platform": 1.3 * package + 15}
        for comp, w in watts.items():
            joules[comp] += w * STEP_MS / 1000
        if i >= first:
            sample(i + 1)
    for labels in sorted(series):
        points = series[labels]
        yield json.dumps({"metric": json.loads(labels), "values": [v for _, v in points],
                          "timestamps": [t for t, _ in points]}, separators=(",", ":"))


if __name__ == "__main__":
    options = dict(a.split("=", 1) for a in sys.argv[4:])
    for line in batch(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), **options):
        print(line)
