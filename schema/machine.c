/* SPDX-License-Identifier: Apache-2.0 */
/* Reads <procfs>/cpuinfo, meminfo and the boot id, <sysfs>'s frequency limit and PMU name, /etc/machine-id
 * and the environment. Everything but the boot id may be missing: its field then stays empty or zero. */
#include "schema/machine.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <string.h>
#include <strings.h>
#include "common/file.h"
#include "common/hash.h"
#include "common/num.h"

#define CPUINFO_MAX  ((size_t)16 << 20) /* bytes; a thousand CPUs need about 2 MiB */
#define MEMINFO_MAX  ((size_t)64 << 10)
#define CHIPS_MAX    256 /* distinct physical ids that are told apart */
#define MACHINE_ID   "/etc/machine-id"
#define KIB_PER_GIB  (1ULL << 20)
#define MACHINE_PATH 4096

/* What /proc/cpuinfo says, folded over its CPUs. */
struct cpuinfo {
        char brand[MACHINE_TEXT_MAX];
        char vendor[MACHINE_TEXT_MAX];
        char family[MACHINE_TEXT_MAX];
        int cores;
        int physical_ids[CHIPS_MAX];
        int chips;
        double mhz_sum; /* the current frequency differs by CPU and moment */
        int mhz_n;
};

/* Cut where it does not fit: these are words for people and for matching. */
static void copy_text(char ret[MACHINE_TEXT_MAX], const char *text, size_t size)
{
        if (size >= MACHINE_TEXT_MAX)
                size = MACHINE_TEXT_MAX - 1;
        memcpy(ret, text, size);
        ret[size] = '\0';
}

/* ---- the processor's name ---- */

/* Length of "2.30GHz", "64-Bit Multi-Core" and the like at the start of s; 0 when there is none. */
static size_t match_numbered(const char *s)
{
        size_t n = strspn(s, "0123456789");

        if (n == 0)
                return 0;
        if (strncmp(s + n, "-Bit Multi-Core", 15) == 0)
                return n + 15;
        n = strspn(s, "0123456789.");
        return strncasecmp(s + n, "ghz", 3) == 0 || strncasecmp(s + n, "mhz", 3) == 0 ? n + 3 : 0;
}

/* Length of what upstream removes from a brand string, at the start of s. */
static size_t match_noise(const char *s, bool number_may_start)
{
        static const char *const noise[] = { "(R)",       "(r)", "CPU",      "Processor",
                                             "processor", "@",   "\xc2\xae", "," };

        for (size_t i = 0; i < ARRAY_SIZE(noise); i++)
                if (strncmp(s, noise[i], strlen(noise[i])) == 0)
                        return strlen(noise[i]);
        return number_may_start ? match_numbered(s) : 0;
}

/* "_v4" becomes "v4", as in intel_xeon_e5_2686v4. */
static void join_versions(char *s)
{
        char *to = s;

        for (; *s; s++)
                if (s[0] != '_' || s[1] != 'v')
                        *to++ = *s;
        *to = '\0';
}

void machine_format_processor(const char *brand, char ret[MACHINE_TEXT_MAX])
{
        bool blank = false, in_number = false;
        size_t n = 0;

        while (*brand && n + 2 < MACHINE_TEXT_MAX) {
                size_t skip = match_noise(brand, !in_number);

                if (skip > 0) {
                        brand += skip;
                        continue;
                }
                if (*brand == '(' || *brand == '[')
                        break; /* upstream's Python cuts here: "Core(TM) i7" is "core" */
                in_number = isdigit((unsigned char)*brand) || *brand == '.';
                if (isspace((unsigned char)*brand)) {
                        blank = n > 0; /* runs of blanks are one; none at either end */
                } else {
                        if (blank)
                                ret[n++] = '_';
                        blank = false;
                        ret[n++] = *brand == '-' ? '_' : (char)tolower((unsigned char)*brand);
                }
                brand++;
        }
        ret[n] = '\0';
        join_versions(ret);
}

/* ---- /proc and /sys ---- */

static void fold_physical_id(struct cpuinfo *c, const char *value)
{
        uint64_t id;

        if (num_parse_u64(value, &id) < 0 || id > INT_MAX)
                return;
        for (int i = 0; i < c->chips; i++)
                if (c->physical_ids[i] == (int)id)
                        return;
        if (c->chips < CHIPS_MAX)
                c->physical_ids[c->chips++] = (int)id;
}

static void fold_line(struct cpuinfo *c, const char *key, const char *value)
{
        double mhz;

        if (strcmp(key, "processor") == 0)
                c->cores++;
        else if (strcmp(key, "model name") == 0 && !c->brand[0])
                copy_text(c->brand, value, strlen(value));
        else if (strcmp(key, "vendor_id") == 0 && !c->vendor[0])
                copy_text(c->vendor, value, strlen(value));
        else if (strcmp(key, "cpu family") == 0 && !c->family[0])
                copy_text(c->family, value, strlen(value));
        else if (strcmp(key, "physical id") == 0)
                fold_physical_id(c, value);
        else if (strcmp(key, "cpu MHz") == 0 && num_parse_double(value, &mhz) == 0) {
                c->mhz_sum += mhz;
                c->mhz_n++;
        }
}

/* Split "key<blanks>: value" in place. */
static bool split_line(char *line, const char **ret_key, const char **ret_value)
{
        char *colon = strchr(line, ':');
        char *end = colon;

        if (!colon)
                return false;
        while (end > line && isspace((unsigned char)end[-1]))
                end--;
        *end = '\0';
        *ret_key = line;
        *ret_value = colon + 1 + strspn(colon + 1, " \t");
        return true;
}

static int root_path(char ret[MACHINE_PATH], const char *root, const char *name)
{
        return path_join(ret, MACHINE_PATH, root, name);
}

static void read_cpuinfo(const char *procfs_root, struct cpuinfo *c)
{
        struct buf text;
        char path[MACHINE_PATH], *rest, *line;
        const char *key, *value;

        buf_init(&text, CPUINFO_MAX);
        if (root_path(path, procfs_root, "cpuinfo") == 0 && file_read(path, &text, NULL) == 0) {
                rest = text.data;
                while ((line = strsep(&rest, "\n")))
                        if (split_line(line, &key, &value))
                                fold_line(c, key, value);
        }
        buf_done(&text);
}

static int read_memory_gib(const char *procfs_root)
{
        struct buf text;
        char path[MACHINE_PATH];
        unsigned long long kib = 0;
        const char *line;

        buf_init(&text, MEMINFO_MAX);
        if (root_path(path, procfs_root, "meminfo") == 0 && file_read(path, &text, NULL) == 0 && text.data) {
                line = strstr(text.data, "MemTotal:");
                if (line)
                        kib = strtoull(line + strlen("MemTotal:"), NULL, 10);
        }
        buf_done(&text);
        return kib / KIB_PER_GIB > INT_MAX ? 0 : (int)(kib / KIB_PER_GIB);
}

/* The upper limit where the kernel knows one, else the mean of what the CPUs run at; a multiple of 100. */
static int read_frequency_mhz(const char *sysfs_root, const struct cpuinfo *c)
{
        char path[MACHINE_PATH];
        unsigned long long khz;
        double mhz = c->mhz_n ? c->mhz_sum / c->mhz_n : 0;

        if (root_path(path, sysfs_root, "devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq") == 0 &&
            file_read_u64(AT_FDCWD, path, &khz) == 0)
                mhz = (double)khz / 1000;
        return mhz > 0 && mhz < 1e6 ? (int)(round(mhz / 100) * 100) : 0;
}

/* ---- identity ---- */

static void find_node_name(char ret[MACHINE_TEXT_MAX])
{
        const char *set = getenv("NODE_NAME");
        char host[256] = "";

        if (!set || !*set) {
                (void)gethostname(host, sizeof(host) - 1); /* stays "" when it fails */
                set = host[0] ? host : "localhost";
        }
        copy_text(ret, set, strlen(set));
}

/* The machine id must not leave the machine as it is (machine-id(5)), so it is hashed. */
static void find_node_id(const char *node_name, char ret[33])
{
        char id[64], salted[sizeof("wattloop") + MACHINE_TEXT_MAX], hex[HASH_HEX_SIZE];
        int n = file_read_small(AT_FDCWD, MACHINE_ID, id, sizeof(id));
        bool usable = n == 32 && strspn(id, "0123456789abcdefABCDEF") == 32; /* not "uninitialized" */

        n = snprintf(salted, sizeof(salted), "wattloop%s", usable ? id : node_name);
        hash_sha256_hex(salted, (size_t)n, hex);
        memcpy(ret, hex, 32);
        ret[32] = '\0';
}

static int find_boot_id(const char *procfs_root, char ret[37], struct err *e)
{
        char path[MACHINE_PATH];
        int r;

        r = root_path(path, procfs_root, "sys/kernel/random/boot_id");
        if (r == 0)
                r = file_read_small(AT_FDCWD, path, ret, 37);
        if (r < 0)
                return err_set(e, r, "cannot read the boot id in '%s': %s", path, strerror(-r));
        return r > 0 ? 0 : err_set(e, -EBADMSG, "the boot id in '%s' is empty", path);
}

static void find_architecture(const char *sysfs_root, const struct cpuinfo *c, char ret[MACHINE_TEXT_MAX])
{
        const char *set = getenv("CPU_ARCH_OVERRIDE");
        char path[MACHINE_PATH];

        if (set && *set) {
                copy_text(ret, set, strlen(set));
                return;
        }
        if (root_path(path, sysfs_root, "devices/cpu/caps/pmu_name") == 0 &&
            file_read_small(AT_FDCWD, path, ret, MACHINE_TEXT_MAX) > 0)
                return; /* "skylake" */
        (void)snprintf(ret, MACHINE_TEXT_MAX, "%.64s%s%.32s", c->vendor[0] ? c->vendor : "unknown",
                       c->family[0] ? " family " : "", c->family); /* always fits */
}

int machine_discover(const char *procfs_root, const char *sysfs_root, struct machine *ret, struct err *e)
{
        struct machine m = { 0 };
        struct cpuinfo c = { 0 };
        int r;

        r = find_boot_id(procfs_root, m.boot_id, e);
        if (r < 0)
                return r;
        find_node_name(m.node_name);
        find_node_id(m.node_name, m.node_id);

        read_cpuinfo(procfs_root, &c);
        machine_format_processor(c.brand, m.spec.processor);
        m.spec.cores = c.cores > 0 ? c.cores : (int)sysconf(_SC_NPROCESSORS_ONLN);
        m.spec.chips = c.chips > 0 ? c.chips : 1;
        m.spec.memory = read_memory_gib(procfs_root);
        m.spec.frequency = read_frequency_mhz(sysfs_root, &c);
        find_architecture(sysfs_root, &c, m.cpu_architecture);

        *ret = m;
        return 0;
}

/* ---- JSON ---- */

static const struct {
        const char *key, *enum_key; /* the second is what upstream writes on Python 3.11 and later */
        size_t offset;
} spec_numbers[] = {
        { "cores", "NodeAttribute.CORES", offsetof(struct machine_spec, cores) },
        { "chips", "NodeAttribute.CHIPS", offsetof(struct machine_spec, chips) },
        { "memory", "NodeAttribute.MEMORY", offsetof(struct machine_spec, memory) },
        { "frequency", "NodeAttribute.FREQUENCY", offsetof(struct machine_spec, frequency) },
};

static int *spec_number(struct machine_spec *spec, size_t i)
{
        return (int *)((char *)spec + spec_numbers[i].offset);
}

json_t *machine_spec_to_json(const struct machine_spec *spec)
{
        struct machine_spec s = *spec;
        CLEANUP(json_decrefp) json_t *object = json_object();
        int r = object ? 0 : -1;

        if (r == 0 && s.processor[0])
                r = json_object_set_new(object, "processor", json_string(s.processor));
        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(spec_numbers); i++)
                if (*spec_number(&s, i) > 0)
                        r = json_object_set_new(object, spec_numbers[i].key,
                                                json_integer(*spec_number(&s, i)));
        return r == 0 ? TAKE(object) : NULL;
}

static int read_number(const json_t *value, const char *key, int *ret, struct err *e)
{
        double v;

        if (!value || json_is_null(value))
                return 0;
        if (json_is_number(value))
                v = json_number_value(value);
        else if (!json_is_string(value))
                return err_set(e, -EBADMSG, "machine spec: '%s' is not a number", key);
        else if (json_string_length(value) == 0)
                return 0;
        else if (num_parse_double(json_string_value(value), &v) < 0)
                return err_set(e, -EBADMSG, "machine spec: '%s' is not a number", key);

        if (!(v < INT_MAX))
                return err_set(e, -EBADMSG, "machine spec: '%s' is out of range", key);
        *ret = v > 0 ? (int)v : 0;
        return 0;
}

int machine_spec_from_json(const json_t *object, struct machine_spec *ret, struct err *e)
{
        struct machine_spec spec = { 0 };
        const json_t *value;
        int r;

        if (!json_is_object(object))
                return err_set(e, -EBADMSG, "machine spec is not an object");
        value = json_object_get(object, "processor");
        if (!value)
                value = json_object_get(object, "NodeAttribute.PROCESSOR");
        if (value && !json_is_null(value)) {
                if (!json_is_string(value) || json_string_length(value) >= MACHINE_TEXT_MAX)
                        return err_set(e, -EBADMSG,
                                       "machine spec: 'processor' is not a string of at most %d bytes",
                                       MACHINE_TEXT_MAX - 1);
                copy_text(spec.processor, json_string_value(value), json_string_length(value));
        }
        for (size_t i = 0; i < ARRAY_SIZE(spec_numbers); i++) {
                value = json_object_get(object, spec_numbers[i].key);
                if (!value)
                        value = json_object_get(object, spec_numbers[i].enum_key);
                r = read_number(value, spec_numbers[i].key, spec_number(&spec, i), e);
                if (r < 0)
                        return r;
        }
        *ret = spec;
        return 0;
}
