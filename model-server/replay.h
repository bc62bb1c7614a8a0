/* SPDX-License-Identifier: Apache-2.0 */
/* The subcommand `replay`: a model is made again from what its metadata say and the rows that are stored. */
#pragma once

/* argv: the model, as its archive's path or (the beginning of) its content id; and where to write the
 * archive. Exit status 0: bit for bit the same, or made anew without the nodes of training.exclude_nodes; 1:
 * it differs, and standard output says in what. */
int replay(const void *options, int argc, char **argv);
