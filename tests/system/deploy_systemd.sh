#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The units of deploy/systemd as `make install` leaves them: sound, sandboxed, and with commands that the programs accept; the
# estimator answers on the socket that systemd hands it. deploy/cron likewise. tests/qemu/units.sh starts them for real.
set -u
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/estimator.bash"

dir=$(tmpdir)
units=$dir/lib/systemd/system
check "make install puts them below PREFIX" make -s install-files B="$B" DESTDIR= PREFIX="$dir" SYSCONFDIR="$dir/etc"

check "systemd finds no fault with them" sh -c "systemd-analyze verify --man=no '$units'/wattloop-* 2>&1 | grep . && exit 1 || exit 0"
for unit in "$units"/*.service; do
        limit=20
        case $unit in *collector*) limit=40 ;; esac
        check "$(basename "$unit") is exposed by at most $limit tenths" systemd-analyze security --offline=true --threshold=$limit "$unit"
done

command_of() { # command_of UNIT: its ExecStart
        sed -n 's/^ExecStart=//p' "$1"
}
for unit in "$units"/*.service; do
        name=$(basename "$unit" .service)
        read -ra words < <(command_of "$unit")
        check "$name: the program accepts the command" "${words[@]}" --config "$dir/etc/wattloop/${name#wattloop-}.yaml" --check-config
        check "$name: its manual page is there" test -f "$dir/share/man/man8/$name.8"
done
check "an option that is unknown would be noticed" sh -c "! '$BIN/wattloop-updater' --schedule update --check-config"

if [ "$(id -u)" = 0 ]; then
        tree=$dir/tree
        mkdir -p "$tree/etc" "$tree/var/lib" "$tree/run"
        check "sysusers makes the user" systemd-sysusers --root="$tree" "$PWD/deploy/systemd/sysusers.conf"
        check_has "wattloop, who cannot log in" "$(grep ^wattloop: "$tree/etc/passwd")" nologin
        check "tmpfiles makes the directories" systemd-tmpfiles --root="$tree" --create "$PWD/deploy/systemd/tmpfiles.conf"
        check "that of the data is not for others" test "$(stat -c %a "$tree/var/lib/wattloop")" = 750
else
        skip "sysusers and tmpfiles" "needs root"
fi

# the command of the unit, on a socket that systemd made
mkdir -p "$dir/store"
const_weights 42 | install_weights "$dir/store" acpi/AbsPower >/dev/null
read -ra words < <(command_of "$units/wattloop-estimator.service")
start "$dir/activate.log" systemd-socket-activate -l "$dir/sock" "${words[@]}" --config "$CONFIG" --store-path "$dir/store"
pid=$STARTED_PID
check "systemd makes the socket" wait_for 10 test -S "$dir/sock"
check "no estimator runs before somebody asks" test "$(cat "/proc/$pid/comm")" = systemd-socket-
reply=$(ask "$dir/sock" "$REQUEST")
check "the first request is answered, by the model" test "$(jq -c .powers.platform <<<"$reply")" = '[42,42]'
check "by an estimator that was started for it" test "$(cat "/proc/$pid/comm")" = wattloop-estima
stop "$pid"
check "it does not remove a socket that is systemd's" test -S "$dir/sock"

# deploy/cron: five times, or @reboot, then a user and commands that are accepted
times='^(@reboot|([0-9*/,-]+ +){4}[0-9*/,-]+) +(root|wattloop) +[^ ]'
jobs=$(grep -vE '^(#|$|[A-Z]+=)' deploy/cron/wattloop)
check "each line of the cron file is times, user and command" sh -c "! printf '%s\n' '$(sed "s/'//g" <<<"$jobs")' | grep -vE '$times'"
while read -r line; do
        read -ra words < <(grep -oE 'wattloop-(collector|estimator|trainer-client|updater) .*' <<<"$line" | sed 's/ >.*//')
        [ ${#words[@]} -gt 0 ] || continue
        check "cron: ${words[*]} is accepted" "$BIN/${words[0]}" "${words[@]:1}" --config "$CONFIG" --check-config
        check "cron: and the shell takes the line" bash -nc "$(sed -E 's/^(@reboot|([^ ]+ +){5}) *(root|wattloop) //; s/\\\\%/%/' <<<"$line")"
done <<<"$jobs"
if [ -x "$(command -v crontab)" ]; then
        sed -E '/^[@*0-9]/s/ (root|wattloop) / /' deploy/cron/wattloop >"$dir/crontab"
        check "cron's own parser takes it" crontab -n "$dir/crontab"
else
        skip "cron's own parser takes it" "cron is not installed"
fi
