/* SPDX-License-Identifier: Apache-2.0 */
/* What a benchmark found: a table on standard output, and {"results": [...]} in a file. */
#pragma once

#include <stddef.h>

struct result {
        char name[64];
        double value;
        const char *unit;
        unsigned long n;
        double baseline; /* 0: none */
};

/* Names must be unique; what is over the limit ends the program. */
void results_add(const char *name, double value, const char *unit, unsigned long n, double baseline);
/* Ends the program when it cannot be written. */
void results_write(const char *path);
/* Sorts. */
double results_median(double *values, size_t n);
