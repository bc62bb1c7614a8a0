# shellcheck shell=bash disable=SC2034
# SPDX-License-Identifier: Apache-2.0
# What the demos share; sourced by minimum.sh, sidecar.sh, minimum-server.sh and full.sh after they have set STAGES.
#
#       DEMO_QUICK=1     shorter, for tests
#       DEMO_DIR=DIR     where it works, instead of $B/NAME
#       DEMO_NAME=NAME   what the last line begins with, instead of demo-SCRIPT
#
# The last line is 'NAME: PASS …' (exit 0) or 'NAME: FAIL …' (exit 1). Everything happens below $DIR and on the
# loopback interface; whatever ends the demo ends its programs. Their logs are $DIR/log/PROGRAM.log, their process
# ids $DIR/pid/PROGRAM.
CHARSET=$(locale charmap 2>/dev/null)
export LC_ALL=C
: "${B:=build}"
case $B in /*) ;; *) B=$PWD/$B ;; esac
BIN=$B/bin
SCRIPT=$(basename "$0" .sh)
NAME=${DEMO_NAME:-demo-$SCRIPT}
DIR=${DEMO_DIR:-$B/$NAME}
SOCKET=$DIR/estimator.sock
if [ ${#SOCKET} -gt 100 ]; then # a socket's path has 107 bytes at most
        SOCKET=$(mktemp -u "${TMPDIR:-/tmp}/wattloop-demo.XXXXXX")
fi
INTERVAL=500ms
PROCESSES=1000 # rows of processes that a collector counts at most; the load forks many

STAGE=0 STAGE_NAME=start STAGE_AT=0 TIMES=()
PIDS=() ALIVE=() CGROUP='' WORK_CGROUP='' DONE='' CLAIMS=0
BEGIN=${EPOCHREALTIME/./}

#
# What is shown
#

elapsed() { # tenths of a second since $1 (µs) as '12.3'
        local t=$(((${EPOCHREALTIME/./} - $1) / 100000))

        printf '%d.%d' $((t / 10)) $((t % 10))
}

# stage NAME: ends the stage before and says what begins.
stage() {
        check_alive
        [ $STAGE -eq 0 ] || TIMES+=("$STAGE_NAME|$(elapsed "$STAGE_AT")")
        STAGE=$((STAGE + 1)) STAGE_NAME=$1 STAGE_AT=${EPOCHREALTIME/./}
        printf 'stage %d/%d  %s\n' $STAGE $STAGES "$1"
}

note() {
        printf '           %s\n' "$1"
}

# picture: the drawing on standard input, in plain ASCII where the terminal has no UTF-8.
picture() {
        local text pair

        text=$(cat)
        if [ "$CHARSET" != UTF-8 ]; then
                for pair in '─-' '│|' '┌+' '┐+' '└+' '┘+' '►>' '◄<' '▼v' '▲^'; do
                        text=${text//"${pair%?}"/"${pair: -1}"}
                done
        fi
        printf '\n%s\n\n' "$text"
}

# table PORT ROWS: who uses how many watts, as the collector there says.
table() {
        "$BIN/wattloop-collector" top --once --metrics-listen "127.0.0.1:$1" 2>/dev/null | grep -v -- ' - W, idle' | head -n "$2"
}

# watch PORT SECONDS DURING...: the table, drawn anew each half second on a terminal, else at a few moments. DURING is
# run at each turn with the seconds so far, and may put a line into $STATUS.
STATUS=''
watch() {
        local port=$1 seconds=$2 begin=$SECONDS now=-1 shown=-1 columns lines=() drawn=0

        shift 2
        while [ $((SECONDS - begin)) -lt "$seconds" ]; do
                now=$((SECONDS - begin))
                check_alive
                "$@" $now
                if [ -t 1 ]; then
                        columns=$(tput cols 2>/dev/null || echo 80)
                        mapfile -t lines < <(table "$port" 14)
                        [ $drawn -eq 0 ] || printf '\033[%dA' $drawn
                        drawn=$((${#lines[@]} + 1))
                        printf '\033[J'
                        printf '%s\n' "${lines[@]}" "           $((now + 1))/$seconds s  $STATUS" | cut -c "1-$columns"
                elif [ $((now * 3 / seconds)) -ne $shown ] && [ $now -ge 2 ]; then
                        shown=$((now * 3 / seconds))
                        table "$port" 9 | sed 's/^/           /' | cut -c 1-130
                        [ -z "$STATUS" ] || note "$((now + 1))/$seconds s  $STATUS"
                fi
                sleep 0.5
        done
}

#
# How it ends
#

# fail WHY [PROGRAM]: the tail of the program's log, the verdict, the end.
fail() {
        if [ -n "${2:-}" ] && [ -s "$DIR/log/$2.log" ]; then
                echo "--- the end of $DIR/log/$2.log:"
                tail -n 15 "$DIR/log/$2.log"
                echo "---"
        fi
        cleanup
        echo "$NAME: FAIL stage=$STAGE/$STAGES ($STAGE_NAME): $1; logs: $DIR/log"
        exit 1
}

# claim TEXT command...: says that it holds, or ends the demo.
claim() {
        local text=$1

        shift
        "$@" || { check_alive && fail "not so: $text"; }
        CLAIMS=$((CLAIMS + 1))
        note "ok: $text"
}

# near A B TOLERANCE: they are not further apart; none of them may be absent.
near() {
        awk -v a="$1" -v b="$2" -v t="$3" 'BEGIN { d = a - b; exit !(a != "" && b != "" && a == a + 0 && (d < 0 ? -d : d) <= t) }'
}

pass() {
        check_alive
        cleanup
        printf '%s: PASS %s\n' "$NAME" "$1"
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
        echo "$NAME: FAIL stage=$STAGE/$STAGES ($STAGE_NAME): interrupted"
        exit 130
}
trap on_exit EXIT
trap on_signal INT TERM HUP

#
# Programs
#

# One of the processes still runs.
running() {
        local pid line

        for pid in "$@"; do
                read -r line 2>/dev/null <"/proc/$pid/stat" || continue
                case ${line##*) } in Z* | X*) ;; *) return 0 ;; esac
        done
        return 1
}

# start NAME CGROUP program...: in the background, in that cgroup when there is one; the pid goes to $PID. It ends with
# this shell, however that ends.
start() {
        local name=$1 cgroup=$2

        shift 2
        (
                trap - INT TERM HUP EXIT
                [ -z "$cgroup" ] || echo "$BASHPID" >"$cgroup/cgroup.procs"
                exec setpriv --pdeathsig TERM -- "$@"
        ) >>"$DIR/log/$name.log" 2>&1 </dev/null &
        PID=$!
        PIDS+=("$PID")
        echo "$PID" >"$DIR/pid/$name"
}

# keep NAME CGROUP program...: start one that must not end by itself; check_alive looks after it.
keep() {
        start "$@"
        ALIVE+=("$1=$PID")
}

check_alive() {
        local pair

        for pair in ${ALIVE[@]+"${ALIVE[@]}"}; do
                running "${pair#*=}" || fail "the ${pair%%=*} ended unexpectedly" "${pair%%=*}"
        done
}

# stop NAME: ends a program and waits for it.
stop() {
        local name=$1 pid pair left=() _

        pid=$(cat "$DIR/pid/$name")
        for pair in ${ALIVE[@]+"${ALIVE[@]}"}; do
                [ "${pair%%=*}" = "$name" ] || left+=("$pair")
        done
        ALIVE=(${left[@]+"${left[@]}"})
        kill -TERM "$pid" 2>/dev/null
        for _ in {1..50}; do
                running "$pid" || break
                sleep 0.1
        done
        kill -KILL "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
}

# wait_for SECONDS command...: three times as long on a machine that is busy with other things.
wait_for() {
        local end=$((${EPOCHREALTIME/./} + $1 * 3000000))

        shift
        until "$@" >/dev/null 2>&1; do
                [ "${EPOCHREALTIME/./}" -lt $end ] || return 1
                sleep 0.1
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
        CGROUP='' WORK_CGROUP='' PROCESSES=4000 # the load is then known by its process only
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

# simulator OPTION...: keeps sensors below $DIR/sys and the truth in $DIR/truth.log.
simulator() {
        local from

        from=$(activity_cgroup) || fail "no cgroup file with exact CPU time: neither cpuacct.usage nor cpu.stat can be read"
        keep simulator "$CGROUP" "$BIN/wattloop-demo-simulator" --root "$DIR/sys" --cgroup "$from" --truth "$DIR/truth.log" "$@"
        wait_for 5 test -s "$DIR/truth.log" || fail "the simulator does not work" simulator
        note "simulated power follows the CPU time of $from and the pages dirtied in /proc/vmstat"
}

# collector NAME PORT OPTION...: one that runs; returns when it has an interval, and says in $FEATURES where usage comes from.
collector() {
        local name=$1 port=$2

        shift 2
        keep "$name" "$CGROUP" "$BIN/wattloop-collector" --sampling-interval $INTERVAL --metrics-listen "127.0.0.1:$port" \
                --metrics-processes $PROCESSES "$@" run
        wait_for 15 has_interval "$port" || fail "the collector has no interval" "$name"
        FEATURES=$(sed -n 's|.*features from \(bpf\)$|\1|p; s|.*features from \(proc\).*|\1|p' "$DIR/log/$name.log" | head -n 1)
        note "features come from $FEATURES"
}
has_interval() {
        [ -n "$(sensor "$1" watts)" ]
}

# model_server OPTION...: on $SERVER_PORT, learning from simulated power.
model_server() {
        keep model-server "$CGROUP" "$BIN/wattloop-model-server" --listen "127.0.0.1:$SERVER_PORT" \
                --database-path "$DIR/server/server.db" --models-path "$DIR/server/pipelines" \
                --training-provenance simulated "$@" serve
        wait_for 10 get "$SERVER_PORT" /healthz || fail "the model server does not answer" model-server
}

# teach ROWS OPTION...: the model server gets a recording, learns all of it, and publishes models made of more rows than before.
TAUGHT=0 MODEL_ROWS=0
teach() {
        TAUGHT=$((TAUGHT + $1))
        "$BIN/wattloop-demo-simulator" --recording "$@" >"$DIR/recording.jsonl" &&
                curl -sf --noproxy '*' --data-binary @"$DIR/recording.jsonl" "http://127.0.0.1:$SERVER_PORT/api/v1/import" \
                        >>"$DIR/log/import.log" 2>&1 || fail "the model server does not take the recording" model-server
        wait_for 20 taught || fail "no new models were published, or $TAUGHT rows not learned" model-server
        IFS=$'\t' read -r MODEL MODEL_MAE MODEL_ROWS _ MODEL_PROVENANCE <<<"$(published)"
}
taught() { # the recordings have what two feature groups need
        published_all $TAUGHT && get "$SERVER_PORT" /api/v1/status | jq -e --argjson rows "$MODEL_ROWS" '[.models[] |
                select(.energy_source == "rapl-sysfs" and .output_type == "AbsPower")] | length == 2 and all(.rows > $rows)'
}

# The published package model with the smallest error: name, mae, rows, id, provenance, tab-separated.
published() {
        get "$SERVER_PORT" /api/v1/status | jq -er '[.models[] | select(.energy_source == "rapl-sysfs" and
                .output_type == "AbsPower")] | sort_by(.mae) | .[0] // empty | [.model, .mae, .rows, .content_id, .provenance] | @tsv'
}

published_all() { # published_all ROWS: there is a model, and the server has learned from so many rows
        published >/dev/null && [ "$(get "$SERVER_PORT" /api/v1/status | jq .learning.learned_row)" -ge "$1" ]
}

# The load that the demo itself makes, so that there is something to see: varied work for SECONDS.
load() { # load PLAN SECONDS [OPTION...]
        local plan=$1 seconds=$2

        shift 2
        start workload "$WORK_CGROUP" "$BIN/wattloop-demo-workload" --plan "$plan" --seconds "$seconds" --dir "$DIR/load" "$@"
}

#
# What they say
#

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

# sensor PORT MEMBER: of the package, in the last interval; empty: none.
sensor() {
        get "$1" /api/v1/top | jq -r --arg member "$2" '[.node[] | select(.component == "package")][0][$member] // empty'
}

# Joules of the package that the load of this demo has used so far, by its container's row where it has one; 0: it is not there.
load_joules() { # load_joules PORT
        local row

        row="process_package_joules_total{.*pid=\"$(cat "$DIR/pid/workload")\""
        [ -z "$WORK_CGROUP" ] || row="container_package_joules_total{container_id=\"$(expr "$WORK_CGROUP" : '.*docker-\(.*\)\.scope')\""
        get "$1" /metrics | grep "^kepler_$row" | awk '{ j += $NF } END { printf "%.2f\n", j }'
}

# Within the last interval: the node's dynamic watts (package), the sum over containers, the sum over processes, the
# number of rows.
sums() { # sums PORT
        get "$1" /api/v1/top | jq -r '([.node[] | select(.component == "package")][0] | .watts - .idle_watts) as $node |
                [.entities[] | select(.kind == "container").package] as $c | [.entities[] | select(.kind == "process").package] as $p |
                [$node, ($c | add), ($p | add // 0), ($c | length)] | map(. * 1000 | round / 1000) | @tsv'
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

# The id under which a model of FORM is installed.
installed() {
        basename "$(readlink "$DIR/models/rapl-sysfs/AbsPower/$1/current")"
}

# update FORM OPTION...: one run of the updater.
update() {
        local form=$1

        shift
        "$BIN/wattloop-updater" --store-path "$DIR/models" --models "rapl-sysfs/AbsPower/$form" --server-trust unsigned \
                --canary-samples '' "$@" update >>"$DIR/log/updater.log" 2>&1
}

#
# Claims of several demos
#

# Within one interval nothing is lost and nothing invented. Of estimates only: a sensor's own window is not quite the
# interval, so there the sums agree in joules, not in each interval's watts.
claim_sums() { # claim_sums PORT
        local node containers processes n

        read -r node containers processes n <<<"$(sums "$1")"
        claim "what $n containers use ($containers W of the package) is the node's $node W above idle; the processes: $processes W (estimated)" \
                near "$containers" "$node" "$(awk "BEGIN { print 0.002 + 0.001 * ${n:-0} }")"
}

# live PORT SECONDS: the table while the demo makes some load, a little longer. Where there is a simulator, its truth and the
# estimates are compared meanwhile. look keeps in $LOAD_JOULES what the collector has seen of the load.
live() {
        stage "live: who uses how many watts (estimated), while the demo makes some load for $2 s"
        LOAD_PORT=$1
        [ ! -e "$DIR/truth.log" ] || compare "$1" "$2"
        load train $(($2 + 5))
        watch "$1" $(($2 + 1)) look
        stage "check"
        claim_load
        claim_sums "$1"
        [ ! -e "$DIR/truth.log" ] || claim_truth
}
look() {
        local joules

        joules=$(load_joules "$LOAD_PORT")
        [ "$joules" = 0.00 ] || LOAD_JOULES=$joules # it has just ended
}

claim_load() {
        look
        stop workload
        claim "the load that the demo makes has used ${LOAD_JOULES:=0} J of the package (estimated)" awk "BEGIN { exit !($LOAD_JOULES > 0.1) }"
}

# compare PORT SECONDS: in the background, estimates there against the simulator's log.
compare() {
        start compare "$CGROUP" "$BIN/wattloop-demo-compare" --port "$1" --truth "$DIR/truth.log" --seconds "$2" --log "$DIR/compare.txt"
        COMPARE=$PID
}

# The model was trained on power like the simulator's; what it says of this machine's work must be like that, too.
TRUTH_PERCENT=15
claim_truth() {
        local _ intervals mean mae

        wait "$COMPARE"
        read -r _ intervals mean mae _ <<<"$(grep '^package ' "$DIR/log/compare.log")"
        [ -n "$mae" ] || fail "nothing to compare" compare
        claim "over $intervals intervals estimated and simulated power are $mae W apart, of $mean W (simulated); at most $TRUTH_PERCENT % are allowed" \
                awk "BEGIN { exit !($mae <= $mean * $TRUTH_PERCENT / 100) }"
        MAE=$mae
}

rm -rf "$DIR"
mkdir -p "$DIR"/{log,pid,load,models,server,no-sensors} || fail "cannot make $DIR"
