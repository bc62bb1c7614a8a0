#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A new model reaches a part of the nodes first; one that they refuse is halted before it gets further, a good one
# goes on to all. What nodes report is kept once, within limits, and shown.
set -u
. "$(dirname "$0")/lib.sh"

here=$(dirname "$0")
dir=$(tmpdir)
port=$(free_port)
url=http://127.0.0.1:$port
nodes=1000
node1=00000000000000000000000000000001
printf 'fleet\n%s one\n' "$node1" >"$dir/tokens"
chmod 600 "$dir/tokens"
model_server() {
        "$BIN/wattloop-model-server" "$@" --models-path "$dir/pipelines" --rollout-stages 10,50 --signing-key-file "$dir/online"
}
run_server() { # STAGE_TIME
        start "$dir/log" "$BIN/wattloop-model-server" serve --listen "127.0.0.1:$port" --database-path "$dir/server.db" \
                --models-path "$dir/pipelines" --auth-token-file "$dir/tokens" --signing-key-file "$dir/online" \
                --rollout-stages 10,50 --rollout-stage-time "$1"
        server=$STARTED_PID
        wait_for 30 curl -sf "$url/healthz"
}
publish() { # BIAS
        python3 "$here/model_source.py" make "$dir/SGDRegressorTrainer_0.zip" "$1"
        model_server publish "$dir/SGDRegressorTrainer_0.zip" >/dev/null
}
fleet() { # NODES BIAS_MAX
        python3 "$here/fleet.py" "$url" "$1" fleet "$2" "$dir/fleet.json"
}
rollout() {
        curl -s "$url/api/v1/status" | jq -c ".rollouts[0].$1"
}
is() { # MEMBER VALUE
        [ "$(rollout "$1")" = "$2" ]
}
query="metrics=bpf_cpu_time_ms,bpf_page_cache_hit&output_type=AbsPower&source=rapl-sysfs&node_type=-1"
status_of() { # QUERY
        curl -so /dev/null -w '%{http_code}' -H 'Accept: application/vnd.wattloop.model+zip' "$url/api/v1/models?$query$1"
}

model_server keys make "$dir/online" >/dev/null
publish 20
run_server 1h
good=$(fleet "$nodes" 100)
check_has "what is there at the first start is for all" "$(jq -c '[.answers[]]' <<<"$good")" "[$nodes]"
check_has "no rollout is under way then" "$(rollout halted)$(status_of '&rollout=candidate')" "null404"

# ---- a bad model ----
publish 500
check "a new model begins with the first cohort" wait_for 20 is percent 10
bad=$(fleet "$nodes" 100)
n=$(jq .refused <<<"$bad")
[ "$n" -ge 3 ] && [ "$n" -le 130 ] && ok "only nodes of the first cohort are given it" || not_ok "only nodes of the first cohort are given it" "$bad"
check_has "and each by its own machine id" "$(jq .misplaced <<<"$bad")" 0
check "refusals halt the rollout" wait_for 20 is halted true
again=$(fleet "$nodes" 100)
check_has "then nobody is given it" "$(jq -c '[.answers[]], .refused' <<<"$again" | tr '\n' ' ')" "[$nodes] 0"
check_has "a mirror sees that it is halted" "$(curl -s -D - -o /dev/null -H 'Accept: application/vnd.wattloop.model+zip' \
        "$url/api/v1/models?$query&rollout=candidate" | tr -d '\r' | sed -n 's/^Wattloop-Signature: //p' | base64 -d)" "rollout:10 halted:1"
page=$(curl -s "$url/")
check_has "the page says that it is halted and why" "$page" 'data-halted="1"'
check_has "in words" "$page" "nodes refuse SGDRegressorTrainer_0"
check_has "with the counts" "$page" "data-refused=\"$n\""
check_has "and which nodes refused, first" "$(grep -ao 'data-outcome="[a-z]*"' <<<"$page" | head -n 1)" 'refused'
check_has "and what every node serves" "$page" 'data-outcome="installed"'
check_has "status has the fleet" "$(curl -s "$url/api/v1/status" | jq -c '[.fleet_nodes, (.fleet | length)]')" "[$nodes,$nodes]"
stop "$server"
run_server 1h
check_has "a restart does not forget it" "$(rollout halted)$(model_server rollout status)" "HALTED"

# ---- a good one ----
stop "$server"
run_server 1s
publish 30
check "another model begins a rollout of its own" wait_for 20 is halted false
check_exit 0 "the operator halts it" model_server rollout halt
check "within a second" wait_for 10 is why '"by the operator"'
check_exit 3 "a second time there is nothing to halt" model_server rollout halt published
check_exit 0 "and lets it go on" model_server rollout resume published
check "which it does" wait_for 10 is halted false
fleet 200 100 >/dev/null
check "as the first cohort installs it, the next one follows" wait_for 20 grep -q 'goes on to 50 %' "$dir/log"
check "and waits for it" wait_for 10 is percent 50
fleet 100 100 >/dev/null
check "and then all" wait_for 20 is percent null
check_has "really" "$(fleet 100 100 | jq -c '[.answers[]]')" "[100]"

# ---- reports ----
report() { # BODY [CURL OPTIONS...]
        local body=$1

        shift
        curl -s -w ' %{http_code}' -H 'Content-Type: application/json' -H 'Authorization: Bearer one' -d "$body" "$@" "$url/api/v1/report"
}
event='"time_ms": 1764288000000, "slot": "rapl-sysfs/AbsPower/archive", "outcome": "refused", "id": "", "why": "<b>&\"x"'
check_has "a report is stored" "$(report "{\"node_id\": \"$node1\", \"reports\": [{$event}]}")" '{"new": 1, "duplicate": 0} 200'
check_has "and once only" "$(report "{\"node_id\": \"$node1\", \"reports\": [{$event}]}")" '{"new": 0, "duplicate": 1} 200'
check_has "another node's token is refused" "$(report "{\"node_id\": \"${node1%1}2\", \"reports\": []}")" ' 403'
check_has "none is refused" "$(curl -s -w ' %{http_code}' -d '{}' "$url/api/v1/report")" ' 401'
check_has "an outcome that there is not is refused" "$(report "{\"node_id\": \"$node1\", \"reports\": [{${event/refused/eaten}}]}")" ' 400'
check_has "a slot that there is not is refused" "$(report "{\"node_id\": \"$node1\", \"reports\": [{${event/rapl/x}}]}")" ' 400'
check_has "too many are refused" "$(report "{\"node_id\": \"$node1\", \"reports\": [$(yes '{},' | head -n 64 | tr -d '\n'){}]}")" ' 400'
head -c 70000 /dev/zero | tr '\0' ' ' >"$dir/large"
check_has "too large is refused" "$(report "@$dir/large")" ' 413'
check_has "what a node says is no markup" "$(curl -s "$url/")" '&lt;b&gt;&amp;'
