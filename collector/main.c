/* SPDX-License-Identifier: Apache-2.0 */
/* wattloop-collector: reads what the workloads of this machine do and what that costs, and records both. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#include "collector/attribution_model.h"
#include "collector/cpu_info.h"
#include "collector/metrics.h"
#include "collector/report.h"
#include "collector/sampler.h"
#include "collector/server.h"
#include "collector/store.h"
#include "collector/top.h"
#include "common/clock.h"
#include "common/db.h"
#include "common/log.h"
#include "common/privilege.h"
#include "config/cli.h"

#define WARN_PERIOD_NS      (60 * NS_PER_S) /* a warning that repeats is said once a minute */
#define SENSORS_INTERVAL_MS 1000

struct collector {
        const struct options *options;
        struct machine machine;
        struct sampler *sampler;
        struct window *window;
        struct store *store;   /* NULL: nothing is stored */
        struct server *server; /* NULL: nothing is served */
        struct window_lookup lookup;
        struct dynamic_model *dynamic; /* NULL: energy is divided by ratio */
        struct attribution_model rule;
        struct kubelet *kubelet; /* NULL: pods have no names */
        struct kubelet_stats kubelet_stats;
        struct estimator_probe *estimator; /* NULL: none configured, or nobody wants to know */
        struct overhead_probe *overhead;
        struct collector_stats stats;
        uint64_t due_ns; /* when the timer was to expire last */
        char *cpu_info;
        struct log_limit feature_warning, power_warning, kubelet_warning, estimator_warning, model_warning,
                parts_warning, store_warning, reopen_warning;
        int timer_fd, signal_fd;
        int guard_fd; /* between samples that are far apart; -1: they are not */
};

static void collector_done(struct collector *c)
{
        sampler_close(c->sampler);
        window_free(c->window);
        store_close(c->store);
        server_close(c->server);
        kubelet_close(c->kubelet);
        estimator_probe_free(c->estimator);
        dynamic_model_free(c->dynamic);
        overhead_free(c->overhead);
        free(c->cpu_info);
        closep(&c->timer_fd);
        closep(&c->signal_fd);
        closep(&c->guard_fd);
}

static void warn_limited(struct log_limit *limit, const char *what, const struct err *e)
{
        if (!log_limit_ok(limit, WARN_PERIOD_NS))
                return;
        log_warning("%s: %s (%llu more since the last warning)", what, e->text,
                    (unsigned long long)limit->suppressed);
        limit->suppressed = 0;
}

/* ---- one tick: read, fold, store; publish when asked ---- */

static int read_sample(struct collector *c, struct sample *ret)
{
        struct err e = { 0 };
        int failed = 0, r;

        r = sampler_read(c->sampler, ret, &failed, &e);
        if (r < 0) {
                c->stats.feature_errors++;
                warn_limited(&c->feature_warning, "nothing sampled", &e);
                return r;
        }
        if (failed)
                warn_limited(&c->power_warning, "no power from a source", &e);
        return 0;
}

/* Root, too, is only the owner of its own files once its capabilities are given up. */
static void explain_refusal(struct err *e)
{
        const struct err cause = *e;

        (void)err_set(e, -EACCES,
                      "%.150s: start as the user that the directory belongs to, or give it to root",
                      cause.text);
}

static int open_store(struct collector *c, struct store *corrupt, struct err *e)
{
        const struct store_options options = {
                .path = c->options->store_path,
                .feature_source = sampler_feature_source(c->sampler),
                .definition = sampler_definition(c->sampler),
                .counters = sampler_counters(c->sampler),
                .notes = sampler_notes(c->sampler),
                .now_ms = clock_wall_ms(),
                .retention_age_ms = c->options->retention_age_ms,
                .retention_size = c->options->retention_size,
                .processes = c->options->store_processes,
                .corrupt = corrupt,
        };
        struct store_opening opening;
        int r;

        r = store_open(&options, &c->machine, c->window, &c->store, &opening, e);
        if (r == -EACCES && geteuid() == 0)
                explain_refusal(e);
        if (*opening.moved_aside)
                (void)log_error(0, "corrupt database moved to '%s': %s", opening.moved_aside,
                                opening.corruption.text);
        if (r < 0)
                return r;
        log_info("%s an epoch in '%s'", opening.continued ? "continuing" : "beginning", options.path);
        c->lookup.restore_entity = store_restore_entity;
        c->lookup.restore_sensor = store_restore_sensor;
        c->lookup.restore_context = c->store;
        return 0;
}

/* A file that became corrupt under our hands: go on with a new one, in a new epoch. While none can be made,
 * or the disk has been full since the start, this is tried again at every tick, and the intervals go to
 * /metrics only. */
static void reopen_store(struct collector *c)
{
        int64_t now_ms = c->window->end_ms;
        struct err e = { 0 };

        c->lookup.restore_entity = NULL;
        c->lookup.restore_sensor = NULL;
        if (open_store(c, TAKE(c->store), &e) == 0) {
                window_start(c->window, now_ms);
                return;
        }
        warn_limited(&c->reopen_warning, "nothing is stored until the database can be opened", &e);
        window_stored(c->window);
}

static void store_interval(struct collector *c)
{
        struct err e = { 0 };
        int r = 0;

        if (c->store)
                r = store_append(c->store, c->window, clock_wall_ms(), &e);
        else if (*c->options->store_path)
                r = -EBADMSG;
        if (r == 0) {
                window_stored(c->window);
                return;
        }
        c->stats.store_errors++;
        if (c->store)
                warn_limited(&c->store_warning, "interval not stored, it will go into the next", &e);
        if (r == -EBADMSG)
                reopen_store(c);
}

/* Called when somebody asks, at most once a tick. */
static void publish(void *context)
{
        struct collector *c = context;
        uint64_t begin_ns = clock_monotonic_ns();
        CLEANUP(buf_done) struct buf text = { .max = METRICS_TEXT_MAX };

        c->stats.dropped_events = sampler_dropped(c->sampler);
        c->stats.power_errors = sampler_power(c->sampler)->errors;
        sampler_stats(c->sampler, &c->stats);
        overhead_read(c->overhead, &c->stats.overhead);
        if (c->kubelet)
                kubelet_stats(c->kubelet, clock_monotonic_ns(), &c->kubelet_stats);
        metrics_write(c->window, &c->machine, &c->stats, (enum metrics_style)c->options->metrics_style,
                      &text);
        if (text.failed || server_publish(c->server, text.data, text.size) < 0)
                log_warning("metrics are out of date: no memory, or more than %zu bytes", METRICS_TEXT_MAX);
        c->stats.publish_ns = clock_monotonic_ns() - begin_ns;
}

static void publish_top(void *context, struct buf *out)
{
        const struct collector *c = context;

        top_write(c->window, c->machine.node_name, out);
}

/* Stamps would be ahead of the clock until it has caught up, for ever if it was wrong by years. */
static void follow_clock(struct collector *c, const struct sample *sample)
{
        int64_t start_ms = sample->wall_ms - (int64_t)(sample->duration_ns / NS_PER_MS);
        struct err e = { 0 };

        if (!c->store || !window_clock_went_back(c->window, sample))
                return;
        if (store_begin_epoch(c->store, &c->machine, start_ms, c->window, &e) < 0)
                warn_limited(&c->store_warning, "no new epoch although the clock was set back", &e);
        else
                log_warning("the clock was set back by more than %lld s: a new epoch begins",
                            (long long)CLOCK_BACK_MS / 1000);
}

/* The model of the attribution rule `model`. */
static void refresh_model(struct collector *c)
{
        struct err e = { 0 };

        if (c->dynamic && dynamic_model_refresh(c->dynamic, &e) < 0)
                warn_limited(&c->model_warning, "energy is divided by ratio", &e);
}

/* The invariant: entities and unattributed energy add up to the node's. */
static void check_parts(struct collector *c)
{
        double watts = attribution_error(c->window);
        struct err e = { 0 };

        if (watts <= ATTRIBUTION_ERROR_MAX)
                return;
        c->stats.attribution_errors++;
        (void)err_set(&e, -EDOM, "by %g W", watts);
        warn_limited(&c->parts_warning, "the parts of the node's power do not add up to it", &e);
}

static void tick(struct collector *c)
{
        uint64_t begin_ns = clock_monotonic_ns(), folded_ns, stored_ns;
        struct sample sample;

        if (read_sample(c, &sample) < 0)
                return;
        follow_clock(c, &sample);
        refresh_model(c);
        window_fold(c->window, &sample, &c->lookup);
        check_parts(c);
        if (c->kubelet)
                kubelet_name(c->kubelet, c->window);
        folded_ns = clock_monotonic_ns();
        store_interval(c);
        stored_ns = clock_monotonic_ns();
        c->stats.store_ns = stored_ns - folded_ns;
        c->stats.tick_ns = stored_ns - begin_ns;
        c->stats.ticks++;
        if (c->server) {
                server_outdate(c->server);
                server_ticked(c->server, stored_ns);
        }
}

/* ---- run ---- */

static int open_timer(long long interval_ms, int *ret_fd, struct err *e)
{
        struct itimerspec spec = { { interval_ms / 1000, (interval_ms % 1000) * 1000000 },
                                   { interval_ms / 1000, (interval_ms % 1000) * 1000000 } };

        *ret_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
        if (*ret_fd < 0 || timerfd_settime(*ret_fd, 0, &spec, NULL) < 0)
                return err_sys(e, "no timer");
        return 0;
}

static int open_signals(int *ret_fd, struct err *e)
{
        sigset_t set;

        (void)sigemptyset(&set);
        (void)sigaddset(&set, SIGTERM);
        (void)sigaddset(&set, SIGINT);
        if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
                return err_sys(e, "cannot block signals");
        (void)signal(SIGPIPE, SIG_IGN);
        (void)signal(SIGXFSZ, SIG_IGN); /* a file size limit is a failed write */
        *ret_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        return *ret_fd < 0 ? err_sys(e, "no signal descriptor") : 0;
}

static int open_server(struct collector *c, struct err *e)
{
        struct listen_address address;
        int r;

        if (!*c->options->metrics_listen)
                return 0;
        r = server_open(c->options->metrics_listen, &c->server, e);
        if (r < 0)
                return r;
        if (listen_address_parse(c->options->metrics_listen, &address, NULL) == 0 && !address.loopback)
                log_warning("metrics.listen %s is not a loopback address: anyone who can reach it can read "
                            "what runs here",
                            c->options->metrics_listen);
        log_info("metrics at http://%s/metrics", server_address(c->server));
        return 0;
}

/* What is open stays open: from here on nothing is needed but to read it. */
static int drop_privileges(const struct sampler *s, struct err *e)
{
        uint64_t kept;
        char text[64];
        int r;

        r = privilege_drop(sampler_capabilities(s), &kept, e);
        if (r < 0)
                return r;
        privilege_format(kept, text, sizeof(text));
        log_info("capabilities kept: %s", text);
        return 0;
}

static int open_attribution(struct collector *c, struct err *e)
{
        if (c->options->attribution_rule != ATTRIBUTION_MODEL)
                return 0;
        if (dynamic_model_new(c->options->attribution_weight, &c->dynamic) < 0)
                return err_set(e, -ENOMEM, "out of memory");
        c->rule = dynamic_model_rule(c->dynamic);
        c->window->model = &c->rule;
        return 0;
}

static int open_window(struct collector *c, struct err *e)
{
        if (window_new(&c->window) < 0)
                return err_set(e, -ENOMEM, "out of memory");
        c->window->idle_rule = (enum idle_rule)c->options->idle_rule;
        c->window->idle_window_ns = (uint64_t)c->options->idle_window_ms * NS_PER_MS;
        c->window->shown_max = (size_t)c->options->metrics_containers;
        c->window->processes_max = (size_t)c->options->metrics_processes;
        return open_attribution(c, e);
}

static int open_kubelet(struct collector *c, struct err *e)
{
        const struct options *o = c->options;
        const struct kubelet_options options = { .url = o->kubelet_url,
                                                 .token_file = o->kubelet_token_file,
                                                 .ca_file = o->kubelet_ca_file,
                                                 .verify_tls = o->kubelet_verify_tls,
                                                 .interval_ms = o->kubelet_interval_ms };

        if (!*o->kubelet_url)
                return 0;
        c->stats.kubelet = &c->kubelet_stats;
        return kubelet_open(&options, &c->kubelet, e);
}

/* Its figures are for /metrics only. */
static int open_estimator(struct collector *c, struct err *e)
{
        if (!*c->options->estimate_socket || !c->server)
                return 0;
        if (estimator_probe_new(c->options->estimate_socket, &c->estimator) < 0)
                return err_set(e, -ENOMEM, "out of memory");
        c->stats.estimator = estimator_probe_stats(c->estimator);
        return 0;
}

/* Everything that can fail does so before the first sample. */
static int set_up(struct collector *c, struct err *e)
{
        struct sample base;
        int r;

        r = machine_discover(c->options->procfs_root, c->options->sysfs_root, &c->machine, e);
        if (r == 0)
                r = open_window(c, e);
        if (r == 0)
                r = open_server(c, e);
        if (r == 0)
                r = open_kubelet(c, e);
        if (r == 0)
                r = open_estimator(c, e);
        if (r == 0)
                r = sampler_open(c->options, &c->sampler, e);
        if (r == 0)
                r = drop_privileges(c->sampler, e);
        if (r < 0)
                return r;
        c->overhead = overhead_new();
        c->cpu_info = cpu_info_text(c->options->procfs_root);
        c->stats.cpu_info = c->cpu_info;
        c->lookup = sampler_lookup(c->sampler);
        c->stats.feature_source = sampler_feature_source(c->sampler);
        if (*c->options->store_path)
                r = open_store(c, NULL, e);
        if (r == -ENOSPC) { /* no worse than a disk that fills later */
                warn_limited(&c->reopen_warning, "nothing is stored until the database can be opened", e);
                r = 0;
        }
        if (r == 0 && read_sample(c, &base) < 0)
                r = err_set(e, -EIO, "the first sample could not be taken");
        if (r < 0)
                return r;
        window_start(c->window, base.wall_ms);
        if (c->server)
                server_on_demand(c->server, publish, publish_top, c);
        return 0;
}

static void on_timer(struct collector *c)
{
        uint64_t expired = 0, now_ns, interval_ns = (uint64_t)c->options->interval_ms * NS_PER_MS;

        if (read(c->timer_fd, &expired, sizeof(expired)) != (ssize_t)sizeof(expired) || expired == 0)
                return;
        c->due_ns += expired * interval_ns;
        now_ns = clock_monotonic_ns();
        c->stats.late_ns = now_ns > c->due_ns ? now_ns - c->due_ns : 0;
        c->stats.late_total_ns += c->stats.late_ns;
        c->stats.missed_ticks += expired - 1;
        tick(c);
}

static void on_guard(struct collector *c)
{
        uint64_t expired;

        if (read(c->guard_fd, &expired, sizeof(expired)) == (ssize_t)sizeof(expired))
                sampler_guard(c->sampler);
}

/* The kubelet's helper has written, or it is time to look whether it lives. */
static void run_kubelet(struct collector *c)
{
        struct err e = { 0 };

        if (kubelet_run(c->kubelet, clock_monotonic_ns(), &e) < 0)
                warn_limited(&c->kubelet_warning, "no names from the kubelet", &e);
}

/* Time to ask the estimator, or it is ready. */
static void run_estimator(struct collector *c, bool due)
{
        struct err e = { 0 };
        int r = due ? estimator_probe_ask(c->estimator, clock_monotonic_ns(), &e)
                    : estimator_probe_run(c->estimator, &e);

        if (r < 0)
                warn_limited(&c->estimator_warning, "no metrics of the estimator", &e);
}

static int loop(struct collector *c, struct err *e)
{
        c->due_ns = clock_monotonic_ns();
        for (;;) {
                struct pollfd fds[] = { { .fd = c->signal_fd, .events = POLLIN },
                                        { .fd = c->timer_fd, .events = POLLIN },
                                        { .fd = c->guard_fd, .events = POLLIN },
                                        { .fd = c->server ? server_fd(c->server) : -1, .events = POLLIN },
                                        { .fd = c->kubelet ? kubelet_fd(c->kubelet) : -1, .events = POLLIN },
                                        { .fd = -1 } };

                if (c->estimator) {
                        fds[5].fd = estimator_probe_fd(c->estimator);
                        fds[5].events = estimator_probe_events(c->estimator);
                }
                if (poll(fds, ARRAY_SIZE(fds), c->server ? server_timeout_ms(c->server) : -1) < 0) {
                        if (errno == EINTR)
                                continue;
                        return err_sys(e, "poll");
                }
                if (fds[0].revents)
                        return 0;
                if (fds[2].revents)
                        on_guard(c);
                if (c->kubelet && (fds[1].revents || fds[4].revents))
                        run_kubelet(c);
                if (fds[5].revents)
                        run_estimator(c, false);
                if (c->estimator && fds[1].revents)
                        run_estimator(c, true);
                if (fds[1].revents)
                        on_timer(c);
                if (c->server)
                        server_run(c->server); /* also when its timeout has passed */
        }
}

static int run_run(const void *options, int argc, char **argv)
{
        struct collector c = { .options = options, .timer_fd = -1, .signal_fd = -1, .guard_fd = -1 };
        struct err e = { 0 };
        int r;

        (void)argc;
        (void)argv;
        r = open_signals(&c.signal_fd, &e);
        if (r == 0)
                r = set_up(&c, &e);
        if (r == 0)
                r = open_timer(c.options->interval_ms, &c.timer_fd, &e);
        if (r == 0 && c.options->interval_ms > POWER_GUARD_MS)
                r = open_timer(POWER_GUARD_MS, &c.guard_fd, &e);
        if (r == 0)
                r = loop(&c, &e);
        if (r < 0)
                (void)log_error(r, "%s", e.text);
        else
                log_info("stopped after %llu intervals", (unsigned long long)c.stats.ticks);
        collector_done(&c);
        return r < 0 ? EXIT_FAILED : EXIT_DONE;
}

/* ---- once, status, sensors ---- */

/* Two samples, so far apart. */
static int sample_twice(struct sampler *s, struct window *w, long long interval_ms, struct sample *ret,
                        struct err *e)
{
        CLEANUP(closep) int timer_fd = -1;
        struct pollfd timer = { .events = POLLIN };
        int failed = 0, ready, r;

        r = open_timer(interval_ms, &timer_fd, e);
        if (r == 0)
                r = sampler_read(s, ret, &failed, e);
        if (r < 0)
                return r;
        window_start(w, ret->wall_ms);
        timer.fd = timer_fd;
        while ((ready = poll(&timer, 1, POWER_GUARD_MS)) <= 0) {
                if (ready == 0)
                        sampler_guard(s);
                else if (errno != EINTR)
                        return err_sys(e, "poll");
        }
        r = sampler_read(s, ret, &failed, e);
        if (r == 0 && failed)
                log_warning("no power from a source: %s", e->text);
        return r;
}

static int run_once(const void *options, int argc, char **argv)
{
        CLEANUP(sampler_closep) struct sampler *sampler = NULL;
        CLEANUP(window_freep) struct window *window = NULL;
        const struct options *o = options;
        struct window_lookup lookup;
        struct machine machine;
        struct sample sample;
        struct err e = { 0 };
        int r;

        (void)argc;
        (void)argv;
        r = machine_discover(o->procfs_root, o->sysfs_root, &machine, &e);
        if (r == 0)
                r = sampler_open(o, &sampler, &e);
        if (r == 0)
                r = drop_privileges(sampler, &e);
        if (r == 0)
                r = window_new(&window) < 0 ? err_set(&e, -ENOMEM, "out of memory") : 0;
        if (r == 0)
                r = sample_twice(sampler, window, o->interval_ms, &sample, &e);
        if (r < 0)
                return log_error(r, "%s", e.text);
        lookup = sampler_lookup(sampler);
        window_fold(window, &sample, &lookup);
        r = report_once(window, &machine, sampler_feature_source(sampler));
        return r < 0 ? log_error(r, "cannot print: %s", strerror(-r)) : EXIT_DONE;
}

static int run_status(const void *options, int argc, char **argv)
{
        CLEANUP(json_decrefp) json_t *status = NULL;
        const struct options *o = options;
        struct err e = { 0 };
        int r;

        (void)argc;
        (void)argv;
        if (!*o->store_path)
                return log_error(EXIT_NOTHING, "store.path is empty: nothing is recorded");
        r = store_status(o->store_path, clock_wall_ms(), &status, &e);
        if (r == -ENOENT)
                return log_error(EXIT_NOTHING, "%s", e.text);
        if (r < 0)
                return log_error(r, "%s", e.text);
        r = report_status(status, o->json);
        return r < 0 ? log_error(r, "cannot print: %s", strerror(-r)) : EXIT_DONE;
}

/* Those that are configured in their order, then the others; estimate only when it can be asked. */
static size_t list_sources(const struct options *o, bool estimate, char *ret[POWER_SOURCES_MAX])
{
        const char *name;
        size_t n = 0;

        for (size_t i = 0; i < o->power_sources.n && n < POWER_SOURCES_MAX; i++)
                ret[n++] = o->power_sources.items[i];
        for (size_t i = 0; (name = power_source_nth(i)) && n < POWER_SOURCES_MAX; i++)
                if (!string_list_has(&o->power_sources, name) && (estimate || strcmp(name, "estimate") != 0))
                        ret[n++] = (char *)(uintptr_t)name;
        return n;
}

/* Looks at every source, listed in power.sources or not; estimate only when it is configured. */
static int run_sensors(const void *options, int argc, char **argv)
{
        static char *names[POWER_SOURCES_MAX];
        CLEANUP(sampler_closep) struct sampler *sampler = NULL;
        CLEANUP(window_freep) struct window *window = NULL;
        struct options o = *(const struct options *)options;
        bool configured = *o.estimate_socket || *o.estimate_weight;
        struct sample sample;
        struct err e = { 0 };
        int r;

        (void)argc;
        (void)argv;
        o.power_sources.items = names;
        o.power_sources.n = list_sources((const struct options *)options, configured, names);
        r = sampler_open(&o, &sampler, &e);
        if (r == 0)
                r = drop_privileges(sampler, &e);
        if (r == 0)
                r = window_new(&window) < 0 ? err_set(&e, -ENOMEM, "out of memory") : 0;
        if (r == 0)
                r = sample_twice(sampler, window, SENSORS_INTERVAL_MS, &sample, &e);
        if (r < 0)
                return log_error(r, "%s", e.text);
        r = report_sensors(sampler_power(sampler), &sample, o.json);
        return r < 0 ? log_error(r, "cannot print: %s", strerror(-r)) : EXIT_DONE;
}

/* Needs a running collector, and nothing else that this program may have been given. */
static int run_top(const void *options, int argc, char **argv)
{
        const struct options *o = options;
        struct err e = { 0 };
        uint64_t kept;
        int r;

        (void)argc;
        (void)argv;
        if (!*o->metrics_listen)
                return log_error(EXIT_NOTHING, "metrics.listen is empty: no collector can be asked");
        r = privilege_drop(0, &kept, &e);
        if (r == 0)
                r = top_run(o, &e);
        return r < 0 ? log_error(r, "%s", e.text) : EXIT_DONE;
}

static const struct command commands[] = {
        { "run", "", 0, 0, "sample, record and export until told to stop", run_run },
        { "once", "", 0, 0, "sample one interval and print it as JSON", run_once },
        { "status", "", 0, 0, "print what is recorded", run_status },
        { "sensors", "", 0, 0, "print the power sensors, with a live reading", run_sensors },
        { "top", "", 0, 0, "show who uses how many watts, live, from a running collector", run_top },
        { 0 },
};

int main(int argc, char **argv)
{
        static const char *const doctor[] = { "sensors", "status", NULL };
        static const struct program program = {
                .name = "wattloop-collector",
                .summary = "Records what the workloads of this machine do and what that costs, in joules.",
                .config_default = "/etc/wattloop/collector.yaml",
                .commands = commands,
                .options = options_table,
                .options_size = sizeof(struct options),
                .check = options_check,
                .doctor = doctor,
                .check_database = db_check,
        };

        privilege_contain();
        return program_main(&program, argc, argv);
}
