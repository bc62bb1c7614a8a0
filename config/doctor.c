/* SPDX-License-Identifier: Apache-2.0 */
#include "config/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/json.h"
#include "config/value.h"

#define OUTPUT_MAX   ((size_t)64 << 10) /* of one subcommand */
#define SECRETS_MAX  64
#define SECRET_LEAST 4 /* shorter words are everywhere */
#define SECRET_FILE  ((size_t)64 << 10)
#define LIMIT_MS     20000 /* of each thing that is asked */
#define REACH_MS     3000
#define ARGUMENTS    512
#define MASK         "***"

struct report {
        const struct doctor *doctor;
        char *secrets[SECRETS_MAX]; /* owned */
        size_t secrets_n;
        json_t *root; /* owned */
};

/* ---- secrets ---- */

static bool ends_with(const char *s, const char *end)
{
        size_t n = strlen(s), m = strlen(end);

        return n >= m && strcmp(s + n - m, end) == 0;
}

static bool holds_secret(const char *key)
{
        static const char *const words[] = { "password", "token", "secret", "header", "credential" };
        bool found = false;

        for (size_t i = 0; i < ARRAY_SIZE(words); i++)
                found = found || strstr(key, words[i]);
        return found && !ends_with(key, "_file") && !ends_with(key, ".credentials");
}

static bool names_secret_file(const char *key)
{
        return ends_with(key, "token_file") || ends_with(key, "password_file") ||
               ends_with(key, "key_file") || ends_with(key, ".credentials") || ends_with(key, "tls.key");
}

/* Its words, since a line "node token" or "name: value" is known by parts, too. */
static void keep_secret(struct report *r, const char *text)
{
        while (*(text += strspn(text, " \t\r\n:,\"'")) && r->secrets_n < SECRETS_MAX) {
                size_t n = strcspn(text, " \t\r\n:,\"'");

                if (n >= SECRET_LEAST && (r->secrets[r->secrets_n] = strndup(text, n)))
                        r->secrets_n++;
                text += n;
        }
}

static void find_secrets(struct report *r)
{
        for (const struct option *o = r->doctor->program->options; o->key; o++) {
                const void *at = (const char *)r->doctor->options + o->offset;

                if (o->type == OPTION_STRING && *(char *const *)at && holds_secret(o->key))
                        keep_secret(r, *(char *const *)at);
                if (o->type == OPTION_STRING && *(char *const *)at && names_secret_file(o->key)) {
                        CLEANUP(buf_done) struct buf text = { 0 };

                        buf_init(&text, SECRET_FILE);
                        if (**(char *const *)at && file_read(*(char *const *)at, &text, NULL) == 0 &&
                            text.data)
                                keep_secret(r, text.data);
                }
                if (o->type == OPTION_LIST && holds_secret(o->key))
                        for (size_t i = 0; i < ((const struct string_list *)at)->n; i++) {
                                const char *item = ((const struct string_list *)at)->items[i];
                                const char *colon = strchr(item, ':');

                                keep_secret(r, colon ? colon : item);
                        }
        }
}

/* Behind "://": name and password before an '@', and a query. Returns where the URL ends. */
static const char *write_url(const char *s, struct buf *out)
{
        size_t n = strcspn(s, " \t\r\n\"'<>"), host = strcspn(s, "/? \t\r\n\"'<>"), query = strcspn(s, "?");
        const char *at = memrchr(s, '@', host), *from = at ? at : s;

        if (at)
                (void)buf_puts(out, MASK);
        if (query < n) {
                (void)buf_append(out, from, (size_t)(s + query - from));
                (void)buf_puts(out, "?" MASK);
        } else {
                (void)buf_append(out, from, (size_t)(s + n - from));
        }
        return s + n;
}

static size_t secret_at(const struct report *r, const char *s)
{
        size_t longest = 0;

        for (size_t i = 0; i < r->secrets_n; i++) {
                size_t n = strlen(r->secrets[i]);

                if (n > longest && strncmp(s, r->secrets[i], n) == 0)
                        longest = n;
        }
        return longest;
}

static void mask_urls(const char *s, struct buf *out)
{
        while (*s) {
                if (strncmp(s, "://", 3) == 0) {
                        (void)buf_puts(out, "://");
                        s = write_url(s + 3, out);
                } else {
                        (void)buf_append(out, s++, 1);
                }
        }
}

/* Without anything secret, and fit for JSON: what is not ASCII becomes '?'. */
static json_t *clean(const struct report *r, const char *text)
{
        CLEANUP(buf_done) struct buf urls = { 0 }, out = { 0 };

        buf_init(&urls, 4 * OUTPUT_MAX);
        buf_init(&out, 4 * OUTPUT_MAX);
        mask_urls(text, &urls);
        for (const char *s = urls.data ? urls.data : ""; *s;) {
                size_t n = secret_at(r, s);

                if (n)
                        (void)buf_puts(&out, MASK);
                else
                        (void)buf_append(&out,
                                         (unsigned char)*s < 0x80 && (*s >= ' ' || *s == '\t') ? s : "?", 1);
                s += n ? n : 1;
        }
        return json_string(out.data ? out.data : "");
}

static json_t *clean_lines(const struct report *r, char *text)
{
        json_t *lines = json_array();
        char *rest = text;

        for (char *line; (line = strsep(&rest, "\n"));)
                if (*line)
                        (void)json_array_append_new(lines, clean(r, line));
        return lines;
}

/* ---- each in a process of its own ---- */

struct question {
        void (*ask)(const void *arg); /* prints what it finds */
        const void *arg;
        int limit_ms;
};

static void be_child(const struct question *q, int fd)
{
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);

        if (null < 0 || dup2(null, 0) < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
                _exit(EXIT_FAILED);
        q->ask(q->arg);
        (void)fflush(stdout);
        _exit(EXIT_DONE);
}

/* "exit 0", "signal 11", "no answer within 20 s" */
static void ask(const struct question *q, struct buf *out, char *ret_how, size_t size)
{
        uint64_t end_ns = clock_monotonic_ns() + (uint64_t)q->limit_ms * NS_PER_MS, now_ns;
        struct pollfd p = { .events = POLLIN };
        int pipe_fds[2], status = 0;
        bool late = false;
        pid_t pid;

        (void)fflush(stdout);
        if (pipe2(pipe_fds, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
                (void)snprintf(ret_how, size, "cannot start a process: %s", strerror(errno));
                return;
        }
        if (pid == 0)
                be_child(q, pipe_fds[1]);
        (void)close(pipe_fds[1]);
        p.fd = pipe_fds[0];
        for (;;) {
                char chunk[4096];
                ssize_t n;

                now_ns = clock_monotonic_ns();
                late = now_ns >= end_ns;
                if (late || poll(&p, 1, (int)((end_ns - now_ns) / NS_PER_MS) + 1) < 0)
                        break;
                n = p.revents ? read(p.fd, chunk, sizeof(chunk)) : -1;
                if (n == 0)
                        break;
                if (n > 0)
                        (void)buf_append(out, chunk, (size_t)n); /* what is too much is left out */
        }
        (void)close(pipe_fds[0]);
        if (late)
                (void)kill(pid, SIGKILL);
        (void)waitpid(pid, &status, 0);
        if (late)
                (void)snprintf(ret_how, size, "no answer within %d s", q->limit_ms / 1000);
        else if (WIFSIGNALED(status))
                (void)snprintf(ret_how, size, "signal %d", WTERMSIG(status));
        else
                (void)snprintf(ret_how, size, "exit %d", WEXITSTATUS(status));
}

/* One line that it prints. */
static json_t *answer(const struct report *r, const struct question *q)
{
        CLEANUP(buf_done) struct buf out = { 0 };
        char how[64];

        buf_init(&out, OUTPUT_MAX);
        ask(q, &out, how, sizeof(how));
        if (out.size)
                out.data[strcspn(out.data, "\n")] = '\0';
        return clean(r, out.size ? out.data : how);
}

/* ---- the machine ---- */

static void put(json_t *object, const char *name, json_t *value)
{
        (void)json_object_set_new(object, name, value);
}

static void put_file(const struct report *r, json_t *object, const char *name, const char *path)
{
        char text[512];
        int n = file_read_small(AT_FDCWD, path, text, sizeof(text));

        put(object, name, n < 0 ? json_sprintf("(%s)", strerror(-n)) : clean(r, text));
}

/* The value of "Key: value" or "KEY=value" in a file, the first time. */
static void put_line(const struct report *r, json_t *object, const char *name, const char *path,
                     const char *key)
{
        CLEANUP(buf_done) struct buf text = { 0 };
        const char *line;

        buf_init(&text, (size_t)1 << 20);
        (void)file_read(path, &text, NULL);
        for (line = text.data ? text.data : ""; *line; line += strcspn(line, "\n"), line += *line == '\n')
                if (strncmp(line, key, strlen(key)) == 0) {
                        CLEANUP(freep) char *value = NULL;

                        line += strlen(key);
                        line += strspn(line, " \t:=\"");
                        value = strndup(line, strcspn(line, "\"\n"));
                        put(object, name, clean(r, value ? value : ""));
                        return;
                }
        put(object, name, json_null());
}

static const char *cgroups(void)
{
        CLEANUP(buf_done) struct buf text = { 0 };
        bool v1, v2;

        buf_init(&text, (size_t)1 << 20);
        (void)file_read("/proc/self/mounts", &text, NULL);
        v2 = text.data && strstr(text.data, " cgroup2 ");
        v1 = text.data && strstr(text.data, " cgroup ");
        return v1 && v2 ? "1 and 2" : v2 ? "2" : v1 ? "1" : "none is mounted";
}

static json_t *describe_machine(const struct report *r)
{
        json_t *m = json_object();
        struct utsname u;

        if (uname(&u) == 0)
                put(m, "kernel", json_sprintf("%s %s %s", u.sysname, u.release, u.machine));
        put_line(r, m, "system", "/etc/os-release", "PRETTY_NAME");
        put_line(r, m, "processor", "/proc/cpuinfo", "model name");
        put(m, "processors", json_integer(sysconf(_SC_NPROCESSORS_ONLN)));
        put_line(r, m, "memory", "/proc/meminfo", "MemTotal");
        put(m, "btf", json_string(access("/sys/kernel/btf/vmlinux", R_OK) == 0 ? "yes" : strerror(errno)));
        put(m, "cgroup", json_string(cgroups()));
        put_file(r, m, "lockdown", "/sys/kernel/security/lockdown");
        put_file(r, m, "unprivileged_bpf_disabled", "/proc/sys/kernel/unprivileged_bpf_disabled");
        put_file(r, m, "perf_event_paranoid", "/proc/sys/kernel/perf_event_paranoid");
        put_file(r, m, "hypervisor", "/sys/hypervisor/type");
        put(m, "powercap",
            json_string(access("/sys/class/powercap/intel-rapl", F_OK) == 0 ? "intel-rapl" : "no rapl"));
        put(m, "uid", json_sprintf("%ld", (long)geteuid()));
        put_line(r, m, "capabilities", "/proc/self/status", "CapEff");
        put_line(r, m, "capabilities_bounding", "/proc/self/status", "CapBnd");
        put_line(r, m, "no_new_privileges", "/proc/self/status", "NoNewPrivs");
        put_line(r, m, "seccomp", "/proc/self/status", "Seccomp");
        return m;
}

/* ---- the configuration ---- */

static char *format_value(const struct option *o, const void *options)
{
        char *text = NULL;
        size_t size = 0;
        FILE *f = open_memstream(&text, &size);

        if (!f)
                return NULL;
        options_print_value(o, options, f);
        (void)fclose(f);
        return text;
}

static json_t *describe_configuration(const struct report *r)
{
        const struct doctor *d = r->doctor;
        json_t *c = json_object(), *settings = json_object();

        put(c, "file", d->file ? json_string(d->file) : json_null());
        if (d->problem)
                put(c, "problem", clean(r, d->problem));
        for (const struct option *o = d->program->options; o->key; o++) {
                CLEANUP(freep)
                char *value = format_value(o, d->options), *usual = format_value(o, d->defaults);

                if (value && usual && strcmp(value, usual) != 0)
                        put(settings, o->key, holds_secret(o->key) ? json_string(MASK) : clean(r, value));
        }
        put(c, "settings", settings); /* but for the defaults */
        return c;
}

/* ---- where it leads ---- */

static void connect_socket(const void *arg)
{
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        (void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", (const char *)arg);
        (void)printf("%s\n", fd >= 0 && connect(fd, (const struct sockaddr *)&a, sizeof(a)) == 0
                                     ? "answers"
                                     : strerror(errno));
}

struct database {
        int (*check)(const char *path, struct err *e);
        const char *path;
};

static void check_database(const void *arg)
{
        const struct database *d = arg;
        struct err e = { "" };

        (void)printf("%s\n", d->check(d->path, &e) == 0 ? "ok" : e.text);
}

static uint32_t be32(const unsigned char *p)
{
        return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* By its header (https://sqlite.org/fileformat.html, 1.3): what is still in the log is not in it. */
static void describe_database(const struct report *r, const char *path, json_t *p)
{
        const struct database database = { r->doctor->program->check_database, path };
        unsigned char head[100];
        CLEANUP(closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        CLEANUP(freep) char *wal = NULL;
        struct stat st;

        if (fd < 0 || pread(fd, head, sizeof(head), 0) != (ssize_t)sizeof(head) ||
            memcmp(head, "SQLite format 3", 16) != 0)
                return;
        put(p, "database_version", json_integer(be32(head + 60)));
        if (asprintf(&wal, "%s-wal", path) > 0 && stat(wal, &st) == 0)
                put(p, "log_bytes", json_integer(st.st_size));
        if (database.check)
                put(p, "integrity", answer(r, &(struct question){ check_database, &database, LIMIT_MS }));
}

static json_t *describe_path(const struct report *r, const char *path)
{
        json_t *p = json_object();
        struct statvfs space;
        struct stat st;

        put(p, "path", clean(r, path));
        if (stat(path, &st) < 0) {
                put(p, "is", json_string(strerror(errno)));
                return p;
        }
        put(p, "is",
            json_string(S_ISDIR(st.st_mode)    ? "directory"
                        : S_ISSOCK(st.st_mode) ? "socket"
                        : S_ISREG(st.st_mode)  ? "file"
                                               : "other"));
        put(p, "mode", json_sprintf("%04o", (unsigned int)(st.st_mode & 07777)));
        put(p, "owner", json_sprintf("%ld:%ld", (long)st.st_uid, (long)st.st_gid));
        if (S_ISREG(st.st_mode)) {
                put(p, "bytes", json_integer(st.st_size));
                describe_database(r, path, p);
        }
        if (S_ISSOCK(st.st_mode))
                put(p, "connection", answer(r, &(struct question){ connect_socket, path, REACH_MS }));
        if (statvfs(path, &space) == 0)
                put(p, "free_bytes", json_integer((json_int_t)(space.f_bavail * space.f_frsize)));
        return p;
}

/* "host:port", or what stands behind http:// and https://. */
static void connect_address(const void *arg)
{
        const char *text = arg, *scheme = strstr(text, "://"), *host = scheme ? scheme + 3 : text, *at, *port;
        const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
        size_t n = strcspn(host, "/?");
        char copy[300], service[16];
        struct addrinfo *found = NULL;
        int r, fd;

        at = memrchr(host, '@', n);
        if (at) {
                n -= (size_t)(at + 1 - host);
                host = at + 1;
        }
        port = memrchr(host, ':', n);
        if (port && memchr(port, ']', n - (size_t)(port - host)))
                port = NULL;
        (void)snprintf(service, sizeof(service), "%.*s", port ? (int)(n - (size_t)(port + 1 - host)) : 5,
                       port                                       ? port + 1
                       : scheme && strncmp(text, "https", 5) == 0 ? "443"
                                                                  : "80");
        n = port ? (size_t)(port - host) : n;
        if (n >= 2 && *host == '[')
                (void)snprintf(copy, sizeof(copy), "%.*s", (int)n - 2, host + 1);
        else
                (void)snprintf(copy, sizeof(copy), "%.*s", (int)n, n ? host : "");
        r = getaddrinfo(*copy ? copy : NULL, service, &hints, &found);
        if (r != 0) {
                (void)printf("%s\n", gai_strerror(r));
                return;
        }
        fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        (void)printf("%s\n", fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen) == 0
                                     ? "answers"
                                     : strerror(errno));
        freeaddrinfo(found);
}

static void describe_places(const struct report *r, json_t *paths, json_t *addresses)
{
        for (const struct option *o = r->doctor->program->options; o->key; o++) {
                const char *value = o->type == OPTION_STRING
                                            ? *(char *const *)((const char *)r->doctor->options + o->offset)
                                            : NULL;

                if (!value || !*value || holds_secret(o->key))
                        continue;
                if (*value == '/')
                        put(paths, o->key, describe_path(r, value));
                else if (strncmp(value, "http://", 7) == 0 || strncmp(value, "https://", 8) == 0 ||
                         ends_with(o->key, "listen"))
                        put(addresses, o->key,
                            answer(r, &(struct question){ connect_address, value, REACH_MS }));
        }
}

/* ---- what the program says ---- */

static void run_self(const void *arg)
{
        char *const *argv = arg;

        (void)execv("/proc/self/exe", argv);
        (void)printf("cannot run it: %s\n", strerror(errno));
}

static json_t *ask_program(const struct report *r, const char *words)
{
        CLEANUP(buf_done) struct buf out = { 0 };
        char copy[128], how[64], *rest = copy, *argv[ARGUMENTS + 1];
        json_t *said = json_object();
        size_t n = 0;

        (void)snprintf(copy, sizeof(copy), "%s", words);
        argv[n++] = (char *)(uintptr_t)r->doctor->program->name;
        while (rest && n < ARGUMENTS)
                argv[n++] = strsep(&rest, " ");
        for (char *const *s = r->doctor->switches; *s && n < ARGUMENTS; s++)
                argv[n++] = *s;
        argv[n] = NULL;
        buf_init(&out, OUTPUT_MAX);
        ask(&(struct question){ run_self, argv, LIMIT_MS }, &out, how, sizeof(how));
        put(said, "result", json_string(how));
        put(said, "output", out.size ? clean_lines(r, out.data) : json_array());
        return said;
}

/* ---- the report ---- */

static void print_text(const json_t *value, int depth)
{
        const char *name;
        const json_t *member;
        size_t i;

        json_object_foreach ((json_t *)(uintptr_t)value, name, member) {
                (void)printf("%*s%s:", depth * 2, "", name);
                if (json_is_string(member))
                        (void)printf(" %s\n", json_string_value(member));
                else if (json_is_integer(member))
                        (void)printf(" %lld\n", (long long)json_integer_value(member));
                else
                        (void)printf("%s\n", json_is_null(member) ? " -" : "");
                print_text(member, depth + 1);
        }
        json_array_foreach (value, i, member)
                (void)printf("%*s%s\n", depth * 2, "", json_string_value(member));
}

int doctor_run(const struct doctor *d)
{
        static const char *const none[] = { NULL };
        struct report r = { .doctor = d };
        time_t now = time(NULL);
        char when[32] = "";
        json_t *paths = json_object(), *addresses = json_object(), *said = json_object();
        struct tm tm;

        find_secrets(&r);
        r.root = json_object();
        put(r.root, "program", json_sprintf("%s %s", d->program->name, WATTLOOP_VERSION));
        if (gmtime_r(&now, &tm))
                (void)strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S UTC", &tm);
        put(r.root, "time", json_string(when));
        put(r.root, "machine", describe_machine(&r));
        put(r.root, "configuration", describe_configuration(&r));
        describe_places(&r, paths, addresses);
        put(r.root, "paths", paths);
        put(r.root, "addresses", addresses);
        for (const char *const *c = d->program->doctor && !d->problem ? d->program->doctor : none; *c; c++)
                put(said, *c, ask_program(&r, *c));
        put(r.root, "subcommands", said);
        if (d->json)
                (void)json_dumpf(r.root, stdout, JSON_INDENT(2));
        else
                print_text(r.root, 0);
        if (d->json)
                (void)printf("\n");
        json_decref(r.root);
        for (size_t i = 0; i < r.secrets_n; i++) {
                explicit_bzero(r.secrets[i], strlen(r.secrets[i]));
                free(r.secrets[i]);
        }
        return EXIT_DONE;
}
