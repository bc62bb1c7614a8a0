#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The three short demos pass, side by side, and say what they checked; one whose estimator is killed says FAIL and what
# happened. None leaves a process, a socket or a cgroup behind, however it ended.
set -u
. "$(dirname "$0")/lib.sh"
dir=$(tmpdir)
export DEMO_QUICK=1 B

demo() { # demo RUN SCRIPT: in the background; its pid is in $STARTED_PID
        start "$dir/$1.out" env LC_ALL=C DEMO_DIR="$dir/$1" "deploy/demo/$2.sh"
}
demo minimum minimum && minimum=$STARTED_PID
demo sidecar sidecar && sidecar=$STARTED_PID
demo minimum-server minimum-server && minimum_server=$STARTED_PID
demo killed sidecar && killed=$STARTED_PID
LC_ALL=C.UTF-8 start "$dir/interrupted.out" env DEMO_DIR="$dir/interrupted" deploy/demo/minimum.sh
interrupted=$STARTED_PID

wait_for 30 test -s "$dir/interrupted/pid/workload"
check "a demo draws its picture with boxes where there is UTF-8" grep -q '┌─*┐' "$dir/interrupted.out"
kill -INT "$interrupted" 2>/dev/null
kill -TERM "$interrupted" 2>/dev/null # a background process of a shell may ignore the former
wait "$interrupted"
check_has "and when it is interrupted it says FAIL" "$? $(tail -n 1 "$dir/interrupted.out")" "130 demo-minimum: FAIL stage=2/3"

wait_for 60 test -s "$dir/killed/pid/workload"
kill -KILL "$(cat "$dir/killed/pid/estimator")"
wait "$killed"
check_has "a demo whose estimator is killed says FAIL, why, and where the logs are" "$? $(tail -n 1 "$dir/killed.out")" "1 demo-sidecar: FAIL stage="
check_has "and names the program" "$(tail -n 1 "$dir/killed.out")" "the estimator ended unexpectedly; logs: $dir/killed/log"

passes() { # passes RUN PID CLAIMS: exit status 0, the line PASS, and so many claims
        wait "$2"
        check_has "demo-$1 passes" "$? $(tail -n 1 "$dir/$1.out")" "0 demo-$1: PASS features="
        check_has "demo-$1 has checked $3 things" "$(tail -n 1 "$dir/$1.out")" " claims=$3 "
        check "demo-$1 draws its picture in plain ASCII where there is no UTF-8" grep -q '| *wattloop-collector *|' "$dir/$1.out"
        check "demo-$1 shows containers by watts, and that these are estimated" grep -Eq '^ +[0-9.]+ +[0-9.]+ .* container estimated ' "$dir/$1.out"
}
passes minimum "$minimum" 5
passes sidecar "$sidecar" 5
passes minimum-server "$minimum_server" 7
check_has "the weights served are the weights installed" "$(cat "$dir/minimum-server.out")" "ok: their digest is that of what the server serves"

left=''
for pid in "$dir"/*/pid/*; do
        ended "$(cat "$pid")" || left+="$pid "
done
left+=$(find "$dir" -type s)
for demo in $minimum $sidecar $minimum_server $killed $interrupted; do
        left+=$(find /sys/fs/cgroup -maxdepth 4 -type d -name "wattloop-demo-$demo" 2>/dev/null)
done
check_has "none leaves a process, a socket or a cgroup behind" "left: '$left'" "left: ''"
