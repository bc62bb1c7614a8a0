#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The kernel side is built for arm64, too, and is the same there: no instruction, map or kernel field in it depends on
# the machine. (No arm64 kernel has run it; what runs is this machine's.)
set -u
. "$(dirname "$0")/lib.sh"

dir=$(tmpdir)
unset MAKEFLAGS MFLAGS MAKELEVEL SAN CC
arm=$dir/arm64/bpf/features native=$dir/bpf/features

if ! make -s B="$dir" have-arm64 >"$dir/deps.log" 2>&1; then
        skip "the kernel side is built for arm64" "$(tail -n 1 "$dir/deps.log")"
        exit
fi
check "the kernel side and its skeleton are built for arm64" make -s B="$dir" bpf-arm64
check "and for this machine" make -s B="$dir" "$native.bpf.o" "$dir/gen/features.skel.h"
check_has "from arm64's own kernel headers" "$(cat "$arm.bpf.d")" "aarch64-linux-gnu"

# what of an object counts: all but debug information and what points into it
sections() {
        llvm-readelf -SW "$1.bpf.o" | awk 'sub(/^ *\[ *[0-9]+\] */, "") && !/^(NULL|(\.rel)?\.(debug|BTF|symtab|strtab|llvm_addrsig))/ { print $1, $2, $5 }'
}
code() {
        llvm-objdump -dr --section-headers "$1.bpf.o" | awk '/^Disassembly/ { on = 1 } on'
}
types() {
        PATH=$PATH:/usr/sbin:/usr/local/sbin bpftool btf dump file "$1.bpf.o" format raw
}
skeleton() { # programs, maps and variables by name; not the object's bytes
        sed '/^static inline const void .*sz)$/,$d' "$1"
}
same() { # FUNCTION WHAT-IT-MUST-FIND
        "$1" "$arm" >"$dir/arm" && "$1" "$native" >"$dir/native" && grep -q "$2" "$dir/arm" && diff "$dir/native" "$dir/arm"
}
check "it has the same sections of the same sizes" same sections 'tp_btf/sched_switch PROGBITS'
check "the same instructions and relocations" same code R_BPF_64
check "the same types, among them the kernel's, whose fields are found when it is loaded" same types "'task_struct'"
check "the same programs and maps, by name" diff <(skeleton "$dir/gen/features.skel.h") <(skeleton "$arm.skel.h")
check_has "and its skeleton is for an object of the same name" "$(cat "$arm.skel.h")" features_bpf__open
