#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The updater against honest and lying servers and estimators: a bad model never replaces a good one.
set -u
. "$(dirname "$0")/lib.sh"

here=$(cd "$(dirname "$0")" && pwd)
dir=$(tmpdir)
port=$(free_port)
web=$dir/web
store=$dir/models
slot=$store/rapl-sysfs/AbsPower/archive
sock=$dir/est.sock
mkdir -p "$web"
start "$dir/server.out" python3 "$here/model_source.py" "$port" "$web"
wait_for 10 python3 -c "import socket; socket.create_connection(('127.0.0.1', $port), 1)"

updater() {
        "$BIN/wattloop-updater" "$@" --server-url "http://127.0.0.1:$port" --store-path "$store" \
                --estimator-socket "$sock" --estimator-timeout 250ms --server-timeout 2s
}
update() {
        updater update --server-trust unsigned "$@"
}
current() {
        readlink "$slot/current" 2>/dev/null || echo none
}
serve() { # MODE [BIAS]
        echo "$1" >"$web/mode"
        echo "${2:-20}" >"$web/bias"
}
# The current model, its files hashed as the contract says.
whole() {
        local name

        [ -f "$slot/current/wattloop.json" ] && [ "$(for name in $(LC_ALL=C ls "$slot/current/"); do
                [ "$name" = wattloop.json ] || { printf '%d %s%d ' ${#name} "$name" "$(stat -Lc %s "$slot/current/$name")"; cat "$slot/current/$name"; }
        done | sha256sum)" = "$(current)  -" ]
}

# ---- the ordinary course, no estimator running ----
serve ok
out=$(updater update 2>&1)
[ $? -eq 2 ] && check_has "models are signed unless the policy says otherwise" "$out" "trust.keys" ||
        not_ok "models are signed unless the policy says otherwise" "$out"
out=$(updater update --server-trust tls 2>&1)
[ $? -eq 1 ] && check_has "plain http is refused unless the policy says unsigned" "$out" "server.trust" ||
        not_ok "plain http is refused unless the policy says unsigned" "$out"
out=$(update 2>&1)
[ $? -eq 0 ] && check_has "without an estimator the model is installed, with a warning" "$out" "warning" ||
        not_ok "without an estimator the model is installed, with a warning" "$out"
check "the store holds what the contract says" whole
check_exit 3 "the same model again is nothing new" update
check_has "the server is asked with the spec, the features and our media type" "$(tail -n 1 "$web/requests.log")" \
        '"accept": "application/vnd.wattloop.model+zip'
first=$(current)
serve plain 25
check "another model is installed (a server without digests will do)" update
[ "$(readlink "$slot/previous")" = "$first" ] && ok "the old one becomes previous" || not_ok "the old one becomes previous"
serve ok 26
update >/dev/null 2>&1
[ ! -e "$slot/$first" ] && [ "$(find "$slot" -mindepth 1 -maxdepth 1 -type d | wc -l)" = 2 ] &&
        ok "older ones are removed" || not_ok "older ones are removed"
[ -d "$store/.staging" ] && [ -z "$(ls -A "$store/.staging")" ] && ok "nothing stays in staging" || not_ok "nothing stays in staging"
out=$(updater status)
check_has "status shows the model" "$out" "$(current)"
check_has "status prints JSON" "$(updater status --json | jq -c '.models[0] | [.mae, .served]')" '[1.5,"unknown"]'
printf 'secret-token\n' >"$dir/token"
update --server-token-file "$dir/token" >/dev/null 2>&1
check_has "the token is sent" "$(tail -n 1 "$web/requests.log")" "Bearer secret-token"

# ---- what must not be installed ----
good=$(current)
bad() { # MODE WORDS [OPTIONS...]
        local mode=$1 words=$2 out r

        shift 2
        serve "$mode" 99
        out=$(update "$@" 2>&1)
        r=$?
        if [ $r -eq 1 ] && [ "$(current)" = "$good" ] && whole; then
                check_has "$mode is refused and the old model stays${*:+ (weight)}" "$out" "$words"
        else
                not_ok "$mode is refused and the old model stays${*:+ (weight)}" "exit $r; $out"
        fi
}
weight=(--models rapl-sysfs/AbsPower/weight)
# as Kepler's server answers; the long table is updater_hostile.py's
bad html "text/html"
bad html-as-model "weights:1:1" "${weight[@]}"
bad truncated "archive"
bad truncated "end of input" "${weight[@]}"
bad short "bytes remaining" "${weight[@]}"
bad digest "digest"
bad nan "NaN" "${weight[@]}"
bad wrong-component "platform" "${weight[@]}"
bad scikit "scikit"
bad evil-path "evil"
bad 400 "cannot find model"
[ -d "$store" ] && [ ! -e "$store/evil" ] && [ ! -e "$store/.staging/evil" ] && ok "nothing was written outside" || not_ok "nothing was written outside"
[ ! -e "$store/rapl-sysfs/AbsPower/weight/current" ] && ok "no bad weight was installed" || not_ok "no bad weight was installed"
[ -d "$store/.staging" ] && [ -z "$(ls -A "$store/.staging")" ] && ok "nothing of them stays in staging" || not_ok "nothing of them stays in staging"
serve ok 30
check_exit 1 "one bad model of two is a failure" update --models rapl-sysfs/AbsPower/archive,acpi/AbsPower/archive
[ "$(current)" != "$good" ] && ok "but the good one is installed" || not_ok "but the good one is installed"

(
        umask 077
        store=$dir/private
        update >/dev/null 2>&1
)
check "another user can read what is installed under a strict umask" \
        test "$(find "$dir/private" ! -name .lock ! -type l ! -perm -o=r -print 2>&1 | wc -l)" = 0 -a -L "${slot/"$store"/"$dir/private"}/current"

# ---- estimators ----
good=$(current)
estimator() { # MODE
        echo "$1" >"$dir/estimator"
}
estimator serve
start "$dir/est.out" python3 "$here/fake_estimator.py" "$sock" "$store" "$dir/estimator"
est=$STARTED_PID
wait_for 10 test -S "$sock"
serve ok 31
out=$(update 2>&1)
[ $? -eq 0 ] && check_has "the estimator is asked whether it serves the model" "$out" "serves it" ||
        not_ok "the estimator is asked whether it serves the model" "$out"
check_has "status knows what is served" "$(updater status --json | jq -r '.models[] | select(.form == "archive").served')" yes
good=$(current)
before=$(readlink "$slot/previous")
n=32
for mode in refuse never hang garbage close; do
        estimator "$mode"
        serve ok $n
        n=$((n + 1))
        out=$(update 2>&1)
        if [ $? -eq 1 ] && [ "$(current)" = "$good" ] && [ "$(readlink "$slot/previous")" = "$before" ]; then
                ok "an estimator that answers with '$mode' gets the old model back"
        else
                not_ok "an estimator that answers with '$mode' gets the old model back" "$(current) $out"
        fi
done
serve ok 31
for mode in never hang garbage close; do
        estimator "$mode"
        out=$(update 2>&1)
        if [ $? -eq 1 ] && [ "$(current)" = "$good" ] && [ "$(readlink "$slot/previous")" = "$before" ]; then
                ok "an estimator that answers with '$mode' does not cost a model that was current before"
        else
                not_ok "an estimator that answers with '$mode' does not cost a model that was current before" "$(current) $out"
        fi
done
estimator stale
serve ok 40
out=$(update 2>&1)
[ $? -eq 0 ] && check_has "a refusal from before the reload does not count" "$out" "serves it" ||
        not_ok "a refusal from before the reload does not count" "$out"
estimator refuse
serve ok 50
check_has "the estimator's reason is passed on" "$(update 2>&1)" "does not taste well"
mv "$store" "$store.kept"
check_exit 1 "a first model that is refused is a failure" update
[ -d "$slot" ] && [ "$(current)" = none ] && ok "and leaves no model behind" || not_ok "and leaves no model behind" "$(current)"
stop "$est"
rm -rf "$store" "$sock"
mv "$store.kept" "$store"

# ---- the real one ----
start "$dir/real.out" "$BIN/wattloop-estimator" serve --socket-path "$sock" --store-path "$store"
est=$STARTED_PID
wait_for 10 test -S "$sock"
serve ok 60
out=$(update 2>&1)
[ $? -eq 0 ] && check_has "wattloop-estimator takes the new model" "$out" "serves it" ||
        not_ok "wattloop-estimator takes the new model" "$out"
check_has "and says so" "$("$BIN/wattloop-updater" status --store-path "$store" --estimator-socket "$sock")" "served:  yes"
stop "$est"
rm -f "$sock"

# ---- from files ----
python3 "$here/model_source.py" make "$dir/SGDRegressorTrainer_7.zip" 70
python3 "$here/model_source.py" make "$dir/SGDRegressorTrainer_8.json" 71
check "an archive is installed from a file" update --from "$dir/SGDRegressorTrainer_7.zip"
check "the store still holds what the contract says" whole
check "a weight is installed from a file" update --from "$dir/SGDRegressorTrainer_8.json"
cp -r "$slot/current/" "$dir/unpacked"
check_exit 3 "a directory that is installed already is nothing new" update --from "$dir/unpacked"
head -c 300 "$dir/SGDRegressorTrainer_7.zip" >"$dir/cut.zip"
check_exit 1 "a cut file is refused" update --from "$dir/cut.zip"
check_exit 1 "a missing file is refused" update --from "$dir/missing.zip"
mkfifo "$dir/fifo"
check_exit 1 "a fifo is refused" timeout 5 "$BIN/wattloop-updater" update --from "$dir/fifo" --store-path "$store" --server-trust unsigned

# ---- others at work, broken stores ----
exec {lock}>>"$store/.lock"
flock "$lock"
check_exit 1 "two updaters at a time are refused" update
exec {lock}>&-
good=$(current)
printf x >>"$slot/$good/weight.json"
serve ok 80
cp "$dir/SGDRegressorTrainer_7.zip" "$dir/again.zip"
check "a model that the disk has spoiled is installed again" update --from "$dir/again.zip"
check "and is whole again" whole
