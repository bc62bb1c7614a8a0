#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The test runner itself: nothing that goes wrong may look like success.
set -u
. "$(dirname "$0")/lib.sh"

runner=$(dirname "$0")/../run
dir=$(tmpdir)

# script NAME LINE...: a test script made of these lines
script() {
        local name=$1

        shift
        printf '%s\n' '#!/usr/bin/env bash' "$@" >"$dir/$name.sh"
        chmod +x "$dir/$name.sh"
}

# runs NAME...: the runner over these scripts; its last line
runs() {
        local files=()

        for name; do
                files+=("$dir/$name.sh")
        done
        # its own folder for logs; the lines would be counted as ours, so only the last one is passed on
        env -u SUMMARY_FILE B="$dir" ONLY=. SYSTEM_SECONDS=2 "$runner" ${files[@]+"${files[@]}"} 2>&1 | tail -n 1
        return "${PIPESTATUS[0]}"
}

# counts "claim" STATUS "LAST LINE" NAME...
counts() {
        local claim=$1 status=$2 line=$3 got

        shift 3
        got=$(runs "$@")
        set -- $? "$got"
        if [ "$1" -eq "$status" ] && [ "$2" = "$line" ]; then
                ok "$claim"
        else
                not_ok "$claim" "status $1, '$2'"
        fi
}

script good 'echo "ok - one"' 'echo "ok 2 - two"' 'echo "skip - three: not here"' 'echo "okay, no claim"'
script bad 'echo "ok - one"' 'echo "not ok - two: why"' 'exit 1'
script tap_skip 'echo "ok 1 # SKIP one"' 'echo "ok 2 - two # skip no reason"'
script quiet 'true'
script status 'echo "ok - one"' 'exit 3'
script crash 'echo "ok - one"' 'kill -SEGV $$'
script hangs 'echo "ok - one"' 'exec sleep 60'

counts "passed, failed and skipped claims are counted" 1 "3 passed, 1 failed, 1 skipped" good bad
counts "success alone gives status 0" 0 "2 passed, 0 failed, 1 skipped" good
counts "the skips of TAP are skips" 0 "0 passed, 0 failed, 2 skipped" tap_skip
counts "a file without any claim has failed" 1 "0 passed, 1 failed, 0 skipped" quiet
counts "an exit status that no claim explains has failed" 1 "1 passed, 1 failed, 0 skipped" status
counts "a crash has failed" 1 "1 passed, 1 failed, 0 skipped" crash
counts "a file that hangs is ended and has failed" 1 "1 passed, 1 failed, 0 skipped" hangs
counts "a file that is not there has failed" 1 "0 passed, 1 failed, 0 skipped" missing
counts "nothing to run has failed" 1 "0 passed, 1 failed, 0 skipped"
