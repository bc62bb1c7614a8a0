/* SPDX-License-Identifier: Apache-2.0 */
/* The subcommand `status`: what is installed, as text or JSON. */
#pragma once

int status_run(const void *options, int argc, char **argv);
