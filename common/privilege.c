/* SPDX-License-Identifier: Apache-2.0 */
#include "common/privilege.h"

#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "common/cleanup.h"

#define CAPABILITIES_MAX 64

/* Those that a program of ours may be given or keep. */
static const struct {
        int number;
        const char *name;
} names[] = {
        { CAP_DAC_OVERRIDE, "cap_dac_override" },
        { CAP_DAC_READ_SEARCH, "cap_dac_read_search" },
        { CAP_SYS_RAWIO, "cap_sys_rawio" },
        { CAP_SYS_PTRACE, "cap_sys_ptrace" },
        { CAP_SYS_ADMIN, "cap_sys_admin" },
        { CAP_PERFMON, "cap_perfmon" },
        { CAP_BPF, "cap_bpf" },
};

/* The C library has no wrapper for these two. */
static int get_sets(struct __user_cap_data_struct ret[_LINUX_CAPABILITY_U32S_3])
{
        struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };

        return (int)syscall(SYS_capget, &header, ret);
}

static int set_sets(const struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3])
{
        struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };

        return (int)syscall(SYS_capset, &header, sets);
}

bool privilege_has(int capability)
{
        struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = { 0 };

        return get_sets(sets) == 0 && sets[capability / 32].effective & (1u << capability % 32);
}

void privilege_contain(void)
{
        (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
}

int privilege_drop(uint64_t keep, uint64_t *ret_kept, struct err *e)
{
        struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = { 0 };

        privilege_contain();
        for (int cap = 0; cap < CAPABILITIES_MAX && prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
                if (!(keep & CAPABILITY(cap)))
                        (void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0); /* or no_new_privs has to do */
        if (get_sets(sets) < 0)
                return err_sys(e, "cannot read our capabilities");
        for (size_t i = 0; i < ARRAY_SIZE(sets); i++) {
                sets[i].permitted &= (uint32_t)(keep >> 32 * i);
                sets[i].effective = sets[i].permitted;
                sets[i].inheritable = 0;
        }
        if (set_sets(sets) < 0)
                return err_sys(e, "cannot give up capabilities");
        *ret_kept = (uint64_t)sets[1].permitted << 32 | sets[0].permitted;
        return 0;
}

void privilege_format(uint64_t capabilities, char *ret, size_t size)
{
        size_t used = 0;

        (void)snprintf(ret, size, "none");
        for (int cap = 0; cap < CAPABILITIES_MAX && used < size; cap++) {
                char number[16];
                const char *name = number;

                if (!(capabilities & CAPABILITY(cap)))
                        continue;
                (void)snprintf(number, sizeof(number), "%d", cap);
                for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                        if (names[i].number == cap)
                                name = names[i].name;
                used += (size_t)snprintf(ret + used, size - used, "%s%s", used ? " " : "", name);
        }
}
