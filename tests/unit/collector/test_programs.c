/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels that lack things: each is left out by itself, its feature is not measured, and that is told. What
 * this kernel has is taken away one by one. Needs root, BTF and permission for BPF; else skipped. */
#include "features_real.h"

#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include "collector/programs.h"

#define OPS (&feature_source_bpf)

static const char *missing_tracepoint; /* NULL: none */
static int refusals;                   /* of loading: a program that this kernel's verifier does not take */
static const char *refused_program;
static bool without_storage; /* the kernel knows no such map */

__s32 __real_btf__find_by_name_kind(const struct btf *btf, const char *name, __u32 kind);
__s32 __wrap_btf__find_by_name_kind(const struct btf *btf, const char *name, __u32 kind);
__s32 __wrap_btf__find_by_name_kind(const struct btf *btf, const char *name, __u32 kind)
{
        if (missing_tracepoint && strstr(name, "btf_trace_") &&
            !strcmp(name + strlen("btf_trace_"), missing_tracepoint))
                return -ENOENT;
        return __real_btf__find_by_name_kind(btf, name, kind);
}

/* A refusal as the kernel's: of the whole object in which the program is to be loaded. */
int __real_bpf_object__load_skeleton(struct bpf_object_skeleton *s);
int __wrap_bpf_object__load_skeleton(struct bpf_object_skeleton *s);
int __wrap_bpf_object__load_skeleton(struct bpf_object_skeleton *s)
{
        for (int i = 0; refused_program && i < s->prog_cnt; i++)
                if (bpf_program__autoload(*s->progs[i].prog) && !strcmp(s->progs[i].name, refused_program)) {
                        refusals++;
                        errno = EINVAL;
                        return -EINVAL;
                }
        for (int i = 0; without_storage && i < s->map_cnt; i++)
                if (bpf_map__autocreate(*s->maps[i].map) && !strcmp(s->maps[i].name, "counts"))
                        return -EINVAL;
        return __real_bpf_object__load_skeleton(s);
}

static const struct {
        const char *tracepoint, *program;
        enum feature_id feature;
        const char *what;
} lacks[] = {
        { "softirq_entry", "count_softirq", FEATURE_NET_RX_IRQ, "softirqs" },
        { "mm_filemap_get_pages", "count_reads", FEATURE_PAGE_CACHE_READ, "page cache reads" },
        { "mm_filemap_add_to_page_cache", "count_adds", FEATURE_PAGE_CACHE_ADDED,
          "pages added to the page cache" },
        { "sched_switch", "count_cycles", FEATURE_CPU_CYCLES, "hardware counters" },
        { "sched_process_exit", "hand_over", FEATURE_N, "what ended threads wrote" },
        { "sched_process_free", "record_death", FEATURE_N,
          "what a process did between the last sample and its end" },
};

static struct feature_source *open_or_skip(struct feature_notes *notes)
{
        struct feature_source_options options = real_options;
        struct feature_source *s = NULL;
        struct err e = { "" };

        notes->n = 0;
        options.notes = notes;
        options.counters = COUNTERS_SOFTWARE;
        if (OPS->open(&options, &s, &e) < 0) {
                print_message("bpf cannot be used here: %s\n", e.text);
                skip();
        }
        return s;
}

static bool noted(const struct feature_notes *notes, const char *what)
{
        for (size_t i = 0; i < notes->n; i++)
                if (!strcmp(notes->items[i].what, what))
                        return true;
        return false;
}

/* All else goes on. */
static void check_lack(size_t i, const bool all[FEATURE_N], const char *why)
{
        struct usage_set set = { 0 };
        struct feature_notes notes;
        struct feature_source *s = open_or_skip(&notes);

        assert_int_equal(OPS->read(s, &set, NULL), 0);
        (void)usleep(100000);
        assert_int_equal(OPS->read(s, &set, NULL), 0);
        assert_true(sum_delta(&set, FEATURE_CPU_TIME) > 0);
        assert_true(noted(&notes, lacks[i].what));
        assert_non_null(strstr(notes.items[notes.n - 1].why, why));
        for (enum feature_id f = 0; f < FEATURE_N; f++) {
                bool lost = f == lacks[i].feature ||
                            (lacks[i].feature == FEATURE_NET_RX_IRQ &&
                             (f == FEATURE_NET_TX_IRQ || f == FEATURE_BLOCK_IRQ)) ||
                            (lacks[i].feature == FEATURE_CPU_CYCLES &&
                             (f == FEATURE_CPU_INSTRUCTIONS || f == FEATURE_CACHE_MISS));

                if (OPS->measures(s, f) != (all[f] && !lost))
                        fail_msg("without %s (%s): %s is %smeasured", lacks[i].what,
                                 refused_program ? "refused" : "missing", features[f].column,
                                 lost ? "" : "not ");
        }
        usage_set_done(&set);
        OPS->close(s);
}

static void what_the_kernel_lacks_or_refuses_is_left_out_alone(void **state)
{
        bool all[FEATURE_N];
        struct feature_notes notes;
        struct feature_source *s;

        (void)state;
        s = open_or_skip(&notes);
        for (enum feature_id f = 0; f < FEATURE_N; f++)
                all[f] = OPS->measures(s, f);
        OPS->close(s);
        for (size_t i = 0; i < ARRAY_SIZE(lacks); i++) {
                if (noted(&notes, lacks[i].what))
                        continue; /* this kernel lacks it anyway */
                refused_program = lacks[i].program;
                refusals = 0;
                check_lack(i, all, "this kernel refuses it");
                missing_tracepoint = lacks[i].tracepoint;
                check_lack(i, all, "this kernel has no such tracepoint");
                missing_tracepoint = refused_program = NULL;
                assert_true(refusals > 0);
        }
}

/* Linux 5.8 to 5.12. */
static void without_task_storage_cpu_time_and_writes_are_left(void **state)
{
        struct usage_set set = { 0 };
        struct feature_notes notes;
        struct feature_source *s;

        (void)state;
        without_storage = true;
        s = open_or_skip(&notes);
        without_storage = false;
        assert_true(noted(&notes, "task storage"));
        for (enum feature_id f = 0; f < FEATURE_N; f++)
                if (f != FEATURE_CPU_TIME && f != FEATURE_PAGE_CACHE)
                        assert_false(OPS->measures(s, f));
        assert_int_equal(OPS->read(s, &set, NULL), 0);
        (void)usleep(100000);
        assert_int_equal(OPS->read(s, &set, NULL), 0);
        assert_true(sum_delta(&set, FEATURE_CPU_TIME) > 0);
        assert_int_equal(sum_delta(&set, FEATURE_NET_RX_IRQ), 0);
        usage_set_done(&set);
        OPS->close(s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(without_task_storage_cpu_time_and_writes_are_left),
                cmocka_unit_test(what_the_kernel_lacks_or_refuses_is_left_out_alone),
        };

        return cmocka_run_group_tests_name("programs", tests, NULL, NULL);
}
