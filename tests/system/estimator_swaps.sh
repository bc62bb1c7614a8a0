#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Models are swapped, refused and killed under 64 clients that never stop asking.
set -u
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/estimator.bash"

dir=$(tmpdir)
sock=$dir/sock
hammer=$B/tests/system/estimator_hammer
seconds=8

const_weights 0 | install_weights "$dir/store" acpi/AbsPower >/dev/null
start_estimator "$dir"
pid=$STARTED_PID
threads=$(ls "/proc/$pid/task" | wc -l)

start "$dir/hammer" "$hammer" "$sock" 64 $seconds
hammer_pid=$STARTED_PID
end=$((${EPOCHREALTIME/./} + seconds * 900000))
w=0
while [ "${EPOCHREALTIME/./}" -lt $end ]; do
        w=$((w + 1))
        if [ $((w % 7)) -eq 0 ]; then # now and then an update that must not take
                const_weights 1000000000 | install_weights "$dir/store" acpi/AbsPower >/dev/null
        else
                const_weights $w | install_weights "$dir/store" acpi/AbsPower >/dev/null
        fi
        kill -HUP "$pid"
done
wait "$hammer_pid"
r=$?
forget "$hammer_pid"
line=$(tail -n 1 "$dir/hammer")
echo "# $line, $w updates"
check "no request of 64 clients failed or mixed two models while models were swapped" test $r -eq 0
[ $r -eq 0 ] || head -n 3 "$dir/hammer"
requests=$(sed 's/requests=\([0-9]*\).*/\1/' <<<"$line")
models=$(sed 's/.*models=\([0-9]*\).*/\1/' <<<"$line")
check "over at least 5000 requests" test "$requests" -ge 5000
check "and at least 5 models" test "$models" -ge 5
check "status counts the swaps" test "$(status_of "$sock" .swaps)" -ge 5
check "and not one error" test "$(status_of "$sock" .errors)" = 0

# a burst of reloads ends with what is there at the end
for w in 901 902 903; do
        const_weights $w | install_weights "$dir/store" acpi/AbsPower >/dev/null
        for _ in 1 2 3 4 5 6 7 8; do kill -HUP "$pid"; done
done
check "after a burst of reloads the last model serves" wait_for 5 model_is "$sock" Const_903

fds=$(ls "/proc/$pid/fd" | wc -l)
check "no descriptor leaks ($fds open)" test "$fds" -le 16
check "no thread is left" wait_for 5 eval '[ $(ls "/proc/$pid/task" | wc -l) -eq "$threads" ]'
