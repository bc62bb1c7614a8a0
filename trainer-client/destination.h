/* SPDX-License-Identifier: Apache-2.0 */
/* The destinations are rows of one table: how a batch is written down for one, how it gets there, and what
 * its answer means. */
#pragma once

#include <pthread.h>
#include "trainer-client/cursor.h"
#include "trainer-client/options.h"
#include "trainer-client/pack.h"

/* Where the series of a batch come from: recorded intervals, or a bundle from elsewhere. May be run through
 * several times. */
struct series_source {
        int (*each)(const struct series_source *source, pack_emit_fn emit, void *userdata,
                    size_t *ret_samples, struct err *e);
        const void *data;
};
struct series_source series_of_batch(const struct pack_batch *batch);

/* A batch that is ready to go. */
struct parcel {
        char name[256];            /* "<node_id>/<epoch>/<first>-<last>" */
        int64_t after_id;          /* it holds the intervals (after_id, range.last_id] */
        struct cursor_range range; /* first_id: the first one that is there */
        char node_id[CURSOR_TEXT_MAX];
        int64_t first_end_ms; /* end of the first interval */
        int64_t intervals;
        size_t samples, plain_size;
        struct buf body;        /* as transported */
        bool again;             /* an attempt before this one may have arrived */
        int64_t answered_new;   /* model server: how many of the samples were new to it */
        bool unsayable;         /* last_answer says why there is no body */
        int64_t bundle;         /* file: its number */
        uint64_t asked_ms;      /* what the last answer's Retry-After said */
        struct err last_answer; /* why the last attempt failed */
};

struct destination;

struct destination_kind {
        const char *name;
        const char *path;           /* behind the url */
        const char *const *headers; /* of an upload; NULL-terminated */
        const char *accept;         /* content type that an answer must have; NULL: any */
        bool slow_answer;
        size_t max_answer;
        const char *extension; /* of a quarantined body */
        /* Write the batch down in parcel->body and count its samples. -EBADMSG: it cannot be said there. */
        int (*encode)(struct destination *d, const struct series_source *source, struct parcel *p,
                      struct err *e);
        /* Does the 2xx answer acknowledge? -EPROTO: it is no answer to this question. May be NULL: it does.
         */
        int (*acknowledge)(struct destination *d, struct parcel *p, const char *body, size_t size,
                           long status, struct err *e);
        /* What a 400 means. -EBADMSG: refused for good; -ESTALE: the receiver is past these samples; 0: it
         * has them. May be NULL: refused. */
        int (*refused)(struct destination *d, struct parcel *p, const char *words, struct err *e);
        /* One attempt; NULL: over HTTP. */
        int (*deliver)(struct destination *d, struct parcel *p, struct err *e);
};
extern const struct destination_kind destination_kinds[KIND_N];

struct http;
struct bundles;

struct destination {
        enum kind kind;
        const struct destination_kind *row;
        const struct options *options;
        struct destination_options own;
        struct http *http;             /* owned */
        struct http *query_http;       /* owned; NULL until something is asked */
        char *url;                     /* owned; of an upload */
        char *query_url;               /* owned; base of the query API, "" none */
        pthread_mutex_t encoding;      /* packing ahead and splitting may meet */
        struct compressor *compressor; /* owned, as the buffer below; both only while encoding */
        struct buf plain;
        struct bundles *bundles; /* owned; file only */
};

int destination_open(const struct options *o, enum kind kind, struct destination **ret, struct err *e);
void destination_free(struct destination *d);
CLEANUP_DEFINE(struct destination *, destination_free);

/* Pack the batch for the destination. The parcel is the caller's, parcel_init()ed. */
int destination_encode(struct destination *d, const struct pack_batch *batch, int64_t after_id,
                       struct parcel *p, struct err *e);

/* One attempt. 0: acknowledged, and nothing else is. -EAGAIN: later attempts may work (p->asked_ms); -E2BIG:
 * smaller batches may pass; -EBADMSG: refused for what it is; -ESTALE: the receiver is past it; -EPERM: the
 * destination, not the batch, needs a person; others: something here failed. */
int destination_attempt(struct destination *d, struct parcel *p, struct err *e);

/* Attempts with back-off; blocks. -EAGAIN: none worked. */
int destination_deliver(struct destination *d, struct parcel *p, struct err *e);

/* How long to wait before attempt 2, 3, …: between 0 and base * 2^(attempt - 2), both bounded by max; at
 * least what the server asked for, within max. random: any number. Pure. */
uint64_t backoff_ms(const struct destination_options *o, int attempt, uint64_t asked_ms, uint64_t random);

/* GET below the query API, with the destination's credentials; a JSON object. -ENOENT: there is no query API.
 */
int destination_query(struct destination *d, const char *path, char **ret_body, size_t *ret_size,
                      struct err *e);
/* Escape a text for a URL's query; the caller frees. NULL: out of memory. */
char *destination_escape(const char *text);

void parcel_init(struct parcel *p);
void parcel_done(struct parcel *p);

/* gzip as fast as can be (libdeflate, level 1): the same input gives the same output. */
struct compressor *compressor_new(void);
void compressor_free(struct compressor *c);
int compressor_gzip(struct compressor *c, const struct buf *plain, struct buf *out, struct err *e);

/* The kinds, one file each. */
int encode_lines(struct destination *d, const struct series_source *source, struct parcel *p, struct err *e);
int encode_remote_write(struct destination *d, const struct series_source *source, struct parcel *p,
                        struct err *e);
int refused_remote_write(struct destination *d, struct parcel *p, const char *words, struct err *e);
int encode_kepler(struct destination *d, const struct series_source *source, struct parcel *p, struct err *e);
int acknowledge_kepler(struct destination *d, struct parcel *p, const char *body, size_t size, long status,
                       struct err *e);
int deliver_file(struct destination *d, struct parcel *p, struct err *e);
