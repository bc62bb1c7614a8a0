/* SPDX-License-Identifier: Apache-2.0 */
/* The subcommand keys: key pairs, and the list of release keys that the offline root key signs
 * (docs/keys.md). */
#pragma once

/* make FILE | sign LIST ROOT KEY.pub... | revoke LIST ROOT KEY... | show LIST */
int keys_run(const void *options, int argc, char **argv);
