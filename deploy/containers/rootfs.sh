#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes the root file system of a container: one program, the libraries that it links and loads, certificate authorities, a user.
# No shell, no package manager, nothing with a set-user-id bit. The Containerfiles run this, and so does the test of them.
#
#       rootfs.sh PROGRAM BIN ROOT      PROGRAM is collector, trainer-client, ...; BIN has the built programs; ROOT is made
set -eu
[ $# = 3 ] || { echo "usage: rootfs.sh PROGRAM BIN ROOT" >&2; exit 2; }
program=$1 bin=$(cd "$2" && pwd) root=$3
[ ! -e "$root" ] || { echo "rootfs.sh: '$root' exists" >&2; exit 1; }

library() { # library NAME: its file, as the linker finds it
        file=$(PATH=$PATH:/usr/sbin:/sbin ldconfig -p | awk -v name="$1" '$1 == name { print $NF; exit }')
        [ -n "$file" ] || { echo "rootfs.sh: '$1' is not installed" >&2; exit 1; }
        printf '%s\n' "$file"
}
# what they open while they run (common/library.c, the C library's resolver)
loaded="libsqlite3.so.0"
helpers=
case $program in
collector) loaded="$loaded libcurl.so.4 libnss_dns.so.2 libnss_files.so.2" helpers="collector-redfish collector-kubelet" ;;
trainer-client) loaded="$loaded libcurl.so.4 libnss_dns.so.2 libnss_files.so.2" ;;
model-server) loaded="$loaded libcurl.so.4 libarchive.so.13 libnss_dns.so.2 libnss_files.so.2" ;;
updater) loaded="$loaded libcurl.so.4 libarchive.so.13 libnss_dns.so.2 libnss_files.so.2" ;;
estimator) loaded="libarchive.so.13" ;;
*) echo "rootfs.sh: no program '$program'" >&2; exit 2 ;;
esac

umask 022
mkdir -p "$root/usr/sbin" "$root/etc/ssl/certs" "$root/etc/wattloop" "$root/proc" "$root/sys" "$root/dev"
files=
for name in "$program" $helpers; do
        install -m 755 "$bin/wattloop-$name" "$root/usr/sbin/"
        files="$files $bin/wattloop-$name"
done
for name in $loaded; do
        files="$files $(library "$name")"
done
# shellcheck disable=SC2086
for file in $(ldd $files | grep -o '/[^ :]*' | sort -u) $files; do
        case $file in "$bin"/*) continue ;; esac
        mkdir -p "$root${file%/*}"
        cp -L "$file" "$root$file"
done
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
printf 'root:x:0:0::/:\nwattloop:x:64000:64000::/var/lib/wattloop:\n' >"$root/etc/passwd"
printf 'root:x:0:\nwattloop:x:64000:\n' >"$root/etc/group"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
install -d -m 1777 "$root/tmp"
install -d -m 750 "$root/var/lib/wattloop" "$root/run/wattloop"
[ "$(id -u)" != 0 ] || chown 64000:64000 "$root/var/lib/wattloop" "$root/run/wattloop"
