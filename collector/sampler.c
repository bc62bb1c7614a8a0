/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/sampler.h"
#include "collector/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include "collector/frequency.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"

#define CLOCK_TRIES    5 /* on a machine so busy that we are interrupted each time */
#define CLOCK_APART_NS NS_PER_MS

struct sampler {
        const struct feature_source_ops *ops;
        struct feature_source *features;
        struct cgroup_table *cgroups;
        struct vm_table *vms;
        struct frequency *frequency; /* NULL: not known here */
        struct feature_notes notes;
        enum definition definition;
        struct power_set power;
        struct usage_set usage;
        const char *procfs_root; /* borrowed */
        bool measured[FEATURE_N];
        struct power_reading readings[SENSORS_MAX];
        uint64_t last_ns;               /* monotonic time of the last good read; 0: none yet */
        uint64_t guard_ns;              /* of the last look at counters in between */
        uint64_t features_ns, power_ns; /* what the last read took */
};

/* Feature sources in the order in which `auto` tries them. */
static const struct {
        enum features_choice choice;
        const struct feature_source_ops *ops;
} feature_sources[] = {
        { FEATURES_BPF, &feature_source_bpf },
        { FEATURES_PROC, &feature_source_proc },
};

/* Where cgroups and the kernel's types are: a tree of power sensors alone replaces nothing else. */
static const char *features_sysfs_root(const struct options *o)
{
        char path[PATH_MAX];

        if (path_join(path, sizeof(path), o->sysfs_root, "fs/cgroup") == 0 && access(path, F_OK) == 0)
                return o->sysfs_root;
        return "/sys";
}

static void open_frequency(struct sampler *s, const struct options *o)
{
        struct err e = { "" };

        if (frequency_open(o->sysfs_root, &s->frequency, &e) < 0)
                feature_note(&s->notes, "cpu_scaling_frequency_hertz", "%s", e.text);
        else if (!frequency_has_bands(s->frequency))
                feature_note(&s->notes, "CPU time per frequency band", "cpufreq has no statistics here");
}

static int open_features(struct sampler *s, const struct options *o, struct err *e)
{
        const struct feature_source_options options = {
                .procfs_root = o->procfs_root,
                .sysfs_root = features_sysfs_root(o),
                .vms = s->vms,
                .notes = &s->notes,
                .counters = (enum counters_choice)o->features_counters,
                .definition = (enum definition)o->features_definition,
        };
        int r = -ENOENT;

        for (size_t i = 0; i < ARRAY_SIZE(feature_sources); i++) {
                bool is_auto = o->features_source == FEATURES_AUTO,
                     last = i + 1 == ARRAY_SIZE(feature_sources);

                if (!is_auto && (int)feature_sources[i].choice != o->features_source)
                        continue;
                s->ops = feature_sources[i].ops;
                s->notes.n = 0;
                if (i > 0 && is_auto)
                        feature_note(&s->notes, "BPF", "%s", e->text);
                r = s->ops->open(&options, &s->features, e);
                if (r == 0 || !is_auto || last)
                        break;
                log_warning("features from %s cannot be used: %s; using %s instead", s->ops->name, e->text,
                            feature_sources[i + 1].ops->name);
        }
        if (r < 0)
                return err_prefix(e, r, "features from %s", s->ops ? s->ops->name : "nowhere");
        s->definition = o->features_counters == COUNTERS_SOFTWARE ? DEFINITION_SOFTWARE
                                                                  : (enum definition)o->features_definition;
        log_info("features from %s", s->ops->name);
        open_frequency(s, o);
        for (size_t i = 0; i < s->notes.n; i++)
                log_info("not measured: %s: %s", s->notes.items[i].what, s->notes.items[i].why);
        return 0;
}

static struct power_source_options power_options(const struct options *o)
{
        return (struct power_source_options){
                .sysfs_root = o->sysfs_root,
                .procfs_root = o->procfs_root,
                .msr_root = o->msr_root,
                .ipmi_device = o->ipmi_device,
                .redfish = { .url = o->redfish_url,
                             .credentials = o->redfish_credentials,
                             .ca_file = o->redfish_ca_file,
                             .verify_tls = o->redfish_verify_tls,
                             .interval_ms = o->redfish_interval_ms },
                .hwmon_use = (const char *const *)o->hwmon_use.items,
                .n_hwmon_use = o->hwmon_use.n,
                .estimator_socket = o->estimate_socket,
                .estimate_weight = o->estimate_weight,
                .estimate_energy_source = options_energy_sources[o->estimate_energy_source],
        };
}

static void tell_power(const struct power_set *set)
{
        for (size_t i = 0; i < set->n; i++) {
                const struct power_state *state = &set->states[i];

                if (state->source)
                        log_info("power from %s%s", state->ops->name,
                                 state->fallback ? ", because no sensor was found" : "");
                else if (state->result == -ENOENT)
                        log_info("no power from %s: %s", state->ops->name, state->error.text);
                else
                        log_warning("no power from %s: %s", state->ops->name, state->error.text);
        }
        if (!power_usable(set))
                log_warning("no power source: recording usage only");
}

int sampler_open(const struct options *o, struct sampler **ret, struct err *e)
{
        const struct power_source_options options = power_options(o);
        CLEANUP(sampler_closep) struct sampler *s = NULL;
        int r;

        s = calloc(1, sizeof(*s));
        if (!s)
                return err_set(e, -ENOMEM, "out of memory");
        if (vm_table_new(o->procfs_root, &s->vms) < 0)
                return err_set(e, -ENOMEM, "out of memory");
        r = open_features(s, o, e);
        if (r < 0)
                return r;
        r = cgroup_table_new(o->procfs_root, features_sysfs_root(o), &s->cgroups, e);
        if (r < 0)
                return r;
        s->usage.by_process =
                (o->store_processes && *o->store_path) || (o->metrics_processes && *o->metrics_listen);
        s->procfs_root = o->procfs_root;
        power_open((const char *const *)o->power_sources.items, o->power_sources.n, &options, &s->power);
        tell_power(&s->power);
        *ret = TAKE(s);
        return 0;
}

void sampler_close(struct sampler *s)
{
        if (!s)
                return;
        if (s->features)
                s->ops->close(s->features);
        cgroup_table_free(s->cgroups);
        vm_table_free(s->vms);
        power_close(&s->power);
        frequency_close(s->frequency);
        usage_set_done(&s->usage);
        free(s);
}

static void sum_node(const struct sampler *s, uint64_t ret[FEATURE_N])
{
        memset(ret, 0, FEATURE_N * sizeof(ret[0]));
        for (size_t i = 0; i < s->usage.n; i++)
                for (int f = 0; f < FEATURE_N && !usage_is_vm(s->usage.rows[i].cgroup_id); f++)
                        ret[f] += s->usage.rows[i].delta[f];
}

/* Both clocks at the same moment: time that passes between them would look like a clock that was set. */
static void read_clocks(uint64_t *ret_monotonic_ns, int64_t *ret_wall_ms)
{
        for (int i = 0; i < CLOCK_TRIES; i++) {
                *ret_monotonic_ns = clock_monotonic_ns();
                *ret_wall_ms = clock_wall_ms();
                if (clock_monotonic_ns() - *ret_monotonic_ns < CLOCK_APART_NS)
                        return;
        }
}

int sampler_read(struct sampler *s, struct sample *ret, int *ret_power_failed, struct err *e)
{
        uint64_t node_delta[FEATURE_N], now_ns, begin_ns = clock_monotonic_ns();
        struct feature_source_stats stats = { 0 };
        struct frequency_reading frequency = { 0 };
        struct power_context context;
        int64_t wall_ms;
        int r;

        usage_set_clear(&s->usage);
        r = s->ops->read(s->features, &s->usage, e);
        if (r < 0)
                return err_prefix(e, r, "features from %s", s->ops->name);
        read_clocks(&now_ns, &wall_ms);
        s->features_ns = now_ns - begin_ns;
        for (int f = 0; f < FEATURE_N; f++)
                s->measured[f] = s->ops->measures(s->features, (enum feature_id)f);
        s->ops->stats(s->features, &stats);
        sum_node(s, node_delta);

        if (s->frequency)
                frequency_read(s->frequency, s->last_ns ? now_ns - s->last_ns : 0, &frequency);
        context = (struct power_context){ .duration_ns = s->last_ns ? now_ns - s->last_ns : 0,
                                          .node_delta = node_delta,
                                          .measured = s->measured };
        memset(s->readings, 0, sizeof(s->readings));
        r = power_read(&s->power, &context, s->readings, ret_power_failed, e);

        s->power_ns = clock_monotonic_ns() - now_ns;
        *ret = (struct sample){ .duration_ns = context.duration_ns,
                                .stamp_ns = now_ns,
                                .wall_ms = wall_ms,
                                .usage = &s->usage,
                                .frequency = frequency,
                                .counters = stats.counters,
                                .counters_running = stats.counters_running,
                                .measured = s->measured,
                                .readings = s->readings,
                                .n_readings = (size_t)r };
        s->last_ns = s->guard_ns = now_ns;
        return 0;
}

void sampler_guard(struct sampler *s)
{
        uint64_t now_ns = clock_monotonic_ns();

        if (!s->last_ns)
                return;
        power_poll(&s->power, now_ns - s->guard_ns);
        s->guard_ns = now_ns;
}

uint64_t sampler_capabilities(const struct sampler *s)
{
        return s->ops->capabilities ? s->ops->capabilities(s->features) : 0;
}

const char *sampler_feature_source(const struct sampler *s)
{
        return s->ops->name;
}

const char *sampler_counters(const struct sampler *s)
{
        struct feature_source_stats stats = { 0 };

        s->ops->stats(s->features, &stats);
        return stats.counters;
}

const char *sampler_definition(const struct sampler *s)
{
        bool nothing = s->definition == DEFINITION_SOFTWARE && !*sampler_counters(s);

        return definition_names[nothing ? DEFINITION_EXACT : s->definition];
}

const struct feature_notes *sampler_notes(const struct sampler *s)
{
        return &s->notes;
}

uint64_t sampler_dropped(const struct sampler *s)
{
        struct feature_source_stats stats = { 0 };

        s->ops->stats(s->features, &stats);
        return stats.dropped;
}

void sampler_stats(const struct sampler *s, struct collector_stats *ret)
{
        struct feature_source_stats stats = { 0 };

        s->ops->stats(s->features, &stats);
        ret->features_ns = s->features_ns;
        ret->power_ns = s->power_ns;
        ret->overflowed_deaths = stats.overflowed;
        ret->processes = stats.processes;
}

const struct power_set *sampler_power(const struct sampler *s)
{
        return &s->power;
}

static const struct cgroup_info *find_cgroup(void *context, uint64_t cgroup_id)
{
        const struct sampler *s = context;

        return cgroup_table_find(s->cgroups, cgroup_id);
}

static void find_command(void *context, uint32_t tgid, char ret[16])
{
        const struct sampler *s = context;
        char path[PATH_MAX];

        ret[0] = '\0';
        if (snprintf(path, sizeof(path), "%s/%u/comm", s->procfs_root, tgid) < PATH_MAX)
                (void)file_read_small(AT_FDCWD, path, ret, 16); /* "" when it has ended */
}

static const struct vm *find_vm(void *context, uint64_t id)
{
        const struct sampler *s = context;

        return vm_table_find(s->vms, id);
}

struct window_lookup sampler_lookup(struct sampler *s)
{
        return (struct window_lookup){
                .cgroup = find_cgroup, .command = find_command, .vm = find_vm, .cgroup_context = s
        };
}
