/* SPDX-License-Identifier: Apache-2.0 */
/* The one thread that owns the database: jobs one after the other, and what is due in between. */
#pragma once

#include "common/err.h"
#include "model-server/server.h"

#define JOBS_TOGETHER_MAX 64

struct job {
        /* On the worker. Jobs with the same function that wait in a row run together when they say so. */
        void (*run)(struct job *const jobs[], size_t n);
        bool together;
        void (*done)(struct job *job); /* on the worker, last: the job may be gone when it returns */
        struct job *next;
};

struct worker;
int worker_start(struct server *server, struct worker **ret, struct err *e);
/* False once the worker is stopping: the job is not taken. */
bool worker_submit(struct worker *worker, struct job *job);
/* Does the jobs that wait, and ends. */
void worker_stop(struct worker *worker);
