# SPDX-License-Identifier: Apache-2.0
"""Trains every kind of model that the estimator evaluates with the scikit-learn that is installed, packs each as
Kepler's trainers do, and compares the estimator's answers with scikit-learn's: zoo_sklearn.py ESTIMATOR DIR."""
import json
import os
import pickle
import subprocess
import sys
import warnings
import zipfile

import joblib
import numpy as np
from sklearn.ensemble import (BaggingRegressor, ExtraTreesRegressor, GradientBoostingRegressor,
                              HistGradientBoostingRegressor, RandomForestRegressor)
from sklearn.linear_model import (BayesianRidge, ElasticNet, GammaRegressor, HuberRegressor, Lasso, LassoCV, LinearRegression,
                                  PassiveAggressiveRegressor, PoissonRegressor, QuantileRegressor, Ridge, RidgeCV,
                                  SGDRegressor, TweedieRegressor)
from sklearn.neighbors import KNeighborsRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, PolynomialFeatures, RobustScaler, StandardScaler
from sklearn.svm import SVR, LinearSVR, NuSVR
from sklearn.tree import DecisionTreeRegressor, ExtraTreeRegressor

ESTIMATOR, DIR = sys.argv[1:3]
FEATURES = ["bpf_cpu_time_ms", "bpf_page_cache_hit", "cpu_instructions"]
open(os.path.join(DIR, "empty.yaml"), "w", encoding="utf-8").close()  # no installed configuration takes part
warnings.filterwarnings("ignore")

rng = np.random.default_rng(7)
X = np.column_stack([rng.uniform(0, 4000, 300), rng.integers(0, 40, 300), rng.uniform(0, 5e9, 300)])
X[:60] = X[60:120]  # equal rows make ties
Y = 60 + 0.02 * X[:, 0] + 0.3 * X[:, 1] + 9e-9 * X[:, 2] + 12 * np.sin(X[:, 0] / 500) + rng.normal(0, 1, 300)
ROWS = np.vstack([np.zeros(3), X[:40], rng.uniform(0, 1, (40, 3)) * [6000, 60, 7e9], X[200:210] * 1.5])

TINY = dict(random_state=3)
KINDS = [
    ("MaxAbsScaler and LinearRegression", MaxAbsScaler(), LinearRegression()),
    ("MinMaxScaler and LinearRegression", MinMaxScaler(), LinearRegression()),
    ("MinMaxScaler with clip", MinMaxScaler((0.5, 2), clip=True), LinearRegression()),
    ("StandardScaler and SGDRegressor", StandardScaler(), SGDRegressor(**TINY)),
    ("StandardScaler without mean", StandardScaler(with_mean=False), Ridge()),
    ("StandardScaler without deviation", StandardScaler(with_std=False), LinearRegression()),
    ("RobustScaler and HuberRegressor", RobustScaler(), HuberRegressor()),
    ("RobustScaler without scaling", RobustScaler(with_scaling=False), LinearRegression()),
    ("Ridge", MaxAbsScaler(), Ridge()),
    ("Ridge without intercept", MaxAbsScaler(), Ridge(fit_intercept=False)),
    ("Lasso", MaxAbsScaler(), Lasso(0.1)),
    ("ElasticNet", MaxAbsScaler(), ElasticNet(0.01)),
    ("polynomial of degree 2", MaxAbsScaler(), (PolynomialFeatures(2), LinearRegression())),
    ("polynomial of degree 3", MaxAbsScaler(), (PolynomialFeatures(3), Ridge(1e-3))),
    ("polynomial of interactions without bias", MaxAbsScaler(),
     (PolynomialFeatures(3, interaction_only=True, include_bias=False), LinearRegression())),
    ("k neighbours by tree", MaxAbsScaler(), KNeighborsRegressor(6)),
    ("k neighbours by comparison", MaxAbsScaler(), KNeighborsRegressor(3, algorithm="brute")),
    ("k neighbours by Manhattan distance", MaxAbsScaler(), KNeighborsRegressor(5, p=1)),
    ("k neighbours by Minkowski distance", MaxAbsScaler(), KNeighborsRegressor(5, p=3)),
    ("k neighbours by the largest difference", MaxAbsScaler(), KNeighborsRegressor(5, metric="chebyshev")),
    ("k neighbours weighed by distance", MaxAbsScaler(), KNeighborsRegressor(5, weights="distance")),
    ("k neighbours in balls", MaxAbsScaler(), KNeighborsRegressor(5, algorithm="ball_tree", leaf_size=5)),
    ("k neighbours in balls, Minkowski", MaxAbsScaler(),
     KNeighborsRegressor(4, algorithm="ball_tree", weights="distance", p=3)),
    ("k neighbours by Manhattan comparison", MaxAbsScaler(), KNeighborsRegressor(5, algorithm="brute", p=1)),
    ("RidgeCV", MaxAbsScaler(), RidgeCV()),
    ("LassoCV", MaxAbsScaler(), LassoCV()),
    ("BayesianRidge", MaxAbsScaler(), BayesianRidge()),
    ("QuantileRegressor", MaxAbsScaler(), QuantileRegressor(alpha=0.01)),
    ("PassiveAggressiveRegressor", MaxAbsScaler(), PassiveAggressiveRegressor(**TINY)),
    ("PoissonRegressor", MaxAbsScaler(), PoissonRegressor()),
    ("GammaRegressor", MaxAbsScaler(), GammaRegressor()),
    ("TweedieRegressor with a log link", MaxAbsScaler(), TweedieRegressor(power=1.5)),
    ("TweedieRegressor without", MaxAbsScaler(), TweedieRegressor(power=0)),
    ("SVR", StandardScaler(), SVR()),
    ("SVR with a polynomial kernel", StandardScaler(), SVR(kernel="poly", degree=4, coef0=1)),
    ("SVR with a sigmoid kernel", StandardScaler(), SVR(kernel="sigmoid")),
    ("NuSVR", StandardScaler(), NuSVR()),
    ("LinearSVR", StandardScaler(), LinearSVR(**TINY)),
    ("SVR with a linear kernel", StandardScaler(), SVR(kernel="linear")),
    ("SVR in a Pipeline", StandardScaler(), Pipeline([("nonetype", None), ("svr", SVR(C=10))])),
    ("DecisionTreeRegressor", MaxAbsScaler(), DecisionTreeRegressor(**TINY)),
    ("ExtraTreeRegressor", MaxAbsScaler(), ExtraTreeRegressor(**TINY)),
    ("RandomForestRegressor", MaxAbsScaler(), RandomForestRegressor(30, **TINY)),
    ("ExtraTreesRegressor", MaxAbsScaler(), ExtraTreesRegressor(30, **TINY)),
    ("GradientBoostingRegressor", MaxAbsScaler(), GradientBoostingRegressor(**TINY)),
    ("GradientBoostingRegressor with Huber's loss", MaxAbsScaler(), GradientBoostingRegressor(loss="huber", **TINY)),
    ("GradientBoostingRegressor from zero", MaxAbsScaler(), GradientBoostingRegressor(init="zero", **TINY)),
    ("GradientBoostingRegressor with deep trees", MaxAbsScaler(),
     GradientBoostingRegressor(max_leaf_nodes=30, max_depth=None, subsample=0.5, **TINY)),
    ("HistGradientBoostingRegressor", MaxAbsScaler(), HistGradientBoostingRegressor(**TINY)),
    ("HistGradientBoostingRegressor of counts", MaxAbsScaler(), HistGradientBoostingRegressor(loss="poisson", **TINY)),
    ("HistGradientBoostingRegressor of a quantile", MaxAbsScaler(),
     HistGradientBoostingRegressor(loss="quantile", quantile=0.6, **TINY)),
    ("MLPRegressor with relu", StandardScaler(), MLPRegressor((20, 10), max_iter=300, **TINY)),
    ("MLPRegressor with tanh", StandardScaler(), MLPRegressor((30,), "tanh", max_iter=200, **TINY)),
    ("MLPRegressor with logistic", StandardScaler(), MLPRegressor((30,), "logistic", solver="lbfgs", **TINY)),
    ("a Pipeline that brings its scaler", None, make_pipeline(StandardScaler(), PolynomialFeatures(2), Ridge())),
]


def joblib_dump(value, path):
    joblib.dump(value, path)


def archive(path, scaler, steps, component="platform", dump=joblib_dump):
    """Kepler's form; steps is the model, behind further transformers."""
    steps = steps if isinstance(steps, tuple) else (steps,)
    x, files = X, []
    for i, transformer in enumerate(([scaler] if scaler is not None else []) + list(steps[:-1])):
        x = transformer.fit_transform(x)
        files.append(("scaler.pkl" if i == 0 and scaler is not None else f"step{i}.pkl", transformer))
    model = steps[-1].fit(x, Y)
    rows = ROWS
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for name, transformer in files + [(component + ".pkl", model)]:
            dump(transformer, os.path.join(DIR, "one.pkl"))
            z.write(os.path.join(DIR, "one.pkl"), name)
        for name, transformer in files:
            rows = transformer.transform(rows)
        z.writestr("metadata.json", json.dumps(
            {"model_name": "M_1", "model_class": "scikit", "model_file": "M_1.json", "features": FEATURES,
             "fe_files": [], "output_type": "AbsPower", "mae": 1.0}))
        z.writestr("M_1.json", json.dumps({component: {"model_file": component + ".pkl", "features": FEATURES,
                                                       "fe_files": [name for name, _ in files]}}))
    return np.maximum(np.squeeze(model.predict(rows)), 0)


def predict(path):
    request = {"metrics": FEATURES, "values": ROWS.tolist(), "output_type": "AbsPower", "source": "acpi",
               "system_features": ["cpu_architecture"], "system_values": ["x"], "trainer_name": "", "filter": ""}
    out = subprocess.run([ESTIMATOR, "predict", "--config", os.path.join(DIR, "empty.yaml"), path], input=json.dumps(request),
                         capture_output=True, text=True, timeout=60, check=False)
    if out.returncode:
        raise RuntimeError((out.stderr + out.stdout).strip()[-300:])
    return np.array(json.loads(out.stdout)["powers"]["platform"])


def check(words, scaler, steps, **how):
    path = os.path.join(DIR, "model.zip")
    try:
        want = archive(path, scaler, steps, **how)
        worst = np.max(np.abs(predict(path) - want) / np.maximum(1, np.abs(want)))
        ok, why = worst <= 1e-9, f"differs by {worst:.3g}"
    except (RuntimeError, ValueError, KeyError) as problem:
        ok, why = False, str(problem).replace("\n", " ")
    print(f"ok - {words}: as scikit-learn" if ok else f"not ok - {words}: {why}")


def refused(words, text, scaler, steps, **how):
    path = os.path.join(DIR, "model.zip")
    archive(path, scaler, steps, **how)
    try:
        predict(path)
        why = "is answered"
    except RuntimeError as problem:
        why = str(problem).replace("\n", " ")
    print(f"ok - {words}" if text in why else f"not ok - {words}: {why}")


def pickle_dump(protocol):
    def dump(value, path):
        with open(path, "wb") as f:
            pickle.dump(value, f, protocol)
    return dump


for kind in KINDS:
    check(*kind)

# Files of other protocols, and of pickle itself instead of joblib.
SOME = [("trees", MaxAbsScaler(), GradientBoostingRegressor(n_estimators=9, **TINY)),
        ("neighbours", MaxAbsScaler(), KNeighborsRegressor(3)),
        ("trees of histograms", MaxAbsScaler(), HistGradientBoostingRegressor(max_iter=5, **TINY)),
        ("support vectors", StandardScaler(), SVR())]
for n in (2, 3, 5):
    for words, scaler, steps in SOME:
        check(f"{words} in pickle's protocol {n}", scaler, steps, dump=pickle_dump(n))
        check(f"{words} in joblib's protocol {n}", scaler, steps, dump=lambda v, p, n=n: joblib.dump(v, p, protocol=n))

# What is not evaluated is refused by name.
refused("another protocol is refused", "not a pickle of protocol 2 to 5", *SOME[0][1:], dump=pickle_dump(0))
for how in ("zlib", "gzip", "bz2", "lzma", "xz"):
    refused(f"a file compressed by {how} is refused, and how to make one that is not is said", f"compressed ({how})",
            *SOME[0][1:], dump=lambda v, p, how=how: joblib.dump(v, p, compress=(how, 3)))
refused("another distance is refused", "'cosine' is not supported", MaxAbsScaler(),
        KNeighborsRegressor(3, algorithm="brute", metric="cosine"))
refused("trees that begin with another model are refused", "begins with LinearRegression", MaxAbsScaler(),
        GradientBoostingRegressor(init=LinearRegression(), n_estimators=3))
refused("categories are refused", "categorical", MaxAbsScaler(), HistGradientBoostingRegressor(categorical_features=[1]))
refused("a class that is not known is named", "sklearn.ensemble._bagging.BaggingRegressor", MaxAbsScaler(),
        BaggingRegressor(n_estimators=3))
