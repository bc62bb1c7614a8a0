/* SPDX-License-Identifier: Apache-2.0 */
/* Who this machine is: identity and the machine spec by which models are matched. Discovered as Kepler's
 * Python programs do (brand string cut at the first bracket; frequency rounded to 100 MHz). */
#pragma once

#include <jansson.h>
#include "common/err.h"

#define MACHINE_TEXT_MAX 128

struct machine_spec {
        char processor[MACHINE_TEXT_MAX]; /* "intel_xeon_e5_2686v4"; "" unknown */
        int cores;                        /* logical CPUs */
        int chips;                        /* distinct physical ids, at least 1 */
        int memory;                       /* GiB, floor */
        int frequency;                    /* MHz, a multiple of 100; 0 unknown */
};

struct machine {
        char node_name[MACHINE_TEXT_MAX]; /* NODE_NAME, else the host name */
        char node_id[33]; /* first 32 hex digits of SHA-256("wattloop" + machine-id, or + host name) */
        char boot_id[37];
        char cpu_architecture[MACHINE_TEXT_MAX]; /* CPU_ARCH_OVERRIDE, else the processor's family name */
        struct machine_spec spec;
};

/* procfs_root and sysfs_root: "/proc", "/sys". Only an unreadable boot id is an error. */
int machine_discover(const char *procfs_root, const char *sysfs_root, struct machine *ret, struct err *e);

/* Format a CPU brand string as upstream's Python does. */
void machine_format_processor(const char *brand, char ret[MACHINE_TEXT_MAX]);

/* {"processor": …, "cores": …, "chips": …, "memory": …, "frequency": …}, integers; unknown ones left out.
 * A new reference; NULL out of memory. */
json_t *machine_spec_to_json(const struct machine_spec *spec);
/* Reads both "cores" and upstream's "NodeAttribute.CORES" spellings, ints, floats and numeric strings;
 * missing or null values are 0 or "". -EBADMSG for another type. */
int machine_spec_from_json(const json_t *object, struct machine_spec *ret, struct err *e);
