#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# runs alone: it judges what the whole machine does
# A short run of the demo: the whole loop closes, and the estimates hold against the simulated power. Where other
# programs keep the machine busy meanwhile, power hardly varies and estimates cannot be judged: a skip.
set -u
. "$(dirname "$0")/lib.sh"
OTHERS_MAX=20 # percent of all CPUs
dir=$(tmpdir)
passes="the demo passes: record, upload, train, publish, refresh, estimate"

# Busy and all CPU time of the machine so far, in hundredths of a second.
cpu_time() {
        awk '/^cpu / { busy = $2 + $3 + $4 + $7 + $8; print busy, busy + $5 + $6 }' /proc/stat
}

before=$(cpu_time)
TIMEFORMAT='%U %S'
used=$({ time B=$B DEMO_DIR=$dir/demo DEMO_QUICK=1 deploy/demo/full.sh >"$dir/demo.out" 2>&1; echo $? >"$dir/status"; } 2>&1)
status=$(cat "$dir/status")
after=$(cpu_time)
others=$(awk -v used="$used" -v before="$before" -v after="$after" 'BEGIN { split(used, u); split(before, b); split(after, a)
        printf "%d", 100 * (a[1] - b[1] - 100 * (u[1] + u[2])) / (a[2] - b[2]) }')
last=$(tail -n 1 "$dir/demo.out")
echo "# $last"
echo "# other programs used $others % of the CPUs meanwhile"

case $status:$last in
"0:demo-full: PASS features="*" model="*" mae="*" range="*" swaps="*" requests="*" failed=0") ok "$passes" ;;
"1:demo-full: FAIL stage=8/8 (judge"*)
        if [ "$others" -gt $OTHERS_MAX ]; then
                skip "$passes" "other programs kept the machine $others % busy; all stages up to the judging worked"
        else
                not_ok "$passes" "$(tail -n 12 "$dir/demo.out")"
        fi
        ;;
*) not_ok "$passes" "exit $status; $(tail -n 12 "$dir/demo.out")" ;;
esac

unlabelled=$(grep -E '[0-9] W( |$|\)|;|,)' "$dir/demo.out" | grep -v -e simulated -e estimated)
if [ -z "$unlabelled" ]; then
        ok "each line of the demo that shows watts says that they are simulated or estimated"
else
        not_ok "each line of the demo that shows watts says that they are simulated or estimated" "$unlabelled"
fi
left=''
for cgroup in $(find /sys/fs/cgroup -maxdepth 4 -type d -name 'wattloop-demo-*' 2>/dev/null); do
        [ -d "/proc/${cgroup##*-}" ] || left+="$cgroup " # named after the demo's pid: another one may be running
done
if [ -z "$left" ]; then
        ok "the demo leaves no cgroup behind"
else
        not_ok "the demo leaves no cgroup behind" "$left"
fi
