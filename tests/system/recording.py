#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes a small recording in the layout of Kepler's model database, with a structure that is known:
package = 40 + 60 * load * ipc + 5 * misses (in millions per second), dram = 10 + 4 * misses, core = 0;
platform = 100 + 1.2 * (package + dram). BPFOnly sees the load alone, Basic also ipc and misses.

    recording.py DIR [--no-segments] [--no-dynamic] [--no-platform] [--shuffle-columns]
"""
import os
import random
import sys

STRESSORS = (("alpha", 0.5), ("beta", 1.0), ("gamma", 1.4))
FREQUENCIES = (2000000, 3000000)
GROUPS = {
    "BPFOnly": ("bpf_cpu_time_ms", "bpf_page_cache_hit"),
    "Basic": ("bpf_cpu_time_ms", "bpf_page_cache_hit", "cache_miss", "cpu_cycles", "cpu_instructions"),
}


def rows():
    """(timestamp, segment, features, watts)"""
    rng = random.Random(7)
    timestamp, segment = 1700000000, 0
    plan = [(s, f, load) for load in (0.3, 0.9) for s in STRESSORS for f in FREQUENCIES]
    rng.shuffle(plan)
    for (name, ipc), frequency, load in plan:
        for i in range(12):
            busy = load * rng.uniform(0.9, 1.1) if i >= 3 else 0.01
            misses = busy * rng.uniform(0.5, 2.0) * frequency / 2e6
            cycles = busy * 8 * frequency * 1000
            features = {"bpf_cpu_time_ms": 8000 * busy, "bpf_page_cache_hit": rng.uniform(0, 0.001),
                        "cache_miss": misses * 1e6, "cpu_cycles": cycles, "cpu_instructions": cycles * ipc}
            package = 40 + 60 * busy * ipc + 5 * misses + rng.gauss(0, 0.2)
            dram = 10 + 4 * misses + rng.gauss(0, 0.05)
            watts = {"package": package, "core": 0.0, "uncore": 0.0, "dram": dram,
                     "platform": 100 + 1.2 * (package + dram) + rng.gauss(0, 0.3)}
            yield timestamp, (segment, name, frequency), features, watts
            timestamp += 3
        segment += 1


def write(path, header, lines):
    with open(path, "w", encoding="ascii") as f:
        f.write(",".join(header) + "\n")
        for line in lines:
            f.write(",".join(str(v) for v in line) + "\n")


def main():
    out, options = sys.argv[1], sys.argv[2:]
    data = list(rows())
    os.makedirs(os.path.join(out, "preprocessed_data"), exist_ok=True)
    sources = {"rapl": ("package", "core", "uncore", "dram")}
    if "--no-platform" not in options:
        sources["acpi"] = ("platform",)
    for kind in ("abs_default",) if "--no-dynamic" in options else ("abs_default", "dyn_default_min"):
        for source, components in sources.items():
            least = {c: min(w[c] for _, _, _, w in data) if kind != "abs_default" else 0 for c in components}
            for group, features in GROUPS.items():
                header = ["timestamp", *features, *(c + "_power" for c in components), "node_type"]
                lines = [[t, *(f[x] for x in features), *(w[c] - least[c] for c in components), 1]
                         for t, _, f, w in data]
                if "--shuffle-columns" in options:
                    header, lines = header[::-1], [line[::-1] for line in lines]
                write(os.path.join(out, "preprocessed_data", f"preprocess_{kind}_{source}_{group}.csv"), header, lines)
    if "--no-segments" not in options:
        segments = {}
        for t, (s, name, frequency), _, _ in data:
            first, _, n = segments.get(s, (t, t, 0))[:3]
            segments[s] = (first, t, n + 1, name, frequency)
        write(os.path.join(out, "segments.csv"),
              ("segment", "first_timestamp", "last_timestamp", "rows", "stressor", "workers", "frequency_khz", "s_fold"),
              [(s, v[0], v[1], v[2], v[3], 8, v[4], s % 4) for s, v in sorted(segments.items())])


main()
