// SPDX-License-Identifier: Apache-2.0
// The recipe of docs/networks.md, in TensorFlow.js: node train.js ROWS.csv OUT
// Trains on the first four fifths of the node's rows, writes OUT/model.json, weights.bin, scaler.json (by whose figures the
// inputs were scaled) and held-back.csv, and prints the mean absolute errors over these last rows, package and dram.
'use strict';
const fs = require('fs'), path = require('path');
const core = require('@tensorflow/tfjs-core'), tf = require('@tensorflow/tfjs-layers');
require('@tensorflow/tfjs-backend-cpu');
const [file, out] = process.argv.slice(2);
const FEATURES = ['bpf_cpu_time_ms', 'bpf_page_cache_hit', 'bpf_net_tx_irq', 'bpf_net_rx_irq', 'bpf_block_irq'];
const TARGETS = ['package_watts', 'dram_watts'];

const [header, ...lines] = fs.readFileSync(file, 'utf8').trim().split('\n');
const names = header.split(','), at = (name) => names.indexOf(name);
const node = lines.filter((l) => l.split(',')[at('container_id')] === 'node');
const cells = node.map((l) => l.split(','));
const x = cells.map((c) => FEATURES.map((f) => c[at(f)] / c[at('duration_s')])); // rates per second
const y = cells.map((c) => TARGETS.map((t) => Number(c[at(t)])));
const train = Math.floor(x.length * 0.8);
const mean = FEATURES.map((_, j) => x.slice(0, train).reduce((s, r) => s + r[j], 0) / train);
const scale = FEATURES.map((_, j) => Math.sqrt(x.slice(0, train).reduce((s, r) => s + (r[j] - mean[j]) ** 2, 0) / train) || 1);
const scaled = (rows) => core.tensor2d(rows.map((r) => r.map((v, j) => (v - mean[j]) / scale[j])));

(async () => {
        const model = tf.sequential({ layers: [
                tf.layers.dense({ units: 16, activation: 'relu', inputShape: [FEATURES.length], kernelInitializer: tf.initializers.glorotUniform({ seed: 1 }) }),
                tf.layers.dense({ units: 16, activation: 'relu', kernelInitializer: tf.initializers.glorotUniform({ seed: 2 }) }),
                tf.layers.dense({ units: TARGETS.length, kernelInitializer: tf.initializers.glorotUniform({ seed: 3 }) })] });
        model.compile({ optimizer: core.train.adam(0.02), loss: 'meanSquaredError' });
        await model.fit(scaled(x.slice(0, train)), core.tensor2d(y.slice(0, train)), { epochs: 60, batchSize: 32, shuffle: false, verbose: 0 });
        fs.mkdirSync(out, { recursive: true });
        await model.save(core.io.withSaveHandler(async (a) => {
                fs.writeFileSync(path.join(out, 'weights.bin'), Buffer.from(a.weightData));
                fs.writeFileSync(path.join(out, 'model.json'), JSON.stringify({ modelTopology: a.modelTopology, format: a.format,
                        weightsManifest: [{ paths: ['weights.bin'], weights: a.weightSpecs }] }));
                return { modelArtifactsInfo: { dateSaved: new Date(), modelTopologyType: 'JSON' } };
        }));
        fs.writeFileSync(path.join(out, 'scaler.json'), JSON.stringify({ mean_: mean, scale_: scale }));
        fs.writeFileSync(path.join(out, 'held-back.csv'), [header, ...node.slice(train), ''].join('\n'));
        const answers = model.predict(scaled(x.slice(train))).arraySync();
        console.log(TARGETS.map((_, k) => (answers.reduce((s, r, i) => s + Math.abs(Math.max(r[k], 0) - y[train + i][k]), 0) / answers.length).toFixed(3)).join(' '));
})().catch((e) => { console.error(e); process.exit(1); });
