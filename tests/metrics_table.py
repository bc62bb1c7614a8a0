#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""docs/metrics.md from what the programs export.

usage: metrics_table.py table DIR           prints the document
       metrics_table.py check DIR DOCUMENT  compares DIR's real scrapes with a document; prints what is wrong

DIR holds Prometheus texts: PROGRAM.NAME.prom, scraped from running programs, and PROGRAM.all.NAME.prom, made by
metric_families, which writes with the collector's own code for a machine that has everything. Names, types, help and
labels come from there and nowhere else. What only this file knows is when a metric appears (WHEN) and which unit the
Kepler names without one have (UNITS).
"""
import os
import re
import sys

PROGRAMS = ["collector", "trainer-client", "model-server"]
TITLES = {
    "collector": "at `metrics.listen`, path /metrics. `metrics.style` chooses between Kepler's names up to 0.9 (`kepler-0.7`) "
                 "and since 0.10 (`kepler-0.10`); names that begin with `wattloop_` are there in both",
    "trainer-client": "in the file `metrics.textfile`, for a textfile collector",
    "model-server": "at `listen`, path /metrics",
}
OLD, NEW = "style kepler-0.7", "style kepler-0.10"

# When a metric appears, the first that matches; what nothing matches is always there.
WHEN = [
    (r"kepler_(node|container|vm|process)_other_joules_total|kepler_(container|vm|process)_platform_joules_total",
     "with a sensor of the platform"),
    (r"kepler_platform_watts", "with a sensor of the platform"),
    (r"kepler_(node|container|vm|process)_(core|uncore|dram|platform|psys)_joules_total", "with a sensor of it"),
    (r"kepler_vm_", "with virtual machines"),
    (r"kepler_process_.*(cpu_cycles|cpu_instructions|cache_miss)", "with hardware counters and `metrics.processes`"),
    (r"kepler_process_.*(page_cache|irq)", "with BPF and `metrics.processes`"),
    (r"kepler_process_", "with `metrics.processes`"),
    (r"kepler_pod_", "with pods"),
    (r"kepler_container_(cpu_cycles|cpu_instructions|cache_miss)", "with hardware counters"),
    (r"kepler_container_(bpf_(page_cache|net|block)|page_cache)", "with BPF"),
    (r"kepler_node_cpu_scaling_frequency_hertz", "where the machine tells its CPUs' frequency"),
    (r"wattloop_node_frequency_band_seconds_total", "where the machine tells its CPUs' frequency"),
    (r"wattloop_estimate_info", "with estimated power"),
    (r"wattloop_collector_bpf_run", "with BPF, where kernel.bpf_stats_enabled is on"),
    (r"wattloop_collector_kubelet_", "with `kubelet.url`"),
    (r"wattloop_estimator_(up|status_failures_total)$", "with `estimate.socket`"),
    (r"wattloop_estimator_model_", "with `estimate.socket`, while the estimator has models"),
    (r"wattloop_estimator_", "with `estimate.socket`, while the estimator answers"),
    (r"wattloop_server_model_", "once a model is published"),
    (r"wattloop_server_last_import_timestamp_seconds", "once a batch is stored"),
]
ALWAYS_TESTED = {"with `metrics.processes`", "with `estimate.socket`", "with estimated power", "once a model is published",
                 "once a batch is stored", "with `estimate.socket`, while the estimator has models",
                 "with `estimate.socket`, while the estimator answers"}
UNITS = [
    (r"cpu_time_ms", "milliseconds"), (r"bpf_page_cache", "million pages"), (r"_irq_", "softirqs"), (r"page_cache_(read|added)", "pages"),
    (r"cpu_cycles", "cycles"), (r"cpu_instructions", "instructions"), (r"cache_miss", "misses"),
    (r"timestamp_seconds$|interval_end_seconds$", "seconds since 1970"), (r"_usage_total$", "the feature's"),
    (r"_(joules|watts|seconds|bytes|hertz|ratio)(_total)?$", None), (r"_info$|_up$|_feature_source$", ""),
    (r"_(intervals|batches|samples|rows|requests|models|clients|processes|pods)(_total)?$", None),
]
SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="(?:[^"\\]|\\.)*"')


class Family:
    def __init__(self, name, help_text):
        self.name, self.help, self.type, self.labels, self.styles, self.samples = name, help_text, "", [], set(), 0


def read(path, families):
    """Adds the families of a text; what is known already keeps its help. Returns the names."""
    seen, style = set(), "new" if "kepler-0.10" in path else "old"
    for line in open(path, encoding="utf-8"):
        words = line.rstrip("\n").split(" ", 3)
        if line.startswith("# HELP "):
            families.setdefault(words[2], Family(words[2], words[3]))
            families[words[2]].styles.add(style)
            seen.add(words[2])
        elif line.startswith("# TYPE "):
            families[words[2]].type = words[3]
        elif line.strip():
            m = SAMPLE.match(line.rstrip("\n"))
            assert m, "%s: no sample: %s" % (path, line)
            name = m[1] if m[1] in families else re.sub(r"_(bucket|sum|count)$", "", m[1])
            assert name in seen, "%s: a sample before its family: %s" % (path, line)
            family = families[name]
            family.samples += 1
            for label in LABEL.findall(m[2] or ""):
                if label not in family.labels and label != "le":
                    family.labels.append(label)
    return seen


def load(directory):
    """By program: families, and the names that running programs exported with samples."""
    all_families, real = {p: {} for p in PROGRAMS}, {p: set() for p in PROGRAMS}
    files = sorted(os.listdir(directory), key=lambda f: (".all." not in f, f))
    for name in files:
        program = name.split(".")[0]
        families = {} if ".all." not in name else all_families[program]
        read(os.path.join(directory, name), families)
        if families is all_families[program]:
            continue
        for key, family in families.items():
            known = all_families[program].setdefault(key, family)
            known.styles |= family.styles
            known.labels += [label for label in family.labels if label not in known.labels]
            assert known.type == family.type, "%s has two types" % key
            assert known.help == family.help or key.startswith("kepler_"), "%s has two help texts" % key
            if family.samples:
                real[program].add(key)
    return all_families, real


def when(name):
    return next((text for pattern, text in WHEN if re.match(pattern, name)), "")


def unit(name):
    for pattern, text in UNITS:
        m = re.search(pattern, name)
        if m:
            return m[1] if text is None else text
    return "count"


def appears(program, family):
    styles = {"old": OLD, "new": NEW}
    style = styles[min(family.styles)] if program == "collector" and len(family.styles) == 1 else ""
    return ", ".join(filter(None, [style, when(family.name)])) or "always"


def help_of(family):
    """Kepler's help names the sensor that happened to be read."""
    return re.sub(r" value from (rapl-sysfs|acpi|bpf|simulated|estimate)$", " value from its source", family.help)


def order(name):
    prefixes = ["kepler_node", "kepler_container", "kepler_process", "kepler_vm", "kepler_pod", "kepler", "wattloop_node",
                "wattloop_collector", "wattloop_estimator"]
    return next((i for i, p in enumerate(prefixes) if name.startswith(p)), len(prefixes)), name


def table(directory):
    families, _ = load(directory)
    print("# Metrics\n\nEvery metric of every program, made by `make docs-metrics` from what the programs write; do not edit.\n"
          "The estimator and the updater have no endpoint: the collector asks the estimator for its status and exports it\n"
          "(`wattloop_estimator_*`), the updater tells the model server what became of an update (`wattloop_server_reports_total`).\n"
          "A gap is a gap: what could not be read is absent, never zero. `source` names a sensor only where power was measured,\n"
          "else it is `simulated`, `virtual` or `estimate`.")
    for program in PROGRAMS:
        print("\n## wattloop-%s\n\n%s.\n\n| name | type | unit | labels | when | help |\n|---|---|---|---|---|---|"
              % (program, TITLES[program][0].upper() + TITLES[program][1:]))
        for name in sorted(families[program], key=order):
            f = families[program][name]
            print("| `%s` | %s | %s | %s | %s | %s |" % (name, f.type, unit(name), ", ".join(sorted(f.labels)) or "-",
                                                     appears(program, f), help_of(f).replace("|", "\\|").rstrip(".")))


def check(directory, document):
    """What a document lacks, or promises in vain. Returns the number of complaints."""
    families, real = load(directory)
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \| (?:[^|\\]|\\.)* \|$", open(document, encoding="utf-8").read(), re.M))
    wrong = []
    for program in PROGRAMS:
        wrong += ["%s exports %s, which is not in the table" % (program, n) for n in sorted(real[program] - set(rows))]
        for name in sorted(set(families[program]) - real[program]):
            conditions = set(rows.get(name, "always").split(", ")) - {OLD, NEW}
            if not conditions or rows.get(name) == "always" or when(name) in ALWAYS_TESTED:
                wrong.append("no running program exported %s, and the table names no reason" % name)
    known = set().union(*(set(families[p]) for p in PROGRAMS))
    wrong += ["the table has %s, which no program exports" % n for n in sorted(set(rows) - known)]
    print("\n".join(wrong) if wrong else "%d metrics, %d of them exported by a running program"
          % (len(rows), len(set().union(*real.values()) & set(rows))))
    return len(wrong)


if __name__ == "__main__":
    if sys.argv[1:2] == ["table"] and len(sys.argv) == 3:
        table(sys.argv[2])
    elif sys.argv[1:2] == ["check"] and len(sys.argv) == 4:
        sys.exit(check(sys.argv[2], sys.argv[3]) > 0)
    else:
        sys.exit(__doc__)
