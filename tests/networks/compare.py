#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Networks that TensorFlow.js has evaluated, converted and evaluated by the estimator: compare.py BIN DIR
Each as it was saved, and again as Keras writes it: .h5 (Keras 2) and .keras (Keras 3), written with h5py."""
import io
import json
import os
import re
import struct
import subprocess
import sys
import zipfile

try:
    import h5py
    import numpy as np
except ImportError:
    h5py = None

BIN, DIR = sys.argv[1:3]
LIMIT = 1e-5
FEATURES = ["a", "b", "c", "d"]
worst_of_all = 0.0


def run(*args, **how):
    return subprocess.run(args, capture_output=True, text=True, timeout=60, check=False, **how)


def convert(path, archive, *more):
    out = run(f"{BIN}/wattloop-model-server", "convert", path, "--config", f"{DIR}/empty.yaml", "--out", archive, *more)
    if out.returncode:
        raise RuntimeError(out.stderr.strip()[-300:])


def predict(archive, rows):
    request = {"metrics": FEATURES, "values": rows, "output_type": "AbsPower", "source": "intel_rapl",
               "system_features": ["cpu_architecture"], "system_values": ["x"], "trainer_name": "", "filter": ""}
    out = run(f"{BIN}/wattloop-estimator", "predict", "--config", f"{DIR}/empty.yaml", archive, input=json.dumps(request))
    if out.returncode:
        raise RuntimeError((out.stderr + out.stdout).strip()[-300:])
    return json.loads(out.stdout)["powers"]


def check(words, path, rows, expected, *more):
    """expected: watts of each component. The difference is relative to the answer itself."""
    global worst_of_all
    worst = 0.0
    try:
        archive = os.path.join(DIR, "model.zip")
        convert(path, archive, "--features", ",".join(FEATURES), *more)
        powers = predict(archive, rows)
        if sorted(powers) != sorted(expected):
            raise RuntimeError(f"components {sorted(powers)} instead of {sorted(expected)}")
        for component, watts in expected.items():
            for is_, want in zip(powers[component], watts, strict=True):
                if not want > 0:
                    raise RuntimeError(f"the test's own network answers {want}")
                worst = max(worst, abs(is_ - want) / want)
        worst_of_all = max(worst_of_all, worst)
        print(f"ok - {words}" if worst <= LIMIT else f"not ok - {words}: differs by {worst:.3g}")
    except (RuntimeError, ValueError, KeyError, OSError) as problem:
        print(f"not ok - {words}: {str(problem)}".replace("\n", " "))


# ---- Keras's own files, by its documented layouts ----

def read_weights(directory, model):
    with open(f"{directory}/weights.bin", "rb") as f:
        data = f.read()
    at, weights = 0, {}
    for spec in model["weightsManifest"][0]["weights"]:
        n = int(np.prod(spec["shape"], dtype=int))
        layer, name = spec["name"].rsplit("/", 1)
        weights.setdefault(layer, []).append((name, np.frombuffer(data, "<f4", n, at).reshape(spec["shape"])))
        at += 4 * n
    return weights


def write_h5(path, topology, weights, version="2.15.0"):
    names = [layer["config"]["name"] for layer in topology["config"]["layers"]]
    with h5py.File(path, "w") as f:
        f.attrs["keras_version"] = version
        f.attrs["backend"] = "tensorflow"
        f.attrs["model_config"] = json.dumps(topology)
        group = f.create_group("model_weights")
        group.attrs["layer_names"] = [n.encode() for n in names]
        for layer in names:
            g = group.create_group(layer)
            g.attrs["weight_names"] = [f"{layer}/{name}:0".encode() for name, _ in weights.get(layer, [])]
            for name, value in weights.get(layer, []):
                g.create_dataset(f"{layer}/{name}:0", data=value)


def snake(name):
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def keras3(topology):
    """A configuration of Keras 2 as Keras 3 writes it."""
    config, layers = topology["config"], []
    for layer in config["layers"]:
        c = dict(layer["config"])
        c["dtype"] = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}, "registered_name": None}
        shape = c.pop("batch_input_shape", None)
        if shape and layer["class_name"] == "InputLayer":
            c["batch_shape"] = shape
        elif shape:
            layers.append({"module": "keras.layers", "class_name": "InputLayer", "registered_name": None,
                           "config": {"batch_shape": shape, "dtype": "float32", "name": "input_layer"}})
        if layer["class_name"] == "LeakyReLU":
            c["negative_slope"] = c.pop("alpha")
        new = {"module": "keras.layers", "class_name": layer["class_name"], "config": c, "registered_name": None}
        if "inbound_nodes" in layer:
            new["name"] = c["name"]
            nodes = []
            for node in layer["inbound_nodes"]:
                tensors = [{"class_name": "__keras_tensor__", "config": {"shape": [None], "dtype": "float32", "keras_history": r[:3]}}
                           for r in node]
                nodes.append({"args": [tensors] if len(tensors) > 1 else tensors, "kwargs": {}})
            new["inbound_nodes"] = nodes
        layers.append(new)
    config = dict(config, layers=layers)
    for key in ("input_layers", "output_layers"):
        if key in config and len(config[key]) == 1:
            config[key] = config[key][0]
    return {"module": "keras", "class_name": "Functional" if topology["class_name"] == "Model" else topology["class_name"],
            "config": config, "registered_name": None}


def write_keras(path, topology, weights):
    used, data = {}, io.BytesIO()
    with h5py.File(data, "w") as f:
        for layer in topology["config"]["layers"]:
            group = snake(layer["class_name"])
            used[group] = used.get(group, -1) + 1
            group = f"layers/{group}" + (f"_{used[group]}" if used[group] else "") + "/vars"
            f.create_group(group)
            for i, (_, value) in enumerate(weights.get(layer["config"]["name"], [])):
                f[group].create_dataset(str(i), data=value)
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("metadata.json", json.dumps({"keras_version": "3.8.0", "date_saved": "2026-01-01@00:00:00"}))
        z.writestr("config.json", json.dumps(topology))
        z.writestr("model.weights.h5", data.getvalue())


def layers_of_keras_3():
    """What only Keras 3 has, by numpy: its hard_sigmoid, its functions, Normalization."""
    rng = np.random.default_rng(3)
    x = rng.uniform(0, 3, (30, 4)).astype("f4")
    erf = np.vectorize(__import__("math").erf)
    sigmoid = lambda v: 1 / (1 + np.exp(-v))
    softplus = lambda v: np.log1p(np.exp(v))
    functions = {
        "hard_sigmoid": lambda v: np.clip(v / 6 + 0.5, 0, 1), "hard_silu": lambda v: v * np.clip(v / 6 + 0.5, 0, 1),
        "relu6": lambda v: np.clip(v, 0, 6), "leaky_relu": lambda v: np.where(v < 0, 0.2 * v, v),
        "celu": lambda v: np.where(v > 0, v, np.expm1(v)), "gelu": lambda v: 0.5 * v * (1 + erf(v / np.sqrt(2))),
        "silu": lambda v: v * sigmoid(v), "mish": lambda v: v * np.tanh(softplus(v)), "exponential": np.exp,
        "log_sigmoid": lambda v: -softplus(-v), "hard_tanh": lambda v: np.clip(v, -1, 1), "tanh_shrink": lambda v: v - np.tanh(v),
        "soft_shrink": lambda v: np.sign(v) * np.maximum(np.abs(v) - 0.5, 0), "hard_shrink": lambda v: np.where(np.abs(v) > 0.5, v, 0),
        "squareplus": lambda v: (v + np.sqrt(v * v + 4)) / 2, "sparse_sigmoid": lambda v: np.clip((v + 1) / 2, 0, 1),
        "sparse_plus": lambda v: np.where(v <= -1, 0, np.where(v < 1, (v + 1) ** 2 / 4, v)),
        "glu": lambda v: v[:, :3] * sigmoid(v[:, 3:]), "log_softmax": lambda v: v - np.log(np.exp(v).sum(1, keepdims=True)),
    }
    layer = lambda cls, name, **c: {"module": "keras.layers", "class_name": cls, "config": dict(c, name=name, dtype="float32"),
                                    "registered_name": None}
    for name, f in functions.items():
        w = [rng.normal(0, 1, s).astype("f4") for s in ((4, 6), (6,), (3 if name == "glu" else 6, 1), (1,))]
        mean, variance = rng.uniform(0, 2, 4).astype("f4"), rng.uniform(0.5, 2, 4).astype("f4")
        v = (x.astype("f8") - mean) / np.sqrt(variance.astype("f8"))
        y = f(v @ w[0] + w[1]) @ w[2]
        w[3] = np.asarray([0.3 * (y.max() - y.min()) - y.min() + 0.01], "f4")
        topology = {"module": "keras", "class_name": "Sequential", "registered_name": None, "config": {"name": "s", "layers": [
            layer("InputLayer", "i", batch_shape=[None, 4]), layer("Normalization", "n", axis=[-1], invert=False, mean=None, variance=None),
            layer("Dense", "d", units=6, activation=name, use_bias=True), layer("Dense", "e", units=1, activation="linear", use_bias=True)]}}
        path = f"{DIR}/three.keras"
        write_keras(path, topology, {"n": [("mean", mean), ("variance", variance), ("count", np.int32(7))],
                                     "d": [("kernel", w[0]), ("bias", w[1])], "e": [("kernel", w[2]), ("bias", w[3])]})
        check(f"{name} of Keras 3, behind its Normalization, in .keras", path, x.tolist(), {"package": (y + w[3])[:, 0].tolist()},
              "--components", "package")


# ---- what is refused ----

def refused(words, text, path):
    out = run(f"{BIN}/wattloop-model-server", "convert", path, "--config", f"{DIR}/empty.yaml", "--out", f"{DIR}/no.zip", "--features",
              ",".join(FEATURES), "--components", "package")
    good = out.returncode == 1 and text in out.stderr and not os.path.exists(f"{DIR}/no.zip")
    print(f"ok - {words} is refused, and named" if good else f"not ok - {words}: {out.returncode} {out.stderr.strip()[-200:]}".replace("\n", " "))


def edited(name, edit, weights=None):
    """A copy of the linear network with another model.json."""
    with open(f"{DIR}/linear/model.json", encoding="utf-8") as f:
        model = json.load(f)
    with open(f"{DIR}/linear/weights.bin", "rb") as f:
        data = f.read()
    os.makedirs(f"{DIR}/{name}", exist_ok=True)
    with open(f"{DIR}/{name}/weights.bin", "wb") as f:
        f.write(data if weights is None else weights(data))
    text = edit(model)
    with open(f"{DIR}/{name}/model.json", "w", encoding="utf-8") as f:
        f.write(text if isinstance(text, str) else json.dumps(model))
    return f"{DIR}/{name}/model.json"


def hostile():
    def first(model):
        return model["modelTopology"]["config"]["layers"][0]

    def spec(model):
        return model["weightsManifest"][0]["weights"][0]

    nan = struct.pack("<f", float("nan"))
    cases = [
        ("an unknown layer", "is a LSTM", lambda m: first(m).update(class_name="LSTM"), None),
        ("a Lambda", "is a Lambda", lambda m: first(m).update(class_name="Lambda"), None),
        ("a custom class", "custom object: mine>Layer", lambda m: first(m).update(registered_name="mine>Layer"), None),
        ("a class of another module", "custom object", lambda m: first(m).update(module="mine.layers"), None),
        ("an unknown function", "activation 'wow'", lambda m: first(m)["config"].update(activation="wow"), None),
        ("a custom function", "activation 'f' is a custom object", lambda m: first(m)["config"].update(
            activation={"module": "builtins", "class_name": "function", "config": "f", "registered_name": "function"}), None),
        ("another dtype of a layer", "dtype 'float16'", lambda m: first(m)["config"].update(dtype="float16"), None),
        ("another dtype of a weight", "dtype 'float16'", lambda m: spec(m).update(dtype="float16"), None),
        ("quantized weights", "is quantized", lambda m: spec(m).update(quantization={"dtype": "uint8"}), None),
        ("a model within the model", "a model within the model", lambda m: first(m).update(class_name="Sequential"), None),
        ("a class of model of one's own", "the model is a 'Mine'", lambda m: m["modelTopology"].update(class_name="Mine"), None),
        ("a graph model", "a graph model", lambda m: m["modelTopology"].update(node=[]), None),
        ("cut weights", "is cut", lambda m: None, lambda d: d[:-2]),
        ("weights too long", "too many", lambda m: None, lambda d: d + b"1234"),
        ("a NaN", "is not finite", lambda m: None, lambda d: nan + d[4:]),
        ("a path to elsewhere", "not a plain file name", lambda m: m["weightsManifest"][0].update(paths=["../linear/weights.bin"]), None),
        ("an absolute path", "not a plain file name", lambda m: m["weightsManifest"][0].update(paths=["/etc/passwd"]), None),
        ("a missing file", "weights", lambda m: m["weightsManifest"][0].update(paths=["none.bin"]), None),
        ("a shape bomb", "too large", lambda m: spec(m).update(shape=[1 << 40, 1 << 40]), None),
        ("a large weight", "more than", lambda m: spec(m).update(shape=[1 << 12, 1 << 12]), None),
        ("a negative shape", "no usable shape", lambda m: spec(m).update(shape=[-1]), None),
        ("a weight twice", "twice", lambda m: m["weightsManifest"][0]["weights"].append(dict(spec(m))), None),
        ("a missing weight", "'kernel' is not in the file", lambda m: spec(m).update(name="x/y"), None),
        ("another kernel's shape", "instead of", lambda m: spec(m).update(shape=[2, 2]), None),
        ("an overlong name", "too long", lambda m: spec(m).update(name="n" * 999), None),
        ("an overlong layer", "empty or longer", lambda m: first(m)["config"].update(name="n" * 200) or spec(m).update(
            name="n" * 200 + "/kernel") or m["weightsManifest"][0]["weights"][1].update(name="n" * 200 + "/bias"), None),
        ("no layers", "no list of layers", lambda m: m["modelTopology"]["config"].update(layers=[]), None),
        ("too many layers", "more than 256 layers", lambda m: m["modelTopology"]["config"].update(layers=[first(m)] * 300), None),
        ("an open input", "a dimension is open", lambda m: first(m)["config"].update(batch_input_shape=[None, None]), None),
        ("more features than rows have", "more than 64 features", lambda m: first(m)["config"].update(batch_input_shape=[None, 65]), None),
        ("no JSON", "model.json", lambda m: "{", None),
        ("other JSON", "modelTopology", lambda m: "{}", None),
    ]
    for words, text, edit, weights in cases:
        refused(words, text, edited("hostile", lambda m, edit=edit: edit(m), weights))
    cycle = {"class_name": "Model", "config": {"layers": [
        {"class_name": "InputLayer", "config": {"name": "i", "batch_input_shape": [None, 4]}, "inbound_nodes": []},
        {"class_name": "Add", "config": {"name": "p"}, "inbound_nodes": [[["i", 0, 0], ["q", 0, 0]]]},
        {"class_name": "Add", "config": {"name": "q"}, "inbound_nodes": [[["p", 0, 0], ["i", 0, 0]]]}],
        "input_layers": [["i", 0, 0]], "output_layers": [["q", 0, 0]]}}
    refused("a cycle", "depends on itself", edited("hostile", lambda m: m.update(modelTopology=cycle)))
    again = json.loads(json.dumps(cycle))
    again["config"]["layers"][1]["inbound_nodes"] *= 2
    refused("a layer used twice", "used more than once", edited("hostile", lambda m: m.update(modelTopology=again)))
    with open(f"{DIR}/text.h5", "wb") as f:
        f.write(b"\x89HDF\r\n\x1a\nno")
    with open(f"{DIR}/text.keras", "wb") as f:
        f.write(b"PKno")
    refused("a damaged .keras", "text.keras", f"{DIR}/text.keras")
    refused("a file of another kind", "not a model.json", BIN + "/wattloop-model-server")


def hostile_hdf5():
    with open(f"{DIR}/linear/model.json", encoding="utf-8") as f:
        model = json.load(f)
    topology, weights = model["modelTopology"], read_weights(f"{DIR}/linear", model)
    layer = topology["config"]["layers"][0]["config"]["name"]
    path = f"{DIR}/hostile.h5"
    place = f"model_weights/{layer}/{layer}/kernel:0"

    def made(edit):
        write_h5(path, topology, weights)
        with h5py.File(path, "a") as f:
            edit(f)

    def replace(with_):
        def edit(f):
            del f[place]
            f[place] = with_
        return edit

    def external(f):
        value = f[place][()]
        del f[place]
        with open(f"{DIR}/raw.bin", "wb") as raw:
            raw.write(value.tobytes())
        f.create_dataset(place, value.shape, "f4", external=[(f"{DIR}/raw.bin", 0, h5py.h5f.UNLIMITED)])

    def virtual(f):
        layout = h5py.VirtualLayout(f[place].shape, "f4")
        layout[:] = h5py.VirtualSource(f"{DIR}/other.h5", "x", f[place].shape)
        del f[place]
        f.create_virtual_dataset(place, layout)

    for words, text, edit in [
            ("an external link in HDF5", "soft or external link", replace(h5py.ExternalLink("/etc/passwd", "x"))),
            ("a soft link in HDF5", "soft or external link", replace(h5py.SoftLink("/model_weights"))),
            ("a group of weights that is an external link", "soft or external link",
             lambda f: (f.__delitem__("model_weights"), f.__setitem__("model_weights", h5py.ExternalLink("o.h5", "/")))),
            ("HDF5 data in another file", "in other files", external), ("HDF5 data in virtual sets", "in other files", virtual),
            ("HDF5 weights of doubles", "dtype float of 8 bytes", replace(np.zeros((4, 1)))),
            ("HDF5 weights of integers", "dtype an integer", replace(np.zeros((4, 1), "i4"))),
            ("an HDF5 bomb", "too large", lambda f: (f.__delitem__(place), f.create_dataset(
                place, (1 << 30, 64), "f4", chunks=(1 << 10, 64), compression="gzip"))),
            ("an HDF5 model without configuration", "no attribute model_config", lambda f: f.attrs.__delitem__("model_config")),
            ("an HDF5 configuration that is no JSON", "model_config", lambda f: f.attrs.__setitem__("model_config", "{")),
            ("HDF5 without weights", "no group model_weights", lambda f: f.__delitem__("model_weights"))]:
        made(edit)
        refused(words, text, path)
    refused("a damaged HDF5 file", "not an HDF5 file", f"{DIR}/text.h5")
    write_h5(path, topology, weights)
    with open(path, "rb") as f:
        data = f.read()
    with open(path, "wb") as f:
        f.write(data[:len(data) // 2])
    refused("a cut HDF5 file", "not an HDF5 file", path)


open(f"{DIR}/empty.yaml", "w", encoding="utf-8").close()
for network in sorted(d for d in os.listdir(DIR) if os.path.exists(f"{DIR}/{d}/expected.json")):
    directory = f"{DIR}/{network}"
    with open(f"{directory}/expected.json", encoding="utf-8") as f:
        answers = json.load(f)
    with open(f"{directory}/model.json", encoding="utf-8") as f:
        saved = json.load(f)
    columns = [list(column) for y in answers["outputs"] for column in zip(*y)]
    if network == "two_outputs":
        names, options = ["dram", "package"], []  # the model's own names
    else:
        names = ["package", "dram"][:len(columns)]
        options = ["--components", ",".join(names)]
    watts = dict(zip(names, columns, strict=True))
    check(f"{network}: as TensorFlow.js", f"{directory}/model.json", answers["rows"], watts, *options)
    if not h5py:
        continue
    tensors = read_weights(directory, saved)
    write_h5(f"{directory}/model.h5", saved["modelTopology"], tensors)
    check(f"{network}: the same from .h5", f"{directory}/model.h5", answers["rows"], watts, *options)
    if network != "function_hardSigmoid":  # Keras 3 has another slope
        three = keras3(saved["modelTopology"])
        write_keras(f"{directory}/model.keras", three, tensors)
        check(f"{network}: the same from .keras", f"{directory}/model.keras", answers["rows"], watts, *options)
if h5py:
    layers_of_keras_3()
else:
    print("skip - .h5 and .keras files: no python3-h5py here")
hostile()
if h5py:
    hostile_hdf5()
print(f"# worst relative difference: {worst_of_all:.3g}")
