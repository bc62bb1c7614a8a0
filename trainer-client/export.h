/* SPDX-License-Identifier: Apache-2.0 */
/* The subcommand `export`: recorded intervals as rows for notebooks, CSV or JSON lines. */
#pragma once

int export_run(const void *options, int argc, char **argv);
