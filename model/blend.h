/* SPDX-License-Identifier: Apache-2.0 */
/* Wattloop's own trained model (model class "wattloop-blend"): boosted trees and linear parts over a row's
 * features and what is derived from them, averaged, everything clipped to what training saw. A component's
 * file:
 *
 *   {"format": "wattloop-blend", "version": 1,
 *    "clip": [[lo, hi], …],                 a column's range; columns are the component's features, in order,
 *                                           and behind them the derived ones
 *    "derived": [["ratio", a, b], ["difference", a, b], …],   of columns before: a / b (0 unless b > 0); a -
 * b "output": [lo, hi],                    W; of each member and of the whole "guards": [[column, lo, hi],
 * …],       a row beyond one of these is estimated by "outside" "inside": [member, …], "outside": [member,
 * …]}
 *
 *   member: {"weight": w, "bias": b, "x": [[column, c], …], "sqrt": [[column, c], …],
 *            "columns": [column, …], "trees": ["FILE", …]}
 *
 * A member is b + Σ c x + Σ c √|x| + the mean of its tree files (XGBoost's, JSON or UBJSON, entries of the
 * same archive) over its columns. The answer is the members' weighted mean. Guards see values as they are,
 * everything else sees them clipped; what is missing (NaN) counts as the least value seen. */
#pragma once

#include "model/plan.h"

#define BLEND_VERSION     1
#define BLEND_COLUMNS_MAX 96
#define BLEND_MEMBERS_MAX 4
#define BLEND_TREES_MAX   8 /* files of a member */

int blend_add(struct plan *plan, const struct model_archive *archive, const struct model_entry *file,
              struct err *e);
