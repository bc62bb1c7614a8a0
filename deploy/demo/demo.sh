#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The whole loop on this machine: record, upload, train, publish, refresh, estimate. Activity is real, power is
# simulated. Everything happens below $B/demo and on the loopback interface. `make demo` runs it.
#
#       DEMO_QUICK=1     a shorter recording, for tests
#       DEMO_SHUFFLE=1   power that has nothing to do with activity: must end in FAIL
#       DEMO_DIR=DIR     where it works, instead of $B/demo
#
# The last line is 'demo: PASS …' (exit 0) or 'demo: FAIL …' (exit 1).
set -u
export LC_ALL=C
: "${B:=build}"
case $B in /*) ;; *) B=$PWD/$B ;; esac
BIN=$B/bin
DIR=${DEMO_DIR:-$B/demo}
SOCKET=$DIR/estimator.sock
INTERVAL=500ms
REQUESTS=10000
if [ -n "${DEMO_QUICK:-}" ]; then
        TRAIN_S=23 FRESH_S=13
else
        TRAIN_S=66 FRESH_S=36
fi
if [ ${#SOCKET} -gt 100 ]; then # a socket's path has 107 bytes at most
        SOCKET=$(mktemp -u "${TMPDIR:-/tmp}/wattloop-demo.XXXXXX")
fi

STAGES=8
STAGE=0 STAGE_NAME=start STAGE_AT=0 TIMES=()
PIDS=() CGROUP='' WORK_CGROUP='' DONE=''
BEGIN=${EPOCHREALTIME/./}

elapsed() { # tenths of a second since $1 (µs) as '12.3'
        local t=$(((${EPOCHREALTIME/./} - $1) / 100000))

        printf '%d.%d' $((t / 10)) $((t % 10))
}

# stage NAME: ends the stage before and says what begins.
stage() {
        [ $STAGE -eq 0 ] || TIMES+=("$STAGE_NAME|$(elapsed "$STAGE_AT")")
        STAGE=$((STAGE + 1)) STAGE_NAME=$1 STAGE_AT=${EPOCHREALTIME/./}
        printf 'stage %d/%d  %s\n' $STAGE $STAGES "$1"
}

note() {
        progress_end
        printf '           %s\n' "$1"
}

# progress DONE TOTAL TEXT: a bar on a terminal, a line now and then elsewhere.
PROGRESS_SHOWN=-1
progress() {
        local width=30 filled line

        filled=$(($1 * width / $2))
        printf -v line '%*s' $filled ''
        line=${line// /#}
        if [ -t 1 ]; then
                printf '\r           [%-*s] %s/%s s  %s\033[K' $width "$line" "$1" "$2" "$3"
        elif [ $((filled / 6)) -ne $PROGRESS_SHOWN ]; then
                printf '           %s/%s s  %s\n' "$1" "$2" "$3"
        fi
        PROGRESS_SHOWN=$((filled / 6))
}

progress_end() {
        [ ! -t 1 ] || [ $PROGRESS_SHOWN -lt 0 ] || echo
        PROGRESS_SHOWN=-1
}

# fail WHY [LOG]: the log's tail, the verdict, the end.
fail() {
        progress_end
        if [ -n "${2:-}" ] && [ -s "$2" ]; then
                echo "--- the end of $2:"
                tail -n 15 "$2"
                echo "---"
        fi
        cleanup
        echo "demo: FAIL stage=$STAGE/$STAGES ($STAGE_NAME): $1"
        exit 1
}

cleanup() {
        local pid _

        [ -z "$DONE" ] || return 0
        DONE=1
        exec 3>&2 2>/dev/null
        for pid in ${PIDS[@]+"${PIDS[@]}"}; do
                kill -TERM "$pid"
        done
        for _ in {1..20}; do
                running ${PIDS[@]+"${PIDS[@]}"} || break
                sleep 0.1
        done
        [ -z "$CGROUP" ] || echo 1 >"$CGROUP/cgroup.kill"
        for pid in ${PIDS[@]+"${PIDS[@]}"}; do
                kill -KILL "$pid"
                wait "$pid"
        done
        for _ in {1..20}; do
                [ -n "$CGROUP" ] || break
                rmdir "$WORK_CGROUP" "$CGROUP"
                [ ! -d "$CGROUP" ] || sleep 0.1
        done
        rm -f "$SOCKET"
        exec 2>&3 3>&-
}

# Only for the shell itself, not for a child of it between fork and exec.
on_exit() {
        [ "$BASHPID" = $$ ] && cleanup
}
on_signal() {
        [ "$BASHPID" = $$ ] || exit
        cleanup
        progress_end
        echo "demo: FAIL stage=$STAGE/$STAGES ($STAGE_NAME): interrupted"
        exit 130
}
trap on_exit EXIT
trap on_signal INT TERM HUP

# One of the processes still runs.
running() {
        local pid line

        for pid in "$@"; do
                read -r line 2>/dev/null <"/proc/$pid/stat" || continue
                case ${line##*) } in Z* | X*) ;; *) return 0 ;; esac
        done
        return 1
}

# start NAME CGROUP program...: in the background, in that cgroup when there is one; the pid goes to $PID.
start() {
        local name=$1 cgroup=$2

        shift 2
        (
                trap - INT TERM HUP EXIT
                [ -z "$cgroup" ] || echo "$BASHPID" >"$cgroup/cgroup.procs"
                exec "$@"
        ) >>"$DIR/log/$name.log" 2>&1 </dev/null &
        PID=$!
        PIDS+=("$PID")
}

stop() {
        local _

        kill -TERM "$1" 2>/dev/null
        for _ in {1..50}; do
                running "$1" || break
                sleep 0.1
        done
        kill -KILL "$1" 2>/dev/null
        wait "$1" 2>/dev/null
}

# wait_for SECONDS command...
wait_for() {
        local end=$((${EPOCHREALTIME/./} + $1 * 1000000))

        shift
        until "$@" >/dev/null 2>&1; do
                [ "${EPOCHREALTIME/./}" -lt $end ] || return 1
                sleep 0.1
        done
}

# The programs that must never end by themselves.
check_alive() {
        local pair

        for pair in "$@"; do
                running "${pair#*=}" || fail "the ${pair%%=*} ended unexpectedly" "$DIR/log/${pair%%=*}.log"
        done
}

# A cgroup of its own for the demo's programs, and below it one that looks like a container's for the workload.
make_cgroup() {
        local mount own base

        mount=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
        own=$(sed -n 's/^0:://p' /proc/self/cgroup)
        [ -n "$mount" ] || return 1
        for base in "$mount" "$mount$own"; do
                CGROUP=$base/wattloop-demo-$$
                WORK_CGROUP=$CGROUP/docker-$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n').scope
                mkdir "$CGROUP" 2>/dev/null || continue
                mkdir "$WORK_CGROUP" 2>/dev/null && (echo "$BASHPID" >"$WORK_CGROUP/cgroup.procs") 2>/dev/null && return 0
                rmdir "$WORK_CGROUP" "$CGROUP" 2>/dev/null
        done
        CGROUP='' WORK_CGROUP=''
        return 1
}

# The cgroup whose CPU time drives the simulator: all that the collector can see, by an exact account.
activity_cgroup() {
        local v1 v2

        v1=$(awk '$3 == "cgroup" && $4 ~ /(^|,)cpuacct(,|$)/ { print $2; exit }' /proc/mounts)
        v2=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
        if [ -n "$v1" ] && [ -r "$v1/cpuacct.usage" ]; then
                echo "$v1"
        elif [ -n "$v2" ] && [ -r "$v2/cpu.stat" ]; then
                echo "$v2"
        else
                return 1
        fi
}

free_ports() {
        python3 - "$1" <<'PY'
import socket, sys
held = [socket.socket() for _ in range(int(sys.argv[1]))]
for s in held:
    s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in held))
PY
}

sql() { # sql FILE QUERY
        sqlite3 -readonly "$1" ".timeout 2000" "$2" 2>/dev/null
}

get() { # get PORT PATH
        curl -sf --noproxy '*' --max-time 5 "http://127.0.0.1:$1$2"
}

# Share of the CPUs that other programs keep busy, in percent, over a second.
busy_percent() {
        local a b

        a=$(awk '/^cpu / { print $2 + $3 + $4 + $7 + $8, $5 + $6 }' /proc/stat)
        sleep 1
        b=$(awk '/^cpu / { print $2 + $3 + $4 + $7 + $8, $5 + $6 }' /proc/stat)
        awk -v a="$a" -v b="$b" 'BEGIN { split(a, x); split(b, y); t = y[1] - x[1] + y[2] - x[2];
                printf "%d\n", (t > 0 ? 100 * (y[1] - x[1]) / t : 0) }'
}

push() {
        "$BIN/wattloop-trainer-client" --store-path "$DIR/collector/samples.db" --state-path "$DIR/trainer-client" \
                --server-url "http://127.0.0.1:$SERVER_PORT" push >>"$DIR/log/trainer-client.log" 2>&1
        case $? in 0 | 3) ;; *) return 1 ;; esac # 3: nothing new to send
}

update() { # update OPTION...
        "$BIN/wattloop-updater" --store-path "$DIR/models" --estimator-socket "$SOCKET" --estimator-timeout 10s \
                --server-trust unsigned "$@" update >>"$DIR/log/updater.log" 2>&1
}

recorded() {
        local n

        n=$(sql "$DIR/collector/samples.db" 'SELECT count(*) FROM interval') && echo "${n:-0}"
}

acknowledged() {
        local last

        last=$(jq -r .interval_id "$DIR"/collector/acks/model-server.json 2>/dev/null) || last=0
        sql "$DIR/collector/samples.db" "SELECT count(*) FROM interval WHERE interval_id <= ${last:-0}"
}

# The published package model with the smallest error: name, mae, rows, id, tab-separated.
published() {
        get "$SERVER_PORT" /api/v1/status | jq -er '[.models[] | select(.energy_source == "rapl-sysfs" and
                .output_type == "AbsPower")] | sort_by(.mae) | .[0] // empty | [.model, .mae, .rows, .content_id, .provenance] | @tsv'
}

published_all() { # published_all ROWS: there is a model, and the server has learned from so many rows
        published >/dev/null && [ "$(get "$SERVER_PORT" /api/v1/status | jq .learning.learned_row)" -ge "$1" ]
}

# What the estimator serves: name and id of its model.
served() {
        python3 - "$SOCKET" <<'PY'
import json, socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(5)
s.connect(sys.argv[1])
s.sendall(b'{"command": "status"}')
text = b""
while True:
    text += s.recv(65536)
    try:
        status = json.loads(text)
        break
    except ValueError:
        if not text.strip():
            sys.exit(1)
m = [m for m in status["models"] if m["energy_source"] == "rapl-sysfs" and m["output_type"] == "AbsPower"]
print(m[0]["model"], m[0]["id"])
PY
}

write_poor_model() {
        local c

        printf '{"model_name": "PoorConstant_0", "provenance": "simulated"'
        for c in package core uncore dram; do
                printf ', "%s": {"All_Weights": {"Bias_Weight": %s, "Categorical_Variables": {}, "Numerical_Variables": {' \
                        $c "$([ $c = package ] && echo 100.0 || echo 0.0)"
                printf '"bpf_cpu_time_ms": {"scale": 1.0, "weight": 0.0}, "bpf_page_cache_hit": {"scale": 1.0, "weight": 0.0}}}}'
        done
        printf '}\n'
}

#
# The stages
#

sensors() {
        local from shuffle=()

        stage "sensors: a simulated power tree, driven by this machine's real activity"
        from=$(activity_cgroup) || fail "no cgroup file with exact CPU time: neither cpuacct.usage nor cpu.stat can be read"
        make_cgroup || note "no cgroup of its own (not permitted here): the programs stay in the one they are in"
        BUSY=$(busy_percent)
        [ "$BUSY" -lt 20 ] || note "note: other programs keep this machine $BUSY % busy; power that hardly varies cannot be judged well"
        [ -z "${DEMO_SHUFFLE:-}" ] || shuffle=(--shuffle)
        start simulator "$CGROUP" "$BIN/wattloop-demo-simulator" --root "$DIR/sys" --cgroup "$from" \
                --truth "$DIR/truth.log" ${shuffle[@]+"${shuffle[@]}"}
        SIMULATOR=$PID
        wait_for 5 test -s "$DIR/truth.log" || fail "the simulator does not work" "$DIR/log/simulator.log"
        note "simulated power follows the CPU time of $from and the pages dirtied in /proc/vmstat"
}

servers() {
        stage "servers: the model server, and the estimator with a deliberately poor first model"
        start model-server "$CGROUP" "$BIN/wattloop-model-server" --listen "127.0.0.1:$SERVER_PORT" \
                --database-path "$DIR/server/server.db" --models-path "$DIR/server/pipelines" \
                --training-provenance simulated --publish-interval 1s serve
        SERVER=$PID
        start estimator "$CGROUP" "$BIN/wattloop-estimator" --socket-path "$SOCKET" --store-path "$DIR/models" serve
        ESTIMATOR=$PID
        wait_for 10 get "$SERVER_PORT" /healthz || fail "the model server does not answer" "$DIR/log/model-server.log"
        wait_for 10 test -S "$SOCKET" || fail "the estimator does not open its socket" "$DIR/log/estimator.log"
        write_poor_model >"$DIR/poor.json"
        update --models rapl-sysfs/AbsPower/weight --from "$DIR/poor.json" ||
                fail "the first model could not be installed" "$DIR/log/updater.log"
        wait_for 10 served || fail "the estimator does not serve the first model" "$DIR/log/estimator.log"
        note "the estimator serves $(served)"
}

collector() {
        stage "collector: features of what really runs, energy from the simulated sensors"
        start collector "$CGROUP" "$BIN/wattloop-collector" --sampling-interval $INTERVAL --sysfs-root "$DIR/sys" \
                --store-path "$DIR/collector/samples.db" --metrics-listen "127.0.0.1:$COLLECTOR_PORT" run
        COLLECTOR=$PID
        wait_for 15 eval '[ "$(recorded)" -ge 2 ]' || fail "the collector records nothing" "$DIR/log/collector.log"
        FEATURES=$(sql "$DIR/collector/samples.db" 'SELECT feature_source FROM interval ORDER BY interval_id DESC LIMIT 1')
        note "features come from $FEATURES"
}

# The recording ends while the workload still works: no last interval of nothing but ends.
recording() {
        local begin=$SECONDS next=5 now=0

        stage "record and upload: varied work for $TRAIN_S s, pushed every few seconds"
        start workload "$WORK_CGROUP" "$BIN/wattloop-demo-workload" --plan train --seconds $TRAIN_S --dir "$DIR/load"
        WORKLOAD=$PID
        while [ $now -lt $((TRAIN_S - 1)) ]; do
                sleep 0.5
                now=$((SECONDS - begin))
                if [ $now -ge $next ]; then
                        push || fail "the trainer-client could not push" "$DIR/log/trainer-client.log"
                        next=$((now + 5))
                fi
                check_alive simulator=$SIMULATOR collector=$COLLECTOR model-server=$SERVER estimator=$ESTIMATOR workload=$WORKLOAD
                progress $now $TRAIN_S "$(recorded) rows recorded, $(acknowledged) acknowledged"
        done
        progress_end
        stop $COLLECTOR
        stop $WORKLOAD
}

training() {
        local rows

        stage "train and publish: the rest is pushed, the server publishes what it learned"
        push || fail "the trainer-client could not push" "$DIR/log/trainer-client.log"
        RECORDED=$(recorded) ACKNOWLEDGED=$(acknowledged)
        [ "$RECORDED" = "$ACKNOWLEDGED" ] || fail "$RECORDED rows recorded but $ACKNOWLEDGED acknowledged" "$DIR/log/trainer-client.log"
        # A server may hold back the newest rows of a recording; nearly all must have been learned.
        rows=$((RECORDED * 9 / 10))
        wait_for 20 published_all $rows || fail "no model was published, or $rows rows not learned" "$DIR/log/model-server.log"
        IFS=$'\t' read -r MODEL MODEL_MAE MODEL_ROWS _ MODEL_PROVENANCE <<<"$(published)"
        note "$RECORDED rows recorded and acknowledged; $MODEL is made of $MODEL_ROWS, MAE $MODEL_MAE W on held-out blocks ($MODEL_PROVENANCE)"
}

refresh() {
        local client line

        stage "refresh: the estimator swaps models while a client asks without pause"
        start client "$CGROUP" "$BIN/wattloop-demo-client" --socket "$SOCKET" --rate 3000 --requests $REQUESTS --swaps 1 --seconds 40
        client=$PID
        sleep 1.5
        update --models rapl-sysfs/AbsPower/archive --server-url "http://127.0.0.1:$SERVER_PORT" ||
                fail "the updater could not install the trained model" "$DIR/log/updater.log"
        SERVED=$(served) || fail "the estimator does not tell what it serves" "$DIR/log/estimator.log"
        note "the estimator serves $SERVED"
        wait $client
        line=$(tail -n 1 "$DIR/log/client.log")
        CLIENT_REQUESTS=$(sed -n 's/.*requests=\([0-9]*\).*/\1/p' <<<"$line")
        CLIENT_FAILED=$(sed -n 's/.*failed=\([0-9]*\).*/\1/p' <<<"$line")
        SWAPS=$(sed -n 's/.*swaps=\([0-9]*\).*/\1/p' <<<"$line")
        [ -n "$CLIENT_REQUESTS" ] || fail "the client did not finish" "$DIR/log/client.log"
        note "$line"
        [ "$CLIENT_FAILED" -eq 0 ] || fail "$CLIENT_FAILED of $CLIENT_REQUESTS requests failed" "$DIR/log/client.log"
        [ "$SWAPS" -ge 1 ] || fail "the estimator did not swap models" "$DIR/log/estimator.log"
        [ "$CLIENT_REQUESTS" -ge $REQUESTS ] || fail "only $CLIENT_REQUESTS requests" "$DIR/log/client.log"
        MODEL=${SERVED%% *}
}

estimating() {
        local begin now compare

        stage "estimate: a collector without sensors, on work that was not trained on, for $FRESH_S s"
        start estimating-collector "$CGROUP" "$BIN/wattloop-collector" --sampling-interval $INTERVAL --sysfs-root "$DIR/no-sensors" \
                --power-sources estimate --estimate-socket "$SOCKET" --store-path "$DIR/estimating/samples.db" \
                --metrics-listen "127.0.0.1:$ESTIMATE_PORT" run
        COLLECTOR=$PID
        wait_for 15 estimates_exported || fail "no estimates at /metrics" "$DIR/log/estimating-collector.log"
        start compare "$CGROUP" "$BIN/wattloop-demo-compare" --port "$ESTIMATE_PORT" --truth "$DIR/truth.log" \
                --seconds $FRESH_S --log "$DIR/compare.txt"
        compare=$PID
        start fresh-workload "$WORK_CGROUP" "$BIN/wattloop-demo-workload" --plan fresh --seconds $((FRESH_S + 2)) --seed 7 --dir "$DIR/load"
        WORKLOAD=$PID begin=$SECONDS
        while running $compare; do
                now=$((SECONDS - begin))
                check_alive simulator=$SIMULATOR estimating-collector=$COLLECTOR estimator=$ESTIMATOR
                progress $((now < FRESH_S ? now : FRESH_S)) $FRESH_S "$(tail -n 1 "$DIR/log/fresh-workload.log" 2>/dev/null)"
                sleep 0.5
        done
        progress_end
        wait "$compare"
        VERDICT=$(sed -n '$p' "$DIR/log/compare.log")
}

estimates_exported() {
        get "$ESTIMATE_PORT" /metrics | grep '^kepler_node_package_joules_total{' | grep -q 'source="estimate"'
}

judging() {
        local mae range constant entry result

        stage "judge: estimates against the simulated power, interval by interval"
        case $VERDICT in
        intervals=*) ;;
        *) fail "nothing to compare" "$DIR/log/compare.log" ;;
        esac
        mae=$(sed -n 's/.* mae=\([0-9.]*\).*/\1/p' <<<"$VERDICT")
        range=$(sed -n 's/.*range=\([0-9.]*\).*/\1/p' <<<"$VERDICT")
        constant=$(sed -n 's/.*constant_mae=\([0-9.]*\).*/\1/p' <<<"$VERDICT")
        result="features=$FEATURES model=$MODEL mae=$mae range=$range swaps=$SWAPS requests=$CLIENT_REQUESTS failed=$CLIENT_FAILED"
        TIMES+=("$STAGE_NAME|$(elapsed "$STAGE_AT")")
        printf '\n%-90s %s\n' stage seconds
        for entry in "${TIMES[@]}"; do
                printf '%-90s %s\n' "${entry%|*}" "${entry#*|}"
        done
        printf '\n%s rows recorded, %s acknowledged; features from %s\n' "$RECORDED" "$ACKNOWLEDGED" "$FEATURES"
        printf 'model %s: MAE %s W (simulated) on held-out blocks of %s rows\n' "$MODEL" "$MODEL_MAE" "$MODEL_ROWS"
        printf 'client: %s requests, %s failed, %s swaps\n\n' "$CLIENT_REQUESTS" "$CLIENT_FAILED" "$SWAPS"
        sed '$d' "$DIR/log/compare.log"
        printf '\nwanted (simulated): MAE at most %s W (5 %% of the range) and %s W (a third of the best constant); is %s W\n' \
                "$(awk "BEGIN { printf \"%.2f\", $range * 0.05 }")" "$(awk "BEGIN { printf \"%.2f\", $constant / 3 }")" "$mae"
        printf 'in %s s; logs and data: %s\n' "$(elapsed "$BEGIN")" "$DIR"
        case $VERDICT in
        *verdict=pass) ;;
        *)
                cleanup
                echo "demo: FAIL stage=$STAGE/$STAGES (judge): the estimates are too far off: $result"
                exit 1
                ;;
        esac
        cleanup
        echo "demo: PASS $result"
}

rm -rf "$DIR"
mkdir -p "$DIR"/{log,load,collector,trainer-client,server,models,estimating,no-sensors} || fail "cannot make $DIR"
read -r SERVER_PORT COLLECTOR_PORT ESTIMATE_PORT <<<"$(free_ports 3)"
sensors
servers
collector
recording
training
refresh
estimating
judging
