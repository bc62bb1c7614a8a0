// SPDX-License-Identifier: Apache-2.0
// Networks of many architectures, built and evaluated by TensorFlow.js: node build.js DIR
// Writes DIR/NAME/{model.json,weights.bin,expected.json}. Weights are random; the last bias is such that all
// answers are positive and of the size of their spread: watts below zero would be clamped.
'use strict';
const fs = require('fs'), path = require('path');
const core = require('@tensorflow/tfjs-core'), tf = require('@tensorflow/tfjs-layers');
require('@tensorflow/tfjs-backend-cpu');
const L = tf.layers, out = process.argv[2], N = 4, ROWS = 40;

let seed = 12345; // a small generator: the same numbers everywhere
const random = () => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) / 4294967296;
const rows = [...Array(ROWS)].map(() => [...Array(N)].map(() => Math.fround(random() * 3)));

const input = (n = N, name = 'input') => tf.input({ shape: [n], name });
const dense = (units, activation = 'linear', more = {}) => L.dense({ units, activation, ...more });
const chain = (x, ...layers) => layers.reduce((t, layer) => layer.apply(t), x);
const model = (inputs, outputs) => tf.model({ inputs, outputs });
const plain = (...layers) => { const x = input(); return model(x, chain(x, ...layers, dense(1))); };
const sequential = (...layers) => tf.sequential({ layers });

const networks = {
        linear: () => sequential(dense(1, 'linear', { inputShape: [N] })),
        relu_3x64: () => sequential(dense(64, 'relu', { inputShape: [N] }), dense(64, 'relu'), dense(64, 'relu'), dense(1)),
        tanh_sigmoid: () => plain(dense(20, 'tanh'), dense(10, 'sigmoid')),
        without_bias: () => plain(dense(7, 'relu', { useBias: false }), dense(5, 'elu', { useBias: false })),
        leaky: () => plain(dense(9), L.leakyReLU({ alpha: 0.1 }), dense(9), L.leakyReLU({})),
        layers_of_functions: () => plain(dense(9), L.elu(), dense(9), L.reLU({ maxValue: 1.5 }), dense(9),
                L.thresholdedReLU({ theta: 0.3 }), dense(6), L.softmax({}), dense(6), L.activation({ activation: 'tanh' })),
        prelu: () => plain(dense(9), L.prelu({})),
        batch_normalization: () => plain(L.batchNormalization({}), dense(12, 'relu'), L.batchNormalization({ epsilon: 0.01 }),
                dense(5), L.batchNormalization({ center: false, scale: false }), L.batchNormalization({ center: false })),
        layer_normalization: () => plain(dense(12, 'relu'), L.layerNormalization({}), dense(5), L.layerNormalization({ epsilon: 0.1 })),
        residual: () => { const x = input(), a = chain(x, dense(8, 'relu')), b = chain(a, dense(8, 'tanh'));
                return model(x, chain(L.add().apply([a, b, a]), dense(1))); },
        merges: () => { const x = input(), [a, b, c] = [8, 8, 8].map((n) => chain(x, dense(n, 'tanh')));
                const merged = [L.multiply(), L.average(), L.maximum(), L.minimum()].map((l) => l.apply([a, b, c]));
                return model(x, chain(L.concatenate().apply(merged), dense(1))); },
        wide_and_deep: () => { const x = input(), deep = chain(x, dense(16, 'relu'), dense(8, 'selu'));
                return model(x, chain(L.concatenate().apply([x, deep]), dense(1))); },
        two_inputs: () => { const a = input(1, 'a'), b = input(3, 'b');
                return model([a, b], chain(L.concatenate().apply([chain(a, dense(4, 'relu')), chain(b, dense(5, 'tanh'))]), dense(1))); },
        matrices: () => plain(dense(12), L.reshape({ targetShape: [3, 4] }), dense(5, 'tanh'), L.prelu({ sharedAxes: [1] }),
                L.batchNormalization({}), L.layerNormalization({}), dense(4, 'softmax'), L.flatten()),
        noise: () => plain(L.gaussianNoise({ stddev: 1 }), dense(8, 'relu'), L.dropout({ rate: 0.5 }), L.gaussianDropout({ rate: 0.5 }),
                L.alphaDropout({ rate: 0.5 })),
        rescaling: () => plain(L.rescaling({ scale: 0.25, offset: -0.5 }), dense(8, 'relu')),
        two_outputs: () => { const x = input(), h = chain(x, dense(16, 'relu'));
                return model(x, [dense(1, 'linear', { name: 'dram' }).apply(h), dense(1, 'linear', { name: 'package' }).apply(h)]); },
        two_units: () => { const x = input(); return model(x, chain(x, dense(16, 'relu'), dense(2))); },
        deep: () => plain(...[...Array(20)].map(() => dense(16, 'tanh'))),
};
for (const f of ['elu', 'selu', 'relu6', 'hardSigmoid', 'softplus', 'softsign', 'softmax', 'logSoftmax', 'gelu', 'mish', 'swish'])
        networks['function_' + f] = () => plain(dense(10, f));

const name = (w) => w.name.split('/').pop();
function fill(weight, w) {
        const n = weight.shape.reduce((a, b) => a * b, 1), fan = weight.shape.length > 1 ? weight.shape[0] : 1;
        const is = name(w);
        const one = is.startsWith('moving_variance') ? () => 0.3 + random() : is.startsWith('gamma') ? () => 0.5 + random()
                : is.startsWith('kernel') ? () => (random() - 0.5) * 3.4 / Math.sqrt(fan) : () => random() - 0.5;
        return core.tensor(Float32Array.from({ length: n }, one), weight.shape);
}

function ask(m) {
        let at = 0;
        const xs = m.inputs.map((t) => { const from = at; at += t.shape[1];
                return core.tensor2d(rows.map((r) => r.slice(from, at))); });
        const y = m.predict(xs.length === 1 ? xs[0] : xs);
        return Array.isArray(y) ? y.map((t) => t.arraySync()) : [y.arraySync()];
}

(async () => {
        for (const [key, make] of Object.entries(networks)) {
                const m = make(), dir = path.join(out, key);
                for (const layer of m.layers)
                        if (layer.weights.length)
                                layer.setWeights(layer.getWeights().map((w, i) => fill(w, layer.weights[i])));
                ask(m).forEach((y, i) => { // lift the last bias
                        const layer = m.outputs[i].sourceLayer, [kernel, bias] = layer.getWeights(), low = [], high = [];
                        for (const row of y) row.forEach((v, k) => { low[k] = Math.min(low[k] ?? v, v); high[k] = Math.max(high[k] ?? v, v); });
                        layer.setWeights([kernel, core.tensor1d(Array.from(bias.dataSync()).map((b, k) => b - low[k] + 0.3 * (high[k] - low[k]) + 0.01))]);
                });
                fs.mkdirSync(dir, { recursive: true });
                fs.writeFileSync(path.join(dir, 'expected.json'), JSON.stringify({ rows, outputs: ask(m) }));
                await m.save(core.io.withSaveHandler(async (a) => {
                        fs.writeFileSync(path.join(dir, 'weights.bin'), Buffer.from(a.weightData));
                        fs.writeFileSync(path.join(dir, 'model.json'), JSON.stringify({ modelTopology: a.modelTopology, format: a.format,
                                generatedBy: a.generatedBy, convertedBy: null,
                                weightsManifest: [{ paths: ['weights.bin'], weights: a.weightSpecs }] }));
                        return { modelArtifactsInfo: { dateSaved: new Date(), modelTopologyType: 'JSON' } };
                }));
        }
})().catch((e) => { console.error(e); process.exit(1); });
