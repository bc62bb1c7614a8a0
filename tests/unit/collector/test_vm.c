/* SPDX-License-Identifier: Apache-2.0 */
#include "collector/vm.h"

#include "tree.h"
#include "collector/features.h"

#define UUID "2c0a5c6e-7b11-4f2e-9d7a-0c5d8f3b1a90"

static void machines_are_recognised_by_scope_and_arguments(void **state)
{
        static const struct {
                const char *comm, *cgroup, *args; /* '|' ends an argument */
                const char *key, *name, *hypervisor;
        } cases[] = {
                { "qemu-system-x86", "/",
                  "/usr/bin/qemu-system-x86_64|-uuid|" UUID "|-name|guest=web,debug-threads=on|", UUID, "web",
                  "qemu" },
                { "qemu-system-aar", "/", "qemu-system-aarch64|-name|db|-accel|kvm,thread=multi|", "", "db",
                  "kvm" },
                { "qemu-system-x86", "/", "qemu-system-x86_64|-machine|q35,accel=kvm|--uuid=" UUID "|", UUID,
                  "", "kvm" },
                { "kvm", "/qemu.slice/100.scope",
                  "/usr/bin/kvm|-id|100|-name|vm100,debug-threads=on|-smbios|type=1,uuid=" UUID "|", UUID,
                  "vm100", "kvm" },
                { "CPU 0/KVM", "/machine.slice/machine-qemu\\x2d3\\x2dmail.scope/libvirt/emulator",
                  "renamed|-uuid|" UUID "|", UUID, "", "qemu" },
                { "swtpm", "/machine.slice/machine-qemu\\x2d3\\x2dmail.scope", "swtpm|socket|",
                  "machine-qemu-3-mail", "", "qemu" },
                { "qemu-kvm", "/machine/qemu-7-old.libvirt-qemu", "/usr/libexec/qemu-kvm|-name|old|",
                  "qemu-7-old", "old", "kvm" },
                { "firecracker", "/", "/usr/bin/firecracker|--api-sock|/run/f.sock|--id|fc-1|", "fc-1", "",
                  "firecracker" },
                { "firecracker", "/", "./firecracker|--id=fc-2|--seccomp-level|2|", "fc-2", "",
                  "firecracker" },
                { "cloud-hyperviso", "/",
                  "cloud-hypervisor|--kernel|k|--platform|num_pci_segments=1,uuid=" UUID "|", UUID, "",
                  "cloud-hypervisor" },
                { "cloud-hyperviso", "/", "cloud-hypervisor|--kernel|k|", "", "", "cloud-hypervisor" },
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                size_t n = strlen(cases[i].args);
                char args[512];
                struct vm vm;

                memcpy(args, cases[i].args, n + 1);
                for (size_t k = 0; k < n; k++)
                        args[k] = args[k] == '|' ? '\0' : args[k];
                assert_true(vm_is_candidate(cases[i].comm, cases[i].cgroup));
                assert_true(vm_recognise(cases[i].cgroup, args, n, &vm));
                assert_string_equal(vm.key, cases[i].key);
                assert_string_equal(vm.name, cases[i].name);
                assert_string_equal(vm.hypervisor, cases[i].hypervisor);
        }
}

static void other_programs_are_no_machines(void **state)
{
        static const char grep[] = "grep\0qemu-system-x86_64";
        struct vm vm;

        (void)state;
        assert_false(vm_is_candidate("bash", "/system.slice/ssh.service"));
        assert_false(vm_is_candidate("kvmtool", "/"));
        assert_false(vm_is_candidate("qemu-img", "/"));
        assert_false(vm_is_candidate("x", "/machine.slice/machine-lxc.scope"));
        assert_false(vm_recognise("/", grep, sizeof(grep), &vm));
        assert_false(vm_recognise("/", "", 0, &vm)); /* a zombie has no arguments */
}

static void arguments_of_any_length_stay_inside(void **state)
{
        char args[3 * VM_TEXT_MAX];
        struct vm vm;

        (void)state;
        memset(args, 'u', sizeof(args));
        memcpy(args, "qemu-system-x\0-uuid", 20);
        args[sizeof(args) - 1] = '\0';
        assert_true(vm_recognise("/", args, sizeof(args), &vm));
        assert_int_equal(strlen(vm.key), VM_TEXT_MAX - 1);
        memcpy(args + sizeof(args) - 7, "\0-uuid", 7); /* the last argument has no value */
        assert_true(vm_recognise("/", args, sizeof(args), &vm));
}

static void write_args(const char *name, const char *args, size_t size)
{
        FILE *f;

        tree_write(name, "");
        f = fopen(tree_path(name), "w");
        assert_non_null(f);
        assert_int_equal(fwrite(args, 1, size, f), size);
        assert_int_equal(fclose(f), 0);
}

static void processes_of_one_machine_share_an_id_and_nameless_ones_do_not(void **state)
{
        static const char one[] = "qemu-system-x86_64\0-uuid\0" UUID,
                          none[] = "cloud-hypervisor\0--kernel\0k";
        struct vm_table *table = NULL;
        uint64_t a, b, c;

        (void)state;
        write_args("10/cmdline", one, sizeof(one));
        write_args("11/cmdline", one, sizeof(one));
        write_args("12/cmdline", none, sizeof(none));
        assert_int_equal(vm_table_new(tree, &table), 0);
        a = vm_table_of(table, 10, 5000000000, "qemu-system-x86", "/");
        assert_true(usage_is_vm(a));
        assert_true(vm_table_of(table, 11, 6000000000, "qemu-system-x86", "/") == a);
        b = vm_table_of(table, 12, 7000000000, "cloud-hyperviso", "/");
        c = vm_table_of(table, 12, 8000000000, "cloud-hyperviso", "/"); /* the pid was used again */
        assert_true(usage_is_vm(b) && b != a && c != b);
        assert_string_equal(vm_table_find(table, a)->key, UUID);
        assert_string_equal(vm_table_find(table, b)->key, "12-7000");
        assert_int_equal(vm_table_of(table, 99, 1, "qemu-system-x86", "/"), 0); /* gone already */
        assert_null(vm_table_find(table, USAGE_VM | 99));
        vm_table_free(table);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(machines_are_recognised_by_scope_and_arguments),
                cmocka_unit_test(other_programs_are_no_machines),
                cmocka_unit_test(arguments_of_any_length_stay_inside),
                cmocka_unit_test_setup_teardown(processes_of_one_machine_share_an_id_and_nameless_ones_do_not,
                                                tree_set_up, tree_tear_down),
        };

        return cmocka_run_group_tests_name("vm", tests, NULL, NULL);
}
