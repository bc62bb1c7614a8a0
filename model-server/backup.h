/* SPDX-License-Identifier: Apache-2.0 */
/* The subcommands backup and restore. A backup is a directory: server.db, server.learn.db,
 * server.signing.json, pipelines/, keys/ when asked for, and manifest.json, {"format": 1, "program",
 * "made_ms", "files": [{"name", "bytes", "sha256"}]}. */
#pragma once

int backup_run(const void *options, int argc, char **argv);
int restore_run(const void *options, int argc, char **argv);
