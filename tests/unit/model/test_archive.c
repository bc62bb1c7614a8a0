/* SPDX-License-Identifier: Apache-2.0 */
#include "model/model.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "common/file.h"

/* ---- a zip by hand, so that it can say what libarchive would never write ---- */

static unsigned long crc32_of(const char *data)
{
        unsigned long crc = 0xffffffff;

        for (; *data; data++) {
                crc ^= (unsigned char)*data;
                for (int bit = 0; bit < 8; bit++)
                        crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
        }
        return crc ^ 0xffffffff;
}

struct member {
        const char *name;
        const char *data;
        unsigned int mode;   /* unix mode in the central directory; 0: 0100644 */
        unsigned int method; /* 0 stored */
        unsigned int flags;
        int crc_off;
};

static void put16(struct buf *b, unsigned int v)
{
        unsigned char c[2] = { (unsigned char)v, (unsigned char)(v >> 8) };

        assert_int_equal(buf_append(b, c, 2), 0);
}

static void put32(struct buf *b, unsigned long v)
{
        put16(b, (unsigned int)(v & 0xffff));
        put16(b, (unsigned int)(v >> 16 & 0xffff));
}

static void put_common(struct buf *b, const struct member *m)
{
        size_t n = strlen(m->data);

        put16(b, 20);
        put16(b, m->flags);
        put16(b, m->method);
        put32(b, 0x00210000);
        put32(b, crc32_of(m->data) + (unsigned int)m->crc_off);
        put32(b, n);
        put32(b, n);
        put16(b, (unsigned int)strlen(m->name));
        put16(b, 0);
}

static void make_zip(struct buf *b, const struct member *members, size_t n)
{
        size_t offsets[128], start;

        for (size_t i = 0; i < n; i++) {
                offsets[i] = b->size;
                put32(b, 0x04034b50);
                put_common(b, &members[i]);
                assert_int_equal(buf_puts(b, members[i].name), 0);
                assert_int_equal(buf_puts(b, members[i].data), 0);
        }
        start = b->size;
        for (size_t i = 0; i < n; i++) {
                put32(b, 0x02014b50);
                put16(b, 3 << 8 | 20); /* made on unix */
                put_common(b, &members[i]);
                put16(b, 0);
                put16(b, 0);
                put16(b, 0);
                put32(b, (unsigned long)(members[i].mode ? members[i].mode : 0100644) << 16);
                put32(b, offsets[i]);
                assert_int_equal(buf_puts(b, members[i].name), 0);
        }
        put32(b, 0x06054b50);
        put32(b, 0);
        put16(b, (unsigned int)n);
        put16(b, (unsigned int)n);
        put32(b, b->size - start - 12);
        put32(b, start);
        put16(b, 0);
}

static int unpack(const struct member *members, size_t n, struct model_archive **ret, struct err *e)
{
        CLEANUP(buf_done) struct buf b;

        buf_init(&b, 1 << 20);
        make_zip(&b, members, n);
        return model_archive_unpack(b.data, b.size, ret, e);
}

static void a_plain_zip_is_unpacked(void **state)
{
        static const struct member members[] = { { .name = "metadata.json", .data = "{}" },
                                                 { .name = "weight.json", .data = "" } };
        CLEANUP(model_archive_freep) struct model_archive *a = NULL;
        struct err e = { 0 };

        (void)state;
        if (unpack(members, 2, &a, &e) < 0)
                fail_msg("%s", e.text);
        assert_int_equal(a->n, 2);
        assert_string_equal(model_archive_find(a, "metadata.json")->data, "{}");
        assert_int_equal(model_archive_find(a, "weight.json")->size, 0);
        assert_string_equal(model_archive_find(a, "weight.json")->data, "");
        assert_null(model_archive_find(a, "x"));
}

static void hostile_entries_are_refused(void **state)
{
        static const struct {
                struct member m;
                const char *words;
        } cases[] = {
                { { .name = "../weight.json", .data = "x" }, "begins with a dot" },
                { { .name = "..", .data = "x" }, "begins with a dot" },
                { { .name = ".hidden", .data = "x" }, "begins with a dot" },
                { { .name = "/etc/passwd", .data = "x" }, "not a plain file name" },
                { { .name = "a/b.json", .data = "x" }, "not a plain file name" },
                { { .name = "a/../../b", .data = "x" }, "not a plain file name" },
                { { .name = "a\\b.json", .data = "x" }, "not a plain file name" },
                { { .name = "a\nb", .data = "x" }, "not a plain file name" },
                { { .name = "\xc3\xa9", .data = "x" }, "name" },
                { { .name = "", .data = "x" }, "name" },
                { { .name = "dir/", .data = "" }, "regular file" },
                { { .name = "link", .data = "/etc/passwd", .mode = 0120777 }, "regular file" },
                { { .name = "socket", .data = "", .mode = 0140644 }, "regular file" },
                { { .name = "device", .data = "", .mode = 0020644 }, "regular file" },
                { { .name = "secret", .data = "xxxxxxxxxxxxxxxx", .flags = 1 }, "" },
                { { .name = "lzma", .data = "xxxxxxxxxxxxxxxx", .method = 14 }, "not allowed" },
                { { .name = "damaged", .data = "xxxx", .crc_off = 1 }, "CRC" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                const struct member members[] = { { .name = "metadata.json", .data = "{}" }, cases[i].m };
                CLEANUP(model_archive_freep) struct model_archive *a = NULL;
                struct err e = { 0 };

                if (unpack(members, 2, &a, &e) != -EBADMSG || !strstr(e.text, cases[i].words))
                        fail_msg("case %zu: '%s'", i, e.text);
                assert_null(a);
        }
}

static void one_directory_that_all_share_is_not_part_of_the_names(void **state)
{
        static const struct {
                struct member members[3];
                const char *words; /* NULL: unpacked */
        } cases[] = {
                { { { .name = "m/", .data = "", .mode = 0040755 }, { .name = "m/weight.json", .data = "x" } },
                  NULL },
                { { { .name = "m/weight.json", .data = "x" } }, NULL },
                { { { .name = "m/weight.json", .data = "x" }, { .name = "n/a", .data = "x" } },
                  "as the others are" },
                { { { .name = "m/weight.json", .data = "x" }, { .name = "a", .data = "x" } },
                  "as the others are" },
                { { { .name = "m/weight.json", .data = "x" }, { .name = "m/../a", .data = "x" } }, "a dot" },
                { { { .name = "m/weight.json", .data = "x" }, { .name = "m/n/a", .data = "x" } }, "plain" },
                { { { .name = "m/weight.json", .data = "x" }, { .name = "m/weight.json", .data = "y" } },
                  "twice" },
                { { { .name = "../weight.json", .data = "x" } }, "a dot" },
                { { { .name = "/weight.json", .data = "x" } }, "plain" },
                { { { .name = "m/", .data = "", .mode = 0040755 } }, "no entries" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                CLEANUP(model_archive_freep) struct model_archive *a = NULL;
                struct err e = { 0 };
                size_t n = 0;
                int r;

                while (n < 3 && cases[i].members[n].name)
                        n++;
                r = unpack(cases[i].members, n, &a, &e);
                if (cases[i].words ? r != -EBADMSG || !strstr(e.text, cases[i].words)
                                   : r != 0 || a->n != 1 || !model_archive_find(a, "weight.json"))
                        fail_msg("case %zu: %d '%s'", i, r, e.text);
        }
}

static void what_is_too_much_for_its_size_is_refused(void **state)
{
        CLEANUP(model_archive_freep) struct model_archive *a = calloc(1, sizeof(*a)), *back = NULL;
        CLEANUP(buf_done) struct buf zip;
        struct err e = { 0 };

        (void)state;
        assert_non_null(a);
        a->n = 1;
        (void)snprintf(a->entries[0].name, sizeof(a->entries[0].name), "zeros");
        a->entries[0].size = MODEL_UNPACKED_MAX / 4;
        a->entries[0].data = calloc(1, a->entries[0].size + 1);
        assert_non_null(a->entries[0].data);
        buf_init(&zip, MODEL_ARCHIVE_MAX);
        assert_int_equal(model_archive_pack(a, &zip, &e), 0);
        assert_true(zip.size * MODEL_RATIO_MAX < a->entries[0].size);
        assert_int_equal(model_archive_unpack(zip.data, zip.size, &back, &e), -E2BIG);
        assert_non_null(strstr(e.text, "too much for its size"));
}

static void a_name_twice_is_refused(void **state)
{
        static const struct member members[] = { { .name = "weight.json", .data = "1" },
                                                 { .name = "weight.json", .data = "2" } };
        CLEANUP(model_archive_freep) struct model_archive *a = NULL;
        struct err e = { 0 };

        (void)state;
        assert_int_equal(unpack(members, 2, &a, &e), -EBADMSG);
        assert_non_null(strstr(e.text, "twice"));
}

static void too_many_entries_and_long_names_are_refused(void **state)
{
        CLEANUP(model_archive_freep) struct model_archive *a = NULL;
        struct member members[MODEL_ENTRIES_MAX + 1];
        char names[MODEL_ENTRIES_MAX + 1][16], longest[MODEL_ENTRY_NAME_MAX + 1];
        struct err e = { 0 };

        (void)state;
        for (size_t i = 0; i <= MODEL_ENTRIES_MAX; i++) {
                (void)snprintf(names[i], sizeof(names[i]), "f%zu", i);
                members[i] = (struct member){ .name = names[i], .data = "" };
        }
        assert_int_equal(unpack(members, MODEL_ENTRIES_MAX + 1, &a, &e), -E2BIG);
        assert_int_equal(unpack(members, MODEL_ENTRIES_MAX, &a, &e), 0);
        model_archive_free(TAKE(a));

        memset(longest, 'n', sizeof(longest));
        longest[MODEL_ENTRY_NAME_MAX] = '\0';
        members[0].name = longest;
        assert_int_equal(unpack(members, 1, &a, &e), -EBADMSG);
        longest[MODEL_ENTRY_NAME_MAX - 1] = '\0';
        assert_int_equal(unpack(members, 1, &a, &e), 0);
}

static struct model_archive *sample(void)
{
        struct model_archive *a = calloc(1, sizeof(*a));

        assert_non_null(a);
        a->n = 3;
        (void)snprintf(a->entries[0].name, sizeof(a->entries[0].name), "weight.json");
        a->entries[0].data = strdup("{\"package\": 1}");
        (void)snprintf(a->entries[1].name, sizeof(a->entries[1].name), "metadata.json");
        a->entries[1].data = strdup("{\"model_class\": \"weight\", \"model_class2\": \"weight\"}");
        (void)snprintf(a->entries[2].name, sizeof(a->entries[2].name), "a.json");
        a->entries[2].data = strdup("");
        for (size_t i = 0; i < a->n; i++)
                a->entries[i].size = strlen(a->entries[i].data);
        return a;
}

static void packing_is_deterministic_and_comes_back(void **state)
{
        CLEANUP(model_archive_freep) struct model_archive *a = sample(), *back = NULL;
        CLEANUP(buf_done) struct buf one, two;
        char id[65], id_back[65];
        struct err e = { 0 };

        (void)state;
        buf_init(&one, MODEL_ARCHIVE_MAX);
        buf_init(&two, MODEL_ARCHIVE_MAX);
        assert_int_equal(setenv("TZ", "UTC", 1), 0);
        if (model_archive_pack(a, &one, &e) < 0)
                fail_msg("%s", e.text);
        assert_int_equal(setenv("TZ", "Pacific/Auckland", 1), 0);
        assert_int_equal(model_archive_pack(a, &two, &e), 0);
        assert_int_equal(one.size, two.size);
        assert_memory_equal(one.data, two.data, one.size);

        if (model_archive_unpack(one.data, one.size, &back, &e) < 0)
                fail_msg("%s", e.text);
        assert_int_equal(back->n, 3);
        assert_string_equal(back->entries[0].name, "a.json"); /* sorted */
        assert_int_equal(model_archive_id(a, id), 0);
        assert_int_equal(model_archive_id(back, id_back), 0);
        assert_string_equal(id, id_back);
}

static void an_archive_cut_anywhere_is_refused(void **state)
{
        CLEANUP(model_archive_freep) struct model_archive *a = sample();
        CLEANUP(buf_done) struct buf whole;
        struct err e = { 0 };

        (void)state;
        buf_init(&whole, MODEL_ARCHIVE_MAX);
        assert_int_equal(model_archive_pack(a, &whole, &e), 0);
        for (size_t n = 0; n < whole.size; n++) {
                CLEANUP(model_archive_freep) struct model_archive *cut = NULL;

                if (model_archive_unpack(whole.data, n, &cut, &e) == 0)
                        fail_msg("%zu of %zu bytes pass", n, whole.size);
        }
}

static void a_flipped_byte_never_passes_as_other_content(void **state)
{
        CLEANUP(model_archive_freep) struct model_archive *a = sample();
        CLEANUP(buf_done) struct buf whole;
        char id[65], other[65];
        struct err e = { 0 };

        (void)state;
        buf_init(&whole, MODEL_ARCHIVE_MAX);
        assert_int_equal(model_archive_pack(a, &whole, &e), 0);
        assert_int_equal(model_archive_id(a, id), 0);
        for (size_t i = 0; i < whole.size; i++) {
                CLEANUP(model_archive_freep) struct model_archive *flipped = NULL;

                whole.data[i] ^= 0x20;
                if (model_archive_unpack(whole.data, whole.size, &flipped, &e) == 0) {
                        assert_int_equal(model_archive_id(flipped, other), 0);
                        for (size_t n = 0; n < flipped->n;
                             n++) { /* a name may have changed, content may not */
                                const struct model_entry *known =
                                        model_archive_find(a, flipped->entries[n].name);

                                if (known && known->size > 0 && flipped->entries[n].size > 0)
                                        assert_memory_equal(known->data, flipped->entries[n].data,
                                                            known->size);
                        }
                }
                whole.data[i] ^= 0x20;
        }
}

static void a_bomb_ends_at_the_limit(void **state)
{
        CLEANUP(model_archive_freep) struct model_archive *a = calloc(1, sizeof(*a)), *back = NULL;
        CLEANUP(buf_done) struct buf zip;
        struct err e = { 0 };

        (void)state;
        assert_non_null(a);
        a->n = 5; /* each well below the limit, together above it, and tiny when packed */
        for (size_t i = 0; i < a->n; i++) {
                (void)snprintf(a->entries[i].name, sizeof(a->entries[i].name), "zeros%zu", i);
                a->entries[i].size = MODEL_UNPACKED_MAX / 4;
                a->entries[i].data = calloc(1, a->entries[i].size + 1);
                assert_non_null(a->entries[i].data);
        }
        buf_init(&zip, MODEL_ARCHIVE_MAX);
        assert_int_equal(model_archive_pack(a, &zip, &e), 0);
        assert_true(zip.size < MODEL_UNPACKED_MAX / 100);
        assert_int_equal(model_archive_unpack(zip.data, zip.size, &back, &e), -E2BIG);
        assert_non_null(strstr(e.text, "unpacks to more"));
}

static void nothing_and_too_much_are_refused(void **state)
{
        CLEANUP(model_archive_freep) struct model_archive *a = NULL;
        struct err e = { 0 };

        (void)state;
        assert_int_equal(model_archive_unpack("", 0, &a, &e), -EBADMSG);
        assert_int_equal(model_archive_unpack("hello", 5, &a, &e), -EBADMSG);
        assert_int_equal(unpack(NULL, 0, &a, &e), -EBADMSG);
        assert_int_equal(model_archive_unpack("", MODEL_ARCHIVE_MAX + 1, &a, &e), -E2BIG);
}

/* ---- directories ---- */

static void write_in(const char *dir, const char *name, const char *text)
{
        char path[256];

        assert_int_equal(path_join(path, sizeof(path), dir, name), 0);
        assert_int_equal(file_write_atomic(path, text, strlen(text), 0644, NULL), 0);
}

static void a_directory_is_read_without_its_note(void **state)
{
        CLEANUP(model_archive_freep) struct model_archive *a = NULL, *empty = NULL, *linked = NULL;
        char dir[] = "/tmp/wattloop-test-XXXXXX", path[256];
        struct err e = { 0 };

        (void)state;
        assert_non_null(mkdtemp(dir));
        assert_int_equal(model_archive_read_dir(dir, &empty, &e), -ENOENT);
        write_in(dir, "wattloop.json", "{}");
        write_in(dir, "weight.json", "{\"a\": 1}");
        write_in(dir, "metadata.json", "{}");
        if (model_archive_read_dir(dir, &a, &e) < 0)
                fail_msg("%s", e.text);
        assert_int_equal(a->n, 2);
        assert_null(model_archive_find(a, "wattloop.json"));
        assert_string_equal(model_archive_find(a, "weight.json")->data, "{\"a\": 1}");

        (void)snprintf(path, sizeof(path), "%s/core.json", dir);
        assert_int_equal(symlink("/etc/passwd", path), 0);
        assert_true(model_archive_read_dir(dir, &linked, &e) < 0);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(mkfifo(path, 0600), 0);
        assert_int_equal(model_archive_read_dir(dir, &linked, &e), -EBADMSG);
        assert_int_equal(file_remove_tree(dir, NULL), 0);
        assert_int_equal(model_archive_read_dir(dir, &linked, &e), -ENOENT);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_plain_zip_is_unpacked),
                cmocka_unit_test(hostile_entries_are_refused),
                cmocka_unit_test(a_name_twice_is_refused),
                cmocka_unit_test(too_many_entries_and_long_names_are_refused),
                cmocka_unit_test(packing_is_deterministic_and_comes_back),
                cmocka_unit_test(an_archive_cut_anywhere_is_refused),
                cmocka_unit_test(a_flipped_byte_never_passes_as_other_content),
                cmocka_unit_test(a_bomb_ends_at_the_limit),
                cmocka_unit_test(one_directory_that_all_share_is_not_part_of_the_names),
                cmocka_unit_test(what_is_too_much_for_its_size_is_refused),
                cmocka_unit_test(nothing_and_too_much_are_refused),
                cmocka_unit_test(a_directory_is_read_without_its_note),
        };

        return cmocka_run_group_tests_name("model/archive", tests, NULL, NULL);
}
