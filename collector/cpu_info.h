/* SPDX-License-Identifier: Apache-2.0 */
/* The processors of <procfs_root>/cpuinfo as samples of kepler_node_cpu_info. */
#pragma once

/* Owned by the caller; NULL: not readable, or out of memory. */
char *cpu_info_text(const char *procfs_root);
