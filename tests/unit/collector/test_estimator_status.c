/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/estimator_status.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "collector/metrics.h"
#include "collector/metrics_internal.h"
#include "tree.h"

#define MODEL(source, type, id)                                                                              \
        "{\"energy_source\": \"" source "\", \"output_type\": \"" type                                       \
        "\", \"form\": \"weight\", \"id\": \"" id "\", \"model\": \"SGD_0\", \"loaded_ms\": 5, "             \
        "\"age_ms\": 2000, \"load_ms\": 1.5, \"requests\": 4, \"errors\": 1, \"provenance\": \"measured\"}"
#define STATUS(members, models)                                                                              \
        "{\"version\": \"1\", \"uptime_ms\": 60000, \"requests\": 7, \"errors\": 2" members                  \
        ", \"models\": [" models "], \"refused\": [{\"path\": \"a}{\", \"error\": \"\\\"}\"}]}"
#define ANSWERS(sum, bounds, counts)                                                                         \
        ", \"answer_us\": {\"sum\": " sum ", \"bounds\": [" bounds "], \"counts\": [" counts "]}"

static const char good[] = STATUS(", \"rows\": 21, \"clients\": 3" ANSWERS("900", "50, 100", "3, 5, 7"),
                                  MODEL("rapl-sysfs", "AbsPower", "ab") ", " MODEL("acpi", "AbsPower", "cd"));

static int parse(const char *text, struct estimator_report *ret)
{
        struct err e = { "" };

        return estimator_report_parse(text, strlen(text), ret, &e);
}

static void a_status_becomes_metrics(void **state)
{
        struct estimator_stats stats = { .up = true };
        struct buf text;

        (void)state;
        buf_init(&text, 1 << 16);
        assert_int_equal(parse(good, &stats.report), 0);
        metrics_estimator(&stats, &text);
        static const char *const lines[] = {
                "\nwattloop_estimator_up 1\n",
                "\nwattloop_estimator_uptime_seconds 60\n",
                "\nwattloop_estimator_requests_total 7\n",
                "\nwattloop_estimator_failures_total 2\n",
                "\nwattloop_estimator_rows_total 21\n",
                "\nwattloop_estimator_clients 3\n",
                "\nwattloop_estimator_refused_models 1\n",
                "\nwattloop_estimator_answer_seconds_bucket{le=\"5e-05\"} 3\n",
                "\nwattloop_estimator_answer_seconds_bucket{le=\"+Inf\"} 7\n",
                "\nwattloop_estimator_answer_seconds_sum 0.0009\n",
                "\nwattloop_estimator_answer_seconds_count 7\n",
                "\nwattloop_estimator_model_info{energy_source=\"acpi\",form=\"weight\",id=\"cd\",model="
                "\"SGD_0\","
                "output_type=\"AbsPower\",provenance=\"measured\"} 1\n",
                "\nwattloop_estimator_model_age_seconds{energy_source=\"rapl-sysfs\",id=\"ab\",output_type="
                "\"AbsPower\"} 2\n",
        };

        for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
                if (!strstr(text.data, lines[i]))
                        fail_msg("no '%s' in %s", lines[i], text.data);
        buf_done(&text);
}

static void an_estimator_of_before_lacks_what_it_does_not_say(void **state)
{
        struct estimator_stats stats = { .up = true };
        struct buf text;

        (void)state;
        buf_init(&text, 1 << 16);
        assert_int_equal(parse(STATUS("", ""), &stats.report), 0);
        metrics_estimator(&stats, &text);
        assert_non_null(strstr(text.data, "wattloop_estimator_requests_total 7"));
        assert_null(strstr(text.data, "wattloop_estimator_rows_total"));
        assert_null(strstr(text.data, "wattloop_estimator_answer"));
        assert_null(strstr(text.data, "wattloop_estimator_model"));
        buf_done(&text);
}

static void nothing_of_a_lying_status_is_believed(void **state)
{
        static const char *const lies[] = {
                "",
                "[]",
                "{}",
                "{\"models\": {}}",
                "{\"models\": [7]}",
                "{\"models\": [], \"requests\": \"7\"}",
                STATUS(", \"rows\": -1", ""),
                STATUS(", \"clients\": 1e300", ""),
                STATUS(", \"rows\": 1, \"rows\": 2", ""),
                STATUS("", MODEL("coal", "AbsPower", "ab")),
                STATUS("", MODEL("rapl", "AbsPower", "ab")), /* what a request may say, but no status */
                STATUS("", MODEL("acpi", "Power", "ab")),
                STATUS("", MODEL("acpi", "AbsPower", "ab") "," MODEL("acpi", "AbsPower", "cd")),
                STATUS("", MODEL("acpi", "AbsPower",
                                 "0123456789012345678901234567890123456789012345678901234567890123456789")),
                STATUS(ANSWERS("1", "50, 100", "1, 2"), ""),
                STATUS(ANSWERS("1", "50, 50", "1, 2, 3"), ""),
                STATUS(ANSWERS("1", "50, 100", "3, 2, 1"), ""),
                STATUS(ANSWERS("1", "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17", "1"), ""),
                STATUS(ANSWERS("1", "50, true", "1, 2, 3"), ""),
        };
        struct estimator_report report;

        (void)state;
        memset(&report, 0x5a, sizeof(report));
        for (size_t i = 0; i < ARRAY_SIZE(lies); i++)
                if (parse(lies[i], &report) != -EBADMSG)
                        fail_msg("believed: %s", lies[i]);
        for (size_t i = 0; i < sizeof(report); i++)
                assert_int_equal(((const unsigned char *)&report)[i], 0x5a);
}

/* ---- over a socket ---- */

static struct estimator_probe *probe;
static char path[108];
static int listener;
static struct err error;

static int set_up(void **state)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };

        if (tree_set_up(state) < 0)
                return -1;
        (void)snprintf(path, sizeof(path), "%s/sock", tree);
        memcpy(address.sun_path, path, sizeof(path));
        listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(listener, 4) < 0)
                return -1;
        return estimator_probe_new(path, &probe);
}

static int tear_down(void **state)
{
        estimator_probe_free(probe);
        (void)close(listener);
        return tree_tear_down(state);
}

/* The loop of the collector; stops when the probe has no more to do for now. Returns the last result. */
static int turn(void)
{
        int r = 0;

        for (;;) {
                struct pollfd p = { .fd = estimator_probe_fd(probe),
                                    .events = estimator_probe_events(probe) };

                if (p.fd < 0 || poll(&p, 1, 0) <= 0)
                        return r;
                r = estimator_probe_run(probe, &error);
        }
}

static int accept_question(void)
{
        char text[64] = "";
        int fd;

        assert_int_equal(turn(), 0);
        fd = accept(listener, NULL, NULL);
        assert_true(fd >= 0);
        assert_true(recv(fd, text, sizeof(text) - 1, 0) > 0);
        assert_string_equal(text, "{\"command\": \"status\"}");
        return fd;
}

static void say(int fd, const char *text, size_t size)
{
        assert_int_equal(send(fd, text, size, MSG_NOSIGNAL), size);
}

static void a_reply_in_pieces_is_one(void **state)
{
        const struct estimator_stats *stats = estimator_probe_stats(probe);
        int fd;

        (void)state;
        assert_int_equal(estimator_probe_ask(probe, NS_PER_S, &error), 0);
        fd = accept_question();
        for (size_t i = 0; i < sizeof(good) - 1; i++) {
                assert_false(stats->up);
                say(fd, good + i, 1);
                assert_int_equal(turn(), 0);
        }
        assert_true(stats->up);
        assert_int_equal(stats->report.n_models, 2);
        assert_int_equal(estimator_probe_fd(probe), -1);
        (void)close(fd);
}

static void a_silent_estimator_is_down_after_a_while_and_asked_again(void **state)
{
        const struct estimator_stats *stats = estimator_probe_stats(probe);
        int silent, fd;

        (void)state;
        assert_int_equal(estimator_probe_ask(probe, NS_PER_S, &error), 0);
        silent = accept_question();
        assert_int_equal(estimator_probe_ask(probe, 2 * NS_PER_S, &error), 0); /* it may still answer */
        assert_int_equal(estimator_probe_ask(probe, 3 * NS_PER_S, &error), -ETIMEDOUT);
        assert_int_equal(stats->failures, 1);
        assert_int_equal(estimator_probe_ask(probe, 4 * NS_PER_S, &error), 0);
        fd = accept_question();
        say(fd, good, sizeof(good) - 1);
        assert_int_equal(turn(), 0);
        assert_true(stats->up);
        (void)close(fd);
        (void)close(silent);
}

static void a_reply_without_end_is_cut_off(void **state)
{
        char flood[4096];
        int fd, r = 0;

        (void)state;
        memset(flood, '{', sizeof(flood));
        assert_int_equal(estimator_probe_ask(probe, NS_PER_S, &error), 0);
        fd = accept_question();
        for (size_t i = 0; i <= ESTIMATOR_STATUS_MAX / sizeof(flood) && r == 0; i++) {
                say(fd, flood, sizeof(flood));
                r = turn();
        }
        assert_int_equal(r, -EFBIG);
        assert_int_equal(estimator_probe_fd(probe), -1);
        assert_false(estimator_probe_stats(probe)->up);
        (void)close(fd);
}

static void a_lie_or_an_early_end_makes_it_down(void **state)
{
        static const char *const bad[] = { "{}", "", "{\"models\": [", "}", "<html>}" };
        uint64_t now_ns = NS_PER_S;

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++, now_ns += ESTIMATOR_STATUS_PERIOD_NS) {
                int fd;

                assert_int_equal(estimator_probe_ask(probe, now_ns, &error), 0);
                fd = accept_question();
                say(fd, bad[i], strlen(bad[i]));
                (void)close(fd);
                assert_true(turn() < 0);
                assert_non_null(strstr(error.text, path));
                assert_int_equal(estimator_probe_stats(probe)->failures, i + 1);
        }
}

static void nobody_is_asked_too_often(void **state)
{
        (void)state;
        (void)close(listener);
        listener = -1;
        assert_int_equal(estimator_probe_ask(probe, NS_PER_S, &error), -ECONNREFUSED);
        assert_int_equal(estimator_probe_ask(probe, NS_PER_S + 1, &error), 0);
        assert_int_equal(estimator_probe_stats(probe)->questions, 1);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_status_becomes_metrics),
                cmocka_unit_test(an_estimator_of_before_lacks_what_it_does_not_say),
                cmocka_unit_test(nothing_of_a_lying_status_is_believed),
                cmocka_unit_test_setup_teardown(a_reply_in_pieces_is_one, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_silent_estimator_is_down_after_a_while_and_asked_again,
                                                set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_reply_without_end_is_cut_off, set_up, tear_down),
                cmocka_unit_test_setup_teardown(a_lie_or_an_early_end_makes_it_down, set_up, tear_down),
                cmocka_unit_test_setup_teardown(nobody_is_asked_too_often, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
