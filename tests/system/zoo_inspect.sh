#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# wattloop-estimator inspect: what is in a model, for people and as JSON; and what is refused, in words.
set -u
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/estimator.bash"

dir=$(tmpdir)
inspect() { "$ESTIMATOR" inspect --config "$CONFIG" "$@"; }

const_weights 42 >"$dir/weight.json"
text=$(inspect "$dir/weight.json")
check_has "the model's name is shown" "$text" "model       Const_42"
check_has "its components and their kind are shown" "$text" "component   platform: linear"
check_has "its features are shown" "$text" "feature     bpf_cpu_time_ms, large is 100"
check "as JSON it is one object" test "$(inspect --json "$dir/weight.json" | jq -r '.components[0].kind, .cores')" = "linear
4"

# An archive whose pickle would run a command if it were executed.
mkdir "$dir/evil"
cat >"$dir/evil/metadata.json" <<'JSON'
{"model_name": "SGDRegressorTrainer_1", "model_class": "scikit", "model_file": "m.json", "features": ["bpf_cpu_time_ms"], "output_type": "AbsPower", "mae": 1}
JSON
echo '{"platform": {"model_file": "platform.pkl", "features": ["bpf_cpu_time_ms"], "fe_files": ["scaler.pkl"]}}' >"$dir/evil/m.json"
python3 - "$dir/evil/scaler.pkl" "$dir/ran" <<'PY'
import os, pickle, sys
class Evil:
    def __reduce__(self):
        return os.system, ("touch " + sys.argv[2],)
with open(sys.argv[1], "wb") as f:
    pickle.dump(Evil(), f, 4)
PY
cp "$dir/evil/scaler.pkl" "$dir/evil/platform.pkl"
out=$(inspect "$dir/evil" 2>&1)
check_exit 1 "a pickle that would run a command is refused" inspect "$dir/evil"
check_has "and what it names is named" "$out" "'posix.system', which is not allowed"
check "and it has not run" test ! -e "$dir/ran"

zip=../shared/golden/archives/models/v0.7/ec2-0.7.11/rapl-sysfs/DynPower/BPFOnly/GradientBoostingRegressorTrainer_2.zip
if [ -e $zip ]; then
        text=$(inspect $zip)
        check_has "a published archive's trees are counted" "$text" "GradientBoostingRegressor, 100 trees"
        check_has "every class of its pickles is named" "$text" "sklearn.tree._tree.Tree"
        mkdir "$dir/lost" && python3 -m zipfile -e $zip "$dir/lost" && rm "$dir/lost/scaler.pkl"
        check_has "one that has lost its scaler is refused" "$(inspect "$dir/lost" 2>&1)" "no 'scaler.pkl'"
else
        skip "a published archive is inspected" "no published archives here"
fi

curve=../shared/golden/archives/models/v0.7/ec2-0.7.11/rapl-sysfs/AbsPower/BPFIRQ/ExponentialRegressionTrainer_4.zip
if [ -e $curve ]; then
        request='{"metrics":["bpf_block_irq","bpf_cpu_time_ms","bpf_net_rx_irq","bpf_net_tx_irq","bpf_page_cache_hit"],"values":[[0,30000,0,0,0],[50,30000,0,0,0]],"output_type":"AbsPower","source":"rapl-sysfs","system_features":[],"system_values":[]}'
        watts() { echo "$request" | "$ESTIMATOR" predict --config "$CONFIG" "$@" $curve | jq '.powers.package[0] == .powers.package[1]'; }
        check "a curve depends on the feature that it was fitted on" test "$(watts)" = true
        check "or on upstream's, when asked" test "$(watts --curvefit-index upstream)" = false
else
        skip "a curve depends on the feature that it was fitted on" "no published archives here"
fi
