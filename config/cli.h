/* SPDX-License-Identifier: Apache-2.0 */
/* What every program's command line has in common: subcommands from a table, options from the option table,
 * --config, --check-config, --show-config, --log-level, --version, --help, and exit statuses. */
#pragma once

#include "config/option.h"

enum exit_status { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_MISUSE = 2, EXIT_NOTHING = 3 };

#define WATTLOOP_VERSION "0.1.0"

struct command {
        const char *name;
        const char *args; /* "[FILE]", for help; "" takes none */
        int min_args, max_args;
        const char *help;
        /* Returns an exit_status, or a negative errno after having logged it. */
        int (*run)(const void *options, int argc, char **argv); /* argv: what is behind the subcommand */
};

struct program {
        const char *name;           /* "wattloop-collector" */
        const char *summary;        /* one sentence */
        const char *config_default; /* "/etc/wattloop/collector.yaml": read when there, --config makes it a
                                       must */
        const struct command *commands; /* ends with { 0 } */
        const struct option *options;   /* ends with { 0 } */
        size_t options_size;
        /* Cross-checks between options after loading; may be NULL. -EINVAL with words. */
        int (*check)(const void *options, struct err *e);
        /* For the subcommand doctor, which every program has (config/doctor.h): subcommands that change
         * nothing and say how things are, and how to look whether a database is whole. Both may be NULL. */
        const char *const *doctor; /* ends with NULL */
        int (*check_database)(const char *path, struct err *e);
};

/* Parse, load, run; returns the exit status for main. Misuse and bad configuration: message on stderr, 2.
 * Options may stand before or behind the subcommand: --key VALUE, --key=VALUE; a bool may stand alone. */
int program_main(const struct program *program, int argc, char **argv);
