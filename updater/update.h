/* SPDX-License-Identifier: Apache-2.0 */
/* The subcommand update: each slot in turn, examined in a sandbox, then installed by renames only. Until the
 * switch of one link nothing that the estimator reads has changed; if it does not take the new model, the
 * link goes back. */
#pragma once

int update_run(const void *options, int argc, char **argv);
