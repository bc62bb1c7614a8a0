#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# With power that has nothing to do with activity the demo must fail, and for that reason: the verdict is real.
set -u
. "$(dirname "$0")/lib.sh"
dir=$(tmpdir)

B=$B DEMO_DIR=$dir/demo DEMO_QUICK=1 DEMO_SHUFFLE=1 deploy/demo/full.sh >"$dir/demo.out" 2>&1
status=$?
last=$(tail -n 1 "$dir/demo.out")
echo "# $last"
case $status:$last in
"1:demo-full: FAIL stage=8/8 (judge"*"): the estimates are too far off: "*) ok "shuffled power makes the demo fail at the judging stage" ;;
*) not_ok "shuffled power makes the demo fail at the judging stage" "exit $status; $(tail -n 12 "$dir/demo.out")" ;;
esac

unlabelled=$(grep -E '[0-9] W( |$|\)|;|,)' "$dir/demo.out" | grep -v -e simulated -e estimated)
if [ -z "$unlabelled" ]; then
        ok "each line of the demo that shows watts says that they are simulated or estimated"
else
        not_ok "each line of the demo that shows watts says that they are simulated or estimated" "$unlabelled"
fi
