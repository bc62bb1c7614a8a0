#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The packages of `make deb`, in a Debian 12 of their own (tests/rootfs, in a directory that is removed): lintian, install, data of
# real runs, upgrade to the next version, remove, purge. dpkg's scripts and systemd's tools are the real ones; no service manager runs.
set -u
. "$(dirname "$0")/../system/lib.sh"

if [ "$(id -u)" != 0 ]; then
        skip "the packages can be installed" "needs root"
        exit 0
fi
root=$(mktemp -d) && chmod 755 "$root"
trap 'lib_exit; umount -l "$root/proc" 2>/dev/null; rm -rf --one-file-system "$root"' EXIT
programs=(collector trainer-client model-server updater estimator)

inside() { # inside COMMAND...: as root of that system, without a network
        unshare --net --pid --fork --mount-proc="$root/proc" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive chroot "$root" "$@"
}
as_user() { # likewise, as wattloop
        inside setpriv --reuid wattloop --regid wattloop --clear-groups "$@"
}
state_is() { # state_is PACKAGE STATE VERSION
        [ "$(inside dpkg-query -W -f '${db:Status-Status} ${Version}' "$1")" = "$2 $3" ]
}
next_version() { # of all packages, in $root/next: 0.1.0 becomes 0.1.0+1
        local deb tree=$root/tmp/tree

        mkdir -p "$root/next"
        for deb in build/deb/*.deb; do
                rm -rf "$tree" && dpkg-deb -R "$deb" "$tree" &&
                        sed -i "s/^Version: .*/Version: $version+1/; s/(= $version)/(= $version+1)/" "$tree/DEBIAN/control" &&
                        dpkg-deb -Znone --root-owner-group -b "$tree" "$root/next" >/dev/null || return
        done
        rm -rf "$tree"
}

version=$(dpkg-parsechangelog -S Version)
check "lintian finds no error" lintian --allow-root --fail-on error build/deb/*.deb
check "a Debian is there" tar xf "$(tests/rootfs)" -C "$root" || exit
mkdir -p "$root/debs" && cp build/deb/*.deb "$root/debs"

# ---- install ----
check "all packages install, and need only what they say" inside sh -c 'dpkg -i /debs/*.deb'
check "the user is there, and its directory" test "$(inside stat -c '%U:%G %a' /var/lib/wattloop)" = "wattloop:wattloop 750"
for program in "${programs[@]}"; do
        check_has "wattloop-$program starts" "$(as_user "wattloop-$program" --version 2>&1)" "${version%%[+-]*}"
        check "takes its configuration" as_user "wattloop-$program" --check-config
        check "has its unit, and its manual page" test -e "$root/lib/systemd/system/wattloop-$program.service" -a -e "$root/usr/share/man/man8/wattloop-$program.8.gz"
done
check "no dependency is missing: libraries that are loaded late, too" inside sh -c 'ldconfig -p | grep -q libcurl.so.4 && ldconfig -p | grep -q libarchive.so.13'
for package in collector trainer-client updater model-server; do
        check_has "wattloop-$package depends on libcurl" "$(dpkg-deb -f build/deb/wattloop-"$package"_*.deb Depends)" libcurl4
done
check "collector, model server and the estimator's socket are enabled" inside systemctl -q is-enabled wattloop-collector.service wattloop-model-server.service wattloop-estimator.socket
check "the timers are not: their server must be named first" sh -c "! ls '$root'/etc/systemd/system/timers.target.wants/wattloop-*"

# ---- data of real runs, and what an operator has changed ----
check "the collector records" as_user sh -c 'timeout -s TERM 2 wattloop-collector --sampling-interval 200ms --features-source proc --metrics-listen "" run; [ -s /var/lib/wattloop/samples.db ]'
check "the model server makes its database" as_user sh -c 'timeout -s TERM 2 wattloop-model-server --listen 127.0.0.1:0 serve; [ -s /var/lib/wattloop/server.db ]'
check "an operator makes keys" inside sh -c 'install -d -m 700 /etc/credstore && wattloop-model-server keys make /etc/credstore/wattloop.model-server.key && install -m 644 /etc/credstore/wattloop.model-server.key.pub /etc/wattloop/release.pub'
as_user sh -c 'mkdir -p /var/lib/wattloop/models/.state /var/lib/wattloop/trainer-client /var/lib/wattloop/acks; echo "{}" | tee /var/lib/wattloop/models/.state/state.json >/var/lib/wattloop/acks/x.json'
echo '# mine' >>"$root/etc/wattloop/collector.yaml"
sums() {
        (cd "$root" && find var/lib/wattloop etc/credstore etc/wattloop -type f -print0 | sort -z | xargs -0 sha256sum)
}
before=$(sums)

# ---- upgrade ----
check "a next version is made" next_version
check "it installs over this one" inside sh -c 'dpkg -i --force-confdef --force-confold /next/*.deb'
for program in common "${programs[@]}"; do
        check "wattloop-$program is the next one" state_is "wattloop-$program" installed "$version+1"
done
check "databases, store, keys and configuration are as they were" test "$(sums)" = "$before"
check "the collector goes on with its database" as_user sh -c 'timeout -s TERM 2 wattloop-collector --sampling-interval 200ms --features-source proc --metrics-listen "" run; wattloop-collector status | grep -q epoch'

# ---- remove and purge ----
packages=("${programs[@]/#/wattloop-}")
before=$(sums)
check "the programs can be removed" inside dpkg --remove "${packages[@]}"
check "which leaves data, keys and configuration" test "$(sums)" = "$before"
check "and no program" sh -c "! ls '$root'/usr/sbin/wattloop-*"
check "purged" inside dpkg --purge "${packages[@]}" wattloop-common
check "no data are left" test ! -e "$root/var/lib/wattloop"
check "no configuration, but what an operator put there" test "$(ls "$root/etc/wattloop")" = release.pub
check "nor an enabled unit" sh -c "! find '$root/etc/systemd' -name 'wattloop-*' | grep ."
check "keys stay" test -s "$root/etc/credstore/wattloop.model-server.key"
