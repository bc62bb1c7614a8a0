/* SPDX-License-Identifier: Apache-2.0 */
/* The subcommand token: issue, revoke and list the tokens of auth.token_file, beside a running server or not.
 */
#pragma once

#define TOKEN_WORDS_MAX 128 /* node ids or fingerprints at a time */

int token_run(const void *options, int argc, char **argv);
