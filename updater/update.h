/* SPDX-License-Identifier: Apache-2.0 */
/* The subcommands that change what is installed: each slot in turn, examined in a sandbox, then installed by
 * renames only. Until the switch of one link nothing that the estimator reads has changed; if it does not
 * take the new model, the link goes back. */
#pragma once

int update_run(const void *options, int argc, char **argv);
int rollback_run(const void *options, int argc, char **argv); /* [SLOT] */
int pin_run(const void *options, int argc, char **argv);      /* [SLOT [ID]] */
int unpin_run(const void *options, int argc, char **argv);    /* [SLOT] */
int verify_run(const void *options, int argc,
               char **argv); /* files, signatures and answers of what is there */
