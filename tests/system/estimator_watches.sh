#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What the estimator takes from around it: a store that changes, a socket that is given to it, users who may ask.
set -u
shopt -s extglob
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/estimator.bash"

dir=$(tmpdir)
sock=$dir/sock
chmod 755 "$dir"

# ---- the store is watched from before it is there ----
start_estimator "$dir" --socket-pedigree off --socket-owner "$(id -u):$(id -g)"
check "without a store there is no model" test "$(status_of "$sock" '.models | length')" = 0
const_weights 51 | install_weights "$dir/store" acpi/AbsPower >/dev/null
check "a model of a store that comes to be is loaded without being asked" wait_for 20 model_is "$sock" Const_51
const_weights 52 | install_weights "$dir/store" acpi/AbsPower >/dev/null
check "so is the next" wait_for 20 model_is "$sock" Const_52
const_weights -5 | install_weights "$dir/store" acpi/AbsPower >/dev/null
check "one that predicts negative power is refused" wait_for 20 eval \
        'status_of "$sock" ".refused[0].error" | grep -q "negative power for platform"'
check "while the one before serves" model_is "$sock" Const_52
const_weights 53 | install_weights "$dir/store" acpi/DynPower >/dev/null
check "and another output type is added" wait_for 20 eval '[ "$(status_of "$sock" ".models | length")" = 2 ]'
rm -r "$dir/store"
check "a store that is removed has no models" wait_for 20 eval '[ "$(status_of "$sock" ".models | length")" = 0 ]'
const_weights 54 | install_weights "$dir/store" acpi/AbsPower >/dev/null
check "and one that is made again has" wait_for 20 model_is "$sock" Const_54
reply=$(ask "$sock" "$REQUEST")
check "a reply without pedigree ends behind core_ratio" eval '[[ $reply == *"\"core_ratio\": "*([0-9.])"}" ]]'
stop "$STARTED_PID"

# ---- the service manager's socket ----
cat >"$dir/activate.py" <<'PY'
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen(64)
os.dup2(s.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
PY
start "$dir/log" python3 "$dir/activate.py" "$dir/given" "$ESTIMATOR" serve --config "$CONFIG" --socket-path "$dir/own" \
        --store-path "$dir/store"
wait_for 30 test -S "$dir/given"
check_has "a socket of the service manager is served" "$(ask "$dir/given" "$REQUEST")" 54.0
check "in place of one of its own" test ! -e "$dir/own"
stop "$STARTED_PID"
check "and is left to it at the end" test -S "$dir/given"
check_exit 1 "a descriptor that is no listening socket is refused" env LISTEN_FDS=1 bash -c \
        'exec 3<&0; LISTEN_PID=$$ exec "$@"' - "$ESTIMATOR" serve --config "$CONFIG" --store-path "$dir/store"

# ---- who may ask ----
check_exit 1 "a user who does not exist is refused" "$ESTIMATOR" serve --config "$CONFIG" --socket-path "$sock" \
        --store-path "$dir/store" --socket-allow nobody-of-that-name
if [ "$(id -u)" != 0 ]; then
        skip "users are told apart" "not root"
        exit 0
fi
start_estimator "$dir" --socket-mode 0666 --socket-owner nobody:daemon --socket-allow 12345,@daemon
as() { # as USER GROUP [GROUP]: what this user is answered
        python3 - "$sock" "$REQUEST" "$@" <<'PY'
import os, socket, sys
user, group, *more = map(int, sys.argv[3:])
os.setgroups(more)
os.setgid(group)
os.setuid(user)
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
try: s.sendall(sys.argv[2].encode())
except BrokenPipeError: pass
print(s.recv(4096).decode())
PY
}
check "the socket belongs to whom the configuration says" test "$(stat -c %U:%G "$sock")" = nobody:daemon
check_has "a user who is named may ask" "$(as 12345 12345)" 54.0
check_has "so may one in a group that is named" "$(as 12346 1)" 54.0
check_has "even if it is not the first" "$(as 12346 12346 1)" 54.0
check_has "another one is told that it may not" "$(as 12346 12346)" 'this user may not ask'
check_has "root may" "$(ask "$sock" "$REQUEST")" 54.0
check "status counts who was sent away" test "$(status_of "$sock" .denied)" = 1
