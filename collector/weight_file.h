/* SPDX-License-Identifier: Apache-2.0 */
/* A weight JSON that is read again when it changes. A bad file leaves the model that is there. */
#pragma once

#include <sys/stat.h>
#include "common/hash.h"
#include "model/model.h"

/* Which file content was looked at last. */
struct file_stamp {
        dev_t dev;
        ino_t ino;
        off_t size;
        struct timespec mtime;
};

/* Zero-initialise it, but for the path. */
struct weight_file {
        char *path;          /* owned */
        struct model *model; /* NULL while none could be loaded */
        char id[HASH_HEX_SIZE];
        struct file_stamp stamp; /* of the last file looked at, good or bad */
        struct err refused;      /* why the file as it is now was not loaded; "" when it was */
};

/* Loads the file when it is new or changed, and says in the log, once per change, when it is bad while there
 * is a model. 0 when there is a model. */
int weight_file_refresh(struct weight_file *file, struct err *e);
void weight_file_done(struct weight_file *file);
