/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/convert/tensors.h"

#include <errno.h>
#include <string.h>

void saved_done(struct saved *s)
{
        json_decref(s->config);
        for (size_t i = 0; i < s->n_tensors; i++)
                free(s->tensors[i].data);
        free(s->tensors);
}

int saved_add(struct saved *s, const char *name, const size_t *dim, size_t rank, struct tensor **ret,
              struct err *e)
{
        struct tensor *t;
        size_t n = 1;

        if (!s->tensors)
                s->tensors = calloc(TENSORS_MAX, sizeof(*s->tensors));
        if (!s->tensors)
                return err_set(e, -ENOMEM, "out of memory");
        t = &s->tensors[s->n_tensors];
        if (s->n_tensors == TENSORS_MAX)
                return err_set(e, -E2BIG, "more than %d weights", TENSORS_MAX);
        if (!*name || strlen(name) >= TENSOR_NAME_MAX)
                return err_set(e, -EBADMSG, "weight '%.60s' has an empty or too long name", name);
        for (size_t i = 0; i < s->n_tensors; i++)
                if (!strcmp(s->tensors[i].name, name))
                        return err_set(e, -EBADMSG, "weight '%.100s' is there twice", name);
        if (rank > TENSOR_RANK_MAX)
                return err_set(e, -ENOTSUP, "weight '%.100s' has rank %zu", name, rank);
        for (size_t i = 0; i < rank; i++) {
                if (dim[i] > NETWORK_PARAMETERS_MAX)
                        return err_set(e, -E2BIG, "weight '%.100s' is too large", name);
                n *= dim[i];
                if (n > NETWORK_PARAMETERS_MAX - s->parameters)
                        return err_set(e, -E2BIG, "weight '%.100s': more than %zu parameters", name,
                                       NETWORK_PARAMETERS_MAX);
        }
        *t = (struct tensor){ .rank = rank, .n = n };
        memcpy(t->dim, dim, rank * sizeof(*dim));
        (void)snprintf(t->name, sizeof(t->name), "%s", name);
        t->data = calloc(n + 1, sizeof(*t->data));
        if (!t->data)
                return err_set(e, -ENOMEM, "out of memory");
        s->n_tensors++;
        s->parameters += n;
        *ret = t;
        return 0;
}

/* "layer/weight", perhaps behind the model's own name. */
const struct tensor *saved_find(const struct saved *s, const char *layer, const char *weight)
{
        char key[TENSOR_NAME_MAX];
        size_t size;
        int n = snprintf(key, sizeof(key), "%s/%s", layer, weight);

        if (n < 0 || (size_t)n >= sizeof(key))
                return NULL;
        size = (size_t)n;
        for (size_t i = 0; i < s->n_tensors; i++) {
                const char *name = s->tensors[i].name;
                size_t have = strlen(name);

                if (have == size
                            ? !strcmp(name, key)
                            : have > size && name[have - size - 1] == '/' && !strcmp(name + have - size, key))
                        return &s->tensors[i];
        }
        return NULL;
}
