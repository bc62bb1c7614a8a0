/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a configuration file: loads, or fails with words; what loads and is printed loads again. */
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "config/option.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct options {
        bool flag;
        long long number, duration, size;
        double real;
        char *text;
        int word;
        struct string_list list;
};

static const char *const words[] = { "one", "two", NULL };
static const struct option table[] = {
        { "a.flag", OPTION_BOOL, offsetof(struct options, flag), "false", 0, 0, NULL, "h" },
        { "a.number", OPTION_INT, offsetof(struct options, number), "1", -5, 500, NULL, "h" },
        { "a.b.duration", OPTION_DURATION, offsetof(struct options, duration), "1s", 0, 0, NULL, "h" },
        { "a.b.size", OPTION_SIZE, offsetof(struct options, size), "1KiB", 0, 0, NULL, "h" },
        { "real", OPTION_DOUBLE, offsetof(struct options, real), "1.5", 0, 0, NULL, "h" },
        { "text", OPTION_STRING, offsetof(struct options, text), "", 0, 0, NULL, "h" },
        { "word", OPTION_ENUM, offsetof(struct options, word), "one", 0, 0, words, "h" },
        { "list", OPTION_LIST, offsetof(struct options, list), "", 0, 0, NULL, "h" },
        { 0 },
};

/* Loads the bytes through a file in memory. */
static int load(const void *data, size_t size, struct options *o)
{
        CLEANUP(closep) int fd = memfd_create("config", MFD_CLOEXEC);
        struct err e = { 0 };
        char path[64];
        int r;

        *o = (struct options){ 0 };
        if (fd < 0 || write(fd, data, size) != (ssize_t)size)
                abort();
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        if (options_set_defaults(table, o, &e) < 0)
                abort();
        r = options_load_yaml(table, path, o, &e);
        if (r < 0 && !e.text[0])
                abort();
        return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        CLEANUP(freep) char *printed = NULL;
        struct options o, again;
        size_t printed_size;

        if (load(data, size, &o) == 0) {
                FILE *out = open_memstream(&printed, &printed_size);

                options_print(table, &o, out);
                (void)fclose(out);
                if (load(printed, printed_size, &again) < 0)
                        abort();
                options_done(table, &again);
        }
        options_done(table, &o);
        return 0;
}
