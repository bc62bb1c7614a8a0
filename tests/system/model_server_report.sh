#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# train, evaluate and report on a small recording whose structure is known (recording.py).
set -u
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

HERE=$(dirname "$0")
SERVER=$BIN/wattloop-model-server
D=$(tmpdir)
R=$D/report
: >"$D/none.yaml"
SETS=models/rapl/AbsPower

python3 "$HERE/recording.py" "$D/rec" --no-platform
check "a report is made" "$SERVER" report --data "$D/rec" --out "$R"

# figure KIND COMPONENT GROUP PROTOCOL [TYPE]: the first of report.json
figure() {
        jq -r --arg k "$1" --arg c "$2" --arg g "$3" --arg p "$4" --arg t "${5:-AbsPower}" '[.results[] |
                select(.kind == $k and .component == $c and .feature_group == $g and .protocol == $p and
                        .output_type == $t)][0].mae' "$R/report.json"
}
below() { # FIGURE LIMIT
        [ "$1" != null ] && awk -v a="$1" -v b="$2" 'BEGIN { exit !(a < b) }'
}

check "report.json has exactly the agreed keys" jq -e '(keys == ["results"]) and (.results | length > 0) and
        all(.results[]; keys == ["active_mae", "component", "feature_group", "kind", "mae", "model",
        "output_type", "protocol", "sd", "worst_fold"])' "$R/report.json"
check "every protocol is there for both kinds" jq -e '[.results[] | select(.component == "package" and
        .feature_group == "Basic" and .output_type == "AbsPower") | .kind + .protocol] | unique ==
        ["generalB", "generalF", "generalH", "generalR", "generalS", "generalW", "localB", "localF", "localH",
        "localR", "localS", "localW"]' "$R/report.json"
check "a component that is always 0 has no figures" jq -e 'all(.results[]; .component != "core")' "$R/report.json"
check "DynPower has AbsPower's figures" test "$(figure general package Basic S)" = "$(figure general package Basic S DynPower)"
check "with counters the truth is found within 6 W of 100" below "$(figure general package Basic S)" 6
check "and dram's, which is linear in misses, within 0.3 W by weights" below "$(figure local dram Basic S)" 0.3
check "CPU time alone cannot know it" below 6 "$(figure local package BPFOnly S)"
check "the text says watts and joules" grep -q 'joules per step' "$R/report.md"
check "and shows every general model with and without previous rows" \
        test "$(grep -c '^| Basic | general, blend' "$R/report.md")" = 4
check "plots are well-formed" python3 -c 'import glob, sys, xml.dom.minidom as x
files = glob.glob(sys.argv[1] + "/*.svg")
assert len(files) == 6, files
[x.parse(f) for f in files]' "$R"

# The figure of a fold, by the estimator, row by row, from an archive made without that fold's rows.
check "models without fold S2's rows are trained" "$SERVER" train --data "$D/rec" --out "$D/held" --hold S2
"$SERVER" evaluate --data "$D/rec" --hold S2 "$D"/held/rapl/AbsPower/*/*.{zip,json} >"$D/scores" 2>"$D/scores.err"
check "archives and weights are scored" test "$(grep -c package "$D/scores")" -ge 14
cat >"$D/ask.py" <<'PY'
"""ask.py RECORDING GROUP requests > lines | ask.py RECORDING GROUP error < replies: rows of S fold 2"""
import csv, json, sys
rec, group, what = sys.argv[1:]
segments = list(csv.DictReader(open(rec + "/segments.csv")))
rows = list(csv.DictReader(open(f"{rec}/preprocessed_data/preprocess_abs_default_rapl_{group}.csv")))
names = sorted(k for k in rows[0] if k not in ("timestamp", "node_type") and not k.endswith("_power"))
def fold(t):
    return next(int(s["s_fold"]) for s in segments if int(s["first_timestamp"]) <= t <= int(s["last_timestamp"]))
held = [i for i, r in enumerate(rows) if fold(int(r["timestamp"])) == 2]
if what == "requests":
    for i in held:
        values = [float(rows[i][n]) for n in names] + [float(rows[max(i - 1, 0)][n]) for n in names]
        print(json.dumps({"metrics": names + ["prev_" + n for n in names], "values": [values], "output_type": "AbsPower",
                          "source": "rapl-sysfs", "system_features": [], "system_values": []}))
else:
    replies = [json.loads(l)["powers"]["package"][0] for l in sys.stdin]
    assert len(replies) == len(held)
    print("%.6f" % (sum(abs(p - float(rows[i]["package_power"])) for p, i in zip(replies, held)) / len(held)))
PY
for model in XgboostFitTrainer BlendTrainer BlendPrevTrainer; do
        file=$D/held/rapl/AbsPower/Basic/${model}_1.zip
        have=$(python3 "$D/ask.py" "$D/rec" Basic requests | "$BIN/wattloop-estimator" predict --config "$D/none.yaml" "$file" |
                python3 "$D/ask.py" "$D/rec" Basic error)
        want=$(awk -F'\t' -v f="$file" '$1 == f && $4 == "package" { print $6 }' "$D/scores")
        check "the estimator reproduces $model's error row by row" test -n "$want" -a "$have" = "$want"
done
cat >"$D/zip.py" <<'PY'
"""zip.py ARCHIVE [ENTRY]: names, or an entry"""
import sys, zipfile
z = zipfile.ZipFile(sys.argv[1])
print("\n".join(z.namelist()) if len(sys.argv) == 2 else z.read(sys.argv[2]).decode())
PY
entry() { python3 "$D/zip.py" "$R/$SETS/BPFOnly/$1" "${@:2}"; }
check "what Kepler loads has JSON only" test "$(entry XgboostFitTrainer_1.zip | sed 's/.*\.//' | sort -u)" = json
check "and no transformers" test "$(entry XgboostFitTrainer_1.zip XgboostFitTrainer_1.json | jq -c 'map(.fe_files) | unique')" = '[[]]'
check "published archives say their S error" test "$(entry BlendPrevTrainer_1.zip metadata.json | jq '.package_mae')" = \
        "$(figure general package BPFOnly S | jq '. * 100 | round / 100')"
check "and who trained them" test "$(entry BlendPrevTrainer_1.zip metadata.json | jq -c '[.model_class, .seed,
        .provenance, (.xgboost_version | length > 0)]')" = '["wattloop-blend",1,"measured",true]'
check "weights are published in the form that the report chose" test -s "$R/$SETS/BPFOnly/$(jq -r '[.results[] |
        select(.kind == "local" and .component == "package" and .feature_group == "BPFOnly")][0].model' "$R/report.json")_1.json"
check "what fails at another frequency is in the report but not published" sh -c '
        grep -q "| Basic | general, plain.*\*\*no\*\*" "$1/report.md" && ! [ -e "$1/$2/Basic/XgboostFitTrainer_1.zip" ]' - "$R" "$SETS"
check "weights exist in each form that readers know" test "$(find "$D/held" -path '*Basic*' -name '*_1.json' | wc -l)" -eq 5

# Other recordings.
python3 "$HERE/recording.py" "$D/plain" --no-platform --no-dynamic --no-segments --shuffle-columns
rm "$D"/plain/preprocessed_data/*Basic*
check "a recording with less in it makes a report" "$SERVER" report --data "$D/plain" --out "$D/less"
check "which leaves W and F out and says so" sh -c 'grep -q "no segments.csv" "$1/report.md" &&
        jq -e "[.results[].protocol] | unique == [\"B\", \"H\", \"R\", \"S\"]" "$1/report.json"' - "$D/less"
check "and has no DynPower" jq -e 'all(.results[]; .output_type == "AbsPower")' "$D/less/report.json"

# refused "claim" WORDS: train ends with 1 and these words
refused() {
        "$SERVER" train --data "$D/bad" --out "$D/never" >"$D/out" 2>&1
        [ $? -eq 1 ] && grep -qF -- "$2" "$D/out" && ok "$1" || not_ok "$1" "$(cat "$D/out")"
}
broken() { # SED: the first file of a copy, changed
        rm -rf "$D/bad"
        cp -r "$D/plain" "$D/bad"
        sed -i -E "$1" "$D"/bad/preprocessed_data/*
}
broken '5s/^([^,]*),[^,]*/\1,nan/'
refused "NaN is named with line and column" "BPFOnly.csv:5: 'nan' in column"
broken '7s/^([^,]*),[^,]*/\1,/'
refused "an empty cell is named" ".csv:7: ''"
broken '9s/,[^,]*$//'
refused "a line that is cut short is named" ".csv:9:"
broken '1s/timestamp/time/'
refused "a file without time stamps is named" "no column 'timestamp'"
broken '1s/package_power/gpu_power/'
refused "an unknown component is named" "gpu_power"
rm -rf "$D/bad"; mkdir "$D/bad"
refused "an empty directory is told" "no preprocess_abs_"
check_exit 2 "train without a directory is misuse" "$SERVER" train --out "$D/never"
check_exit 1 "a fold that is not there is told" "$SERVER" train --data "$D/rec" --out "$D/never" --hold S9
check_exit 2 "what a run is given is no key of the configuration" sh -c 'echo "\"--data\": x" >"$1/c.yaml"
        exec "$2" --config "$1/c.yaml" --check-config' - "$D" "$SERVER"
