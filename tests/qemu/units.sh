#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The units of deploy/systemd, started by systemd as the first process of Debian 12 on Debian's kernel in qemu: all become active,
# do their work with their sandboxes on, use credentials, and start without them. Everything stays in build/qemu.
set -u
. "$(dirname "$0")/../system/lib.sh"
. "$(dirname "$0")/../system/estimator.bash"
. "$(dirname "$0")/kernel.bash"

here=$(dirname "$0")
dir=$B/qemu
root=$dir/units
left=$dir/units.left
QEMU_SECONDS=${QEMU_SECONDS:-400}

# The programs as installed, in a system that has their libraries; /etc/wattloop and credentials of a small fleet of one machine.
make_root() {
        local archive etc=$root/etc/wattloop

        archive=$(tests/rootfs) || return
        rm -rf "$root" && mkdir -p "$root" || return
        tar xf "$archive" -C "$root" || return
        make -s install-files B="$B" DESTDIR="$root" PREFIX=/usr SYSCONFDIR=/etc || return
        cp "$(command -v curl)" "$root/usr/bin/" && cp "$here/units.init" "$root/check" && printf '%s' "$REQUEST" >"$root/request" || return
        mkdir -p "$root/etc/credstore" && chmod 700 "$root/etc/credstore" || return
        printf 'not-a-secret\n' | tee "$root/etc/credstore/wattloop.model-server.tokens" >"$root/etc/credstore/wattloop.trainer-client.token"
        cat >"$etc/collector.yaml" <<<"sampling: { interval: 200ms }"
        cat >"$etc/model-server.yaml" <<-'END'
	auth:
	  token_file: /run/credentials/wattloop-model-server.service/wattloop.model-server.tokens
	END
        cat >"$etc/trainer-client.yaml" <<-'END'
	server:
	  url: http://127.0.0.1:8100
	  token_file: /run/credentials/wattloop-trainer-client.service/wattloop.trainer-client.token
	END
        cat >"$etc/updater.yaml" <<<"server: { trust: unsigned }"
        const_weights 42 | install_weights "$root/var/lib/wattloop/models" acpi/AbsPower >/dev/null || return
        cat >"$root/etc/systemd/system/check.service" <<-'END'
	[Unit]
	After=multi-user.target
	[Service]
	Type=oneshot
	StandardOutput=tty
	StandardError=tty
	TTYPath=/dev/console
	ExecStart=/bin/bash /check
	END
        mkdir -p "$root/etc/systemd/system/"{default,multi-user,timers,sockets}.target.wants
        ln -sf /etc/systemd/system/check.service "$root/etc/systemd/system/default.target.wants/"
        ln -sf /lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
        systemctl --root="$root" -q enable wattloop-{collector,model-server}.service wattloop-estimator.socket wattloop-{trainer-client,updater}.timer &&
                systemctl --root="$root" -q mask getty.target e2scrub_reap.service apt-daily.timer apt-daily-upgrade.timer systemd-update-utmp.service systemd-networkd-wait-online.service || return
        printf '%032x\n' 1 >"$root/etc/machine-id"
        (cd "$root" && ln -sf lib/systemd/systemd init && find . | cpio --quiet -o -H newc) >"$dir/units.cpio"
}

boot() {
        rm -f "$dir/units.tar"
        timeout "$QEMU_SECONDS" qemu-system-x86_64 -accel tcg,thread=multi -machine q35 -cpu max -smp 2 -m 1024 \
                -display none -no-reboot -nodefaults -serial "file:$dir/units.console" -serial "file:$dir/units.tar" \
                -kernel "$(ls "$dir"/kernel/boot/vmlinuz-*)" -initrd "$dir/units.cpio" \
                -append "console=ttyS0 quiet panic=-1 systemd.show_status=0"
}

says() { # says FILE LINE...
        local file=$left/$1 line
        shift
        for line; do
                grep -qxF -- "$line" "$file" || { cat "$file" && return 1; }
        done
}
json() { # json FILE FILTER
        jq -e "$2" "$left/$1"
}

if ! fetch_kernel && ! fetch_kernel; then
        skip "the units in qemu" "the kernel's package cannot be fetched"
        exit 0
fi
check "a system is made" make_root || exit
check "systemd boots it, and it switches itself off" boot
rm -rf "$left" && mkdir "$left"
check "it hands over what it saw" tar xz -C "$left" -f "$dir/units.tar"

check "the collector runs, as its user, started once" says collector ActiveState=active NRestarts=0 User=wattloop
check "it has no capability left" test "$(awk '/Cap(Eff|Prm)/ { print $2 }' "$left/capabilities" | sort -u)" = 0000000000000000
check "it uses BPF, which its unit allows" grep -q 'bpf' "$left/collector.status"
check_has "it exports" "$(cat "$left/metrics")" kepler_container_joules_total
check "the model server runs, as its user" says server ActiveState=active NRestarts=0 User=wattloop
check "with seccomp and without any capability" says server.proc "CapEff:	0000000000000000" "Seccomp:	2" "NoNewPrivs:	1"
check "its tokens are a credential: an upload without one is refused" test "$(cat "$left/import.without")" = 401
check "no estimator runs before somebody asks" says estimator.before ActiveState=inactive
check "the first request over its socket is answered" json reply.json '.powers.platform == [42, 42]'
check "by an estimator that systemd started" says estimator ActiveState=active User=wattloop
check "the socket is for the group only" says socket "660 wattloop wattloop"
check "one that was killed loses no request" json again.json '.powers.platform == [42, 42]'
check "the trainer client sends with its credential" says push Result=success ExecMainStatus=0
check "and the server has it" json status.json '.nodes | length == 1'
check "the updater asks, in its own sandbox, and is told that there is no model yet" grep -q 'wattloop-updater.*: no model fits' "$left/journal"
check "both timers wait" test "$(wc -l <"$left/timers")" = 2
check "without credentials the server starts" says server.bare ActiveState=active
check "and the collector" says collector.bare ActiveState=active
check "and the trainer client" says push.bare Result=success
check "nothing else has failed" sh -c "[ -f '$left/failed' ] && ! grep -v wattloop-updater '$left/failed'"
