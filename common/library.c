/* SPDX-License-Identifier: Apache-2.0 */
#include "common/library.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

int library_load(const char *file, const char *const *names, size_t n, void *ret, struct err *e)
{
        void *lib = dlopen(file, RTLD_NOW | RTLD_LOCAL);

        if (!lib)
                return err_set(e, -ELIBACC, "cannot load '%s': %s", file, dlerror());
        for (size_t i = 0; i < n; i++) {
                void *symbol = dlsym(lib, names[i]);

                if (!symbol)
                        return err_set(e, -ELIBACC, "'%s' has no %s", file, names[i]);
                /* a pointer to a function, which C would not convert */
                memcpy((char *)ret + i * sizeof(symbol), &symbol, sizeof(symbol));
        }
        return 0;
}
