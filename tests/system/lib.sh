# shellcheck shell=bash disable=SC2034
# SPDX-License-Identifier: Apache-2.0
# What system tests share; sourced by every tests/system/*.sh after `set -u`:
#
#       . "$(dirname "$0")/lib.sh"
#
# ok, not_ok, skip and check print the TAP-like lines that tests/run counts. tmpdir names a private directory;
# start runs a program in the background. At exit, what was started is ended and the directory removed.

export PATH=/usr/bin:$PATH # the packages' own programs before those that wrap them (a wrapped python3 takes half a second to start)
B=${B:-build}
case $B in /*) ;; *) B=$PWD/$B ;; esac
BIN=$B/bin
TEST_NAME=$(basename "$0" .sh)
TEST_DIR=$B/tmp/$TEST_NAME.$$
STARTED=()

# ok "claim"
ok() {
        printf 'ok - %s\n' "$1"
}

# not_ok "claim" ["why"]
not_ok() {
        printf 'not ok - %s%s\n' "$1" "${2:+: $(printf '%s' "$2" | tr '\n' ' ')}"
}

# skip "claim" ["why"]
skip() {
        printf 'skip - %s%s\n' "$1" "${2:+: $(printf '%s' "$2" | tr '\n' ' ')}"
}

# check "claim" command...: ok when the command succeeds; else its last output lines are the reason. The command
# runs in this shell, so that it may be a function that starts and stops programs.
check() {
        local claim=$1 out r

        shift
        out=$(tmpdir)/check.out
        "$@" >"$out" 2>&1
        r=$?
        if [ $r -eq 0 ]; then
                ok "$claim"
        else
                not_ok "$claim" "'$(printf '%s ' "$@" | head -c 200)' gave $r; $(tail -n 3 "$out")"
        fi
        return $r
}

# check_exit STATUS "claim" command...: ok when the command exits with just this status.
check_exit() {
        local want=$1 claim=$2 out r

        shift 2
        out=$("$@" 2>&1)
        r=$?
        if [ $r -eq "$want" ]; then
                ok "$claim"
        else
                not_ok "$claim" "exit $r instead of $want; $(printf '%s' "$out" | tail -n 3)"
        fi
}

# check_has "claim" TEXT WANTED: ok when TEXT contains the fixed string WANTED.
check_has() {
        case $2 in
        *"$3"*) ok "$1" ;;
        *) not_ok "$1" "'$3' is not in '$(printf '%s' "$2" | tail -c 300)'" ;;
        esac
}

# A TCP port on the loopback interface that nobody uses just now.
free_port() {
        python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# wait_for SECONDS command...: until the command succeeds; fails when it has not within PATIENCE (3) times that time.
wait_for() {
        local end=$((${EPOCHREALTIME/./} + $1 * ${PATIENCE:-3} * 1000000))

        shift
        until "$@" >/dev/null 2>&1; do
                [ "${EPOCHREALTIME/./}" -lt $end ] || return 1
                sleep 0.1
        done
}

# Prints the test's private directory (made when needed, the same at each call): dir=$(tmpdir)
tmpdir() {
        mkdir -p "$TEST_DIR" && printf '%s\n' "$TEST_DIR"
}

# start LOG program...: runs it in the background, output to LOG; its pid is in $STARTED_PID. Returns after the
# exec: a signal that hits the shell's own child before it would run the shell's handlers or be lost.
start() {
        local log=$1 me its n=0

        shift
        "$@" >>"$log" 2>&1 </dev/null &
        STARTED_PID=$!
        STARTED+=("$STARTED_PID")
        mapfile -d '' me </proc/$$/cmdline
        while [ "$(type -t "$1")" = file ] && [ $((n += 1)) -lt 1000 ]; do
                mapfile -d '' its <"/proc/$STARTED_PID/cmdline" || break
                [ "${its[*]}" = "${me[*]}" ] || break
        done 2>/dev/null
}

# stop PID [SIGNAL]: ends a started program, waits for it and returns its status. After a minute it is killed.
stop() {
        local r

        kill "-${2:-TERM}" "$1" 2>/dev/null
        wait_for 20 ended "$1" || kill -KILL "$1" 2>/dev/null
        wait "$1" 2>/dev/null
        r=$?
        forget "$1"
        return $r
}

# ended PID: it is gone, or waits only to be reaped.
ended() {
        local line

        read -r line <"/proc/$1/stat" || return 0
        case ${line##*) } in Z* | X*) ;; *) return 1 ;; esac
} 2>/dev/null

forget() {
        local pid left=()

        for pid in ${STARTED[@]+"${STARTED[@]}"}; do
                [ "$pid" = "$1" ] || left+=("$pid")
        done
        STARTED=(${left[@]+"${left[@]}"})
}

lib_exit() {
        local pid

        [ "$BASHPID" = $$ ] || return # a child that was ended between fork and exec
        exec 2>/dev/null # the shell's own notes about killed children
        for pid in ${STARTED[@]+"${STARTED[@]}"}; do
                kill -KILL "$pid"
                wait "$pid"
        done
        [ -n "${KEEP:-}" ] || rm -rf "$TEST_DIR"
}
trap lib_exit EXIT
