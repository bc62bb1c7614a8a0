/* SPDX-License-Identifier: Apache-2.0 */
/* Real programs for a benchmark: in a directory of its own, on ports of loopback. What fails ends the
 * benchmark, and what it started, with words. */
#pragma once

#include <sys/types.h>

/* An empty directory `dir`; programs are those of the build directory $B. */
void programs_begin(const char *bench, const char *dir);
/* Ends what was started and removes the directory. */
void programs_end(void);
_Noreturn void programs_fail(const char *what);

/* A path in the directory; valid for the next 31 calls. */
const char *in_dir(const char *name);

/* args ends with NULL; args[0] is a path or one of our programs. Output goes to the file `log`. */
pid_t program_start(const char *const *args);
/* The exit status; ret_cpu_ms (may be NULL): of the program and of those that it waited for. */
int program_run(const char *const *args, double *ret_cpu_ms);
#define RUN(...) program_run((const char *const[]){ __VA_ARGS__, NULL }, NULL)
/* CPU time so far of a program that runs and of its children. */
double program_cpu_ms(pid_t pid);

/* A connection, or -1. */
int port_dial(unsigned short port);
/* A listening socket. */
int port_listen(unsigned short *ret_port);
unsigned short port_free(void);
/* Until somebody listens. */
void port_wait(unsigned short port);
