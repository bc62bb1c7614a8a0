/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/cpu_info.h"

#include <limits.h>
#include <string.h>
#include "common/buf.h"
#include "common/cleanup.h"
#include "common/file.h"
#include "common/prom.h"

#define CPUINFO_MAX ((size_t)8 << 20) /* 1024 processors with all their flags are 2 MB */
#define TEXT_MAX    ((size_t)1 << 20)

/* The labels, in the order of the alphabet, and what /proc/cpuinfo calls them. */
static const char *const names[][2] = { { "core_id", "core id" },
                                        { "model_name", "model name" },
                                        { "physical_id", "physical id" },
                                        { "processor", "processor" },
                                        { "vendor_id", "vendor_id" } };

static void write_processor(struct buf *out, const char *values[ARRAY_SIZE(names)])
{
        struct prom_label labels[ARRAY_SIZE(names) + 1] = { 0 };

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                labels[i] = (struct prom_label){ names[i][0], values[i] ? values[i] : "" };
                values[i] = NULL;
        }
        prom_sample(out, "kepler_node_cpu_info", labels, 1);
}

/* "model name\t: Acme Z1" */
static void take_line(char *line, const char *values[ARRAY_SIZE(names)])
{
        char *colon = strchr(line, ':');
        size_t n;

        if (!colon)
                return;
        n = strcspn(line, "\t:");
        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                if (strlen(names[i][1]) == n && !memcmp(line, names[i][1], n))
                        values[i] = colon[1] == ' ' ? colon + 2 : colon + 1;
}

char *cpu_info_text(const char *procfs_root)
{
        const char *values[ARRAY_SIZE(names)] = { 0 };
        CLEANUP(buf_done) struct buf text;
        char path[PATH_MAX], *line;
        struct buf out;

        buf_init(&text, CPUINFO_MAX);
        if (path_join(path, sizeof(path), procfs_root, "cpuinfo") < 0 || file_read(path, &text, NULL) < 0 ||
            !text.data)
                return NULL;
        buf_init(&out, TEXT_MAX);
        for (char *rest = text.data; (line = strsep(&rest, "\n"));) {
                if (!strncmp(line, "processor\t", 10) && values[3])
                        write_processor(&out, values);
                take_line(line, values);
        }
        if (values[3])
                write_processor(&out, values);
        if (out.failed)
                buf_done(&out);
        return out.data;
}
