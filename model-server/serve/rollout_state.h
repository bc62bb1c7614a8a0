/* SPDX-License-Identifier: Apache-2.0 */
/* `<models.path>/.rollout/.state.json`: where each pipeline's rollout stands. Written by rename under a lock,
 * by the server and by the subcommand `rollout`. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <time.h>
#include "common/err.h"
#include "common/hash.h"
#include "model-server/serve/catalog.h"

struct rollout_part {
        char name[256];            /* pipeline */
        char print[HASH_HEX_SIZE]; /* what is being rolled out; "" nothing */
        unsigned int stage;        /* from 0 */
        int64_t since_ms;          /* this stage began */
        int64_t counted_ms;        /* reports received since then count */
        uint64_t reports_before;   /* this stage */
        bool halted;
        char why[200];
};

struct rollout_state {
        char path[CATALOG_PATH_MAX], lock_path[CATALOG_PATH_MAX];
        struct rollout_part parts[CATALOG_PIPELINES_MAX];
        size_t n;
        bool fresh; /* there was no file */
        /* Of the file as it was read or written last. */
        ino_t ino;
        struct timespec mtime;
};

/* Makes the directory, whose name goes to ret_dir. -EBADMSG: damaged. */
int rollout_state_open(const char *models_path, char ret_dir[CATALOG_PATH_MAX], struct rollout_state *ret,
                       struct err *e);
/* 1: somebody else wrote it; what he said of halted parts is taken over. */
int rollout_state_reread(struct rollout_state *state, struct err *e);
int rollout_state_save(struct rollout_state *state, struct err *e);

/* Found or made; NULL: too many. */
struct rollout_part *rollout_state_part(struct rollout_state *state, const char *name);
/* Of something else, or ("") of nothing more. */
void rollout_part_begin(struct rollout_part *part, const char *print, int64_t now_ms);
