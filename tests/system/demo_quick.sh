#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# runs alone: it judges what the whole machine does
# A short run of the demo: the whole loop closes, and the estimates hold against the simulated power.
set -u
. "$(dirname "$0")/lib.sh"
dir=$(tmpdir)
passes="the demo passes: record, upload, train, publish, refresh, estimate"

busy=$(awk '/^cpu / { print $2 + $3 + $4 + $7 + $8, $5 + $6 }' /proc/stat; sleep 2; awk '/^cpu / { print $2 + $3 + $4 + $7 + $8, $5 + $6 }' /proc/stat)
busy=$(awk '{ b[NR] = $1; i[NR] = $2 } END { t = b[2] - b[1] + i[2] - i[1]; printf "%d", (t > 0 ? 100 * (b[2] - b[1]) / t : 0) }' <<<"$busy")
if [ "$busy" -gt 40 ]; then
        skip "$passes" "other programs keep this machine $busy % busy, so its power hardly varies"
        exit 0
fi

B=$B DEMO_DIR=$dir/demo DEMO_QUICK=1 deploy/demo/demo.sh >"$dir/demo.out" 2>&1
status=$?
last=$(tail -n 1 "$dir/demo.out")
echo "# $last"
case $status:$last in
"0:demo: PASS features="*" model="*" mae="*" range="*" swaps="*" requests="*" failed=0") ok "$passes" ;;
*) not_ok "$passes" "exit $status; $(tail -n 12 "$dir/demo.out")" ;;
esac
simulated() {
        grep -E '[0-9] W( |$|\)|;|,)' "$dir/demo.out" | grep -v simulated
}
if [ -z "$(simulated)" ]; then
        ok "each line of the demo that shows watts says that they are simulated"
else
        not_ok "each line of the demo that shows watts says that they are simulated" "$(simulated)"
fi
left=$(find /sys/fs/cgroup -maxdepth 4 -type d -name 'wattloop-demo-*' 2>/dev/null)
if [ -z "$left" ]; then
        ok "the demo leaves no cgroup behind"
else
        not_ok "the demo leaves no cgroup behind" "$left"
fi
