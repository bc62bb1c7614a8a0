/* SPDX-License-Identifier: Apache-2.0 */
/* The subcommands that work on a recording in a directory and need no server. */
#pragma once

int command_train(const void *options, int argc, char **argv);
int command_evaluate(const void *options, int argc, char **argv);
int command_report(const void *options, int argc, char **argv);
