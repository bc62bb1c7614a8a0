/* SPDX-License-Identifier: Apache-2.0 */
/* The subcommand publish: gives model files to a fleet. */
#pragma once

/* FILE... into the pipeline PUBLISHED, or with --out into a directory; --sign writes FILE.minisig beside. */
int publish_run(const void *options, int argc, char **argv);

#define PUBLISHED "published" /* pipeline of what is published by hand */
