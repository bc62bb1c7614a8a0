/* SPDX-License-Identifier: Apache-2.0 */
/* The subcommand `push`: read -> pack -> send for each destination, all in parallel. The cursor moves when
 * the destination has acknowledged. A crash anywhere means that a batch is sent again, which adds nothing. */
#pragma once

int push_run(const void *options, int argc, char **argv);
