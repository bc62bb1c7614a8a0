#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The status page in a real browser: its numbers are the API's, nothing from outside becomes markup.
set -u
. "$(dirname "$0")/lib.sh"

dir=$(tmpdir)
here=$(dirname "$0")
port=$(free_port)
url=http://127.0.0.1:$port

start "$dir/log" "$BIN/wattloop-model-server" serve --listen "127.0.0.1:$port" --database-path "$dir/server.db" \
        --models-path "$dir/pipelines" --publish-interval 100ms
server=$STARTED_PID
wait_for 10 curl -sf "$url/healthz"
check_has "an empty server has a page" "$(curl -s "$url/")" 'No node has sent anything yet.'

send() { # ROWS-ARGUMENTS...
        python3 "$here/model_server_batches.py" "$@" | curl -s --data-binary @- "$url/api/v1/import" >/dev/null
}
learned() { curl -s "$url/api/v1/status" | jq -e --argjson n "$1" '.learning.learned_row == $n and (.models | length) == 8' >/dev/null; }
send n1 0 40
wait_for 10 learned 40
send n1 40 60
wait_for 10 learned 100
send '<b>n2</b>' 0 30 source=simulated
printf '{"metric":1}' | curl -s -H 'Wattloop-Batch: <script>alert(1)</script>' --data-binary @- "$url/api/v1/import" >/dev/null
wait_for 10 learned 130
head=$(curl -sD - -o "$dir/page.html" "$url/")
check_has "the page lets no script run, whoever wrote it" "$head" "default-src 'none'"
check_has "what a node calls itself is text" "$(cat "$dir/page.html")" '&lt;b&gt;n2&lt;/b&gt;'
check_has "and nowhere markup" "$(grep -c '<b>n2\|<script' "$dir/page.html")" 0

cat >"$dir/compare.py" <<'PY'
"""Every number of the page's tables and tiles against the API's; usage: compare.py PAGE STATUS"""
import html.parser, json, sys

class Page(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.rows, self.tiles, self.row, self.svg, self.circles = {}, {}, None, 0, 0
    def handle_starttag(self, tag, attrs):
        data = {k[5:]: v for k, v in attrs if k.startswith("data-")}
        a = dict(attrs)
        if tag == "tr" and "class" in a:
            self.row = {}
            self.rows.setdefault(a["class"], []).append(self.row)
        if tag == "div" and a.get("class") == "tile":
            self.tiles.update(data)
        elif self.row is not None:
            self.row.update(data)
        self.svg += tag == "svg"
        self.circles += tag == "circle"

page, status = Page(), json.load(open(sys.argv[2]))
page.feed(open(sys.argv[1]).read())
bad, n = [], 0

def same(what, shown, said):
    global n
    n += 1
    if (shown or None) is None and said is None:
        return
    if shown in (None, "") or said is None or (shown != said if isinstance(said, str) else float(shown) != float(said)):
        bad.append("%s: page %r, API %r" % (what, shown, said))

learning = status["learning"]
champions = {c["content_id"]: c for c in learning["champions"]}
tables = {
    "node": (status["nodes"], ["node_id", "node_type", "rows", "refused_rows", "last_seen_ms"]),
    "model": (status["models"], ["content_id", "rows", "mae", "published_ms"]),
    "decision": (learning["history"], ["decided_ms", "trial_rows", "mae", "champion_mae"]),
    "score": (learning["scores"], ["rows", "mae", "recent_mae"]),
    "refused": (status["refused_batches"], ["received_ms", "status"]),
}
for name, (said, keys) in tables.items():
    shown = page.rows.get(name, [])
    same(name + "s", str(len(shown)), str(len(said)))
    for row, item in zip(shown, said):
        for key in keys:
            same("%s %s" % (name, key), row.get(key), item[key])
for row, model in zip(page.rows["model"], status["models"]):
    same("recent_mae", row.get("recent_mae"), champions.get(model["content_id"], {}).get("recent_mae"))
for tile, value in [("nodes", len(status["nodes"])), ("rows", status["rows"]), ("samples", status["samples"]),
                    ("models", len(status["models"])), ("refused", status["batches_refused"])]:
    same("tile " + tile, page.tiles.get(tile), value)
plots = sum(len(c["live_mae"]) for c in learning["champions"])
same("plots", page.svg, 2 * plots)
print("\n".join(bad[:5]) if bad else "the same: %s numbers, %s" % ("many" if n > 100 else n, "dots" if page.circles > 50 else "no dots"))
PY
claims=("the page in a browser says what the API says" "and draws it, in colours")
if command -v chromium >/dev/null; then
        browse() {
                timeout 60 chromium --headless --no-sandbox --disable-gpu --disable-background-networking --no-first-run \
                        --user-data-dir="$dir/chromium" "$@" 2>"$dir/chromium.log"
        }
        for round in 1 2 3; do # a page and a status between which nothing changed
                curl -s "$url/api/v1/status" >"$dir/status.json"
                browse --dump-dom "$url/" >"$dir/dom.html"
                curl -s "$url/api/v1/status" | cmp -s - "$dir/status.json" && break
        done
        check_has "${claims[0]}" "$(python3 "$dir/compare.py" "$dir/dom.html" "$dir/status.json" 2>&1)" "the same: many numbers, dots"
        browse --window-size=1240,1600 --screenshot="$dir/page.png" "$url/" >/dev/null
        check_has "${claims[1]}" "$(python3 - "$dir/page.png" <<'PY'
import struct, sys, zlib
data = open(sys.argv[1], "rb").read()
w, h, depth, kind = struct.unpack(">IIBB", data[16:26])
raw, at = b"", 8
while at < len(data):
    n, = struct.unpack(">I", data[at:at + 4])
    if data[at + 4:at + 8] == b"IDAT":
        raw += data[at + 8:at + 8 + n]
    at += 12 + n
raw, bpp = zlib.decompress(raw), {2: 3, 6: 4}[kind]
line, colours = bytearray(w * bpp), set()
for y in range(h):
    f, row = raw[y * (w * bpp + 1)], bytearray(raw[y * (w * bpp + 1) + 1:(y + 1) * (w * bpp + 1)])
    for i in range(len(row)):
        a, b, c = row[i - bpp] if i >= bpp else 0, line[i], line[i - bpp] if i >= bpp else 0
        if f == 1: row[i] = (row[i] + a) & 255
        elif f == 2: row[i] = (row[i] + b) & 255
        elif f == 3: row[i] = (row[i] + (a + b) // 2) & 255
        elif f == 4:
            p = a + b - c
            pa, pb, pc = abs(p - a), abs(p - b), abs(p - c)
            row[i] = (row[i] + (a if pa <= pb and pa <= pc else b if pb <= pc else c)) & 255
    line = row
    if y % 8 == 0:
        colours.update(bytes(row[i:i + 3]) for i in range(0, len(row), bpp))
print("colours: %s" % ("many" if len(colours) > 30 else len(colours)))
PY
)" "colours: many"
else
        for claim in "${claims[@]}"; do
                skip "$claim" "chromium is not installed"
        done
        curl -s "$url/" >"$dir/dom.html"
        curl -s "$url/api/v1/status" >"$dir/status.json"
        check_has "the page says what the API says" "$(python3 "$dir/compare.py" "$dir/dom.html" "$dir/status.json" 2>&1)" "the same: many numbers"
fi
model=$(curl -s "$url/api/v1/status" | jq -r '[.models[] | select(.output_type == "AbsPower")][0].content_id')
check_has "a model has a page of its own" "$(curl -s "$url/?model=$model" | grep -c '<svg')" 1
check_has "one that is not there has none" "$(curl -s "$url/?model=nope")" 'All models'
stop "$server"
