#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Pipelines of Kepler's, unpacked or zipped, of three versions, come and go while the server runs; replies can be
# cached; HTTPS; and a node's token is good for that node alone.
set -u
. "$(dirname "$0")/lib.sh"

dir=$(tmpdir)
here=$(dirname "$0")
models=$dir/pipelines
port=$(free_port)
url=http://127.0.0.1:$port
mkdir -p "$models"
printf 'fleet\nn1 one\n' >"$dir/tokens"
chmod 600 "$dir/tokens"

run_server() {
        start "$dir/log" "$BIN/wattloop-model-server" serve --listen "127.0.0.1:$port" --database-path "$dir/server.db" \
                --models-path "$models" --auth-token-file "$dir/tokens" "$@"
        server=$STARTED_PID
        wait_for 10 curl -skf "$url/healthz"
}

# pipeline.py DIR BIAS SOURCE_DIR [FEATURE...]: a pipeline of two models, one with weights, as zips only
cat >"$dir/pipeline.py" <<'PY'
import json, os, sys, zipfile
root, bias, source, *features = sys.argv[1:]
features = features or ["bpf_cpu_time_ms", "bpf_page_cache_hit"]
group = "%s/%s/AbsPower/BPFOnly" % (root, source)
os.makedirs(group)
json.dump({"name": os.path.basename(root)}, open(root + "/metadata.json", "w"))
json.dump({"0": {"attrs": {"processor": "acme_z1", "cores": 8.0, "chips": 1, "memory": 31, "frequency": 3100}, "members": ["a"]}},
          open(root + "/node_type_index.json", "w"))
for trainer, mae in (("SGDRegressorTrainer", 5.5), ("XgboostFitTrainer", 2.5)):
    with zipfile.ZipFile("%s/%s_0.zip" % (group, trainer), "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("metadata.json", json.dumps({"model_name": trainer + "_0", "model_class": "scikit", "features": features, "mae": mae}))
        z.writestr("big.pkl", os.urandom(50000))
weights = {"platform": {"All_Weights": {"Bias_Weight": float(bias), "Categorical_Variables": {},
           "Numerical_Variables": {f: {"scale": 1.0, "weight": 0.5} for f in features}}}}
json.dump(weights, open(group + "/SGDRegressorTrainer_0.json", "w"))
PY
make_pipeline() {
        rm -rf "$dir/new"
        python3 "$dir/pipeline.py" "$dir/new" "$@"
}
# bias [MORE]: of the weights that are served
bias() {
        curl -sk -H 'Content-Type: application/json' "$url/model" -d "{\"metrics\":[\"bpf_page_cache_hit\",\"bpf_cpu_time_ms\"],
                \"output_type\":\"AbsPower\",\"weight\":true,\"source\":\"acpi\"${1:-}}" | jq '.platform.All_Weights.Bias_Weight | floor'
}
bias_is() {
        [ "$(bias)" = "$1" ]
}

run_server
check "without a pipeline there is no model" test -z "$(bias 2>/dev/null)"
make_pipeline 11 acpi
mv "$dir/new" "$models/a"
check "a pipeline that is moved here is served without a restart" wait_for 5 bias_is 11
make_pipeline 22 acpi
(cd "$dir/new" && python3 -m zipfile -c "$dir/b.zip" ./*)
mv "$dir/b.zip" "$models/b.zip"
check "a zipped one, too, and the last name goes first" wait_for 5 bias_is 22
make_pipeline 33 acpi
(cd "$dir/new" && python3 -m zipfile -c "$dir/b.zip" ./*)
mv "$dir/b.zip" "$models/b.zip"
check "a newer zip takes its place" wait_for 5 bias_is 33
python3 -c 'import sys, zipfile
z = zipfile.ZipFile(sys.argv[1], "w"); z.writestr("metadata.json", "{}"); z.writestr("../escaped", "x")' "$models/evil.zip"
check "a zip that reaches upwards is refused" wait_for 5 grep -q "evil.zip.*plain" "$dir/log"
check "and nothing of it is written" test ! -e "$models/escaped" -a ! -e "$models/.staging/escaped" -a ! -e "$models/evil"
rm -r "$models/b.zip" "$models/b"
check "what is removed is not served any more" wait_for 5 bias_is 11
make_pipeline 44 rapl bpf_cpu_time_us
mv "$dir/new" "$models/std_v0.6"
rapl() {
        curl -s -H 'Content-Type: application/json' "$url/model" -d "{\"metrics\":[$1],\"output_type\":\"AbsPower\",\"weight\":true}"
}
old_serves() {
        rapl '"bpf_cpu_time_us"' | grep -q '"Bias_Weight": 44'
}
check "a pipeline of v0.6 is served to who has its features" wait_for 5 old_serves
check_has "and to nobody else" "$(rapl '"bpf_cpu_time_ms","bpf_page_cache_hit"')" 'cannot find model for'

# What is served is what lies there, and can be cached.
query="$url/api/v1/models?metrics=bpf_cpu_time_ms,bpf_page_cache_hit&output_type=AbsPower&source=acpi"
curl -s -D "$dir/head" -o "$dir/got.zip" "$query"
check "the archive comes as it lies on the disk" cmp "$dir/got.zip" "$models/a/acpi/AbsPower/BPFOnly/XgboostFitTrainer_0.zip"
check_has "with its digest" "$(cat "$dir/head")" "Digest: sha-256=$(openssl dgst -sha256 -binary "$dir/got.zip" | base64)"
etag=$(sed -n 's/^ETag: //p' "$dir/head" | tr -d '\r')
check_has "a client that has it is told so" "$(curl -si -H "If-None-Match: \"x\", $etag" "$query")" 'HTTP/1.1 304'
check_has "without a body" "$(curl -s -o /dev/null -w '%{size_download}' -H "If-None-Match: $etag" "$query")" 0
check_has "another tag gets the model" "$(curl -s -o /dev/null -w '%{http_code}' -H 'If-None-Match: "x"' "$query")" 200
weights=$(curl -si "$query&weight=true&processor=acme_z1&cores=8&chips=1&memory=31&frequency=3100")
check_has "weights, too, with integers for Go" "$weights" '"cores": 8,'
check_has "have a tag" "$weights" 'ETag: "'
check_has "what is no request is a bad one" "$(curl -si "$query&node_type=x")" 'HTTP/1.1 400'
check_has "what fits nothing is not there" "$(curl -si "$query&trainer_name=Nope")" 'HTTP/1.1 404'
printf 'changed' >>"$models/a/acpi/AbsPower/BPFOnly/XgboostFitTrainer_0.zip"
check_has "a file that was changed has another digest at once" "$(curl -si -H "If-None-Match: $etag" "$query" | head -1)" 200

# Tokens of nodes.
upload() {
        python3 "$here/model_server_batches.py" "$1" 0 3 | curl -sk -w ' %{http_code}' --data-binary @- -H "Authorization: Bearer $2" \
                "$url/api/v1/import"
}
check_has "a node's token uploads that node's series" "$(upload n1 one)" '"ignored": 4} 200'
check_has "and no other's" "$(upload n2 one)" "the token is for node 'n1'"
check_has "which is forbidden" "$(upload n2 one)" 403
check_has "the fleet's uploads any" "$(upload n2 fleet)" 200
check_has "nobody's uploads none" "$(upload n1 n1)" 401
stop "$server"

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$dir/key.pem" -out "$dir/cert.pem" -days 2 \
        -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 2>/dev/null
url=https://127.0.0.1:$port
run_server --tls-certificate "$dir/cert.pem" --tls-key "$dir/key.pem"
check_has "HTTPS is served with the certificate" "$(curl -s --cacert "$dir/cert.pem" "$url/healthz")" ok
curl -s --cacert "$dir/cert.pem" -o "$dir/tls.zip" "https://127.0.0.1:$port/api/v1/models?${query#*\?}&trainer_name=SGD"
check "archives, too" cmp "$dir/tls.zip" "$models/a/acpi/AbsPower/BPFOnly/SGDRegressorTrainer_0.zip"
check_has "and plain HTTP is not" "$(curl -s -m 5 -o /dev/null -w '%{http_code}' "http://127.0.0.1:$port/healthz")" 000
stop "$server"
check_exit 2 "a certificate without its key is refused" "$BIN/wattloop-model-server" serve --check-config --tls-certificate "$dir/cert.pem"
