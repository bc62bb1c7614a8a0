/* SPDX-License-Identifier: Apache-2.0 */
#include "model-server/learn/score.h"

#include <errno.h>
#include <string.h>

#include "model-server/learn/blob.h"

#define BLOB_MAGIC UINT64_C(0x5243534c57) /* "WLSCR" */
#define KIND_NAME  64

const char *score_kind_name(int kind)
{
        return kind == SCORE_ONLINE ? "online" : kind < (int)fitters_n ? fitters[kind].name : NULL;
}

static int kind_find(const char *name)
{
        for (int k = 0; k < SCORE_KINDS_MAX; k++)
                if (score_kind_name(k) && !strcmp(score_kind_name(k), name))
                        return k;
        return -1;
}

/* Magic, last_ms, then (kind's name in KIND_NAME bytes, group, component, mean) for each mean that has rows.
 */
int score_write(const struct score *s, struct buf *out)
{
        blob_write_u64(out, BLOB_MAGIC);
        blob_write_u64(out, (uint64_t)s->last_ms);
        for (int k = 0; k < SCORE_KINDS_MAX; k++)
                for (int g = 0; g < GROUPS_MAX; g++)
                        for (int c = 0; c < COMPONENT_N; c++) {
                                const struct mean *m = &s->cells[k][g][c];
                                char name[KIND_NAME] = { 0 };

                                if (!m->n)
                                        continue;
                                (void)snprintf(name, sizeof(name), "%s", score_kind_name(k));
                                (void)buf_append(out, name, sizeof(name)); /* failure is sticky */
                                blob_write_u64(out, (uint64_t)g);
                                blob_write_u64(out, (uint64_t)c);
                                blob_write_u64(out, m->n);
                                blob_write_double(out, m->sum);
                                blob_write_double(out, m->recent);
                        }
        return out->failed;
}

int score_read(const void *data, size_t size, struct score *ret, struct err *e)
{
        struct blob b = { data, size, false };

        if (blob_read_u64(&b) != BLOB_MAGIC)
                return err_set(e, -EBADMSG, "not a node's scores");
        ret->last_ms = (int64_t)blob_read_u64(&b);
        while (b.left && !b.bad) {
                char name[KIND_NAME + 1] = { 0 };
                uint64_t group, component;
                struct mean m;
                int kind;

                if (b.left < KIND_NAME)
                        return err_set(e, -EBADMSG, "a node's scores are damaged");
                memcpy(name, b.data, KIND_NAME);
                b.data += KIND_NAME;
                b.left -= KIND_NAME;
                kind = kind_find(name);
                group = blob_read_u64(&b);
                component = blob_read_u64(&b);
                m.n = blob_read_u64(&b);
                m.sum = blob_read_double(&b);
                m.recent = blob_read_double(&b);
                if (kind >= 0 && group < GROUPS_MAX && component < COMPONENT_N)
                        ret->cells[kind][group][component] = m;
        }
        return b.bad ? err_set(e, -EBADMSG, "a node's scores are damaged") : 0;
}
