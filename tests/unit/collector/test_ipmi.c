/* SPDX-License-Identifier: Apache-2.0 */
/* A fake of the kernel's IPMI device, byte for byte: a fifo that is readable when an answer waits, and the
 * two requests of linux/ipmi.h that the collector makes on it. */
#include "collector/power.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/ipmi.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include "common/clock.h"
#include "tree.h"

#define SECOND  UINT64_C(1000000000)
#define QUEUE   8
#define REQUEST "\xDC\x01\x00\x00"

static const struct power_source_ops *const ipmi = &power_source_ipmi;
static struct power_reading reading;

/* The controller. */
static struct {
        unsigned char answer[64]; /* what it says */
        size_t size;
        bool silent;         /* it does not answer */
        int refuse;          /* an errno for requests */
        long waiting[QUEUE]; /* numbers of the messages whose answers wait */
        int n_waiting, asked;
        long last; /* number of the last message */
} bmc;

int __wrap_ioctl(int fd, unsigned long request, void *argument);

static void put_answer(int fd, long number)
{
        assert_true(bmc.n_waiting < QUEUE);
        bmc.waiting[bmc.n_waiting++] = number;
        assert_int_equal(write(fd, "", 1), 1);
}

static int take_request(int fd, const struct ipmi_req *q)
{
        const struct ipmi_system_interface_addr *address = (const void *)q->addr;

        if (bmc.refuse) {
                errno = bmc.refuse;
                return -1;
        }
        assert_int_equal(q->addr_len, sizeof(*address));
        assert_int_equal(address->addr_type, IPMI_SYSTEM_INTERFACE_ADDR_TYPE);
        assert_int_equal(address->channel, IPMI_BMC_CHANNEL);
        assert_int_equal(q->msg.netfn, 0x2C);
        assert_int_equal(q->msg.cmd, 0x02);
        assert_int_equal(q->msg.data_len, 4);
        assert_memory_equal(q->msg.data, REQUEST, 4);
        bmc.asked++;
        bmc.last = q->msgid;
        if (!bmc.silent)
                put_answer(fd, q->msgid);
        return 0;
}

static int give_answer(int fd, struct ipmi_recv *v)
{
        char c;

        if (bmc.n_waiting == 0 || read(fd, &c, 1) != 1) {
                errno = EAGAIN;
                return -1;
        }
        v->recv_type = IPMI_RESPONSE_RECV_TYPE;
        v->msgid = bmc.waiting[0];
        memmove(bmc.waiting, bmc.waiting + 1, sizeof(bmc.waiting) - sizeof(bmc.waiting[0]));
        bmc.n_waiting--;
        v->msg.netfn = 0x2D;
        v->msg.cmd = 0x02;
        assert_true(v->msg.data_len >= bmc.size);
        memcpy(v->msg.data, bmc.answer, bmc.size);
        v->msg.data_len = (unsigned short)bmc.size;
        return 0;
}

int __wrap_ioctl(int fd, unsigned long request, void *argument)
{
        if (request == IPMICTL_SEND_COMMAND)
                return take_request(fd, argument);
        assert_int_equal(request, IPMICTL_RECEIVE_MSG_TRUNC);
        return give_answer(fd, argument);
}

/* The answer that DCMI 1.5 describes: current, minimum, maximum, average, time stamp, period, state. */
static void set_watts(unsigned int watts)
{
        const unsigned char answer[] = { 0x00, 0xDC, watts & 0xFF, watts >> 8 & 0xFF,
                                         100,  0,    200,          1,
                                         150,  0,    0x78,         0x56,
                                         0x34, 0x12, 0xE8,         0x03,
                                         0x00, 0x00, 0x40 };

        memcpy(bmc.answer, answer, sizeof(answer));
        bmc.size = sizeof(answer);
}

static int set_up(void **state)
{
        memset(&bmc, 0, sizeof(bmc));
        set_watts(300);
        return tree_set_up(state) < 0 || mkfifo(tree_path("ipmi0"), 0600) < 0 ? -1 : 0;
}

static int try_open(struct power_source **ret, struct err *e)
{
        char device[TREE_PATH_MAX];
        const struct power_source_options options = { .procfs_root = tree, .ipmi_device = device };

        (void)snprintf(device, sizeof(device), "%s/ipmi0", tree);
        return ipmi->open(&options, ret, e);
}

static struct power_source *open_device(void)
{
        struct power_source *s = NULL;
        struct err e = { 0 };

        if (try_open(&s, &e) < 0)
                fail_msg("%s", e.text);
        return s;
}

static void read_after(struct power_source *s, uint64_t ns)
{
        const struct power_context context = { .duration_ns = ns };
        struct err e = { 0 };

        memset(&reading, 0, sizeof(reading));
        assert_int_equal(ipmi->read(s, &context, &reading, &e), 1);
}

static void without_a_device_there_is_no_sensor(void **state)
{
        struct power_source *s = NULL;
        struct err e = { 0 };

        (void)state;
        assert_int_equal(unlink(tree_path("ipmi0")), 0);
        assert_int_equal(try_open(&s, &e), -ENOENT);
        assert_non_null(strstr(e.text, "ipmi_devintf"));
}

static void a_controller_without_dcmi_is_no_sensor(void **state)
{
        struct power_source *s = NULL;
        struct err e = { 0 };

        (void)state;
        bmc.answer[0] = 0xC1;
        bmc.size = 1;
        assert_int_equal(try_open(&s, &e), -ENOENT);
        assert_non_null(strstr(e.text, "does not tell power"));
}

static void joules_are_the_mean_of_two_readings(void **state)
{
        struct power_source *s = open_device();

        (void)state;
        read_after(s, 0);
        assert_false(reading.valid);
        set_watts(500);
        read_after(s, 3 * SECOND);
        assert_true(reading.valid);
        assert_float_equal(reading.energy_uj, 400e6 * 3, 1e-3);
        assert_int_equal(reading.covered_ns, 3 * SECOND);
        assert_string_equal(reading.source, "ipmi");
        assert_string_equal(reading.component, "platform");
        assert_string_equal(reading.unit, "dcmi");
        assert_int_equal(reading.provenance, PROVENANCE_SIMULATED);
        ipmi->close(s);
}

static void a_late_answer_is_taken_at_the_next_read(void **state)
{
        struct power_source *s = open_device();
        uint64_t begin_ns;
        int fd;

        (void)state;
        read_after(s, 0);
        bmc.silent = true;
        begin_ns = clock_monotonic_ns();
        read_after(s, SECOND);
        assert_true(clock_monotonic_ns() - begin_ns < SECOND / 2); /* it did not wait for long */
        assert_true(reading.valid);                                /* with what it knows */
        assert_float_equal(reading.energy_uj, 300e6, 1e-3);
        fd = open(tree_path("ipmi0"), O_RDWR | O_CLOEXEC);
        assert_true(fd >= 0);
        set_watts(500);
        put_answer(fd, 12345); /* somebody else's */
        put_answer(fd, bmc.last);
        bmc.silent = false;
        read_after(s, SECOND);
        assert_true(reading.valid);
        assert_float_equal(reading.energy_uj, 400e6, 1e-3);
        (void)close(fd);
        ipmi->close(s);
}

static void a_controller_that_is_silent_for_long_is_a_gap_and_is_asked_again(void **state)
{
        struct power_source *s = open_device();
        int asked;

        (void)state;
        read_after(s, 0);
        bmc.silent = true;
        read_after(s, 6 * SECOND);
        assert_true(reading.valid);
        read_after(s, 6 * SECOND);
        assert_false(reading.valid);
        assert_int_equal(reading.error, -ETIMEDOUT);
        asked = bmc.asked;
        read_after(s, 6 * SECOND);
        assert_int_equal(bmc.asked, asked + 1);
        bmc.silent = false;
        read_after(s, 11 * SECOND);
        assert_int_equal(reading.error, 0);
        assert_false(reading.valid); /* the first reading again */
        read_after(s, SECOND);
        assert_true(reading.valid);
        ipmi->close(s);
}

static void nonsense_is_a_gap(void **state)
{
        struct power_source *s = open_device();

        (void)state;
        read_after(s, 0);
        bmc.size = 10; /* cut */
        read_after(s, SECOND);
        assert_int_equal(reading.error, -EPROTO);
        set_watts(0);
        read_after(s, SECOND);
        assert_int_equal(reading.error, -ENODATA);
        set_watts(300);
        bmc.answer[18] = 0; /* it does not measure */
        read_after(s, SECOND);
        assert_int_equal(reading.error, -ENODATA);
        set_watts(300);
        bmc.answer[1] = 0xDD; /* of another group */
        read_after(s, SECOND);
        assert_int_equal(reading.error, -EPROTO);
        bmc.size = 0;
        read_after(s, SECOND);
        assert_int_equal(reading.error, -EPROTO);
        bmc.refuse = EIO;
        read_after(s, SECOND);
        assert_int_equal(reading.error, -EIO);
        assert_false(reading.valid);
        ipmi->close(s);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tree_tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(without_a_device_there_is_no_sensor),
                TEST(a_controller_without_dcmi_is_no_sensor),
                TEST(joules_are_the_mean_of_two_readings),
                TEST(a_late_answer_is_taken_at_the_next_read),
                TEST(a_controller_that_is_silent_for_long_is_a_gap_and_is_asked_again),
                TEST(nonsense_is_a_gap),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
