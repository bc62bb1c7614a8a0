/* SPDX-License-Identifier: Apache-2.0 */
/* Prometheus text exposition (format 0.0.4) into a buffer. */
#pragma once

#include "common/buf.h"

struct prom_label {
        const char *name;
        const char *value; /* NULL: label left out; escaped on writing */
};

void prom_family(struct buf *out, const char *name, const char *type, const char *help);
/* labels end with { NULL, NULL }; NULL for none */
void prom_sample(struct buf *out, const char *name, const struct prom_label *labels, double value);
