/* SPDX-License-Identifier: Apache-2.0 */
/* Every complaint about a configuration file, word for word with its line and column. */
#include "config/option.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "common/file.h"

struct options {
        bool enabled;
        long long count, interval_ms, size_bytes;
        double weight;
        char *name;
        int mode;
        struct string_list sources;
};

static const char *const modes[] = { "ratio", "model", NULL };
static const char *const source_names[] = { "rapl", "acpi", "estimate", NULL };
static const struct option table[] = {
        { "sampling.interval", OPTION_DURATION, offsetof(struct options, interval_ms), "3s", 100, 3600000,
          NULL, "Time between samples." },
        { "sampling.enabled", OPTION_BOOL, offsetof(struct options, enabled), "true", 0, 0, NULL,
          "Sample at all." },
        { "store.size_max", OPTION_SIZE, offsetof(struct options, size_bytes), "64MiB", 4096, 1099511627776.0,
          NULL, "Largest size." },
        { "store.count", OPTION_INT, offsetof(struct options, count), "10", 1, 100, NULL, "How many." },
        { "weight", OPTION_DOUBLE, offsetof(struct options, weight), "0.5", -1, 1, NULL, "A weight." },
        { "name", OPTION_STRING, offsetof(struct options, name), "", 0, 0, NULL, "A name." },
        { "mode", OPTION_ENUM, offsetof(struct options, mode), "ratio", 0, 0, modes, "A mode." },
        { "power.sources", OPTION_LIST, offsetof(struct options, sources), "rapl,acpi", 0, 0, source_names,
          "Sources." },
        { 0 },
};

static char path[64];

static int set_up(void **state)
{
        int fd;

        (void)state;
        snprintf(path, sizeof(path), "/tmp/wattloop-yaml.XXXXXX");
        fd = mkstemp(path);
        return fd < 0 ? -1 : close(fd);
}

static int tear_down(void **state)
{
        (void)state;
        return unlink(path);
}

static int load(const char *text, size_t size, struct options *o, struct err *e)
{
        int r;

        memset(o, 0, sizeof(*o));
        assert_int_equal(file_write_atomic(path, text, size, 0644, e), 0);
        assert_int_equal(options_set_defaults(table, o, e), 0);
        r = options_load_yaml(table, path, o, e);
        if (r < 0)
                options_done(table, o);
        return r;
}

/* Loading fails with "<path>:<words>". */
static void assert_refused(const char *text, const char *words)
{
        struct options o;
        struct err e = { 0 };

        assert_int_equal(load(text, strlen(text), &o, &e), -EINVAL);
        assert_memory_equal(e.text, path, strlen(path));
        assert_string_equal(e.text + strlen(path), words);
}

static void nested_maps_are_dotted_keys(void **state)
{
        static const char text[] = "# comment\n"
                                   "sampling:\n  interval: 500ms\n  enabled: false\n"
                                   "store: { size_max: 2GiB, count: 7 }\n"
                                   "weight: -0.25\nname: \"it's: here\"\nmode: model\n"
                                   "power:\n  sources:\n    - estimate\n    - \"rapl\"\n";
        struct options o;
        struct err e = { 0 };

        (void)state;
        assert_int_equal(load(text, strlen(text), &o, &e), 0);
        assert_int_equal(o.interval_ms, 500);
        assert_false(o.enabled);
        assert_int_equal(o.size_bytes, 2LL << 30);
        assert_int_equal(o.count, 7);
        assert_true(o.weight == -0.25);
        assert_string_equal(o.name, "it's: here");
        assert_int_equal(o.mode, 1);
        assert_int_equal(o.sources.n, 2);
        assert_true(string_list_has(&o.sources, "estimate") && !string_list_has(&o.sources, "acpi"));
        options_done(table, &o);
}

static void nothing_in_the_file_leaves_the_defaults(void **state)
{
        static const char *const texts[] = {
                "", "# only a comment\n", "---\n", "~\n", "sampling:\n", "{}\n"
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
                struct options o;
                struct err e = { 0 };

                assert_int_equal(load(texts[i], strlen(texts[i]), &o, &e), 0);
                assert_int_equal(o.interval_ms, 3000);
                assert_int_equal(o.size_bytes, 64 << 20);
                assert_true(o.enabled);
                assert_int_equal(o.sources.n, 2);
                options_done(table, &o);
        }
}

static void unknown_keys_are_named_with_the_nearest_known(void **state)
{
        (void)state;
        assert_refused("name: x\nsampling:\n  intervall: 3s\n",
                       ":3:3: unknown key 'sampling.intervall' (did you mean 'sampling.interval'?)");
        assert_refused("smapling:\n  interval: 3s\n",
                       ":1:1: unknown key 'smapling' (did you mean 'sampling'?)");
        assert_refused("store:\n    nonsense: 1\n", ":2:5: unknown key 'store.nonsense'");
        assert_refused("? [a, b]\n: 1\n", ":1:3: a key must be a plain word");
        assert_refused("x: {a: {b: {c: {d: {e: {f: 1}}}}}}\n", ":1:1: unknown key 'x'");
}

static void duplicate_keys_are_refused(void **state)
{
        (void)state;
        assert_refused("name: a\nmode: ratio\nname: b\n", ":3:1: duplicate key 'name', first on line 1");
        assert_refused("store:\n  count: 1\nname: a\nstore:\n  size_max: 1MiB\n",
                       ":4:1: duplicate key 'store', first on line 1");
        assert_refused("store:\n  count: 1\n  count: 1\n",
                       ":3:3: duplicate key 'store.count', first on line 2");
}

static void wrong_types_are_refused(void **state)
{
        (void)state;
        assert_refused("store:\n  count: many\n", ":2:10: store.count must be an integer, not 'many'");
        assert_refused("store:\n  count: \"5\"\n",
                       ":2:10: store.count must be an integer, not a quoted string");
        assert_refused("store:\n  count: 5.0\n", ":2:10: store.count must be an integer, not '5.0'");
        assert_refused("store:\n  count: [5]\n", ":2:10: store.count must be an integer, not a list");
        assert_refused("store: 5\n", ":1:8: 'store' is a group: it must be a mapping");
        assert_refused("name: {a: b}\n", ":1:7: name must be a string, not a mapping");
        assert_refused("name:\nmode: ratio\n", ":1:6: name has no value; it must be a string");
        assert_refused("weight: .nan\n", ":1:9: weight must be a number, not '.nan'");
        assert_refused("sampling: {enabled: yes}\n",
                       ":1:21: sampling.enabled must be true or false, not 'yes'");
        assert_refused(
                "sampling: {interval: 5}\n",
                ":1:22: sampling.interval must be a duration such as 500ms, 3s, 5m, 12h or 7d, not '5'");
        assert_refused("store: {size_max: 5MB}\n",
                       ":1:19: store.size_max must be a size such as 4096, 64KiB, 10MiB or 2GiB, not '5MB'");
        assert_refused("power: {sources: rapl}\n", ":1:18: power.sources must be a list: [first, second]");
        assert_refused("power: {sources: [rapl, {a: b}]}\n",
                       ":1:25: an item of power.sources must be a string");
        assert_refused("- a\n", ":1:1: the file must be a mapping of keys to values");
        assert_refused("just words\n", ":1:1: the file must be a mapping of keys to values");
}

static void values_out_of_range_are_refused(void **state)
{
        (void)state;
        assert_refused("store:\n  count: 101\n", ":2:10: '101' is out of range: store.count takes 1 to 100");
        assert_refused("sampling: {interval: 2h}\n",
                       ":1:22: '2h' is out of range: sampling.interval takes 100ms to 1h");
        assert_refused("sampling: {interval: 99999999999999999999d}\n",
                       ":1:22: '99999999999999999999d' is out of range: sampling.interval is too large");
        assert_refused("store: {size_max: 1KiB}\n",
                       ":1:19: '1KiB' is out of range: store.size_max takes 4KiB to 1TiB");
        assert_refused("weight: 1.5\n", ":1:9: '1.5' is out of range: weight takes -1 to 1");
        assert_refused("mode: other\n", ":1:7: mode does not take 'other'; choices: ratio, model");
        assert_refused("power: {sources: [rapl, bogus]}\n",
                       ":1:18: power.sources does not take 'bogus'; choices: rapl, acpi, estimate");
        assert_refused("name: \"a\\nb\"\n", ":1:7: name contains a control character");
        assert_refused("name: \"\\x85\"\n", ":1:7: name contains a control character");
        assert_refused("name: \"\\uFEFF\"\n", ":1:7: name contains a control character");
        assert_refused("name: \"a\\0b\"\n", ":1:7: name contains a NUL character");
}

static void anchors_tags_and_second_documents_are_refused(void **state)
{
        (void)state;
        assert_refused("name: &a x\n", ":1:7: anchors and aliases are not supported");
        assert_refused("name: *a\n", ":1:7: anchors and aliases are not supported");
        assert_refused("store: &s {count: 1}\n", ":1:8: anchors and aliases are not supported");
        assert_refused("name: !!str 5\n", ":1:7: tags are not supported");
        assert_refused("name: a\n---\nname: b\n", ":2:1: a second document");
}

static void broken_yaml_is_refused_with_its_place(void **state)
{
        static const char *const broken[] = { "name: [a\n",           "name: \"a\n", "a:\n\tb: 1\n",
                                              "name: a\n  mode: b\n", "%\n",         "}\n" };
        CLEANUP(freep) char *tower = malloc(50000);
        struct options o;
        struct err e = { 0 };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(broken); i++) {
                size_t line, column;

                assert_int_equal(load(broken[i], strlen(broken[i]), &o, &e), -EINVAL);
                assert_int_equal(sscanf(e.text + strlen(path), ":%zu:%zu: ", &line, &column), 2);
        }
        assert_int_equal(load("\xff\xfe\x00\xd8", 4, &o, &e), -EINVAL);
        assert_int_equal(load("name: \x80\n", 8, &o, &e), -EINVAL);
        assert_non_null(tower);
        memset(tower, '[', 50000);
        assert_int_equal(load(tower, 50000, &o, &e), -EINVAL);
        memset(tower, '{', 50000);
        assert_int_equal(load(tower, 50000, &o, &e), -EINVAL);
}

static void huge_files_and_lists_are_refused(void **state)
{
        CLEANUP(buf_done) struct buf b;
        struct options o;
        struct err e = { 0 };

        (void)state;
        buf_init(&b, 4 << 20);
        while (b.size <= 1 << 20)
                buf_puts(&b, "# a comment that fills the file\n");
        assert_int_equal(load(b.data, b.size, &o, &e), -EFBIG);
        assert_non_null(strstr(e.text, "larger than 1048576 bytes"));

        buf_clear(&b);
        buf_puts(&b, "power:\n  sources: [");
        for (int i = 0; i < 65; i++)
                buf_puts(&b, i > 0 ? ",rapl" : "rapl");
        buf_puts(&b, "]\n");
        assert_int_equal(load(b.data, b.size, &o, &e), -EINVAL);
        assert_non_null(strstr(e.text, "power.sources has more than 64 items"));

        buf_clear(&b);
        buf_puts(&b, "name: ");
        for (int i = 0; i < 5000; i++)
                buf_puts(&b, "x");
        assert_int_equal(load(b.data, b.size, &o, &e), -EINVAL);
        assert_non_null(strstr(e.text, "name is longer than 4096 bytes"));
}

static void a_missing_file_is_told_apart(void **state)
{
        struct options o = { 0 };
        struct err e = { 0 };

        (void)state;
        assert_int_equal(options_load_yaml(table, "/nonexistent/x.yaml", &o, &e), -ENOENT);
        assert_int_equal(options_load_yaml(table, "/tmp", &o, &e), -EISDIR);
}

static void what_is_printed_loads_again(void **state)
{
        static const char text[] =
                "name: 'quote \" and \\ backslash'\nsampling: {interval: 90s}\npower: {sources: []}\n"
                "weight: 0.1\nstore: {size_max: 5000}\n";
        CLEANUP(freep) char *printed = NULL;
        struct options o, back;
        struct err e = { 0 };
        size_t size;
        FILE *out = open_memstream(&printed, &size);

        (void)state;
        assert_int_equal(load(text, strlen(text), &o, &e), 0);
        options_print(table, &o, out);
        fclose(out);
        assert_non_null(strstr(printed, "sampling:\n  # Time between samples.\n  interval: 90s\n"));
        assert_non_null(strstr(printed, "  size_max: 5000\n"));
        assert_non_null(strstr(printed, "  sources: []\n"));
        assert_int_equal(load(printed, size, &back, &e), 0);
        assert_string_equal(back.name, o.name);
        assert_int_equal(back.interval_ms, 90000);
        assert_true(back.weight == 0.1);
        assert_int_equal(back.sources.n, 0);
        assert_int_equal(back.size_bytes, 5000);
        options_done(table, &o);
        options_done(table, &back);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
        const struct CMUnitTest tests[] = {
                TEST(nested_maps_are_dotted_keys),
                TEST(nothing_in_the_file_leaves_the_defaults),
                TEST(unknown_keys_are_named_with_the_nearest_known),
                TEST(duplicate_keys_are_refused),
                TEST(wrong_types_are_refused),
                TEST(values_out_of_range_are_refused),
                TEST(anchors_tags_and_second_documents_are_refused),
                TEST(broken_yaml_is_refused_with_its_place),
                TEST(huge_files_and_lists_are_refused),
                TEST(a_missing_file_is_told_apart),
                TEST(what_is_printed_loads_again),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
