#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# wattloop-estimator predict: requests on standard input, replies on standard output, from every form of a model.
set -u
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/estimator.bash"

dir=$(tmpdir)
predict() { "$ESTIMATOR" predict --config "$CONFIG" "$@"; }

weights='{"platform": {"All_Weights": {"Bias_Weight": 10.1, "Categorical_Variables": {}, "Numerical_Variables": {"bpf_cpu_time_ms": {"scale": 3.0, "weight": 1.0}}}}}'
echo "$weights" >"$dir/SGDRegressorTrainer_7.json"
reply=$(echo "$REQUEST" | predict "$dir/SGDRegressorTrainer_7.json")
check "a weight file predicts" test $? -eq 0
check_has "watts read back to the same double" "$reply" '"platform": [10.433333333333334, 10.766666666666666]'
check_has "the model is named after its file" "$reply" '"model": "SGDRegressorTrainer_7"'

curve='{"platform": {"All_Weights": {"CurveFit_Weights": [1.0, 1.0, 5.0], "Numerical_Variables": {"bpf_cpu_time_ms": {"scale": 1.0}}}}}'
echo "$curve" >"$dir/LogarithmicRegressionTrainer_1.json"
check_has "the file's name tells which curve it is" \
        "$(echo "$REQUEST" | predict "$dir/LogarithmicRegressionTrainer_1.json")" '[5.693147180559945, 6.09861228866811]'
cp "$dir/LogarithmicRegressionTrainer_1.json" "$dir/x.json"
check_exit 1 "a curve of which nobody says what it is is refused" predict "$dir/x.json"

id=$(echo "$weights" | install_weights "$dir/store" acpi/AbsPower)
check_has "an installed directory predicts" "$(echo "$REQUEST" | predict "$dir/store/acpi/AbsPower/weight/current")" \
        "\"id\": \"$id\""

mkdir "$dir/archive" && cd "$dir/archive" || exit 1
echo "$weights" >weight.json
echo '{"model_name": "SGDRegressorTrainer_7", "model_class": "weight", "model_file": "SGDRegressorTrainer_7.json", "features": ["bpf_cpu_time_ms"], "output_type": "AbsPower", "provenance": "simulated"}' >metadata.json
echo '{"platform": {"model_file": "weight.json", "features": ["bpf_cpu_time_ms"], "fe_files": []}}' >SGDRegressorTrainer_7.json
python3 -m zipfile -c ../archive.zip metadata.json weight.json SGDRegressorTrainer_7.json
cd "$OLDPWD" || exit 1
reply=$(echo "$REQUEST" | predict "$dir/archive.zip")
check_has "an archive predicts" "$reply" '[10.433333333333334, 10.766666666666666]'
check_has "and tells its provenance" "$reply" '"provenance": "simulated"}'
check_has "a model for the other output type does not answer" \
        "$(echo "${REQUEST/AbsPower/DynPower}" | predict "$dir/archive.zip")" 'no DynPower model'
sed -i s/weight/keras/ "$dir/archive/metadata.json"
check_has "a class that cannot be evaluated is refused by name" "$(predict "$dir/archive" 2>&1 </dev/null)" "model class 'keras'"

printf '%s\n\nnonsense\n%s' "$REQUEST" "$REQUEST" | predict "$dir/SGDRegressorTrainer_7.json" >"$dir/out"
check "a malformed line makes the exit status 1" test $? -eq 1
check "each line has its reply, blank ones none, the last needs no line end" \
        test "$(jq -r '.powers | length' <"$dir/out" | tr '\n' ' ')" = "1 0 1 "
{ printf '{"metrics": ["%s"]}\n' "$(head -c 20000 /dev/zero | tr '\0' x)"; echo "$REQUEST"; } |
        predict --limits-request 4096 "$dir/SGDRegressorTrainer_7.json" >"$dir/out"
check "an overlong line is refused, the next answered" \
        test "$(jq -r '.powers | length' <"$dir/out" | tr '\n' ' ')" = "0 1 "
check_exit 1 "a missing file is an error" predict "$dir/nowhere.json"
check_exit 2 "a missing argument is misuse" predict
check_exit 1 "a full output is an error" eval 'echo "$REQUEST" | predict "$dir/archive.zip" >/dev/full'

capture=../shared/captures/estimator/SGDRegressorTrainer_rapl-sysfs_AbsPower_n100
model=../shared/captures/model-server/weight_rapl-sysfs_AbsPower_SGDRegressorTrainer.body.json
if [ -e $capture.request.json ] && [ -e $model ]; then
        predict $model <$capture.request.json >"$dir/out"
        shape='[.powers | to_entries[] | [.key, (.value | length)]], .msg, (.core_ratio | type)'
        check "an upstream request gets a reply of the upstream reply's shape" \
                test "$(jq -c "$shape" "$dir/out")" = "$(jq -c "$shape" $capture.response.json)"
        head=$(head -c 13 $capture.response.json)
        check "in the upstream separators" test "$(head -c 13 "$dir/out")" = "$head"
        zip=../shared/captures/model-server/zip_rapl-sysfs_AbsPower_SGDRegressorTrainer.body.zip
        predict $zip <$capture.request.json >"$dir/out.zip"
        watts='[.powers | to_entries[] | .key, (.value | map(. * 1e6 | round))]'
        check "an upstream archive answers as its weights do" \
                test "$(jq -c "$watts" "$dir/out.zip")" = "$(jq -c "$watts" "$dir/out")"
else
        skip "an upstream request gets a reply of the upstream reply's shape" "no upstream captures here"
        skip "an upstream archive answers as its weights do" "no upstream captures here"
fi
