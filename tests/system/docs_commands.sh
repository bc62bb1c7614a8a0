#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The commands in README.md and docs/ work: each block that is marked so is run, in an empty directory, with a network
# of its own and empty /etc/wattloop, /var/lib/wattloop and /run/wattloop, so that documented paths and ports can stand
# as they are. A block of commands without a mark is a failure (tests/docs_commands.py tells the marks).
set -u
. "$(dirname "$0")/lib.sh"
dir=$(tmpdir)
tool=$PWD/tests/docs_commands.py

python3 "$tool" check
[ ! -f docs/troubleshooting.md ] || python3 "$tool" quotes docs/troubleshooting.md

# A document with a block that fails, and one without a mark: the test can fail.
mkdir -p "$dir/broken/tests" "$dir/broken/docs"
cp "$tool" "$dir/broken/tests"
printf '<!-- run -->\n\n    true\n    false\n    true\n\n```\nmake all\n```\n' >"$dir/broken/README.md"
check_has "a block that fails is found" "$(python3 "$dir/broken/tests/docs_commands.py" run README.md)" "not ok - README.md, line 3: the commands work: exit 1"
check_has "so is one without a mark" "$(python3 "$dir/broken/tests/docs_commands.py" check)" "not ok - README.md: every block of commands is run by this test or says why not: line 7"

# lo is brought up by hand: the ip command may not be there.
cat >"$dir/inside" <<'END'
python3 -c 'import fcntl, socket, struct
fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x8914, struct.pack("16sh14x", b"lo", 1 | 64))'
for place in /etc/wattloop /var/lib/wattloop /run/wattloop; do
        mount -t tmpfs wattloop "$place" || exit
done
cd "$1" && exec python3 "$2" run "$3"
END
made=()
for place in /etc/wattloop /var/lib/wattloop /run/wattloop; do
        [ -d $place ] || { mkdir $place 2>/dev/null && made+=($place); }
done
if unshare --mount --net true 2>/dev/null; then
        for document in README.md docs/*.md; do
                grep -q '^ *<!-- run -->' "$document" || continue
                mkdir -p "$dir/${document%.md}"
                ln -s "$B" "$dir/${document%.md}/build"
                PATH=$BIN:$PATH unshare --mount --net --pid --fork --kill-child --mount-proc bash "$dir/inside" "$dir/${document%.md}" "$tool" "$document"
        done
else
        skip "the commands in the documents work" "no namespaces of its own: not permitted here"
fi
[ ${#made[@]} -eq 0 ] || rmdir "${made[@]}"
