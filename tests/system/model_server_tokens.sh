#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Tokens are issued and revoked beside a running server, which follows at once; the file holds no token, and survives
# full disks, several hands at a time and mistakes.
set -u
. "$(dirname "$0")/lib.sh"

dir=$(tmpdir)
port=$(free_port)
url=http://127.0.0.1:$port
tokens=$dir/etc/tokens
mkdir "$dir/etc"
for node in n1 n2; do
        python3 "$(dirname "$0")/model_server_batches.py" "$node" 0 1 >"$dir/$node"
done

token() {
        "$BIN/wattloop-model-server" token "$@" --auth-token-file "$tokens" 2>>"$dir/token.log"
}
code() { # NODE TOKEN: what the server says to an upload of that node's
        curl -s -o /dev/null -w '%{http_code}' -H 'Content-Type: application/x-ndjson' -H "Authorization: Bearer $2" \
                --data-binary "@$dir/$1" "$url/api/v1/import"
}
answers() { # CLAIM NODE TOKEN CODE
        check_has "$1" "$(code "$2" "$3")" "$4"
}

check_exit 2 "without auth.token_file there is nothing to issue into" "$BIN/wattloop-model-server" token issue n1
check_exit 1 "what is no node id is not issued" token issue 'n1 n2'
one=$(token issue n1)
check "a token has 256 bits" grep -qE '^[0-9a-f]{64}$' <<<"$one"
check "its file is readable by its owner alone" test "$(stat -c %a "$tokens")" = 600
check "and has no token in it" sh -c "! grep -q $one '$tokens'"
check_has "but its hash" "$(cat "$tokens")" "n1 sha256:$(printf %s "$one" | sha256sum | cut -d' ' -f1) issued 20"

printf '# by hand\nsesame\n' >>"$tokens"
start "$dir/log" "$BIN/wattloop-model-server" serve --listen "127.0.0.1:$port" --database-path "$dir/server.db" \
        --models-path "$dir/pipelines" --auth-token-file "$tokens"
server=$STARTED_PID
wait_for 10 curl -sf "$url/healthz"
answers "a node's token uploads that node's series" n1 "$one" 200
answers "and no other node's" n2 "$one" 403
answers "its hash, which a thief of the file has, is no token" n1 "sha256:$(printf %s "$one" | sha256sum | cut -d' ' -f1)" 401
answers "a token that stands there in the clear is good, too" n2 sesame 200

two=$(token issue n1)
answers "a token is good at once when issued beside the server" n1 "$two" 200
answers "beside the one of before" n1 "$one" 200
fingerprint=$(printf %s "$one" | sha256sum | cut -c1-16)
check_has "the list names each by fingerprint, node and time" "$(token list)" "$fingerprint"$'\tn1\thash\tissued 20'
check_has "and those in the clear" "$(token list)" $'\t(fleet)\tclear'
check "but shows none" sh -c "! '$BIN/wattloop-model-server' token list --auth-token-file '$tokens' | grep -qE '$one|sesame'"
check_has "one of a node's tokens is revoked by fingerprint" "$(token revoke "$fingerprint")" "1 revoked, 2 left"
answers "and refused from then on, without a restart" n1 "$one" 401
answers "the other is not" n1 "$two" 200
fleet=$(token issue --fleet)
answers "a token of the fleet uploads for every node" n2 "$fleet" 200
cp -p "$tokens" "$dir/before"
check_exit 1 "whose name is wrong is told" token revoke n1 n7
check "and nothing is revoked then" cmp "$tokens" "$dir/before"
check_has "a node's tokens go by its id" "$(token revoke n1)" "1 revoked, 2 left"
answers "at once" n1 "$two" 401
check "comments stay" grep -qx '# by hand' "$tokens"

# a connection that stays, and an upload whose token goes while it is on its way
cat >"$dir/slow.py" <<'PY'
import http.client, subprocess, sys, time
port, token, body, *revoke = sys.argv[1:]
data = open(body, "rb").read()
c = http.client.HTTPConnection("127.0.0.1", int(port))
head = {"Content-Type": "application/x-ndjson", "Authorization": "Bearer " + token, "Content-Length": str(len(data))}
c.request("POST", "/api/v1/import", data, head)
first = c.getresponse(); first.read()
c.putrequest("POST", "/api/v1/import")
for name, value in head.items():
    c.putheader(name, value)
c.endheaders(data[:100])
time.sleep(0.3)
subprocess.run(revoke, check=True, stdout=subprocess.DEVNULL)
c.send(data[100:])
print(first.status, c.getresponse().status)
PY
three=$(token issue n1)
check_has "an upload whose token is revoked on its way is refused" "$(python3 "$dir/slow.py" "$port" "$three" "$dir/n1" \
        "$BIN/wattloop-model-server" token revoke n1 --auth-token-file "$tokens")" "200 401"

# several hands, and uploads meanwhile
for i in 1 2 3 4 5 6 7 8; do
        token issue "m$i" >"$dir/m$i" &
        pids[i]=$!
done
while [ -n "$(jobs -rp | grep -vx "$server")" ]; do
        code n2 "$fleet"
        echo
done >"$dir/codes"
wait "${pids[@]}"
check "eight who issue at a time lose no token" test "$(token list | grep -c "$(printf '\tm')")" = 8
check "and no upload is refused meanwhile" test "$(sort -u "$dir/codes")" = 200
check_has "each of theirs is known to the server" "$(for i in 1 2 3 4 5 6 7 8; do code n2 "$(cat "$dir/m$i")"; done)" 403403403403403403403403

# nobody sees it, the disk is full, mistakes
cp -p "$tokens" "$dir/before"
check_exit 1 "a token that cannot be shown" sh -c "'$BIN/wattloop-model-server' token issue n9 --auth-token-file '$tokens' >/dev/full"
check "is not issued" cmp "$tokens" "$dir/before"
mkdir "$dir/small"
if [ "$(id -u)" = 0 ] && mount -t tmpfs -o size=16k tmpfs "$dir/small" 2>/dev/null; then
        cp "$tokens" "$dir/small/tokens"
        head -c 12000 /dev/zero >"$dir/small/filler" 2>/dev/null
        check_exit 1 "on a full disk no token is issued" sh -c \
                "'$BIN/wattloop-model-server' token issue n9 --auth-token-file '$dir/small/tokens' >'$dir/out'"
        check "none is shown" test ! -s "$dir/out"
        check "and the file is as it was" cmp "$tokens" "$dir/small/tokens"
        check "with nothing beside it" test "$(ls -A "$dir/small" | sort | tr '\n' ' ')" = "filler tokens "
        umount "$dir/small"
else
        skip "on a full disk no token is issued" "needs root and a tmpfs"
fi
echo 'n1 sha256:abc' >>"$tokens"
answers "a mistake in the file leaves the tokens of before in force" n2 "$fleet" 200
check_has "and is told with its line" "$(cat "$dir/log")" "line 12: behind sha256: must be 64 hex digits; the tokens of before stay"
check_exit 1 "nor is such a file edited" token issue n3
chmod 666 "$dir/before"
cp -p "$dir/before" "$tokens"
answers "a file that everybody can write to is not taken" n2 "$fleet" 200
check_has "and that is told" "$(cat "$dir/log")" "everybody on this machine can write to '$tokens'"
check_exit 1 "a server does not start with one" "$BIN/wattloop-model-server" serve --listen "127.0.0.1:$(free_port)" \
        --database-path "$dir/other.db" --models-path "$dir/other" --auth-token-file "$tokens"
token issue n3 >"$dir/n3.token"
check "an edit takes what is too much from its mode" test "$(stat -c %a "$tokens")" = 640
if [ "$(id -u)" = 0 ]; then
        chown 65534:65533 "$tokens"
        mv "$tokens" "$dir/real"
        ln -s "$dir/real" "$tokens"
        token issue n4 >"$dir/n4.token"
        check "and keeps its owner, its group and links to it" test "$(stat -c '%u %g %a' "$dir/real")" = "65534 65533 640" -a -L "$tokens"
else
        skip "and keeps its owner, its group and links to it" "needs root"
fi
answers "the running server has followed" n2 "$(cat "$dir/n4.token" 2>/dev/null || cat "$dir/n3.token")" 403
rm "$tokens"
answers "a file that is gone leaves the tokens of before in force" n2 "$fleet" 200
: >"$tokens"
answers "one without a token lets nobody in" n2 "$fleet" 401
check "the server ends well" stop "$server"
