/* SPDX-License-Identifier: Apache-2.0 */
/* The subcommand that every program has: one report for a bug ticket, of the machine, the configuration in
 * effect, what its paths and addresses lead to, and what the program's own read-only subcommands say. Each is
 * asked in a process of its own with a time limit, so that whatever is broken is told, not fatal. Secrets are
 * left out: values that are secret, passwords and queries in URLs, and wherever the words of a secret file
 * that the configuration names would show up. */
#pragma once

#include "config/cli.h"

struct doctor {
        const struct program *program;
        const void *options, *defaults; /* in effect; as if there were no configuration */
        const char *file;               /* configuration that was read; NULL: none */
        const char *problem;            /* why it could not be; NULL: it could */
        char *const *switches;          /* for the subcommands: --config=…, --key=…; ends with NULL */
        bool json;
};
int doctor_run(const struct doctor *doctor); /* an exit_status */
