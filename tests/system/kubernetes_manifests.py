# SPDX-License-Identifier: Apache-2.0
"""What deploy/kubernetes renders to, held against Kubernetes' own schema and against our programs.

usage: kubernetes_manifests.py BIN DIR OVERLAY=FILE...    prints ok and not ok lines; DIR is for its files

The schema is the typed models of python3-kubernetes, made from Kubernetes' OpenAPI: every field must be one of theirs, of
their type, and required ones must be there.
"""
import copy
import os
import re
import subprocess
import sys

import kubernetes.client as k8s
import yaml

BIN, DIR = sys.argv[1:3]
PROGRAMS = {"collector", "trainer-client", "model-server", "updater", "estimator"}
SCENARIOS = {  # the programs of each, by workload
    "minimum": {"wattloop-node": {"collector"}},
    "sidecar": {"wattloop-node": {"collector", "estimator", "updater"}},
    "minimum-server": {"wattloop-node": {"collector", "updater"}, "wattloop-measured": {"collector", "trainer-client"},
                       "wattloop-model-server": {"model-server"}},
    "full": {"wattloop-node": {"collector", "estimator", "updater"}, "wattloop-measured": {"collector", "trainer-client"},
             "wattloop-model-server": {"model-server"}},
}
# What an operator makes by hand (docs/operations.md), or the cluster gives.
GIVEN = {("Secret", "wattloop-node"): {"token"}, ("Secret", "wattloop-server"): {"tokens", "release.key"},
         ("ConfigMap", "wattloop-trust"): {"release.pub"}, ("ConfigMap", "wattloop-weight"): {"weight.json"},
         ("ConfigMap", "kube-root-ca.crt"): {"ca.crt"}}
CAPABILITIES = {"collector": {"BPF", "PERFMON", "DAC_READ_SEARCH"}}
AS_ROOT = {"collector", "trainer-client"}


def say(claim, complaints):
    print("%sok - %s%s" % ("not " if complaints else "", claim, ": " + "; ".join(complaints)[:1500] if complaints else ""))


# ---- schema ----

def model_of(obj):
    group, _, version = obj.get("apiVersion", "").rpartition("/")
    known = group in ("", "apps", "rbac.authorization.k8s.io", "networking.k8s.io")
    return getattr(k8s, version.upper() + obj.get("kind", ""), None) if known else None


SCALARS = {"str": str, "int": int, "bool": bool, "float": (int, float), "datetime": str}


def check_value(value, kind, where, wrong):
    m = re.fullmatch(r"list\[(.*)\]", kind)
    if m:
        if not isinstance(value, list):
            wrong.append(where + " is no list")
        else:
            for i, item in enumerate(value):
                check_value(item, m[1], "%s[%d]" % (where, i), wrong)
        return
    m = re.fullmatch(r"dict\(str, (.*)\)", kind)
    if m:
        if not isinstance(value, dict):
            wrong.append(where + " is no map")
        else:
            for key, item in value.items():
                check_value(item, m[1], where + "." + str(key), wrong)
        return
    if kind == "object":  # int-or-string, quantities
        if not isinstance(value, (str, int)) or isinstance(value, bool):
            wrong.append(where + " is neither text nor number")
    elif kind in SCALARS:
        if not isinstance(value, SCALARS[kind]) or (isinstance(value, bool) and kind != "bool"):
            wrong.append("%s is no %s" % (where, kind))
    else:
        check_object(value, getattr(k8s, kind), where, wrong)


def check_object(obj, model, where, wrong):
    if not isinstance(obj, dict):
        wrong.append(where + " is no map")
        return
    fields = {json: name for name, json in model.attribute_map.items()}
    values = {}
    for key, value in obj.items():
        if key not in fields:
            wrong.append("%s has no field '%s'" % (where, key))
        elif value is None:
            wrong.append("%s.%s is empty" % (where, key))
        else:
            values[fields[key]] = value
            check_value(value, model.openapi_types[fields[key]], "%s.%s" % (where, key), wrong)
    try:
        model(**values)  # its setters know what is required, and enumerations
    except (ValueError, TypeError) as e:
        wrong.append("%s: %s" % (where, e))


def schema_errors(objects):
    wrong = []
    for obj in objects:
        where = "%s/%s" % (obj.get("kind"), obj.get("metadata", {}).get("name"))
        model = model_of(obj)
        if model is None:
            wrong.append(where + " is of no known kind")
        else:
            check_object(obj, model, where, wrong)
    return wrong


# ---- references ----

def workloads(objects):
    return [o for o in objects if o["kind"] in ("DaemonSet", "StatefulSet", "Deployment")]


def by_kind(objects, kind):
    return {o["metadata"]["name"]: o for o in objects if o["kind"] == kind}


def volume_sources(volume):
    """(kind, name, keys that are named or None) of what a volume takes from elsewhere."""
    for source in [volume] + volume.get("projected", {}).get("sources", []):
        for kind, field, key in (("ConfigMap", "configMap", "name"), ("Secret", "secret", "secretName")):
            if field in source:
                yield kind, source[field].get(key) or source[field]["name"], [i["key"] for i in source[field].get("items", [])]


def check_pod(w, objects, wrong):
    spec, name = w["spec"]["template"]["spec"], w["metadata"]["name"]
    labels = w["spec"]["template"]["metadata"]["labels"]
    if w["spec"]["selector"]["matchLabels"].items() - labels.items():
        wrong.append(name + ": its selector does not select its pods")
    if spec["serviceAccountName"] not in by_kind(objects, "ServiceAccount"):
        wrong.append("%s: no ServiceAccount %s" % (name, spec["serviceAccountName"]))
    volumes = {v["name"]: v for v in spec["volumes"]}
    volumes.update({v["metadata"]["name"]: v for v in w["spec"].get("volumeClaimTemplates", [])})
    if len(volumes) != len(spec["volumes"]) + len(w["spec"].get("volumeClaimTemplates", [])):
        wrong.append(name + ": two volumes with one name")
    used = set()
    for v in spec["volumes"]:
        for kind, source, keys in volume_sources(v):
            known = GIVEN.get((kind, source)) or set(by_kind(objects, kind).get(source, {}).get("data", {}))
            if not known or set(keys) - known:
                wrong.append("%s: no %s %s with %s" % (name, kind, source, keys))
    for c in spec["containers"]:
        where = "%s, %s" % (name, c["name"])
        mounts = [m["name"] for m in c["volumeMounts"]]
        used |= set(mounts)
        wrong += ["%s: no volume %s" % (where, m) for m in mounts if m not in volumes]
        if len({m["mountPath"] for m in c["volumeMounts"]}) != len(mounts):
            wrong.append(where + ": two volumes at one place")
        ports = {p["name"] for p in c.get("ports", [])}
        for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
            port = c.get(probe, {}).get("httpGet", {}).get("port")
            if port is not None and port not in ports:
                wrong.append("%s: %s asks port %s" % (where, probe, port))
        program = c["name"]
        if c["image"] != "wattloop/%s:%s" % (program, version(program)) or c["command"] != ["/usr/sbin/wattloop-" + program]:
            wrong.append("%s: image %s, command %s" % (where, c["image"], c["command"]))
    wrong += ["%s: volume %s is not used" % (name, v) for v in set(volumes) - used]
    if labels["app.kubernetes.io/name"] not in ("wattloop-collector", "wattloop-model-server"):
        wrong.append(name + ": a job that neither alerts nor dashboards know")
    annotations = w["spec"]["template"]["metadata"]["annotations"]
    if [str(p["containerPort"]) for c in spec["containers"] for p in c.get("ports", [])] != [annotations["prometheus.io/port"]]:
        wrong.append(name + ": the port to scrape is not its own")


def selects(selector, objects):
    wanted = selector.get("matchLabels", selector)
    return [w for w in workloads(objects) if not wanted.items() - w["spec"]["template"]["metadata"]["labels"].items()]


def check_network(objects, wrong):
    for name, s in by_kind(objects, "Service").items():
        ports = {p["name"] for w in selects(s["spec"]["selector"], objects) for c in w["spec"]["template"]["spec"]["containers"]
                 for p in c.get("ports", [])}
        wrong += ["Service %s: no port %s" % (name, p["targetPort"]) for p in s["spec"]["ports"] if p["targetPort"] not in ports]
    for name, n in by_kind(objects, "NetworkPolicy").items():
        selectors = [n["spec"]["podSelector"]] + [f["podSelector"] for i in n["spec"]["ingress"] for f in i["from"] if "podSelector" in f]
        wrong += ["NetworkPolicy %s selects nothing" % name for s in selectors if s and not selects(s, objects)]
    for name, b in by_kind(objects, "ClusterRoleBinding").items():
        if b["roleRef"]["name"] not in by_kind(objects, "ClusterRole") or any(
                s["name"] not in by_kind(objects, "ServiceAccount") or s["namespace"] != "wattloop" for s in b["subjects"]):
            wrong.append("ClusterRoleBinding %s binds what is not there" % name)
    for o in objects:
        namespaced = o["kind"] not in ("Namespace", "ClusterRole", "ClusterRoleBinding")
        if (o["metadata"].get("namespace") == "wattloop") != namespaced:
            wrong.append("%s/%s: namespace %s" % (o["kind"], o["metadata"]["name"], o["metadata"].get("namespace")))
    if "wattloop" not in by_kind(objects, "Namespace"):
        wrong.append("no namespace")


# ---- privileges ----

def check_privileges(w, wrong):
    spec = w["spec"]["template"]["spec"]
    pod = spec["securityContext"]
    if pod["seccompProfile"]["type"] != "RuntimeDefault" or spec["automountServiceAccountToken"] is not False:
        wrong.append(w["metadata"]["name"] + ": no seccomp profile, or a token for everybody")
    if spec.get("hostNetwork") or spec.get("hostIPC") or bool(spec.get("hostPID")) != (w["kind"] == "DaemonSet"):
        wrong.append(w["metadata"]["name"] + ": namespaces of the host")
    writable = {v["name"] for v in spec["volumes"] if v.get("hostPath", {}).get("path") == "/var/lib/wattloop"}
    host = {v["name"] for v in spec["volumes"] if "hostPath" in v} - writable
    for c in spec["containers"]:
        where, own = "%s, %s" % (w["metadata"]["name"], c["name"]), c["securityContext"]
        if own["readOnlyRootFilesystem"] is not True or own["allowPrivilegeEscalation"] is not False or own.get("privileged"):
            wrong.append(where + ": root file system or escalation")
        if own["capabilities"]["drop"] != ["ALL"] or set(own["capabilities"].get("add", [])) != CAPABILITIES.get(c["name"], set()):
            wrong.append("%s: capabilities %s" % (where, own["capabilities"]))
        if {**pod, **own}.get("runAsUser") != (0 if c["name"] in AS_ROOT else 64000):
            wrong.append(where + ": another user")
        if c["name"] not in AS_ROOT and not {**pod, **own}.get("runAsNonRoot"):
            wrong.append(where + ": may run as root")
        wrong += ["%s: %s of the host may be written" % (where, m["name"]) for m in c["volumeMounts"]
                  if m["name"] in host and not m.get("readOnly")]
        if any(m["name"] == "kubelet-token" for m in c["volumeMounts"]) != (c["name"] == "collector"):
            wrong.append(where + ": the kubelet's token")
        if "memory" not in c["resources"]["limits"] or set(c["resources"]["requests"]) != {"cpu", "memory"}:
            wrong.append(where + ": resources")


# ---- configurations ----

def version(program):
    out = subprocess.run([os.path.join(BIN, "wattloop-" + program), "--version"], capture_output=True, text=True, check=True).stdout
    return out.split()[1]


def effective(overlay, w, container, objects, wrong):
    """The configuration that the program itself says it has, after it was checked; by flat key."""
    spec = w["spec"]["template"]["spec"]
    where = "%s, %s, %s" % (overlay, w["metadata"]["name"], container["name"])
    mount = [m["name"] for m in container["volumeMounts"] if m["mountPath"] == "/etc/wattloop"]
    volume = [v for v in spec["volumes"] if mount and v["name"] == mount[0]]
    name = volume[0].get("configMap", {}).get("name") if volume else None
    data = by_kind(objects, "ConfigMap").get(name, {}).get("data", {})
    file = container["name"] + ".yaml"
    if list(data) != [file]:
        wrong.append("%s: /etc/wattloop has %s" % (where, list(data)))
        return {}
    path = os.path.join(DIR, file)
    with open(path, "w", encoding="utf-8") as f:
        f.write(data[file])
    args = [re.sub(r"\$\(\w+\)", "192.0.2.1", a) for a in container["args"]]
    for what in ("--check-config", "--show-config"):
        run = subprocess.run([os.path.join(BIN, "wattloop-" + container["name"]), "--config", path, *args, what],
                             capture_output=True, text=True, check=False)
        if run.returncode:
            wrong.append("%s: %s" % (where, run.stderr.strip() or run.stdout.strip()))
            return {}
    flat = {}

    def walk(prefix, value):
        if isinstance(value, dict):
            for k, v in value.items():
                walk(prefix + [k], v)
        else:
            flat[".".join(prefix)] = value
    walk([], yaml.safe_load(run.stdout))
    return flat


def at(spec, container, path):
    """The volume that a container has at a path, and whether it may write there."""
    best = max((m for m in container["volumeMounts"] if (path + "/").startswith(m["mountPath"] + "/")),
               key=lambda m: len(m["mountPath"]), default=None)
    return (best["name"], not best.get("readOnly")) if best else (None, False)


FILES = {  # options that name a file or directory, and whether the program writes there
    "collector": {"estimate.socket": False, "estimate.weight": False, "store.path": True, "sysfs_root": False,
                  "kubelet.ca_file": False, "kubelet.token_file": False},
    "estimator": {"socket.path": True, "store.path": False},
    "updater": {"store.path": True, "estimator.socket": False, "server.token_file": False, "trust.keys": False},
    "trainer-client": {"store.path": False, "state.path": True, "server.token_file": False, "metrics.textfile": True},
    "model-server": {"database.path": True, "models.path": True, "auth.token_file": False, "signing.key_file": False},
}
SHARED = {  # options of two containers of a pod that mean the same place
    ("collector", "estimate.socket"): ("estimator", "socket.path"),
    ("updater", "estimator.socket"): ("estimator", "socket.path"),
    ("updater", "store.path"): ("estimator", "store.path"),
    ("trainer-client", "store.path"): ("collector", "store.path"),
}


def keys_of(volume, objects):
    found = [(GIVEN.get((kind, name)) or set(by_kind(objects, kind).get(name, {}).get("data", {}))) for kind, name, _ in volume_sources(volume)]
    paths = {s["serviceAccountToken"]["path"] for s in volume.get("projected", {}).get("sources", []) if "serviceAccountToken" in s}
    return set().union(paths, *found) if found else None


def check_configurations(overlay, objects, wrong):
    urls = {"http://%s:%d" % (name, p["port"]) for name, s in by_kind(objects, "Service").items() for p in s["spec"]["ports"]}
    for w in workloads(objects):
        spec = w["spec"]["template"]["spec"]
        containers = {c["name"]: c for c in spec["containers"]}
        configs = {n: effective(overlay, w, c, objects, wrong) for n, c in containers.items()}
        volumes = {v["name"]: v for v in spec["volumes"]}
        for program, config in configs.items():
            for key, writes in FILES[program].items():
                for path in filter(None, config.get(key) if isinstance(config.get(key), list) else [config.get(key)]):
                    volume, may = at(spec, containers[program], path)
                    keys = keys_of(volumes.get(volume, {}), objects)
                    if volume is None or (writes and not may) or (keys is not None and os.path.basename(path) not in keys):
                        wrong.append("%s, %s: %s is '%s', where it has %s" % (overlay, program, key, path, volume))
            url = config.get("server.url", "")
            if url.startswith("http:") and url not in urls:
                wrong.append("%s, %s: no service at %s" % (overlay, program, url))
            listen = config.get("metrics.listen") or config.get("listen")
            ports = [p["containerPort"] for p in containers[program].get("ports", [])]
            if listen and [int(listen.rsplit(":", 1)[1])] != ports:
                wrong.append("%s, %s listens at %s, and has ports %s" % (overlay, program, listen, ports))
        for (a, key_a), (b, key_b) in SHARED.items():
            if a in configs and b in configs and configs[a].get(key_a) and (
                    configs[a][key_a] != configs[b].get(key_b) or
                    at(spec, containers[a], configs[a][key_a])[0] != at(spec, containers[b], configs[b][key_b])[0]):
                wrong.append("%s: %s of the %s is not %s of the %s" % (overlay, key_a, a, key_b, b))
        estimates = configs.get("collector", {}).get("estimate.weight", "")
        if "updater" in configs and estimates and not estimates.startswith(configs["updater"].get("store.path", "?") + "/"):
            wrong.append("%s: the weights are not those of the updater" % overlay)


# ---- a schema check that cannot fail is none ----

def check_the_checker(objects):
    node = next(o for o in objects if o["kind"] == "DaemonSet")

    def broken(change):
        other = copy.deepcopy(node)
        change(other, other["spec"]["template"]["spec"])
        return not schema_errors([other])
    missed = [name for name, change in {
        "an unknown field": lambda o, s: s.update(hostPid=True),
        "one of a container": lambda o, s: s["containers"][0].update(imagePolicy="Always"),
        "a text for a number": lambda o, s: s["containers"][0]["ports"][0].update(containerPort="8888"),
        "a number for a text": lambda o, s: s["containers"][0]["env"][0].update(name=7),
        "yes for true": lambda o, s: s.update(hostPID="yes"),
        "a map for a list": lambda o, s: s.update(containers={}),
        "a missing selector": lambda o, s: o["spec"].pop("selector"),
        "a mount without path": lambda o, s: s["containers"][0]["volumeMounts"][0].pop("mountPath"),
        "an unknown kind": lambda o, s: o.update(kind="DemonSet"),
        "an empty value": lambda o, s: s.update(tolerations=None),
    }.items() if broken(change)]
    say("the schema check finds wrong fields, types, kinds and what is missing", missed)


def main():
    rendered = {}
    for argument in sys.argv[3:]:
        overlay, path = argument.split("=")
        with open(path, encoding="utf-8") as f:
            rendered[overlay] = [o for o in yaml.safe_load_all(f) if o]
    check_the_checker(next(iter(rendered.values())))
    say("the overlays are the four scenarios", sorted(set(rendered) ^ set(SCENARIOS)))
    for overlay, objects in rendered.items():
        say("%s: Kubernetes knows every field of its %d objects" % (overlay, len(objects)), schema_errors(objects))
        wrong = []
        have = {w["metadata"]["name"]: {c["name"] for c in w["spec"]["template"]["spec"]["containers"]} for w in workloads(objects)}
        if have != SCENARIOS[overlay]:
            wrong.append("it runs %s" % have)
        for w in workloads(objects):
            check_pod(w, objects, wrong)
        check_network(objects, wrong)
        say("%s: runs its programs, and whatever it names is there" % overlay, wrong)
        wrong = []
        for w in workloads(objects):
            check_privileges(w, wrong)
        say("%s: no container can do more than it must" % overlay, wrong)
        wrong = []
        check_configurations(overlay, objects, wrong)
        say("%s: each program accepts its configuration, and finds what that names" % overlay, wrong)
        measured = [w for w in workloads(objects) if w["spec"]["template"]["spec"].get("nodeSelector", {}).get("wattloop.io/measurable")]
        kept_off = [w for w in workloads(objects) if "wattloop.io/measurable" in str(w["spec"]["template"]["spec"].get("affinity"))]
        if len(have) > 1:
            say("%s: no node gets two collectors" % overlay, [] if len(measured) == len(kept_off) == 1 and measured != kept_off else ["by label"])


main()
