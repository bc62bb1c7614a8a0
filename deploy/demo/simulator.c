/* SPDX-License-Identifier: Apache-2.0 */
/* wattloop-demo-simulator: the power sensors of a machine that has none. It keeps a powercap tree (RAPL) and
 * an hwmon tree (an ACPI power meter) below a directory, in step with what this machine really does, and logs
 * the energy it pretended, for the comparer. It stands alone on purpose: it shares no code with the programs
 * that measure and learn, so an error of theirs cannot cancel out.
 *
 * Activity: exact CPU time of a cgroup (v1 cpuacct.usage, v2 cpu.stat) and pages dirtied (/proc/vmstat).
 *
 *   package  = floor + a steep slope over busy CPUs up to a knee, a flatter one above; 2 % noise
 *   dram     = floor + slope * MB/s dirtied; 2 % noise
 *   platform = (package + dram) / efficiency of the supply + fans
 *
 * No linear model is exact for this package. The coefficients were chosen before anything was trained on
 * them. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#define PACKAGE_FLOOR_W   9.0
#define PACKAGE_STEEP_W   42.0 /* for the whole machine, below the knee */
#define PACKAGE_FLAT_W    30.0 /* above it */
#define PACKAGE_KNEE      0.6  /* share of all CPUs */
#define DRAM_FLOOR_W      2.0
#define DRAM_W_PER_MBPS   0.02
#define DRAM_MAX_MBPS     1500.0 /* a burst is not cheaper, but no memory takes more than this */
#define SUPPLY_EFFICIENCY 0.9
#define FAN_FLOOR_W       6.5
#define NOISE             0.02
#define NOISE_HOLD_NS                                                                                        \
        UINT64_C(250000000) /* one draw lasts so long, so it does not average out within a step */
#define SHUFFLE_HOLD_NS  UINT64_C(1000000000)
#define SHUFFLE_MAX_MBPS 200.0

/* RAPL's range on many machines; the counters start near its end, so that they wrap while the demo records.
 */
#define RANGE_UJ        UINT64_C(262143328850)
#define WRAP_AFTER_UJ   UINT64_C(400000000)
#define METER_STEPS_MAX 256
#define CHILDREN_MAX    256
#define TEXT_MAX        4096

struct options {
        const char *root, *cgroup, *truth, *vmstat;
        unsigned step_ms, meter_ms, cpus;
        unsigned rows, load_percent; /* of a recording */
        uint64_t seed;
        bool shuffle;
};

/* CPU time of one cgroup so far; of the v2 root, the sum over its children, because the root's own account is
 * sampled by ticks while theirs is exact. */
struct child {
        char name[256];
        uint64_t ns;
};
struct activity {
        const char *cgroup, *vmstat;
        struct child children[CHILDREN_MAX];
        size_t n;
        uint64_t cpu_ns; /* total of the positive differences */
        bool primed;
};

struct state {
        const struct options *o;
        struct activity activity;
        uint64_t cpu_ns, dirtied, time_ns; /* at the last step */
        double noise[2];                   /* package, dram: factors now in force */
        uint64_t noise_ns, shuffle_ns;     /* when they were drawn */
        double load, mbps;                 /* shuffled activity now in force */
        double uj[3];                      /* package, dram, platform: energy so far */
        double meter_uj[METER_STEPS_MAX];  /* platform energy of the last steps, a ring */
        uint64_t meter_ns[METER_STEPS_MAX];
        size_t meter_at;
        uint64_t random;
        int truth_fd;
};

static void die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
static void die(const char *fmt, ...)
{
        va_list ap;

        fputs("wattloop-demo-simulator: ", stderr);
        va_start(ap, fmt);
        vfprintf(stderr, fmt, ap);
        va_end(ap);
        fputc('\n', stderr);
        exit(1);
}

static uint64_t now_ns(clockid_t clock)
{
        struct timespec t;

        clock_gettime(clock, &t);
        return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* xorshift64*: the same seed gives the same noise everywhere. */
static double uniform(uint64_t *state)
{
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        return (double)((*state * UINT64_C(2685821657736338717)) >> 11) / 9007199254740992.0;
}

static double normal(uint64_t *state)
{
        double u = 1.0 - uniform(state), v = uniform(state);

        return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

static int read_text(const char *path, char ret[TEXT_MAX])
{
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n;

        if (fd < 0)
                return -errno;
        n = read(fd, ret, TEXT_MAX - 1);
        close(fd);
        if (n < 0)
                return -EIO;
        ret[n] = '\0';
        return 0;
}

/* The number after `key ` at the start of a line. */
static bool find_number(const char *text, const char *key, uint64_t *ret)
{
        size_t n = strlen(key);

        for (const char *line = text; line; line = strchr(line, '\n')) {
                line += *line == '\n';
                if (!strncmp(line, key, n) && line[n] == ' ') {
                        *ret = strtoull(line + n + 1, NULL, 10);
                        return true;
                }
                if (!*line)
                        break;
        }
        return false;
}

static bool cgroup_cpu_ns(const char *dir, uint64_t *ret)
{
        char path[TEXT_MAX], text[TEXT_MAX];
        uint64_t usec;

        if (snprintf(path, sizeof(path), "%s/cpuacct.usage", dir) < (int)sizeof(path) &&
            !read_text(path, text)) {
                *ret = strtoull(text, NULL, 10);
                return true;
        }
        if (snprintf(path, sizeof(path), "%s/cpu.stat", dir) >= (int)sizeof(path) || read_text(path, text) ||
            !find_number(text, "usage_usec", &usec))
                return false;
        *ret = usec * 1000;
        return true;
}

/* The root of the v2 hierarchy is the one cgroup without a type. */
static bool is_v2_root(const char *dir)
{
        char path[TEXT_MAX];

        if (snprintf(path, sizeof(path), "%s/cgroup.procs", dir) >= (int)sizeof(path) || access(path, F_OK))
                return false;
        if (snprintf(path, sizeof(path), "%s/cpuacct.usage", dir) >= (int)sizeof(path) || !access(path, F_OK))
                return false;
        snprintf(path, sizeof(path), "%s/cgroup.type", dir);
        return access(path, F_OK) != 0;
}

static void add_total(struct activity *a, const char *name, uint64_t ns)
{
        size_t i = 0;

        while (i < a->n && strcmp(a->children[i].name, name))
                i++;
        if (i == a->n) {
                if (a->n == CHILDREN_MAX)
                        return;
                snprintf(a->children[i].name, sizeof(a->children[i].name), "%s", name);
                /* A cgroup that appears later did all its work since then. */
                a->children[i].ns = a->primed ? 0 : ns;
                a->n++;
        }
        if (ns > a->children[i].ns)
                a->cpu_ns += ns - a->children[i].ns;
        a->children[i].ns = ns;
}

static void read_children(struct activity *a)
{
        DIR *dir = opendir(a->cgroup);
        char path[TEXT_MAX];
        uint64_t ns;

        if (!dir)
                die("cannot list '%s': %s", a->cgroup, strerror(errno));
        for (struct dirent *d; (d = readdir(dir));)
                if (d->d_type == DT_DIR && d->d_name[0] != '.' &&
                    snprintf(path, sizeof(path), "%s/%s", a->cgroup, d->d_name) < (int)sizeof(path) &&
                    cgroup_cpu_ns(path, &ns))
                        add_total(a, d->d_name, ns);
        closedir(dir);
}

static void read_activity(struct activity *a, uint64_t *ret_cpu_ns, uint64_t *ret_dirtied)
{
        static char text[TEXT_MAX * 4];
        uint64_t ns;
        ssize_t n;
        int fd;

        if (is_v2_root(a->cgroup))
                read_children(a);
        else if (cgroup_cpu_ns(a->cgroup, &ns))
                add_total(a, "", ns);
        else
                die("cannot read the CPU time of cgroup '%s'", a->cgroup);
        a->primed = true;

        fd = open(a->vmstat, O_RDONLY | O_CLOEXEC);
        n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
        if (n < 0)
                die("cannot read '%s': %s", a->vmstat, strerror(errno));
        close(fd);
        text[n] = '\0';
        if (!find_number(text, "nr_dirtied", ret_dirtied))
                die("'%s' has no nr_dirtied", a->vmstat);
        *ret_cpu_ns = a->cpu_ns;
}

/* Replace a file in one step, so that no reader ever sees half a number. Two files take turns: exchanging
 * them is as atomic as a rename, without the flush that file systems attach to a rename onto an existing
 * file. */
static void publish(const char *root, const char *name, uint64_t value)
{
        char path[TEXT_MAX], next[TEXT_MAX], text[32];
        int n = snprintf(text, sizeof(text), "%" PRIu64 "\n", value), fd;

        snprintf(path, sizeof(path), "%s/%s", root, name);
        snprintf(next, sizeof(next), "%s/.next-%s", root, strrchr(name, '/') + 1);
        fd = open(next, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (fd < 0 || write(fd, text, (size_t)n) != n)
                die("cannot write '%s': %s", next, strerror(errno));
        close(fd);
        if (renameat2(AT_FDCWD, next, AT_FDCWD, path, RENAME_EXCHANGE) && rename(next, path))
                die("cannot publish '%s': %s", path, strerror(errno));
}

static void put(const char *root, const char *name, const char *text)
{
        char path[TEXT_MAX];
        FILE *f;

        snprintf(path, sizeof(path), "%s/%s", root, name);
        for (char *p = path + strlen(root) + 1; (p = strchr(p, '/')); *p++ = '/') {
                *p = '\0';
                if (mkdir(path, 0755) && errno != EEXIST)
                        die("cannot make '%s': %s", path, strerror(errno));
        }
        f = fopen(path, "we");
        if (!f || fputs(text, f) < 0 || fclose(f))
                die("cannot write '%s': %s", path, strerror(errno));
}

static void put_link(const char *root, const char *name, const char *target)
{
        char path[TEXT_MAX];

        snprintf(path, sizeof(path), "%s/%s", root, name);
        if (symlink(target, path) && errno != EEXIST)
                die("cannot make '%s': %s", path, strerror(errno));
}

#define ZONE  "devices/virtual/powercap/intel-rapl/intel-rapl:0"
#define METER "class/hwmon/hwmon0"

/* The kernel's own layout: zones nested below devices/, and all of them side by side as links in class/. */
static void make_tree(const struct options *o)
{
        char range[32], interval[32];

        if (mkdir(o->root, 0755) && errno != EEXIST)
                die("cannot make '%s': %s", o->root, strerror(errno));
        snprintf(range, sizeof(range), "%" PRIu64 "\n", RANGE_UJ);
        snprintf(interval, sizeof(interval), "%u\n", o->meter_ms);
        put(o->root, ZONE "/name", "package-0\n");
        put(o->root, ZONE "/max_energy_range_uj", range);
        put(o->root, ZONE "/energy_uj", "0\n");
        put(o->root, ZONE "/intel-rapl:0:0/name", "dram\n");
        put(o->root, ZONE "/intel-rapl:0:0/max_energy_range_uj", range);
        put(o->root, ZONE "/intel-rapl:0:0/energy_uj", "0\n");
        put(o->root, "class/powercap/.simulated", "");
        put_link(o->root, "class/powercap/intel-rapl", "../../devices/virtual/powercap/intel-rapl");
        put_link(o->root, "class/powercap/intel-rapl:0", "../../" ZONE);
        put_link(o->root, "class/powercap/intel-rapl:0:0", "../../" ZONE "/intel-rapl:0:0");
        put(o->root, METER "/name", "power_meter\n");
        put(o->root, METER "/power1_average_interval", interval);
        put(o->root, METER "/power1_average", "0\n");
}

static void draw(struct state *s, uint64_t t)
{
        if (t - s->noise_ns >= NOISE_HOLD_NS) {
                s->noise_ns = t;
                for (int i = 0; i < 2; i++)
                        s->noise[i] = 1.0 + NOISE * normal(&s->random);
        }
        if (t - s->shuffle_ns >= SHUFFLE_HOLD_NS) {
                s->shuffle_ns = t;
                s->load = uniform(&s->random);
                s->mbps = SHUFFLE_MAX_MBPS * uniform(&s->random);
        }
}

/* Watts of package and dram for a load (0…1 of all CPUs) and a rate of dirtied memory. */
static void model_power(double load, double mbps, const double noise[2], double ret_watts[2])
{
        double below = fmin(load, PACKAGE_KNEE), above = fmax(load - PACKAGE_KNEE, 0);

        ret_watts[0] = (PACKAGE_FLOOR_W + PACKAGE_STEEP_W * below + PACKAGE_FLAT_W * above) * noise[0];
        ret_watts[1] = (DRAM_FLOOR_W + DRAM_W_PER_MBPS * fmin(mbps, DRAM_MAX_MBPS)) * noise[1];
}

/* Mean platform power over the last meter_ms, as the meter of a real machine shows it. */
static uint64_t meter_uw(const struct state *s)
{
        size_t want = s->o->meter_ms / s->o->step_ms,
               last = (s->meter_at + METER_STEPS_MAX - 1) % METER_STEPS_MAX;
        double uj = 0;
        uint64_t ns = 0;

        for (size_t i = 0; i < want; i++) {
                size_t at = (last + METER_STEPS_MAX - i) % METER_STEPS_MAX;

                uj += s->meter_uj[at];
                ns += s->meter_ns[at];
        }
        return ns ? (uint64_t)(uj / ((double)ns / 1e9)) : 0;
}

static void step(struct state *s)
{
        uint64_t t = now_ns(CLOCK_MONOTONIC), wall = now_ns(CLOCK_REALTIME), cpu_ns, dirtied, dt;
        double watts[2], platform, load, mbps;
        char line[160];
        int n;

        read_activity(&s->activity, &cpu_ns, &dirtied);
        dt = t - s->time_ns;
        if (!dt)
                return;
        draw(s, t);
        load = s->o->shuffle ? s->load : (double)(cpu_ns - s->cpu_ns) / (double)dt / s->o->cpus;
        mbps = s->o->shuffle
                       ? s->mbps
                       : (double)(dirtied - s->dirtied) * (double)sysconf(_SC_PAGESIZE) * 1e3 / (double)dt;
        model_power(fmin(load, 1.0), mbps, s->noise, watts);
        platform = (watts[0] + watts[1]) / SUPPLY_EFFICIENCY + FAN_FLOOR_W;

        s->uj[0] += watts[0] * (double)dt / 1e3;
        s->uj[1] += watts[1] * (double)dt / 1e3;
        s->uj[2] += platform * (double)dt / 1e3;
        s->meter_uj[s->meter_at] = platform * (double)dt / 1e3;
        s->meter_ns[s->meter_at] = dt;
        s->meter_at = (s->meter_at + 1) % METER_STEPS_MAX;
        s->time_ns = t;
        s->cpu_ns = cpu_ns;
        s->dirtied = dirtied;

        publish(s->o->root, ZONE "/energy_uj", (RANGE_UJ - WRAP_AFTER_UJ + (uint64_t)s->uj[0]) % RANGE_UJ);
        publish(s->o->root, ZONE "/intel-rapl:0:0/energy_uj",
                (RANGE_UJ - WRAP_AFTER_UJ / 10 + (uint64_t)s->uj[1]) % RANGE_UJ);
        publish(s->o->root, METER "/power1_average", meter_uw(s));
        n = snprintf(line, sizeof(line), "%" PRIu64 " %.0f %.0f %.0f\n", wall, s->uj[0], s->uj[1], s->uj[2]);
        if (write(s->truth_fd, line, (size_t)n) != n)
                die("cannot write '%s': %s", s->o->truth, strerror(errno));
}

/* ---- a recording: what a training node would have uploaded, with invented activity and the power of the
 * same curve ---- */

#define RECORDING_STEP_MS 3000
#define PAGES_PER_MB      (1e6 / 4096)
#define IRQ_MAX           3000.0

enum { CPU, CACHE, NET_TX, NET_RX, BLOCK, PACKAGE, DRAM, SECONDS, NODE, INFO, SERIES };

#define CONTAINER                                                                                            \
        ",\"container_id\":\"system_processes\",\"container_name\":\"system_processes\",\"container_"        \
        "namespace\":\"system\",\"pod_name\":\"system_processes\",\"source\":\"bpf\""
#define SENSOR ",\"mode\":\"dynamic\",\"package\":\"0\",\"source\":\"simulated\""
static const char *const series[SERIES][2] = {
        [CPU] = { "kepler_container_bpf_cpu_time_ms_total", CONTAINER },
        [CACHE] = { "kepler_container_bpf_page_cache_hit_total", CONTAINER },
        [NET_TX] = { "kepler_container_bpf_net_tx_irq_total", CONTAINER },
        [NET_RX] = { "kepler_container_bpf_net_rx_irq_total", CONTAINER },
        [BLOCK] = { "kepler_container_bpf_block_irq_total", CONTAINER },
        [PACKAGE] = { "kepler_node_package_joules_total", SENSOR },
        [DRAM] = { "kepler_node_dram_joules_total", SENSOR },
        [SECONDS] = { "wattloop_node_measured_seconds_total", "" },
        [NODE] = { "wattloop_node",
                   ",\"batch_version\":\"1\",\"boot_id\":\"demo\",\"definition\":\"exact\",\"feature_"
                   "source\":\"bpf\","
                   "\"processor\":\"demo\",\"chips\":\"1\",\"memory\":\"8\",\"frequency\":\"2000\"" },
        [INFO] = { "kepler_node_info", ",\"cpu_architecture\":\"demo\",\"source\":\"os\"" },
};

static void record_interval(const struct options *o, uint64_t *random, double totals[SERIES])
{
        double load = uniform(random) * o->load_percent / 100, mbps = uniform(random) * SHUFFLE_MAX_MBPS;
        double noise[2] = { 1 + NOISE * normal(random), 1 + NOISE * normal(random) }, watts[2];
        const double seconds = RECORDING_STEP_MS / 1e3;

        model_power(load, mbps, noise, watts);
        totals[CPU] += load * o->cpus * 1e3 * seconds;
        totals[CACHE] += mbps * PAGES_PER_MB / 1e6 * seconds;
        for (int i = NET_TX; i <= BLOCK; i++)
                totals[i] += floor(uniform(random) * IRQ_MAX) * seconds;
        totals[PACKAGE] += watts[0] * seconds;
        totals[DRAM] += watts[1] * seconds;
        totals[SECONDS] += seconds;
}

/* A batch as the trainer-client sends it: a JSON line per series. The last interval ended just now. */
static void record(const struct options *o)
{
        uint64_t random = o->seed * UINT64_C(0x9E3779B97F4A7C15), end_ms = now_ns(CLOCK_REALTIME) / 1000000;
        double(*totals)[SERIES] = calloc(o->rows + 1, sizeof(*totals));

        if (!totals)
                die("out of memory");
        for (unsigned i = 0; i <= o->rows; i++) {
                if (i) {
                        memcpy(totals[i], totals[i - 1], sizeof(*totals));
                        record_interval(o, &random, totals[i]);
                }
                totals[i][NODE] = totals[i][INFO] = 1;
        }
        for (int s = 0; s < SERIES; s++) {
                printf("{\"metric\":{\"__name__\":\"%s\",\"job\":\"wattloop\",\"instance\":\"recorded\","
                       "\"node_id\":\"%032" PRIx64 "\",\"epoch\":\"e\"%s",
                       series[s][0], o->seed, series[s][1]);
                if (s == NODE)
                        printf(",\"cores\":\"%u\"", o->cpus);
                printf("},\"values\":[");
                for (unsigned i = 0; i <= o->rows; i++)
                        printf("%s%.6f", i ? "," : "", totals[i][s]);
                printf("],\"timestamps\":[");
                for (unsigned i = 0; i <= o->rows; i++)
                        printf("%s%" PRIu64, i ? "," : "",
                               end_ms - (uint64_t)(o->rows - i) * RECORDING_STEP_MS);
                printf("]}\n");
        }
        free(totals);
}

static unsigned number(const char *name, const char *text, unsigned min, unsigned max)
{
        char *end;
        unsigned long v = strtoul(text, &end, 10);

        if (*end || end == text || v < min || v > max) {
                fprintf(stderr, "wattloop-demo-simulator: --%s must be between %u and %u, not '%s'\n", name,
                        min, max, text);
                exit(2);
        }
        return (unsigned)v;
}

static const char usage[] =
        "usage: wattloop-demo-simulator --root DIR --cgroup DIR --truth FILE [--step-ms N] [--meter-ms N]\n"
        "                               [--seed N] [--shuffle]\n"
        "       wattloop-demo-simulator --recording ROWS [--load PERCENT] [--seed N]\n"
        "Keeps simulated power sensors below --root, driven by the CPU time of --cgroup and by pages "
        "dirtied.\n"
        "Appends 'wall_ns package_uj dram_uj platform_uj' to --truth at each step. --shuffle: power that "
        "has\n"
        "nothing to do with activity. Ends on SIGTERM, SIGINT or when its parent ends.\n"
        "--recording prints a batch for a model server: so many intervals of invented activity, up to "
        "--load, "
        "and their power.\n";

static void parse(int argc, char **argv, struct options *o)
{
        static const struct option longs[] = {
                { "root", required_argument, NULL, 'r' },
                { "cgroup", required_argument, NULL, 'c' },
                { "truth", required_argument, NULL, 't' },
                { "step-ms", required_argument, NULL, 's' },
                { "meter-ms", required_argument, NULL, 'm' },
                { "seed", required_argument, NULL, 'd' },
                { "shuffle", no_argument, NULL, 'x' },
                { "recording", required_argument, NULL, 'n' },
                { "load", required_argument, NULL, 'l' },
                { "help", no_argument, NULL, 'h' },
                { NULL, 0, NULL, 0 },
        };

        for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
                switch (c) {
                case 'r':
                        o->root = optarg;
                        break;
                case 'c':
                        o->cgroup = optarg;
                        break;
                case 't':
                        o->truth = optarg;
                        break;
                case 's':
                        o->step_ms = number("step-ms", optarg, 5, 1000);
                        break;
                case 'm':
                        o->meter_ms = number("meter-ms", optarg, 10, 10000);
                        break;
                case 'd':
                        o->seed = number("seed", optarg, 1, 1000000);
                        break;
                case 'n':
                        o->rows = number("recording", optarg, 1, 100000);
                        break;
                case 'l':
                        o->load_percent = number("load", optarg, 1, 100);
                        break;
                case 'x':
                        o->shuffle = true;
                        break;
                case 'h':
                        fputs(usage, stdout);
                        exit(0);
                default:
                        exit(2);
                }
        }
        if (o->rows && optind == argc)
                return;
        if (!o->root || !o->cgroup || !o->truth || optind != argc || o->meter_ms < o->step_ms ||
            o->meter_ms / o->step_ms > METER_STEPS_MAX) {
                fputs(usage, stderr);
                exit(2);
        }
}

static int make_timer(unsigned step_ms)
{
        struct timespec t = { step_ms / 1000, (long)(step_ms % 1000) * 1000000 };
        struct itimerspec every = { t, t };
        int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);

        if (fd < 0 || timerfd_settime(fd, 0, &every, NULL))
                die("no timer: %s", strerror(errno));
        return fd;
}

static int make_signals(void)
{
        sigset_t set;
        int fd;

        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        sigaddset(&set, SIGINT);
        sigprocmask(SIG_BLOCK, &set, NULL);
        fd = signalfd(-1, &set, SFD_CLOEXEC);
        if (fd < 0)
                die("no signalfd: %s", strerror(errno));
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        return fd;
}

int main(int argc, char **argv)
{
        static struct state s;
        struct options o = {
                .vmstat = "/proc/vmstat", .step_ms = 25, .meter_ms = 500, .seed = 42, .load_percent = 100
        };
        struct pollfd fds[2];
        uint64_t expired;

        parse(argc, argv, &o);
        o.cpus = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
        if (o.rows) {
                record(&o);
                return 0;
        }
        make_tree(&o);
        s = (struct state){ .o = &o,
                            .activity = { .cgroup = o.cgroup, .vmstat = o.vmstat },
                            .random = o.seed * 2654435761 };
        s.truth_fd = open(o.truth, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        if (s.truth_fd < 0)
                die("cannot open '%s': %s", o.truth, strerror(errno));
        fds[0] = (struct pollfd){ .fd = make_signals(), .events = POLLIN };
        fds[1] = (struct pollfd){ .fd = make_timer(o.step_ms), .events = POLLIN };
        (void)setpriority(PRIO_PROCESS, 0,
                          -15); /* a real counter is not late under load; without permission it may be */
        s.time_ns = now_ns(CLOCK_MONOTONIC);
        read_activity(&s.activity, &s.cpu_ns, &s.dirtied);

        for (;;) {
                if (poll(fds, 2, -1) < 0 && errno != EINTR)
                        die("poll: %s", strerror(errno));
                if (fds[0].revents)
                        return 0;
                if (fds[1].revents && read(fds[1].fd, &expired, sizeof(expired)) == sizeof(expired))
                        step(&s);
        }
}
