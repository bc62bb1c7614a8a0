#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A staged rollout between the real server and real updaters, each on a machine of its own as far as it can tell: only the
# cohort is given the new model, what nodes report halts a bad one, a good one reaches all.
set -u
. "$(dirname "$0")/lib.sh"

here=$(dirname "$0")
dir=$(tmpdir)
port=$(free_port)
url=http://127.0.0.1:$port
nodes=8
: >"$dir/empty.yaml"
model_server() {
        "$BIN/wattloop-model-server" "$@" --models-path "$dir/pipelines"
}
publish() { # BIAS: prints the content id's first digits
        python3 "$here/model_source.py" make "$dir/SGDRegressorTrainer_0.zip" "$1"
        model_server publish "$dir/SGDRegressorTrainer_0.zip" | sed 's/^[^ ]* \([0-9a-f]*\):.*/\1/'
}
run_server() { # STAGE_TIME
        start "$dir/log" "$BIN/wattloop-model-server" serve --listen "127.0.0.1:$port" --database-path "$dir/server.db" \
                --models-path "$dir/pipelines" --signing-key-file "$dir/online" --rollout-stages 50 --rollout-stage-time "$1"
        server=$STARTED_PID
        wait_for 30 curl -sf "$url/healthz"
}
node_id() { # NUMBER
        printf '%032x' $(($1 * 2654435761))
}
update() { # NUMBER
        FAULT_NODE=$(node_id "$1") "$B/tests/system/updater_faults" update --config "$dir/empty.yaml" --server-url "$url" \
                --store-path "$dir/store$1" --estimator-socket '' --canary-samples '' --trust-keys "$dir/online.pub" >>"$dir/updates" 2>&1
}
# One update of each, in turn: "installed LIST refused LIST unchanged LIST" of the nodes that ended so.
all() {
        local i by=('' '' '' '')

        for ((i = 1; i <= nodes; i++)); do
                update "$i"
                by[$?]+=,$i
        done
        printf 'installed %s refused %s unchanged %s' "${by[0]#,}" "${by[1]#,}" "${by[3]#,}"
}
# What the nodes have: how many, and the content id's first digits.
current() {
        for ((i = 1; i <= nodes; i++)); do
                readlink "$dir/store$i/rapl-sysfs/AbsPower/archive/current"
        done | cut -c 1-12 | sort | uniq -c | tr -s ' '
}
rollout() {
        curl -s "$url/api/v1/status" | jq -c ".rollouts[0].$1"
}
is() { # MEMBER VALUE
        [ "$(rollout "$1")" = "$2" ]
}
# The nodes in the first half for the model that is being rolled out, by the contract's own formula.
cohort() {
        local id

        id=$(rollout 'models[0].id' | tr -d '"')
        for ((i = 1; i <= nodes; i++)); do
                printf '%s/%s' "$(node_id "$i")" "$id" | sha256sum | cut -c 1-8 | sed "s/^/$i /"
        done | while read -r i hash; do
                [ $((16#$hash * 100)) -ge $((50 << 32)) ] || echo "$i"
        done | paste -sd,
}
others() { # LIST: the nodes that are not in it
        seq "$nodes" | grep -vxFf <(tr ',' '\n' <<<"$1") | paste -sd,
}

model_server keys make "$dir/online" >/dev/null
good=$(publish 20)
run_server 1h
everybody=$(others '')
check_has "what is there at the first start is installed by all" "$(all)" "installed $everybody refused  unchanged "

publish 5e7 >/dev/null
check "a bad model begins a rollout" wait_for 20 is percent 50
in=$(cohort)
out=$(others "$in")
[ -n "$in" ] && [ -n "$out" ] && ok "which has some of the machines in it ($in) and others not" ||
        not_ok "which has some of the machines in it and others not" "$in/$out"
result=$(all)
refused=$(sed 's/.*refused \(.*\) unchanged.*/\1/' <<<"$result")
check_has "some of those refuse it before it is halted, and nobody installs it" "$result" "installed  refused $refused unchanged "
[ "$(tr ',' '\n' <<<"$refused" | wc -l)" -ge 3 ] && [ "$(tr ',' '\n' <<<"$in,$refused" | sort -u | wc -l)" = "$(tr ',' '\n' <<<"$in" | wc -l)" ] &&
        ok "and no others are given it" || not_ok "and no others are given it" "$refused of $in"
check "their reports halt it" wait_for 20 is halted true
check_has "then nobody is given it any more" "$(all)" "installed  refused  unchanged $everybody"
# What a busy server did not take at once was told by the next run.
check "the server counts them" wait_for 20 is 'models[0].refused' "$(tr ',' '\n' <<<"$refused" | wc -l)"
check_has "and all have the model of before" "$(current)" " $nodes $good"

next=$(publish 30)
check "a good model begins another one" wait_for 20 is halted false
in=$(cohort)
check_has "the cohort installs it, the others keep what they have" "$(all)" "installed $in refused  unchanged $(others "$in")"
stop "$server"
run_server 0s
check "as time goes by it goes on to all" wait_for 20 is percent null
all >/dev/null
check_has "who have it then" "$(current)" " $nodes $next"
