/* SPDX-License-Identifier: Apache-2.0 */
/* The subcommand `audit`: does each destination hold what was recorded and acknowledged, once? */
#pragma once

int audit_run(const void *options, int argc, char **argv);
