#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# An offered load that does not wait for answers, four clients that are no good, and models that are swapped meanwhile.
# `make bench-estimator` does the same with 3,000 requests a second and 1,000 swaps, and looks at the time.
set -u
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/estimator.bash"

dir=$(tmpdir)
load=$B/tests/system/estimator_load
check "models are made" "$load" prepare "$dir/store"
start_estimator "$dir"
pid=$STARTED_PID
line=$("$load" run "$dir/sock" "$dir/store" 64 400 40 2>"$dir/err")
r=$?
echo "# $line"
[ $r -eq 0 ] || head -n 3 "$dir/err"
value() { sed -n "s/.*\b$1=\([0-9.]*\).*/\1/p" <<<"$line"; }
check "no request failed beside a silent client, a slow one, one that leaves and one that sends too much" test "$(value failed)" = 0
check "no answer was of two models" test "$(value mixed)" = 0
check "in 40 swaps" test "$(value swaps)" = 40
check "the store was watched, nobody asked for a reload" test "$(status_of "$dir/sock" '.swaps >= 40')" = true
check "too large a request was refused in words" test "$(value too_large)" -ge 1
check "status counts them as errors, and no power request among them" test \
        "$(status_of "$dir/sock" '[.errors >= 1, .models[0].errors == 0] | all')" = true
rss=$(sed -n 's/VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$pid/status")
limit=65536
case $BIN in *address*) limit=1048576 ;; esac # its sanitizer keeps what was freed
check "memory stays bounded (${rss} KiB)" test "$rss" -lt $limit
