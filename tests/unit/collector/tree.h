/* SPDX-License-Identifier: Apache-2.0 */
/* A tree of small files in a temporary directory, in place of /sys. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "common/file.h"

#define TREE_PATH_MAX 512

static char tree[64];

static inline int tree_set_up(void **state)
{
        (void)state;
        (void)snprintf(tree, sizeof(tree), "/tmp/wattloop-tree.XXXXXX");
        if (!mkdtemp(tree))
                return -1;
        return chmod(tree, 0755);
}

static inline int tree_tear_down(void **state)
{
        (void)state;
        return file_remove_tree(tree, NULL);
}

static inline const char *tree_path(const char *name)
{
        static char path[TREE_PATH_MAX + sizeof(tree) + 1];

        (void)snprintf(path, sizeof(path), "%s/%s", tree, name);
        return path;
}

/* Writes a file, and the directories above it. */
static inline void tree_write(const char *name, const char *text)
{
        char dir[TREE_PATH_MAX + sizeof(tree) + 1];
        struct err e = { 0 };

        (void)snprintf(dir, sizeof(dir), "%s", tree_path(name));
        *strrchr(dir, '/') = '\0';
        if (file_mkdirs(dir, 0755, &e) < 0)
                fail_msg("%s", e.text);
        if (file_write_atomic(tree_path(name), text, strlen(text), 0644, &e) < 0)
                fail_msg("%s", e.text);
}

static inline void tree_write_number(const char *name, unsigned long long v)
{
        char text[32];

        (void)snprintf(text, sizeof(text), "%llu\n", v);
        tree_write(name, text);
}
