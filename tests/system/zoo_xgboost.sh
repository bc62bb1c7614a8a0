#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Archives made by the XGBoost of this machine: the estimator must answer as XGBoost does.
set -u
. "$(dirname "$0")/lib.sh"

dir=$(tmpdir)
python=/usr/bin/python3 # Debian's, which has Debian's packages
if ! $python -c 'import sklearn, joblib, xgboost' 2>/dev/null; then
        skip "the estimator answers as the installed XGBoost" "no python3-xgboost here"
        exit 0
fi
OMP_NUM_THREADS=1 $python "$(dirname "$0")/zoo_xgboost.py" "$BIN/wattloop-estimator" "$dir" 2>"$dir/err" ||
        not_ok "models are trained and compared" "$(tail -n 3 "$dir/err")"
