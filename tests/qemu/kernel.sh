#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Debian's kernel, booted in qemu (software emulation: no KVM is needed) with an ACPI table that declares a power meter
# (meter.asl), runs the collector: the kernel's own acpi_power_meter driver, BPF on that kernel, CPU hotplug. The kernel
# comes from its Debian package and is never installed here; the machine's files are ours. Everything stays in build/qemu.
set -u
. "$(dirname "$0")/../system/lib.sh"
. "$(dirname "$0")/kernel.bash"

here=$(dirname "$0")
dir=$B/qemu
QEMU_SECONDS=${QEMU_SECONDS:-600}
modules=(acpi_power_meter msr ipmi_msghandler ipmi_devintf ipmi_si)
mkdir -p "$dir"

# An initramfs: busybox, the collector and its libraries, the drivers.
make_root() {
        local root=$dir/root file name i=0

        rm -rf "$root"
        mkdir -p "$root"/{bin,proc,sys,dev,tmp,modules} || return
        cp "$(command -v busybox)" "$root/bin/busybox" && cp "$here/init" "$root/init" || return
        cp "$BIN/wattloop-collector" "$root/bin" && : >"$root/empty.yaml" || return
        for file in $(ldd "$BIN/wattloop-collector" | grep -o '/[^ ]*'); do
                mkdir -p "$root$(dirname "$file")" && cp -L "$file" "$root$file" || return
        done
        for name in "${modules[@]}"; do
                file=$(find "$dir/kernel" -name "$name.ko")
                cp "$file" "$root/modules/$((i++)).$name.ko" || return
        done
        (cd "$root" && find . | cpio --quiet -o -H newc) | gzip -1 >"$dir/initrd.gz"
}

boot() {
        rm -f "$dir/out.tar"
        timeout "$QEMU_SECONDS" qemu-system-x86_64 -accel tcg,thread=multi -machine q35 -cpu max -smp 2 -m 768 \
                -display none -no-reboot -nodefaults -serial "file:$dir/console" -serial "file:$dir/out.tar" \
                -device ipmi-bmc-sim,id=bmc0 -device isa-ipmi-kcs,bmc=bmc0,irq=0 -acpitable "file=$dir/meter.aml" \
                -kernel "$(ls "$dir"/kernel/boot/vmlinuz-*)" -initrd "$dir/initrd.gz" \
                -append "console=ttyS0 quiet panic=-1 rdinit=/init"
}

left=$dir/left
query() {
        sqlite3 "$left/samples.db" "$1"
}
json() { # json FILE FILTER
        jq -e "$2" "$left/$1"
}

if ! wait_for 1 fetch_kernel && ! fetch_kernel; then
        skip "Debian's kernel in qemu" "its package cannot be fetched"
        exit 0
fi
check "the ACPI table compiles" iasl -p "$dir/meter" "$here/meter.asl"
check "an initramfs is made" make_root
check "the kernel boots, and the machine switches itself off" boot
rm -rf "$left" && mkdir "$left"
check "it hands over what it left" tar xz -C "$left" -f "$dir/out.tar"
echo "# Linux $(cat "$left/release")"
check "the kernel has nothing to complain about" sh -c "! grep -E 'BUG:|Oops:|Call Trace:' '$left/dmesg'"

meter='.sensors[] | select(.source == "acpi" and .component == "platform" and .unit == "energy1")'
check "the kernel's power meter has a live reading: 142.5 W" json sensors.json "$meter | .watts == 142.5"
check "in a virtual machine it is virtual" json sensors.json "$meter | .provenance == \"virtual\""
# qemu's own controller, asked through the kernel's drivers
check_has "a management controller that knows no power is told, and is no sensor" \
        "$(jq -r '.refused[] | select(.source == "ipmi") | .error' "$left/ipmi.json")" "does not tell power"
check_has "so is a processor without power registers" \
        "$(jq -r '.refused[] | select(.source == "rapl-msr") | .error' "$left/sensors.json")" "no RAPL registers"

check "once ends well" test "$(cat "$left/once.status")" = 0
check "features come from BPF" json once.json '.feature_source == "bpf"'
check "every program attaches, or is named" sh -c "! grep -E 'cannot attach' '$left/once.log'"
check "the machine's CPU time is measured" json once.json '.node.cpu_time_ns > 0'
check "and the meter's watts" json once.json '[.power[] | select(.source == "acpi") | .watts] == [142.5]'

check "CPU 1 went, and came back" test "$(tr '\n' ' ' <"$left/online")" = "0 0-1 "
check "the collector had no capability left" test "$(awk '/Cap(Eff|Prm)/ { print $2 }' "$left/capabilities" | sort -u)" = 0000000000000000
check "it went on, and ended well" test "$(cat "$left/run.status")" = 0
check "the file is sound" test "$(query 'PRAGMA integrity_check')" = ok
check "no interval is missing in between" test "$(query 'SELECT count(*) > 20 AND sum(end_ms - start_ms) = max(end_ms) - min(start_ms)
        FROM interval')" = 1
for total in cpu_time_ns page_cache_pages net_tx_irq net_rx_irq block_irq; do
        check "$total never goes down" test "$(query "SELECT count(*) FROM usage_delta WHERE $total < 0")" = 0
done
check "the meter's joules are 142.5 W, through it all" test "$(query "SELECT abs(1.0 * (max(energy_uj) - min(energy_uj)) /
        ((max(measured_ns) - min(measured_ns)) / 1000) - 142.5) < 0.1 FROM power JOIN sensor USING (sensor_id)
        JOIN interval USING (interval_id) WHERE source = 'acpi'")" = 1

charged() { # charged CONTAINER STAT: its CPU time is what the kernel says, within 0.5 %
        local exact counted

        exact=$(awk '$1 == "usage_usec" { print $2 }' "$left/$2")
        counted=$(query "SELECT ifnull(max(cpu_time_ns), 0) / 1000 FROM usage JOIN entity USING (entity_id)
                WHERE key = '$(printf '%s' "$1" | sha256sum | cut -c1-64)'")
        echo "$counted of $exact us"
        awk "BEGIN { exit !(($counted - $exact) ^ 2 <= (0.005 * $exact) ^ 2) }"
}
check "the container's CPU time is the cgroup's own, within 0.5 %" charged wattloop cpu.stat
check "pids were taken over" test "$(sort "$left/pids" | uniq -d | wc -l)" -gt 10
check "and each life is charged: the CPU time is the cgroup's own, within 0.5 %" charged reused reused.stat
check_has "it is exported" "$(cat "$left/metrics")" kepler_container_joules_total
