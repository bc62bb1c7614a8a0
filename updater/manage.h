/* SPDX-License-Identifier: Apache-2.0 */
/* The subcommands by which an operator looks after what is installed. SLOT: all of the configuration when
 * left out. */
#pragma once

int rollback_run(const void *options, int argc, char **argv); /* [SLOT] */
int pin_run(const void *options, int argc, char **argv);      /* [SLOT [ID]] */
int unpin_run(const void *options, int argc, char **argv);    /* [SLOT] */
/* [SLOT]: files, signatures and answers of what is there */
int verify_run(const void *options, int argc, char **argv);
