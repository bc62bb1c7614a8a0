# SPDX-License-Identifier: Apache-2.0
"""Trains models with the XGBoost that is installed, packs each as Kepler's trainer does, and compares the estimator's
answers with XGBoost's: zoo_xgboost.py ESTIMATOR DIR."""
import json
import os
import subprocess
import sys
import warnings
import zipfile

import joblib
import numpy as np
import xgboost
from sklearn.preprocessing import MaxAbsScaler

ESTIMATOR, DIR = sys.argv[1:3]
FEATURES = ["bpf_cpu_time_ms", "bpf_page_cache_hit", "cpu_instructions"]
SCALE = np.array([4000.0, 40.0, 5e9])
open(os.path.join(DIR, "empty.yaml"), "w", encoding="utf-8").close()  # no installed configuration takes part
warnings.filterwarnings("ignore")

rng = np.random.default_rng(11)
X = rng.uniform(0, 1, (300, 3))
Y = 60 + 80 * X[:, 0] + 12 * X[:, 1] + 45 * X[:, 2] + 12 * np.sin(8 * X[:, 0]) + rng.normal(0, 1, 300)
ROWS = np.vstack([np.zeros(3), X[:40], rng.uniform(0, 1.5, (40, 3))])

KINDS = [
    ("100 trees", "json", {}, 100),
    ("100 trees as UBJSON", "ubj", {}, 100),
    ("deep trees", "json", {"max_depth": 12}, 20),
    ("trees of one leaf", "json", {"max_depth": 0, "grow_policy": "lossguide", "max_leaves": 1, "tree_method": "hist"}, 3),
    ("trees that grow by loss", "ubj", {"grow_policy": "lossguide", "max_leaves": 40, "tree_method": "hist"}, 20),
    ("a base score", "json", {"base_score": 70.5}, 20),
    ("a random forest", "json", {"num_parallel_tree": 5, "subsample": 0.6}, 10),
    ("absolute error", "json", {"objective": "reg:absoluteerror"}, 20),
    ("a gamma objective", "json", {"objective": "reg:gamma", "base_score": 80}, 30),
    ("a Tweedie objective", "ubj", {"objective": "reg:tweedie"}, 30),
    ("a Poisson objective", "json", {"objective": "count:poisson"}, 30),
    ("dart", "json", {"booster": "dart", "rate_drop": 0.3, "one_drop": 1}, 30),
    ("dart as UBJSON", "ubj", {"booster": "dart", "rate_drop": 0.3, "max_depth": 11}, 10),
    ("gblinear", "json", {"booster": "gblinear"}, 20),
    ("gblinear as UBJSON", "ubj", {"booster": "gblinear", "base_score": 2}, 20),
]


def archive(path, model):
    """Kepler's form; the model is a file."""
    name = os.path.basename(model)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        z.write(model, name)
        z.write(os.path.join(DIR, "scaler.pkl"), "scaler.pkl")
        z.writestr("metadata.json", json.dumps(
            {"model_name": "XgboostFitTrainer_1", "model_class": "xgboost", "model_file": "M_1.json",
             "features": FEATURES, "fe_files": [], "output_type": "AbsPower", "mae": 1.0}))
        z.writestr("M_1.json", json.dumps({"platform": {"model_file": name, "features": FEATURES,
                                                        "fe_files": ["scaler.pkl"]}}))


def predict(path):
    request = {"metrics": FEATURES, "values": (ROWS * SCALE).tolist(), "output_type": "AbsPower", "source": "acpi",
               "system_features": [], "system_values": []}
    out = subprocess.run([ESTIMATOR, "predict", "--config", os.path.join(DIR, "empty.yaml"), path],
                         input=json.dumps(request), capture_output=True, text=True, timeout=60, check=False)
    if out.returncode:
        raise RuntimeError((out.stderr + out.stdout).strip()[-300:])
    return np.array(json.loads(out.stdout)["powers"]["platform"])


scaler = MaxAbsScaler().fit(X * SCALE)
joblib.dump(scaler, os.path.join(DIR, "scaler.pkl"))
train = xgboost.DMatrix(scaler.transform(X * SCALE), Y)
ask = xgboost.DMatrix(scaler.transform(ROWS * SCALE))
path = os.path.join(DIR, "model.zip")

for words, form, parameters, rounds in KINDS:
    try:
        booster = xgboost.train(dict({"objective": "reg:squarederror", "nthread": 1, "seed": 3}, **parameters), train, rounds)
        model = os.path.join(DIR, "platform." + form)
        booster.save_model(model)
        archive(path, model)
        want = np.maximum(booster.predict(ask), 0)
        got = predict(path)
        worst = np.max(np.abs(got - want) / np.maximum(1, np.abs(want)))
        ok, why = worst <= 1e-6, f"differs by {worst:.3g}"
    except (RuntimeError, ValueError, KeyError, xgboost.core.XGBoostError) as problem:
        ok, why = False, str(problem).replace("\n", " ")
    print(f"ok - {words}: as XGBoost" if ok else f"not ok - {words}: {why}")

# What is not evaluated is refused in words.
for words, text, parameters, y in (
        ("several classes are refused", "'multi:softprob'", {"objective": "multi:softprob", "num_class": 3}, (Y > 100) * 1),
        ("a ranking is refused", "'rank:pairwise'", {"objective": "rank:pairwise"}, (Y > 100) * 1)):
    model = os.path.join(DIR, "platform.json")
    xgboost.train(dict({"nthread": 1}, **parameters), xgboost.DMatrix(X, y), 3).save_model(model)
    archive(path, model)
    try:
        predict(path)
        print(f"not ok - {words}: it is answered")
    except RuntimeError as problem:
        print(f"ok - {words}" if text in str(problem) else f"not ok - {words}: {problem}")
