#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A real guest, under QEMU's own emulation, as a virtual machine's row: its CPU time is what the kernel says QEMU used,
# and it stays a part of the container its process is in.
set -u
. "$(dirname "$0")/lib.sh"

dir=$(tmpdir)
. "$(dirname "$0")/collector.bash"
uuid=$(cat /proc/sys/kernel/random/uuid)

if ! command -v qemu-system-x86_64 >/dev/null; then
        skip "a guest of QEMU has a row of its own" "qemu-system-x86_64 is not installed"
        exit 0
fi

# A boot sector that jumps to itself.
printf '\353\376' >"$dir/boot"
truncate -s 510 "$dir/boot"
printf '\125\252' >>"$dir/boot"

watch() {
        local source=$1 file=$dir/$1.db pid guest want got all

        start "$dir/$source.log" "$collector" run --features-source "$source" --store-path "$file" --metrics-listen \
                "127.0.0.1:$port" --sampling-interval 200ms --sysfs-root "$dir/none"
        pid=$STARTED_PID
        wait_for 10 sh -c "sqlite3 -readonly '$file' 'SELECT count(*) > 0 FROM interval' | grep -qx 1"
        start "$dir/qemu.log" qemu-system-x86_64 -accel tcg -nodefaults -display none -m 16 -uuid "$uuid" \
                -name guest=wattloop-test -drive "file=$dir/boot,format=raw,if=floppy"
        guest=$STARTED_PID
        sleep 1.2
        check_has "a guest is exported as kepler_vm ($source)" "$(curl -s "http://127.0.0.1:$port/metrics")" \
                "kepler_vm_bpf_cpu_time_ms_total{source=\"bpf\",vm_id=\"$uuid\"}"
        kill -STOP "$guest"
        sleep 0.6
        want=$(cat /proc/"$guest"/task/*/schedstat | awk '{ n += $1 } END { printf "%d", n }')
        got=$(sqlite3 -readonly "$file" "SELECT ifnull(max(cpu_time_ns), 0) FROM usage JOIN entity USING (entity_id)
                WHERE kind = 'vm' AND key = '$uuid' AND vm_name = 'wattloop-test' AND hypervisor = 'qemu'")
        all=$(sqlite3 -readonly "$file" "SELECT ifnull(max(cpu_time_ns), 0) FROM usage JOIN entity USING (entity_id)
                WHERE kind = 'container' AND key = 'system_processes'")
        { stop "$guest" KILL; } 2>/dev/null
        stop "$pid"
        if awk "BEGIN { exit !($got <= $want && $got >= 0.9 * $want && $want > 2e7) }"; then
                ok "a guest of QEMU has a row with its CPU time ($source)"
        else
                not_ok "a guest of QEMU has a row with its CPU time ($source)" "$got ns of $want ns"
        fi
        check "and that is a part of system_processes ($source)" test "$all" -ge "$got"
        check "and the rows of containers alone add up to the node's ($source)" sh -c "sqlite3 -readonly '$file' \"
                SELECT sum(CASE kind WHEN 'container' THEN cpu_time_ns WHEN 'node' THEN -cpu_time_ns ELSE 0 END)
                FROM usage JOIN entity USING (entity_id) GROUP BY interval_id\" | sort -u | grep -qx 0"
}

port=$(free_port)
if "$collector" once --features-source bpf --sampling-interval 100ms --sysfs-root "$dir/none" >/dev/null 2>&1; then
        watch bpf
else
        skip "a guest of QEMU has a row with its CPU time (bpf)" "BPF cannot be used here"
fi
watch proc
