# SPDX-License-Identifier: Apache-2.0
# What the collector's system tests share; sourced behind lib.sh, with $dir set: $collector runs the program with an
# empty configuration, so that no installed one takes part.
# shellcheck shell=bash

collector=$dir/collector
: >"$dir/empty.yaml"
printf '#!/bin/sh\nexec %s --config %s "$@"\n' "$BIN/wattloop-collector" "$dir/empty.yaml" >"$collector"
chmod +x "$collector"
