/* SPDX-License-Identifier: Apache-2.0 */
/* What the updater remembers between its runs: `<store>/.state/state.json`, written whole by rename, under
 * the store's lock. A file that is damaged is moved aside and everything that matters for safety is taken
 * from the installed models again (their wattloop.json holds version and time of what was signed). */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "common/err.h"
#include "common/hash.h"
#include "updater/slot.h"

#define STATE_SLOTS_MAX    16
#define STATE_ETAG_MAX     128
#define STATE_RETRY_MAX_MS (6 * 3600 * 1000LL) /* no back-off is longer */

struct slot_state {
        char slot[SLOT_TEXT_MAX];
        uint64_t version;            /* the highest signed version that was installed here */
        int64_t time_s;              /* and the newest time of signing */
        char pinned[HASH_HEX_SIZE];  /* keep this id; "": free */
        char refused[HASH_HEX_SIZE]; /* rolled back from: not to be installed again */
        char etag[STATE_ETAG_MAX];   /* of the answer that the current model came with */
        char etag_url[256];          /* where that was */
        bool is_mirror;              /* and it is a mirror */
        unsigned failures;           /* in a row */
        int64_t retry_ms;            /* wall clock: not to be asked for before */
};

struct state {
        int64_t newest_time_s; /* the newest signed time ever seen: a clock that was set back is not believed
                                */
        int64_t keys_version;  /* of the last list of keys */
        int64_t reported_ms;   /* the history up to here was reported to the server */
        struct slot_state slots[STATE_SLOTS_MAX];
        size_t n;
};

/* A missing file is an empty state. -EBADMSG: damaged and moved aside, *ret is empty; -EIO and others. */
int state_load(const char *store_path, struct state *ret, struct err *e);
int state_save(const char *store_path, const struct state *state, struct err *e);
/* The slot's part, made when it is new; NULL: no room (there are fewer slots than that). */
struct slot_state *state_slot(struct state *state, const struct slot *slot);

/* After a failure: when to ask again. `wanted_ms`: what the server asked for (Retry-After), 0: nothing. The
 * wait doubles from a minute to six hours; `random` in [0, 1) takes up to half of it away. */
void state_failed(struct slot_state *slot, int64_t now_ms, uint64_t wanted_ms, double random);
void state_succeeded(struct slot_state *slot);
