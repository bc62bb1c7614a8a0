#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What the server signs is believed by the real updater at its defaults and by minisign's own program, goes only
# forward, and ends when the root key says so.
set -u
. "$(dirname "$0")/lib.sh"

here=$(dirname "$0")
dir=$(tmpdir)
port=$(free_port)
url=http://127.0.0.1:$port
expires=30d
model_server() {
        "$BIN/wattloop-model-server" "$@" --models-path "$dir/pipelines" --signing-key-file "$dir/online" \
                --database-path "$dir/server.db"
}
run_server() {
        start "$dir/log" "$BIN/wattloop-model-server" serve --listen "127.0.0.1:$port" --database-path "$dir/server.db" \
                --models-path "$dir/pipelines" --signing-key-file "$dir/online" --signing-keys-file "$dir/keys.json" \
                --signing-expires "$expires"
        server=$STARTED_PID
        wait_for 20 curl -sf "$url/healthz"
}
updater() { # SUBCOMMAND [OPTIONS...]
        "$BIN/wattloop-updater" "$@" --server-url "$url" --store-path "$dir/store" --estimator-socket ''
}
update() {
        updater update --trust-root-keys "$dir/root.pub" "$@" 2>&1
}
query="metrics=bpf_cpu_time_ms,bpf_page_cache_hit&output_type=AbsPower&source=rapl-sysfs&node_type=-1"
# fetch FILE [QUERY]: the model to FILE, its signature beside it
fetch() {
        curl -sf -D "$dir/head" -o "$1" -H 'Accept: application/vnd.wattloop.model+zip' "$url/api/v1/models?$query${2:-}" &&
                tr -d '\r' <"$dir/head" | sed -n 's/^Wattloop-Signature: //p' | base64 -d >"$1.minisig"
}
# word WORD: of the statement of the archive that is served now
word() {
        fetch "$dir/now.zip" && sed -n "s/^trusted comment: .*\\b$1:\\([^ ]*\\).*/\\1/p" "$dir/now.zip.minisig"
}
id_is() {
        [ "$(word id)" = "$1" ]
}

# ---- keys ----
check "a root key is made" model_server keys make "$dir/root"
check "and a key for the server" model_server keys make "$dir/online"
[ "$(stat -c %a "$dir/online" "$dir/root" | sort -u)" = 600 ] && ok "secret keys are their owner's alone" || not_ok "secret keys are their owner's alone"
check_exit 1 "a key is never written over" model_server keys make "$dir/root"
check "the root key signs the list of release keys" model_server keys sign "$dir/keys.json" "$dir/root" "$dir/online.pub"
check "minisign itself verifies the list" minisign -V -q -m "$dir/keys.json" -p "$dir/root.pub"

# ---- a model ----
python3 "$here/model_source.py" make "$dir/SGDRegressorTrainer_0.zip" 20
check "a model is published" model_server publish "$dir/SGDRegressorTrainer_0.zip"
run_server
check "the model is served" fetch "$dir/a.zip"
check "minisign itself verifies what is served" minisign -V -q -m "$dir/a.zip" -p "$dir/online.pub"
fetch "$dir/a.json" "&weight=true"
check "and weights" minisign -V -q -m "$dir/a.json" -p "$dir/online.pub"
check_has "the statement is of the slot" "$(word slot) $(sed -n 's/.*\(slot:[^ ]*\).*/\1/p' "$dir/a.json.minisig")" \
        "rapl-sysfs/AbsPower/archive slot:rapl-sysfs/AbsPower/weight"
curl -sf -o "$dir/b.zip" -D "$dir/head" -H 'Content-Type: application/json' -H 'Accept: application/vnd.wattloop.model+zip' "$url/model" \
        -d '{"metrics":["bpf_cpu_time_ms","bpf_page_cache_hit"],"output_type":"AbsPower","source":"rapl-sysfs","node_type":-1}'
check_has "POST /model carries the signature too" "$(cat "$dir/head")" "Wattloop-Signature: "
curl -sf "$url/api/v1/keys" >"$dir/k" && curl -sf "$url/api/v1/keys.minisig" >"$dir/k.minisig"
check "the list of keys is served with its signature" minisign -V -q -m "$dir/k" -p "$dir/root.pub"
out=$(update)
check_has "the updater at its defaults installs it, knowing the root key only" "$out" "installed"
check_has "and its files are known to be signed later" "$(updater verify --trust-root-keys "$dir/root.pub" 2>&1)" "signature good"
check_exit 3 "and finds nothing new then" update
check_has "weights as well" "$(update --models rapl-sysfs/AbsPower/weight)" "installed"

# ---- forward only ----
first=$(word version)
stop "$server"
run_server
second=$(word version)
[ "$second" -gt "$first" ] && ok "a restart does not go back" || not_ok "a restart does not go back" "$first $second"
python3 "$here/model_source.py" make "$dir/SGDRegressorTrainer_0.zip" 25
model_server publish "$dir/SGDRegressorTrainer_0.zip" >"$dir/out"
new=$(sed 's/^[^ ]* \([0-9a-f]*\):.*/\1/' "$dir/out")
old=$(word id)
check "another model is served without a restart" wait_for 10 eval 'case $(word id) in "$new"*) ;; *) false ;; esac'
[ "$(word version)" -gt "$second" ] && ok "with a higher version" || not_ok "with a higher version" "$(word version) $second"
check_has "the updater takes it" "$(update)" "installed"
minisign -S -q -s "$dir/online" -m "$dir/a.zip" -t "$(sed -n 's/^trusted comment: //p' "$dir/a.zip.minisig")" </dev/null
check_has "and the one before no more, signed as it is" "$(update --from "$dir/a.zip")" "older than"
stop "$server"
printf '{"version": 99999999999, "time_s": 99999999999}' >"$dir/server.signing.json"
run_server
check_has "a clock that was set back does not let versions or times go back" "$(word version) $(word time)" "100000000000 99999999999"
stop "$server"
rm "$dir/server.signing.json"
expires=2s
run_server
time=$(word time)
check "what is about to expire is signed anew" wait_for 10 eval '[ "$(word time)" -gt "$time" ]'
check_has "for as long as the configuration says" "$(($(word expires) - $(sed -n 's/.* time:\([0-9]*\).*/\1/p' "$dir/now.zip.minisig")))" 2
stop "$server"
expires=30d

# ---- files, for machines without a network ----
mkdir "$dir/usb"
check "files are signed for the air gap" model_server publish --sign --out "$dir/usb" "$dir/SGDRegressorTrainer_0.zip"
check "which minisign verifies" minisign -V -q -m "$dir/usb/SGDRegressorTrainer_0.zip" -p "$dir/online.pub"
rm -rf "$dir/store"
check_has "and the updater takes" "$(updater update --trust-keys "$dir/online.pub" --from "$dir/usb/SGDRegressorTrainer_0.zip" 2>&1)" "installed"
before=$(sed -n 's/.*version:\([0-9]*\).*/\1/p' "$dir/usb/SGDRegressorTrainer_0.zip.minisig")
model_server publish --sign --out "$dir/usb" "$dir/SGDRegressorTrainer_0.zip" >/dev/null
[ "$(sed -n 's/.*version:\([0-9]*\).*/\1/p' "$dir/usb/SGDRegressorTrainer_0.zip.minisig")" -gt "$before" ] &&
        ok "signed again its version is higher" || not_ok "signed again its version is higher"
printf '<html>' >"$dir/page.zip"
check_exit 1 "what is no model is not signed" model_server publish --sign --out "$dir/usb" "$dir/page.zip"

# ---- keys that are not good ----
chmod 640 "$dir/online"
out=$(timeout 20 "$BIN/wattloop-model-server" serve --listen "127.0.0.1:$port" --database-path "$dir/server.db" --models-path "$dir/pipelines" \
        --signing-key-file "$dir/online" 2>&1)
check_has "a secret key that others can read is refused" "$out" "chmod 600"
check "unless it is a credential of the service manager's" env CREDENTIALS_DIRECTORY="$dir" "$BIN/wattloop-model-server" publish \
        --signing-key-file "$dir/online" --sign --out "$dir/usb" "$dir/SGDRegressorTrainer_0.zip"
chmod 600 "$dir/online"
minisign -G -f -W -p "$dir/theirs.pub" -s "$dir/theirs" >/dev/null 2>&1
# as minisign writes it with a password, which takes it ten seconds: another word for how the key is locked
{ head -n 1 "$dir/theirs"; { printf 'EdSc'; sed -n 2p "$dir/theirs" | base64 -d | tail -c +5; } | base64 -w 0; } >"$dir/locked"
chmod 600 "$dir/locked" "$dir/theirs"
check_has "and one with a password" "$(timeout 20 "$BIN/wattloop-model-server" serve --listen "127.0.0.1:$port" --database-path "$dir/server.db" \
        --models-path "$dir/pipelines" --signing-key-file "$dir/locked" 2>&1)" "minisign -G -W"

# ---- a stolen key ----
mv "$dir/online" "$dir/stolen"
mv "$dir/online.pub" "$dir/stolen.pub"
mv "$dir/theirs" "$dir/online"
mv "$dir/theirs.pub" "$dir/online.pub"
check "a stolen key is revoked" model_server keys revoke "$dir/keys.json" "$dir/root" "$dir/stolen.pub"
check "and minisign's takes its place" model_server keys sign "$dir/keys.json" "$dir/root" "$dir/online.pub"
check_exit 1 "a revoked key never comes back" model_server keys sign "$dir/keys.json" "$dir/root" "$dir/stolen.pub"
check_has "the list says so" "$(model_server keys show "$dir/keys.json")" "revoked "
rm -rf "$dir/store"
run_server
check_has "nodes follow to the new key without being visited" "$(update)" "installed"
mv "$dir/online" "$dir/new"
mv "$dir/stolen" "$dir/online"
stop "$server"
rm -rf "$dir/store"
run_server
check_has "and do not believe the stolen one" "$(update)" "revoked"
check_has "of which the server warns" "$(cat "$dir/log")" "is revoked"
