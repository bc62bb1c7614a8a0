#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Networks that TensorFlow.js builds and evaluates are converted and evaluated here: the same answers.
set -u
. "$(dirname "$0")/../system/lib.sh"

here=$(dirname "$0")
dir=$(tmpdir)
node=$B/node # packages from npm, kept
if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
        skip "networks answer as TensorFlow.js" "no node and npm here"
        exit 0
fi
if [ ! -d "$node/node_modules/@tensorflow/tfjs-backend-cpu" ]; then
        mkdir -p "$node"
        if ! (cd "$node" && timeout 180 npm install --no-audit --no-fund --no-save @tensorflow/tfjs-core@4.22.0 @tensorflow/tfjs-layers@4.22.0 \
                @tensorflow/tfjs-backend-cpu@4.22.0) >"$dir/npm" 2>&1; then
                skip "networks answer as TensorFlow.js" "npm cannot be reached: $(tail -n 1 "$dir/npm")"
                exit 0
        fi
fi
check "TensorFlow.js builds and evaluates networks" env NODE_PATH="$node/node_modules" node "$here/build.js" "$dir/networks"
/usr/bin/python3 "$here/compare.py" "$BIN" "$dir/networks" 2>"$dir/err" || not_ok "networks are compared" "$(tail -n 3 "$dir/err")"
