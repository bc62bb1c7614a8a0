/* SPDX-License-Identifier: Apache-2.0 */
/* The subcommands `import` and `keygen`: bundles that were carried here are verified and forwarded. */
#pragma once

int import_run(const void *options, int argc, char **argv);
int keygen_run(const void *options, int argc, char **argv);
