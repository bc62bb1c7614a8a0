/* SPDX-License-Identifier: Apache-2.0 */
#include "estimator/loader.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>

int loader_init(struct loader *l, const char *store, struct err *e)
{
        *l = (struct loader){ .store = store, .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
        return l->fd < 0 ? err_sys(e, "cannot make an eventfd") : 0;
}

static void *load(void *arg)
{
        struct loader *l = arg;
        uint64_t one = 1;

        l->status = models_load(l->store, l->previous, &l->result, &l->error);
        (void)!write(l->fd, &one, sizeof(one)); /* cannot fail: the counter is 0 or 1 */
        return NULL;
}

int loader_start(struct loader *l, const struct models *previous, struct err *e)
{
        int r;

        if (l->running) {
                l->again = true;
                return 0;
        }
        l->previous = previous;
        l->result = NULL;
        r = pthread_create(&l->thread, NULL, load, l);
        if (r != 0)
                return err_set(e, -r, "cannot start a thread to load models: %s", strerror(r));
        l->running = true;
        return 0;
}

int loader_finish(struct loader *l, struct models **ret, bool *ret_again, struct err *e)
{
        uint64_t n;

        if (!l->running || read(l->fd, &n, sizeof(n)) < 0)
                return 0;
        (void)pthread_join(l->thread, NULL);
        l->running = false;
        *ret_again = l->again;
        l->again = false;
        if (l->status < 0)
                return err_set(e, l->status, "%s", l->error.text);
        *ret = TAKE(l->result);
        return 1;
}

void loader_done(struct loader *l)
{
        if (l->running)
                (void)pthread_join(l->thread, NULL);
        l->running = false;
        models_free(TAKE(l->result));
        if (l->fd >= 0)
                (void)close(TAKE_FD(l->fd));
}
