/* SPDX-License-Identifier: Apache-2.0 */
/* From the model store on disk to loaded models: at most one per energy source and output type. A set of
 * models is immutable once made; a reload makes a new set, which shares the models that did not change. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>
#include "common/err.h"
#include "common/hash.h"
#include "model/model.h"

struct loaded_model {
        struct model *model;
        char id[HASH_HEX_SIZE];
        const char *form;  /* "archive", "weight"; "file" for one that is in no store */
        int64_t loaded_ms; /* wall clock */
        uint64_t load_us;  /* that reading, loading and checking took */
        uint64_t requests; /* answered by it, with watts or not; counted by whoever answers */
        uint64_t errors;   /* of these without */
        atomic_uint refs;  /* sets of models that hold it */
};

#define MODELS_SLOTS_MAX   32
#define MODELS_REFUSED_MAX (2 * MODELS_SLOTS_MAX)

struct refused_model {
        char path[256]; /* cut when longer */
        struct err error;
};

struct models {
        struct loaded_model *slots[MODELS_SLOTS_MAX]; /* by models_slot(); NULL: none */
        struct refused_model refused[MODELS_REFUSED_MAX];
        size_t n_refused;
        struct model_load_options how; /* inherited by the sets that follow */
};

/* Slots are numbered source by source in the vocabulary's order. */
size_t models_slots(void);
const char *models_slot_source(size_t slot);
const char *models_slot_output_type(size_t slot);

/* The model for a request's words; the source is normalised. NULL: none. */
struct loaded_model *models_find(const struct models *models, const char *source, const char *output_type);
/* The forms that a store may hold, preferred first; NULL behind the last. */
const char *models_form(size_t i);

/* Load what the store's `current` links name. A model that fails to load or its self-check is listed as
 * refused, and the one of `previous` (may be NULL) stays in its slot; so does an unchanged one, without being
 * read again. An absent or empty store is an empty set. Fails only for want of memory. */
int models_load(const char *store, const struct models *previous, struct models **ret, struct err *e);
/* The first set of a row whose models are all loaded this way. */
int models_load_first(const char *store, const struct model_load_options *how, struct models **ret,
                      struct err *e);

/* A set in which one file or directory answers for every source and for the output types that it is for. */
int models_load_one(const char *path, struct models **ret, struct err *e);
int models_load_one_with(const char *path, const struct model_load_options *how, struct models **ret,
                         struct err *e);

void models_free(struct models *models);
CLEANUP_DEFINE(struct models *, models_free);
