/* SPDX-License-Identifier: Apache-2.0 */
/* Reads <procfs_root>/PID/cmdline, only of processes that look like a virtual machine; writes nothing. */
#include "collector/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "collector/features.h"
#include "common/clock.h"

#define MAX_VMS 1024 /* one more takes the place of the one that has rested longest */

struct vm_entry {
        struct vm vm;
        uint64_t id;
        uint64_t used_ns;
};

struct vm_table {
        struct vm_entry *entries; /* owned; [n] */
        size_t n, cap;
        uint64_t next;
        char procfs_root[PATH_MAX - 64];
        char args[VM_ARGS_MAX];
};

/* --- what a process says ------------------------------------------------------------------------------ */

/* Programs, by the last component of their first argument; a name that ends in '-' is a beginning. The kernel
 * cuts a command to 15 characters. */
static const struct hypervisor {
        const char *program, *comm;
        const char *name;
        const char *id_option, *name_option, *uuid_option; /* the last: "uuid=" within its value */
} hypervisors[] = {
        { "qemu-system-", "qemu-system-", "qemu", "-uuid", "-name", "-smbios" },
        { "qemu-kvm", "qemu-kvm", "kvm", "-uuid", "-name", "-smbios" },
        { "kvm", "kvm", "kvm", "-uuid", "-name", "-smbios" },
        { "firecracker", "firecracker", "firecracker", "--id", NULL, NULL },
        { "cloud-hypervisor", "cloud-hyperviso", "cloud-hypervisor", NULL, NULL, "--platform" },
};

static bool begins(const char *s, const char *with)
{
        return !strncmp(s, with, strlen(with));
}

static bool is_named(const char *name, const char *pattern)
{
        return pattern[strlen(pattern) - 1] == '-' ? begins(name, pattern) : !strcmp(name, pattern);
}

/* libvirt's scope in a cgroup path: "machine-qemu\x2d1\x2dweb.scope" (systemd writes '-' so) or, without
 * systemd, "qemu-1-web.libvirt-qemu". Copies it in plain characters, without the suffix. */
static bool read_scope(const char *cgroup, char ret[VM_TEXT_MAX])
{
        const char *from = strstr(cgroup, "/machine-qemu"), *end;
        size_t n = 0;

        if (from) {
                from++;
                end = strstr(from, ".scope");
        } else {
                end = strstr(cgroup, ".libvirt-qemu");
                for (from = end; from && from > cgroup && from[-1] != '/';)
                        from--;
        }
        if (!from || !end || memchr(from, '/', (size_t)(end - from)))
                return false;
        while (from < end && n + 1 < VM_TEXT_MAX) {
                bool escaped = begins(from, "\\x2d");

                ret[n++] = escaped ? '-' : *from;
                from += escaped ? 4 : 1;
        }
        ret[n] = '\0';
        return n > 0;
}

bool vm_is_candidate(const char *comm, const char *cgroup)
{
        char scope[VM_TEXT_MAX];

        for (size_t i = 0; i < ARRAY_SIZE(hypervisors); i++)
                if (is_named(comm, hypervisors[i].comm))
                        return true;
        return read_scope(cgroup, scope);
}

/* The value of the last "OPTION VALUE", "--OPTION VALUE" or "OPTION=VALUE"; NULL: there is none. */
static const char *option_value(const char *args, size_t size, const char *option)
{
        const char *found = NULL, *end = args + size;
        size_t n = strlen(option);

        for (const char *p = args; p < end; p += strlen(p) + 1) {
                const char *arg = p[0] == '-' && p[1] == '-' && option[1] != '-' ? p + 1 : p;
                const char *next = p + strlen(p) + 1;

                if (strncmp(arg, option, n) != 0)
                        continue;
                if (arg[n] == '=')
                        found = arg + n + 1;
                else if (!arg[n] && next < end)
                        found = next;
        }
        return found;
}

/* "a=b,KEY=VALUE,c": copies the value, or, when `bare`, the first part if it has no key. */
static bool copy_part(const char *list, const char *key, bool bare, char ret[VM_TEXT_MAX])
{
        size_t n = strlen(key);

        for (const char *p = list; p && *p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL) {
                size_t length = strcspn(p, ",");
                bool keyed = length > n && !strncmp(p, key, n) && p[n] == '=';
                const char *value = keyed ? p + n + 1 : p;

                length -= (size_t)(value - p);
                if ((!keyed && (!bare || p != list || memchr(p, '=', length))) || length == 0)
                        continue;
                (void)snprintf(ret, VM_TEXT_MAX, "%.*s",
                               (int)(length < VM_TEXT_MAX ? length : VM_TEXT_MAX - 1), value);
                return true;
        }
        return false;
}

static const struct hypervisor *hypervisor_of(const char *program)
{
        const char *slash = strrchr(program, '/'), *name = slash ? slash + 1 : program;

        name += *name == '.'; /* a wrapped program: ".qemu-system-x86_64-wrapped" */
        for (size_t i = 0; i < ARRAY_SIZE(hypervisors); i++)
                if (is_named(name, hypervisors[i].program))
                        return &hypervisors[i];
        return NULL;
}

static bool uses_kvm(const char *args, size_t size)
{
        const char *accel = option_value(args, size, "-accel");

        for (const char *p = args; p < args + size; p += strlen(p) + 1)
                if (strstr(p, "accel=kvm") || !strcmp(p, "-enable-kvm"))
                        return true;
        return accel && begins(accel, "kvm");
}

bool vm_recognise(const char *cgroup, const char *args, size_t size, struct vm *ret)
{
        const struct hypervisor *h = size ? hypervisor_of(args) : NULL;
        const char *id, *name, *uuid;
        char scope[VM_TEXT_MAX] = "";

        *ret = (struct vm){ .hypervisor = "qemu" };
        if (!read_scope(cgroup, scope) && !h)
                return false;
        if (!h) /* a helper beside QEMU, or QEMU by another name */
                h = &hypervisors[0];
        id = h->id_option ? option_value(args, size, h->id_option) : NULL;
        name = h->name_option ? option_value(args, size, h->name_option) : NULL;
        uuid = h->uuid_option ? option_value(args, size, h->uuid_option) : NULL;
        ret->hypervisor = h == &hypervisors[0] && uses_kvm(args, size) ? "kvm" : h->name;
        if (name)
                (void)copy_part(name, "guest", true, ret->name);
        if (id)
                (void)snprintf(ret->key, sizeof(ret->key), "%s", id); /* cut: longer than any */
        else if (!uuid || !copy_part(uuid, "uuid", false, ret->key))
                (void)snprintf(ret->key, sizeof(ret->key), "%s", scope);
        return true;
}

/* --- the table ----------------------------------------------------------------------------------------- */

int vm_table_new(const char *procfs_root, struct vm_table **ret)
{
        struct vm_table *table = calloc(1, sizeof(*table));

        if (!table)
                return -ENOMEM;
        (void)snprintf(table->procfs_root, sizeof(table->procfs_root), "%s", procfs_root);
        *ret = table;
        return 0;
}

void vm_table_free(struct vm_table *table)
{
        if (!table)
                return;
        free(table->entries);
        free(table);
}

/* The arguments, each with its NUL; 0 when it is gone, or a zombie. */
static size_t read_args(struct vm_table *table, uint32_t tgid)
{
        CLEANUP(closep) int fd = -1;
        char path[PATH_MAX];
        ssize_t n;

        (void)snprintf(path, sizeof(path), "%s/%u/cmdline", table->procfs_root, tgid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        n = fd >= 0 ? read(fd, table->args, sizeof(table->args) - 1) : -1;
        if (n <= 0)
                return 0;
        table->args[n] = '\0';
        return (size_t)n + (table->args[n - 1] != '\0');
}

static struct vm_entry *oldest(struct vm_table *table)
{
        struct vm_entry *ret = &table->entries[0];

        for (size_t i = 1; i < table->n; i++)
                if (table->entries[i].used_ns < ret->used_ns)
                        ret = &table->entries[i];
        return ret;
}

static struct vm_entry *entry_of(struct vm_table *table, const char *key)
{
        for (size_t i = 0; i < table->n; i++)
                if (!strcmp(table->entries[i].vm.key, key))
                        return &table->entries[i];
        if (table->n == MAX_VMS)
                return oldest(table);
        if (table->n == table->cap) {
                size_t cap = table->cap ? table->cap * 2 : 8;
                struct vm_entry *entries = realloc(table->entries, cap * sizeof(*entries));

                if (!entries)
                        return NULL;
                table->entries = entries;
                table->cap = cap;
        }
        table->entries[table->n] = (struct vm_entry){ 0 };
        return &table->entries[table->n++];
}

uint64_t vm_table_of(struct vm_table *table, uint32_t tgid, uint64_t start, const char *comm,
                     const char *cgroup)
{
        struct vm_entry *entry;
        struct vm vm;

        if (!vm_is_candidate(comm, cgroup) || !vm_recognise(cgroup, table->args, read_args(table, tgid), &vm))
                return 0;
        if (!*vm.key)
                (void)snprintf(vm.key, sizeof(vm.key), "%u-%llu", tgid,
                               (unsigned long long)(start / NS_PER_MS));
        entry = entry_of(table, vm.key);
        if (!entry)
                return 0;
        if (strcmp(entry->vm.key, vm.key) != 0)
                *entry = (struct vm_entry){ .vm = vm, .id = USAGE_VM | ++table->next };
        else if (*vm.name)
                entry->vm = vm; /* not a helper: it knows more */
        entry->used_ns = clock_monotonic_ns();
        return entry->id;
}

const struct vm *vm_table_find(struct vm_table *table, uint64_t id)
{
        for (size_t i = 0; i < table->n; i++)
                if (table->entries[i].id == id) {
                        table->entries[i].used_ns = clock_monotonic_ns();
                        return &table->entries[i].vm;
                }
        return NULL;
}
