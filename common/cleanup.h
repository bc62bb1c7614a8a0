/* SPDX-License-Identifier: Apache-2.0 */
/* Ownership in declarations: a CLEANUP variable owns its value until TAKE. */
#pragma once

#include <stdlib.h>
#include <stdio.h>
#include <unistd.h>
#include <dirent.h>

#define CLEANUP(fn)       __attribute__((cleanup(fn)))
#define PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

/* Define fn##p(), the cleanup function of a pointer type whose destructor is fn(). */
#define CLEANUP_DEFINE(type, fn)                                                                             \
        static inline void fn##p(type *p)                                                                    \
        {                                                                                                    \
                if (*p)                                                                                      \
                        fn(*p);                                                                              \
        }                                                                                                    \
        struct cleanup_semicolon_##fn

#define TAKE(p)                                                                                              \
        __extension__({                                                                                      \
                __typeof__(p) taken_ = (p);                                                                  \
                (p) = NULL;                                                                                  \
                taken_;                                                                                      \
        })

#define TAKE_FD(fd)                                                                                          \
        __extension__({                                                                                      \
                int taken_ = (fd);                                                                           \
                (fd) = -1;                                                                                   \
                taken_;                                                                                      \
        })

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

static inline void freep(void *p)
{
        free(*(void **)p);
}

static inline void closep(int *fd)
{
        if (*fd >= 0)
                close(*fd);
}

static inline void fclosep(FILE **f)
{
        if (*f)
                fclose(*f);
}

static inline void closedirp(DIR **d)
{
        if (*d)
                closedir(*d);
}
