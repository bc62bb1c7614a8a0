#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# kill -9 of the updater before every single call that changes the disk, and at ROUNDS random moments drawn from SEED:
# `current` names a complete, signed model at any time, the estimator always answers, the next run clears up.
set -u
. "$(dirname "$0")/lib.sh"

python3 "$(dirname "$0")/updater_kill.py" "$B" "$(tmpdir)" "${ROUNDS:-50}" "${SEED:-1}"
