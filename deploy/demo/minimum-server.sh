#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The minimum with a model server: the collector evaluates a weight file in process, and the updater keeps that file up
# to date from a model server with trained models. `make demo-minimum-server` runs it; lib.sh tells what the variables
# are. The server is taught with recordings of simulated power; the simulator runs beside to judge the estimates.
set -u
STAGES=5
. "$(dirname "$0")/lib.sh"
SECONDS_OF_LOAD=$([ -n "${DEMO_QUICK:-}" ] && echo 6 || echo 12)
read -r SERVER_PORT PORT <<<"$(free_ports 2)"
WEIGHT=$DIR/models/rapl-sysfs/AbsPower/weight/current/weight.json

refresh() {
        update weight --server-url "http://127.0.0.1:$SERVER_PORT" --estimator-socket '' || fail "the updater could not install the weights" updater
}

# Digest of the weights that the server gives to Kepler's own request, and of the installed file.
digest_served() {
        curl -sf --noproxy '*' -H 'Content-Type: application/json' -d '{"metrics": ["bpf_cpu_time_ms", "bpf_page_cache_hit", "bpf_net_tx_irq",
                "bpf_net_rx_irq", "bpf_block_irq"], "output_type": "AbsPower", "source": "rapl-sysfs", "weight": true}' "http://127.0.0.1:$SERVER_PORT/model" | sha256sum | cut -c 1-64
}
digest_installed() {
        sha256sum <"$WEIGHT" | cut -c 1-64
}
serves() { # the collector's estimates are by the installed weights
        [ "$(sensor "$PORT" model_id)" = "$(installed weight)" ]
}

stage "a model server that holds trained models"
picture <<PIC
      kernel ── CPU time, page cache, interrupts           recordings of other nodes (simulated power)
         │                                                        │
         ▼                                                        ▼
    ┌──────────────────────┐  reads   weights    ┌────────────────────┐  POST /model   ┌─────────────────────────┐
    │  wattloop-collector  │ ◄─────── on disk ◄─ │  wattloop-updater  │ ◄───────────── │  wattloop-model-server  │
    └──────────────────────┘                     └────────────────────┘                └─────────────────────────┘
         │                                                                              http://127.0.0.1:$SERVER_PORT
         ▼
      http://127.0.0.1:$PORT/metrics ──► Prometheus, wattloop-collector top
PIC
make_cgroup || note "no cgroup of its own (not permitted here): the programs stay in the one they are in"
model_server --publish-interval 100ms
teach 60 --load 50 --seed 1
note "$MODEL is trained on $MODEL_ROWS recorded rows of $MODEL_PROVENANCE power"

stage "refresh: the updater fetches weights, the collector begins with them"
refresh
collector collector "$PORT" --power-sources estimate --estimate-weight "$WEIGHT" --store-path ''
FIRST=$(installed weight)
claim "the collector's watts are '$(sensor "$PORT" provenance)' by the weights installed, ${FIRST:0:12}, trained on $(sensor "$PORT" trained_on) power" serves

stage "refresh again: the server learns more, the running collector takes the new weights"
teach 600 --seed 2
note "$MODEL is trained on $MODEL_ROWS recorded rows of $MODEL_PROVENANCE power"
refresh
claim "the updater has installed other weights: $(installed weight | cut -c 1-12)" test "$(installed weight)" != "$FIRST"
claim "their digest is that of what the server serves: $(digest_installed | cut -c 1-12)" test "$(digest_served)" = "$(digest_installed)"
claim "the collector uses them without a restart" wait_for 10 serves
simulator
live "$PORT" "$SECONDS_OF_LOAD"
pass "features=$FEATURES model=$MODEL mae=$MAE load_joules=$LOAD_JOULES claims=$CLAIMS seconds=$(elapsed "$BEGIN")"
