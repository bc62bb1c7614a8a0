/* SPDX-License-Identifier: Apache-2.0 */
/* The platform's power as its management controller tells it: DCMI's Get Power Reading (DCMI 1.5, 6.6.1),
 * sent through the kernel's IPMI driver (/dev/ipmi0, linux/ipmi.h). A controller may take long to answer: a
 * read waits a moment, and takes an answer that is late at the next read. */
#include "collector/power.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/ipmi.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include "collector/meter.h"
#include "collector/processor.h"
#include "common/clock.h"

#define IPMI_PROBE_MS 2000 /* for the first answer */
#define IPMI_WAIT_MS  50   /* a read waits so long at most */
#define IPMI_STALE_NS                                                                                        \
        (10 * NS_PER_S)     /* an answer not older than this is held; a request this old is given up */
#define IPMI_ANSWERS_MAX 16 /* a read takes at most so many: ours, and late ones */

#define NETFN_GROUP        0x2C
#define NETFN_GROUP_ANSWER 0x2D
#define GROUP_DCMI         0xDC
#define GET_POWER_READING  0x02
#define SYSTEM_POWER       0x01 /* mode: system power statistics */
#define POWER_ANSWER_SIZE  19
#define STATE_ACTIVE       0x40 /* power measurement is active */

struct power_source {
        int fd;
        enum provenance provenance;
        long message;        /* number of the last request */
        bool asked;          /* its answer is outstanding */
        uint64_t asked_ago;  /* nanoseconds */
        double watts;        /* of the last answer */
        uint64_t answer_ago; /* how old it is, nanoseconds */
        int error;           /* of the last answer */
        struct meter meter;
};

static void ipmi_close(struct power_source *s)
{
        closep(&s->fd);
        free(s);
}
CLEANUP_DEFINE(struct power_source *, ipmi_close);

static int ask(struct power_source *s)
{
        struct ipmi_system_interface_addr address = { .addr_type = IPMI_SYSTEM_INTERFACE_ADDR_TYPE,
                                                      .channel = IPMI_BMC_CHANNEL };
        unsigned char data[] = { GROUP_DCMI, SYSTEM_POWER, 0, 0 };
        struct ipmi_req request = { .addr = (unsigned char *)&address,
                                    .addr_len = sizeof(address),
                                    .msgid = ++s->message,
                                    .msg = { .netfn = NETFN_GROUP,
                                             .cmd = GET_POWER_READING,
                                             .data = data,
                                             .data_len = sizeof(data) } };

        if (ioctl(s->fd, IPMICTL_SEND_COMMAND, &request) < 0)
                return -errno;
        s->asked = true;
        s->asked_ago = 0;
        return 0;
}

static unsigned int le16(const unsigned char *p)
{
        return p[0] | (unsigned int)p[1] << 8;
}

/* Watts of an answer: completion code, group, current, minimum, maximum, average, time stamp, period, state.
 */
static int parse_power(const unsigned char *data, size_t size, double *ret_watts)
{
        if (size < 1)
                return -EPROTO;
        switch (data[0]) {
        case 0x00:
                break;
        case 0xC0: /* busy */
        case 0xC3: /* the controller's own time-out */
                return -EBUSY;
        case 0xC1: /* no such command */
        case 0xC9:
        case 0xCC:
                return -EOPNOTSUPP;
        default:
                return -EIO;
        }
        if (size < POWER_ANSWER_SIZE || data[1] != GROUP_DCMI)
                return -EPROTO;
        if (!(data[18] & STATE_ACTIVE) || le16(data + 2) == 0)
                return -ENODATA;
        *ret_watts = le16(data + 2);
        return 0;
}

/* Takes an answer from the device: 1 it is the one we wait for, 0 another, -EAGAIN none is there. */
static int receive(struct power_source *s)
{
        struct ipmi_addr address;
        unsigned char data[IPMI_MAX_MSG_LENGTH];
        struct ipmi_recv answer = { .addr = (unsigned char *)&address,
                                    .addr_len = sizeof(address),
                                    .msg = { .data = data, .data_len = sizeof(data) } };
        double watts = 0;

        if (ioctl(s->fd, IPMICTL_RECEIVE_MSG_TRUNC, &answer) < 0 && errno != EMSGSIZE)
                return -errno;
        if (answer.recv_type != IPMI_RESPONSE_RECV_TYPE || answer.msgid != s->message || !s->asked ||
            answer.msg.netfn != NETFN_GROUP_ANSWER || answer.msg.cmd != GET_POWER_READING)
                return 0;
        s->asked = false;
        s->error = parse_power(data, answer.msg.data_len < sizeof(data) ? answer.msg.data_len : sizeof(data),
                               &watts);
        if (s->error == 0) {
                s->watts = watts;
                s->answer_ago = 0;
        }
        return 1;
}

/* Waits for the outstanding answer. */
static int await(struct power_source *s, int timeout_ms)
{
        struct pollfd device = { .fd = s->fd, .events = POLLIN };
        uint64_t end_ns = clock_monotonic_ns() + (uint64_t)timeout_ms * NS_PER_MS;

        for (int i = 0; s->asked && i < IPMI_ANSWERS_MAX; i++) {
                uint64_t now_ns = clock_monotonic_ns();
                int left_ms = now_ns < end_ns ? (int)((end_ns - now_ns) / NS_PER_MS) : 0, r;

                r = poll(&device, 1, left_ms);
                if (r == 0)
                        return -ETIMEDOUT;
                if (r < 0 && errno != EINTR)
                        return -errno;
                r = r > 0 ? receive(s) : 0;
                if (r < 0 && r != -EAGAIN)
                        return r;
        }
        return s->asked ? -ETIMEDOUT : s->error;
}

static enum provenance device_provenance(int fd, const char *procfs_root)
{
        struct processor cpu;
        struct stat st;

        if (fstat(fd, &st) < 0 || !S_ISCHR(st.st_mode))
                return PROVENANCE_SIMULATED;
        processor_read(procfs_root, &cpu);
        return cpu.hypervisor ? PROVENANCE_VIRTUAL : PROVENANCE_MEASURED;
}

static int ipmi_open(const struct power_source_options *options, struct power_source **ret, struct err *e)
{
        CLEANUP(ipmi_closep) struct power_source *s = calloc(1, sizeof(*s));
        const char *device = options->ipmi_device;
        int r;

        if (!s)
                return err_set(e, -ENOMEM, "out of memory");
        s->fd = open(device, O_RDWR | O_NONBLOCK | O_CLOEXEC);
        if (s->fd < 0 && (errno == ENOENT || errno == ENXIO || errno == ENODEV))
                return err_set(e, -ENOENT,
                               "no '%s': no management controller, or the kernel modules ipmi_si and "
                               "ipmi_devintf are not loaded",
                               device);
        if (s->fd < 0)
                return err_sys(e, "cannot open '%s'", device);
        s->provenance = device_provenance(s->fd, options->procfs_root);
        r = ask(s);
        if (r == 0)
                r = await(s, IPMI_PROBE_MS);
        if (r == -EOPNOTSUPP)
                return err_set(e, -ENOENT, "the management controller at '%s' does not tell power (DCMI)",
                               device);
        if (r == -ENODATA)
                return err_set(e, r, "the management controller at '%s' does not measure power just now",
                               device);
        if (r < 0)
                return err_set(e, r, "no power reading from '%s': %s", device, strerror(-r));
        *ret = TAKE(s);
        return 0;
}

/* A new answer, or the last one while it is not too old. */
static int get_watts(struct power_source *s, uint64_t duration_ns)
{
        int r = 0;

        s->answer_ago += duration_ns;
        s->asked_ago += duration_ns;
        if (s->asked) /* late? */
                (void)await(s, 0);
        if (!s->asked || s->asked_ago > IPMI_STALE_NS)
                r = ask(s);
        if (r == 0)
                r = await(s, IPMI_WAIT_MS);
        if (r < 0 && r != -ETIMEDOUT && r != -EBUSY)
                return r;
        return s->answer_ago > IPMI_STALE_NS ? -ETIMEDOUT : 0;
}

static int ipmi_read(struct power_source *s, const struct power_context *context, struct power_reading *ret,
                     struct err *e)
{
        int error = get_watts(s, context->duration_ns);

        (void)e; /* no answer is a gap, not a failure of the source */
        ret->provenance = s->provenance;
        meter_platform(&s->meter, "ipmi", "dcmi", error, s->watts, context->duration_ns, ret);
        return 1;
}

const struct power_source_ops power_source_ipmi = {
        .name = "ipmi",
        .group = "platform",
        .open = ipmi_open,
        .read = ipmi_read,
        .close = ipmi_close,
};
