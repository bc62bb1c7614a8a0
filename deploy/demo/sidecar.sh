#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# With the estimator sidecar: the collector asks the estimator, which serves an archive on disk, over a unix socket.
# `make demo-sidecar` runs it; lib.sh tells what the variables are. The archive is trained here before, from a recording
# of simulated power, and installed from its file; the simulator runs beside to judge the estimates.
set -u
STAGES=4
. "$(dirname "$0")/lib.sh"
SECONDS_OF_LOAD=$([ -n "${DEMO_QUICK:-}" ] && echo 6 || echo 11)
read -r SERVER_PORT PORT <<<"$(free_ports 2)"
ARCHIVE=$DIR/model.zip

stage "before: an archive, made elsewhere and brought as a file"
make_cgroup || note "no cgroup of its own (not permitted here): the programs stay in the one they are in"
model_server
teach 600
cp "$DIR"/server/pipelines/wattloop/rapl-sysfs/AbsPower/BPFOnly/"$MODEL".zip "$ARCHIVE" || fail "the model server has no archive"
stop model-server
note "$MODEL is trained on $MODEL_ROWS recorded rows of $MODEL_PROVENANCE power: $ARCHIVE"
update archive --from "$ARCHIVE" --estimator-socket '' || fail "the archive could not be installed" updater

stage "the two programs of this deployment"
picture <<PIC
      kernel ── CPU time, page cache, interrupts
         │
         ▼
    ┌──────────────────────┐   power request   ┌──────────────────────┐  loads   archive on disk
    │  wattloop-collector  │ ────────────────► │  wattloop-estimator  │ ◄─────── $DIR/models
    │                      │ ◄──────────────── │                      │
    └──────────────────────┘       watts       └──────────────────────┘
         │                      unix socket $SOCKET
         ▼
      http://127.0.0.1:$PORT/metrics ──► Prometheus, wattloop-collector top
PIC
keep estimator "$CGROUP" "$BIN/wattloop-estimator" --socket-path "$SOCKET" --store-path "$DIR/models" serve
wait_for 10 served || fail "the estimator serves no model" estimator
claim "the estimator serves on $SOCKET what was installed: $(installed archive | cut -c 1-12)" test "$(served)" = "$MODEL $(installed archive)"
collector collector "$PORT" --power-sources estimate --estimate-socket "$SOCKET" --store-path ''
claim "the collector's watts are '$(sensor "$PORT" provenance)' by this model, trained on $(sensor "$PORT" trained_on) power" \
        test "$(sensor "$PORT" provenance) $(sensor "$PORT" model_id)" = "estimated $(installed archive)"
simulator
live "$PORT" "$SECONDS_OF_LOAD"
pass "features=$FEATURES model=$MODEL mae=$MAE load_joules=$LOAD_JOULES claims=$CLAIMS seconds=$(elapsed "$BEGIN")"
