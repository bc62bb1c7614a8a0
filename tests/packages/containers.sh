#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The containers of deploy/containers without an engine: the root file systems that deploy/containers/rootfs.sh makes, which is what
# the Containerfiles run, entered by chroot as the user that they name, which has no capability.
set -u
. "$(dirname "$0")/../system/lib.sh"
. "$(dirname "$0")/../system/estimator.bash"

if [ "$(id -u)" != 0 ]; then
        skip "a program runs in its container's file system" "needs root"
        exit 0
fi
top=$(mktemp -d) && chmod 755 "$top" # user 64000 may not reach this checkout
trap 'lib_exit; umount -l "$top"/*/proc "$top"/*/sys 2>/dev/null; rm -rf --one-file-system "$top"' EXIT

# from FILE WORD: what follows the word in a Containerfile
from() {
        sed -n "s/^$2 //p" "$1"
}
# enter ROOT OPTION...: the ENTRYPOINT, as the USER, with nothing but what an engine gives
enter() (
        local root=$1 user

        shift
        user=$(from "$file" USER)
        exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin unshare --uts --ipc chroot --userspec "$user" "$root" "$(from "$file" ENTRYPOINT | jq -r '.[0]')" "$@"
)

for file in deploy/containers/Containerfile.*; do
        program=${file##*.} root=$top/${file##*.}
        # the Containerfile's own words for what it makes
        read -ra step < <(grep -o 'deploy/containers/rootfs.sh .*' "$file")
        check "$program: the Containerfile makes it from what the build leaves" test "${step[*]}" = "deploy/containers/rootfs.sh $program build/bin /rootfs"
        check "$program: its last stage is empty but for that" test "$(sed -n '/^FROM scratch/,$p' "$file" | grep -E '^(RUN|COPY|ADD)')" = "COPY --from=build /rootfs /"
        check "$program: the file system is made" "${step[0]}" "$program" "$BIN" "$root"
        mount --rbind --make-rslave /proc "$root/proc" && mount --rbind --make-rslave /sys "$root/sys" # as an engine does
        check "$program: as somebody who is not root" test "$(from "$file" USER)" = 64000:64000
        check "$program: it has one program, and its helpers" test -z "$(find "$root" -xdev -type f -perm /111 ! -name '*.so*' ! -name "wattloop-$program*")"
        check "$program: no shell, no set-user-id, no link that leads out" sh -c "! find '$root' -xdev -regextype egrep \( -regex '.*/((ba|da|z|k|c|a)?sh|busybox)' -o -perm /6000 -o -type l \) | grep ."
        check_has "$program: it starts" "$(enter "$root" --version 2>&1)" "wattloop-$program "
        mapfile -t command < <(from "$file" CMD | jq -r '.[]')
        check "$program: CMD is accepted" enter "$root" "${command[@]}" --check-config
done

# ---- each does its work there ----
file=deploy/containers/Containerfile.estimator root=$top/estimator
const_weights 42 | install_weights "$root/var/lib/wattloop/models" acpi/AbsPower >/dev/null
chmod -R a+rX "$root/var/lib/wattloop"
start "$top/log" enter "$root" serve
check "the estimator makes its socket in the shared volume" wait_for 10 test -S "$root/run/wattloop/estimator.sock"
check "with the model of its volume" test "$(ask "$root/run/wattloop/estimator.sock" "$REQUEST" | jq -c .powers.platform)" = '[42,42]'

file=deploy/containers/Containerfile.collector root=$top/collector
out=$(enter "$root" --sampling-interval 200ms --features-source proc once 2>"$top/once.log")
check "the collector samples the host's CPU time" test "$(jq '.node.cpu_time_ns > 0' <<<"$out")" = true

file=deploy/containers/Containerfile.model-server root=$top/model-server port=$(free_port)
start "$top/log" enter "$root" --listen "127.0.0.1:$port" serve
check "the model server answers" wait_for 10 curl -sf "http://127.0.0.1:$port/api/v1/status"
file=deploy/containers/Containerfile.updater root=$top/updater
check_has "the updater asks it over http" "$(enter "$root" --server-url "http://127.0.0.1:$port" --server-trust unsigned --estimator-socket '' update 2>&1)" "no model fits"
check_has "and over https it has libcurl and its authorities" "$(enter "$root" --server-url "https://127.0.0.1:$port" --server-trust tls --estimator-socket '' update 2>&1)" "SSL"
file=deploy/containers/Containerfile.trainer-client root=$top/trainer-client
check_has "the trainer client says which recording it misses" "$(enter "$root" --server-url "http://127.0.0.1:$port" push 2>&1)" samples.db
