/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* How long each trainer takes on the recording of $DATA (Kepler's nx12, where it lies beside this directory),
 * and how the error on one fold of whole segments falls with the rows trained on. Adds train_<trainer>_ms and
 * curve_<trainer>_<rows>_watts; says so when there is no recording. */
void bench_training(void);
