#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An offline trainer of Kepler's that takes nothing but what the upstream one takes: kepler_trainer.py PORT LOG ZIP

POST /train is checked against every rule of upstream's TrainRequest and prom_response; what breaks one is answered with
500 as upstream does, and the rule goes into LOG. Otherwise the answer is ZIP, LOG gets the counts, LOG.body the request.
As a module, check(body) raises a Wrong; kepler_trainer.py --break BODY breaks each rule in a request that keeps them all,
and names those that the checker does not miss."""
import copy
import http.server
import json
import math
import sys

KEYS = {"name": str, "energy_source": str, "trainer": dict, "prom_response": dict, "use_vm_metrics": bool}
TRAINER_KEYS = {"abs_trainers": list, "dyn_trainers": list, "idle_prom_response": dict, "isolator": str,
                "isolator_args": dict}
SOURCES = {"rapl-sysfs": ["package", "core", "uncore", "dram"], "rapl-msr": ["package", "core", "uncore", "dram"],
           "acpi": ["platform"]}
TRAINERS = {"SGDRegressorTrainer", "LinearRegressionTrainer", "PolynomialRegressionTrainer",
            "GradientBoostingRegressorTrainer", "KNeighborsRegressorTrainer", "SVRRegressorTrainer", "XgboostFitTrainer",
            "LogarithmicRegressionTrainer", "LogisticRegressionTrainer", "ExponentialRegressionTrainer"}
ISOLATORS = {"MinIdleIsolator", "NoneIsolator", "ProfileBackgroundIsolator", "TrainIsolator"}
PROFILING = {"ProfileBackgroundIsolator", "TrainIsolator"}
COUNTER = ["cache_miss", "cpu_cycles", "cpu_instructions"]
IRQ = ["bpf_block_irq", "bpf_net_rx_irq", "bpf_net_tx_irq"]
BPF = ["bpf_cpu_time_ms", "bpf_page_cache_hit"]
GROUPS = {"CounterOnly": COUNTER, "BPFOnly": BPF, "BPFIRQ": BPF + IRQ, "CounterIRQCombined": COUNTER + IRQ,
          "Basic": BPF + COUNTER}


class Wrong(Exception):
    pass


def need(rule, words):
    if not rule:
        raise Wrong(words)


def no_twice(pairs):
    need(len({k for k, _ in pairs}) == len(pairs), "an object names a key twice")
    return dict(pairs)


def check_keys(value, keys, what, optional=()):
    need(isinstance(value, dict), f"{what} is no object")
    need(set(value) <= set(keys), f"{what} has unknown keys {set(value) - set(keys)}")
    for key, kind in keys.items():
        if key in value:
            need(isinstance(value[key], kind), f"{what}.{key} is no {kind.__name__}")
        else:
            need(key in optional, f"{what}.{key} is missing")


def check_response(response, source, what):
    """Returns the names of metrics that have data, and how many samples there are."""
    full, samples = set(), 0
    for name, results in response.items():
        need(isinstance(results, list), f"{what}: {name} is no array")
        sets = set()
        for one in results:
            need(isinstance(one, dict) and set(one) == {"metric", "values"}, f"{what}: {name} has a result that is no matrix")
            metric = one["metric"]
            need(isinstance(metric, dict) and all(isinstance(v, str) for v in metric.values()), f"{what}: labels are no strings")
            need(metric.get("__name__") == name, f"{what}: {name} holds {metric.get('__name__')}")
            need(metric.get("job"), f"{what}: {name} has no job")
            need(metric["job"] != "vm", f"{what}: rows of job vm are dropped")
            if name.startswith("kepler_container_"):
                for label in ("container_id", "pod_name", "container_name", "container_namespace"):
                    need(label in metric, f"{what}: {name} has no {label}")
            if name.startswith("kepler_node_") and name.endswith("_joules_total"):
                for label in ("source",):
                    need(label in metric, f"{what}: {name} has no {label}")
            key = tuple(sorted(metric.items()))
            need(key not in sets, f"{what}: {name} has a series twice")
            sets.add(key)
            values = one["values"]
            need(isinstance(values, list) and values, f"{what}: {name} has a series without values")
            before = -math.inf
            for pair in values:
                need(isinstance(pair, list) and len(pair) == 2, f"{what}: {name} has a value that is no pair")
                at, text = pair
                need(isinstance(at, (int, float)) and not isinstance(at, bool), f"{what}: {name} has a time that is no number")
                need(1e9 < at < 1e10, f"{what}: {at} is not in seconds")
                need(at > before, f"{what}: {name} goes back in time")
                before = at
                need(isinstance(text, str), f"{what}: {name} has a value that is no string")
                float(text)
            samples += len(values)
            if name.startswith("kepler_node_") and metric.get("source") != source and name.endswith("_joules_total"):
                continue
            full.add(name)
    return full, samples


def check(body):
    request = json.loads(body, object_pairs_hook=no_twice)
    check_keys(request, KEYS, "request", optional=("use_vm_metrics",))
    trainer = request["trainer"]
    check_keys(trainer, TRAINER_KEYS, "trainer")
    need(request["name"] and "/" not in request["name"], "name is no file name")
    source = request["energy_source"]
    need(source in SOURCES, f"energy_source '{source}' is not known")
    for key in ("abs_trainers", "dyn_trainers"):
        need(trainer[key] and set(trainer[key]) <= TRAINERS, f"{key} names an unknown trainer")
    need(trainer["isolator"] in ISOLATORS, "isolator is not known")
    need(set(trainer["isolator_args"]) <= {"abs_pipeline_name"}, "isolator_args has unknown keys")
    full, samples = check_response(request["prom_response"], source, "prom_response")
    for component in SOURCES[source]:
        need(f"kepler_node_{component}_joules_total" in full, f"there is no energy of {component}")
    groups = [g for g, names in GROUPS.items() if all(f"kepler_container_{n}_total" in full for n in names)]
    need(groups, "no feature group is complete")
    idle = trainer["idle_prom_response"]
    check_response(idle, source, "idle_prom_response")
    need("kepler_container_bpf_cpu_time_ms_total" in idle or trainer["isolator"] not in PROFILING, "the idle recording has no CPU time")
    for group in groups:
        need(all(f"kepler_container_{n}_total" in idle for n in GROUPS[group]), f"the idle recording lacks features of {group}")
    idle_end = [v[0] for r in idle.values() for s in r for v in s["values"]]
    return {"samples": samples, "groups": groups, "idle_seconds": max(idle_end) - min(idle_end) if idle_end else 0,
            "zero": [c for c in SOURCES[source] if all(float(v[1]) == 0 for s in request["prom_response"][
                f"kepler_node_{c}_joules_total"] for v in s["values"])]}


def first(request, what):
    """The first series of a metric whose name has `what` in it, of the recording."""
    return next(r[0] for name, r in request["prom_response"].items() if what in name and r)


# What breaks a rule of upstream's, one each.
BREAKS = {
    "an unknown key": lambda r: r.update(colour="blue"),
    "no name": lambda r: r.pop("name"),
    "no energy source": lambda r: r.pop("energy_source"),
    "another source's name": lambda r: r.update(energy_source="rapl"),
    "no trainer": lambda r: r.pop("trainer"),
    "no recording": lambda r: r.pop("prom_response"),
    "no abs_trainers": lambda r: r["trainer"].pop("abs_trainers"),
    "no dyn_trainers": lambda r: r["trainer"].pop("dyn_trainers"),
    "no isolator": lambda r: r["trainer"].pop("isolator"),
    "no isolator_args": lambda r: r["trainer"].pop("isolator_args"),
    "no idle_prom_response": lambda r: r["trainer"].pop("idle_prom_response"),
    "an unknown trainer": lambda r: r["trainer"]["abs_trainers"].append("KerasTrainer"),
    "trainers that are no array": lambda r: r["trainer"].update(dyn_trainers="SGDRegressorTrainer"),
    "an unknown isolator": lambda r: r["trainer"].update(isolator="MaxIdleIsolator"),
    "an argument that no isolator reads": lambda r: r["trainer"].update(isolator_args={"x": "y"}),
    "a metric that is no array": lambda r: r["prom_response"].update(kepler_node_package_joules_total={}),
    "no energy of a component": lambda r: [r["prom_response"].pop(k) for k in list(r["prom_response"]) if "_joules_" in k],
    "no energy of one component": lambda r: r["prom_response"].pop(next(k for k in r["prom_response"] if "_joules_" in k)),
    "an isolator that needs the idle CPU time": lambda r: (r["trainer"].update(isolator="ProfileBackgroundIsolator"), r["trainer"][
        "idle_prom_response"].pop("kepler_container_bpf_cpu_time_ms_total", None)),
    "an idle recording of other features": lambda r: [r["trainer"]["idle_prom_response"].pop(k) for k in list(
        r["trainer"]["idle_prom_response"]) if "container" in k],
    "an idle recording without jobs": lambda r: [s["metric"].pop("job") for v in r["trainer"]["idle_prom_response"].values() for s in v],
    "energy of another source": lambda r: [s["metric"].update(source="other") for k, v in r["prom_response"].items()
                                           if "_joules_" in k for s in v],
    "no feature": lambda r: [r["prom_response"].pop(k) for k in list(r["prom_response"]) if "container" in k],
    "a vector": lambda r: first(r, "container").update(value=first(r, "container").pop("values")[0]),
    "no labels": lambda r: first(r, "container").pop("metric"),
    "a label that is no string": lambda r: first(r, "container")["metric"].update(pod_name=7),
    "no job": lambda r: first(r, "container")["metric"].pop("job"),
    "the job of virtual machines": lambda r: first(r, "container")["metric"].update(job="vm"),
    "another metric's name": lambda r: first(r, "container")["metric"].update(__name__="up"),
    "no container_id": lambda r: first(r, "container")["metric"].pop("container_id"),
    "no container_namespace": lambda r: first(r, "container")["metric"].pop("container_namespace"),
    "no source of energy": lambda r: first(r, "_joules_")["metric"].pop("source"),
    "a series twice": lambda r: next(v for k, v in r["prom_response"].items() if "container" in k).append(first(r, "container")),
    "no values": lambda r: first(r, "container").update(values=[]),
    "a value that is a number": lambda r: first(r, "container")["values"][0].__setitem__(1, 7.5),
    "a value that is a word": lambda r: first(r, "container")["values"][0].__setitem__(1, "seven"),
    "a time that is text": lambda r: first(r, "container")["values"][0].__setitem__(0, "1700000000"),
    "a time in milliseconds": lambda r: first(r, "container")["values"][0].__setitem__(0, 1.7e12),
    "a time that goes back": lambda r: first(r, "container")["values"].reverse(),
}


def break_rules(body):
    """Prints what was broken and yet taken; a number at the end."""
    request = json.loads(body)
    check(body)
    for what, damage in BREAKS.items():
        broken = copy.deepcopy(request)
        damage(broken)
        try:
            check(json.dumps(broken))
            print(f"taken: {what}")
        except (Wrong, ValueError, KeyError, TypeError):
            pass
    print(f"{len(BREAKS)} rules broken")


def main():
    if sys.argv[1] == "--break":
        break_rules(open(sys.argv[2], encoding="utf-8").read())
        return
    port, log, archive = int(sys.argv[1]), sys.argv[2], sys.argv[3]

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                need(self.path == "/train", f"{self.path} is not /train")
                need(self.headers["Content-Type"].startswith("application/json"), "the content type is not JSON")
                line, status, answer = json.dumps(check(body)), 200, open(archive, "rb").read()
                with open(log + ".body", "wb") as f:
                    f.write(body)
            except (Wrong, ValueError, KeyError, TypeError) as e:
                line, status, answer = f"wrong: {e}", 500, b"<html>Internal Server Error</html>"
            with open(log, "a", encoding="utf-8") as f:
                f.write(line + "\n")
            self.send_response(status)
            self.send_header("Content-Type", "application/zip" if status == 200 else "text/html")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main()
