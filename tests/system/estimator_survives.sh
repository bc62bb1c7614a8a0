#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Clients that are slow, silent, broken or hostile: the estimator answers the others and keeps its bounds.
set -u
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/estimator.bash"

dir=$(tmpdir)
sock=$dir/sock
const_weights 7 | install_weights "$dir/store" acpi/AbsPower >/dev/null
start_estimator "$dir" --limits-timeout 3s --limits-clients 40 --limits-buffered 24MiB
pid=$STARTED_PID

# the clients; they print their own claims
cat >"$dir/client.py" <<'PY'
import json, socket, struct, sys, threading, time
path, request = sys.argv[1], sys.argv[2].encode()
good = b'{"powers": {"platform": [7.0, 7.0]}, "msg": "", "core_ratio": '

def dial(timeout=10):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(timeout)
    s.connect(path)
    return s

def read_replies(s, n=1):
    data, decoder, found = b"", json.JSONDecoder(), []
    while len(found) < n:
        got = s.recv(65536)
        if not got: break
        data += got
        while data:
            try: value, end = decoder.raw_decode(data.decode())
            except ValueError: break
            found.append(data[:end]); data = data[end:]
    return found

def closed(s):
    try: return s.recv(1) == b""
    except ConnectionError: return True

def claim(words, good, why=""):
    print(("ok - " if good else "not ok - ") + words + ("" if good or not why else ": " + str(why)[:200]), flush=True)

def alive(): # answered, and quickly
    begin = time.monotonic()
    with dial() as s:
        s.sendall(request)
        reply = read_replies(s)
    return reply and reply[0].startswith(good) and time.monotonic() - begin < 1

with dial() as s:
    s.sendall(request + request)
    r = read_replies(s, 2)
    claim("two requests in one write get two replies", len(r) == 2 and all(x.startswith(good) for x in r), r)
    s.sendall(b" \n\t" + request + b"\n")
    claim("the connection stays open, white space is skipped", read_replies(s)[0].startswith(good))
    for part in (request[:50], request[50:51], request[51:]):
        s.sendall(part); time.sleep(0.05)
    claim("a request in pieces is put together", read_replies(s)[0].startswith(good))
    tricky = request.replace(b'"x"', '"} \\" \u00e9 {"'.encode())
    for i in range(len(tricky)): s.sendall(tricky[i:i + 1])
    claim("braces, escapes and multi-byte characters in strings do not end a request", read_replies(s)[0].startswith(good))

with dial() as s:
    s.sendall(request); s.shutdown(socket.SHUT_WR)
    claim("a client that closes its sending side is answered", read_replies(s)[0].startswith(good) and closed(s))

for words, text in (("garbage", b"GET / HTTP/1.1\r\n\r\n"), ("an array", b"[1]"), ("a stray brace", b"}")):
    with dial() as s:
        s.sendall(text)
        r = read_replies(s)
        claim(words + " gets an error reply and the end", b'{"powers": {}, "msg": "failed' in r[0] and closed(s), r)
with dial() as s:
    s.sendall(b'{"metrics": nonsense}')
    r = read_replies(s)
    s.sendall(request)
    claim("malformed JSON gets an error reply and the connection goes on", b'"msg": "failed to handle request' in r[0]
          and read_replies(s)[0].startswith(good), r)

for i in range(200):
    s = dial(); s.close()
claim("200 connects and closes do no harm", alive())
for i in range(100):
    s = dial(); s.sendall(request[:i]); s.close()
claim("100 requests broken off do no harm", alive())
for i in range(100):
    s = dial(); s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)); s.sendall(request); s.close()
claim("100 clients that do not wait for their reply do no harm", alive())

with dial(30) as s:
    s.sendall(b'{"a": "')
    sent = 7
    try:
        while sent < (16 << 20) + 1:
            n = s.send(b"x" * min(65536, (16 << 20) + 1 - sent)); sent += n
    except (BrokenPipeError, ConnectionError): pass
    try: r = read_replies(s)
    except ConnectionError: r = [b""]
    claim("16 MiB and 1 byte are too large", sent > (16 << 20) - 200000 and b"too large" in r[0], (sent, r))
with dial(30) as s:
    s.sendall(b'{"a": [' + b"0," * (1 << 20) + b"0,")
    claim("too many values are refused before they are parsed", b"too many values" in read_replies(s)[0])
claim("it still answers", bool(alive()))

# a byte a second: others are not delayed, and it is dropped when its time is over
slow = dial()
stop = time.monotonic() + 2
while time.monotonic() < stop:
    slow.sendall(request[:1]) if stop - time.monotonic() > 1.9 else slow.sendall(b" ")
    claim_ok = alive()
    time.sleep(0.2)
claim("a client that sends a byte now and then does not delay others", claim_ok)
begin = time.monotonic()
try:
    while time.monotonic() - begin < 6: slow.sendall(b" "); time.sleep(0.1)
    dropped = False
except ConnectionError: dropped = True
claim("and is dropped at the time limit", dropped)

silent = dial(8)
begin = time.monotonic()
claim("a silent client is dropped at the time limit", closed(silent) and 2 < time.monotonic() - begin < 6, time.monotonic() - begin)

# replies that nobody reads: the rows make a large reply, the connection is dropped, others go on
rows = b"[" + b",".join([b"[1]"] * 100000) + b"]"
greedy = dial(30)
greedy.sendall(request.replace(b"[[1],[2]]", rows))
time.sleep(0.3)
claim("a client that does not read its reply does not delay others", bool(alive()))
try:
    for i in range(60): greedy.sendall(request); time.sleep(0.1)
    dropped = False
except (ConnectionError, socket.timeout): dropped = True
claim("and is dropped at the time limit", dropped)

with dial(30) as s:
    s.sendall(request.replace(b"[[1],[2]]", rows))
    r = read_replies(s)
    claim("100000 rows are answered completely", len(json.loads(r[0])["powers"]["platform"]) == 100000)

# more clients than allowed wait their turn
crowd = [dial() for i in range(60)]
claim("clients over the limit are served when others end", bool(len(crowd) == 60))
for s in crowd[:40]: s.close()
ok = True
for s in crowd[40:]:
    s.sendall(request); ok = ok and read_replies(s)[0].startswith(good)
claim("all of them", ok)
for s in crowd: s.close()

# many unfinished requests together stay below limits.buffered
held, refused = [], 0
for i in range(4):
    s = dial(10); held.append(s)
    try:
        s.sendall(b'{"a": "' + b"x" * (8 << 20))
    except (ConnectionError, socket.timeout): pass
for s in held:
    s.settimeout(0.3)
    try: refused += b"under way" in s.recv(4096)
    except (ConnectionError, socket.timeout): pass
    s.close()
claim("unfinished requests have a bound together", refused >= 1, refused)
claim("and it still answers after all that", bool(alive()))
PY
check "the client script got to its end" eval 'timeout 120 python3 "$dir/client.py" "$sock" "$REQUEST" | tee "$dir/claims" | grep -E "^(ok|not ok) - " >&3; tail -n 1 "$dir/claims" | grep -q "after all that"' 3>&1
check "the process is still the same" test "$(status_of "$sock" .pid)" = "$pid"
check "its descriptors are closed again" wait_for 5 eval '[ $(ls "/proc/$pid/fd" | wc -l) -le 12 ]'
rss=$(sed -n 's/VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$pid/status")
check "memory is given back (${rss} KiB)" test "$rss" -lt 300000

# out of descriptors: no spinning, and service when there are some again
stop "$pid"
(ulimit -n 24; exec "$ESTIMATOR" serve --config "$CONFIG" --socket-path "$sock" --store-path "$dir/store" 2>"$dir/log2") &
pid=$!
STARTED+=("$pid")
wait_for 5 test -S "$sock"
python3 - "$sock" "$REQUEST" "$pid" <<'PY'
import os, socket, sys, time
crowd = []
for i in range(40):
    s = socket.socket(socket.AF_UNIX); s.settimeout(5); s.connect(sys.argv[1]); crowd.append(s)
def cpu():
    return sum(map(int, open("/proc/%s/stat" % sys.argv[3]).read().rsplit(")", 1)[1].split()[11:13]))
time.sleep(0.2)
before = cpu(); time.sleep(1); used = (cpu() - before) / os.sysconf("SC_CLK_TCK")
print(("ok" if used < 0.2 else "not ok") + " - without descriptors it does not spin: %.2f s of 1 s" % used)
for s in crowd[:30]: s.close()
last = crowd[-1]
last.sendall(sys.argv[2].encode())
print(("ok" if b"7.0" in last.recv(4096) else "not ok") + " - and goes on when some are free again")
PY
check "it said so once" test "$(grep -c 'cannot accept connections' "$dir/log2")" -eq 1

# few descriptors, and clients that want them all: a reload has those that it needs
stop "$pid"
(ulimit -n 64; exec "$ESTIMATOR" serve --config "$CONFIG" --socket-path "$sock" --store-path "$dir/store" 2>"$dir/log3") &
pid=$!
STARTED+=("$pid")
wait_for 5 test -S "$sock"
const_weights 8 | install_weights "$dir/store" acpi/AbsPower >/dev/null
python3 - "$sock" "$REQUEST" "$pid" <<'PY'
import os, signal, socket, sys, time
crowd = []
for i in range(100):
    s = socket.socket(socket.AF_UNIX); s.settimeout(5); s.connect(sys.argv[1]); crowd.append(s)
time.sleep(0.2)
os.kill(int(sys.argv[3]), signal.SIGHUP)
for i in range(50):
    crowd[0].sendall(sys.argv[2].encode())
    reply = crowd[0].recv(4096)
    if b"8.0" in reply: break
    time.sleep(0.05)
print(("ok" if b"8.0" in reply else "not ok") + " - clients leave a reload the descriptors that it needs")
PY
