/* SPDX-License-Identifier: Apache-2.0 */
/* What is known of a model beyond predicting with it; apart from model.c, which every program links. */
#include "model/compiled.h"

#include "model/pickle.h"

bool model_next_class(const struct model *m, size_t *at, const char **ret_module, const char **ret_name)
{
        for (size_t i = *at; i < pickle_classes_n; i++) {
                if (!m->pickled_classes[i])
                        continue;
                *ret_module = pickle_classes[i].module;
                *ret_name = pickle_classes[i].name;
                *at = i + 1;
                return true;
        }
        return false;
}
