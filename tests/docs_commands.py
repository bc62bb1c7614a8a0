#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The commands in the documents: docs_commands.py check | run FILE.md | quotes FILE.md

A block of code (fenced, or indented by four spaces after an empty line) whose first word is a command stands behind one of

    <!-- run -->
    <!-- not run: why, or what tests it -->

check prints a claim per document: each such block has its mark. run runs those marked `run` of one document, each in a
shell of its own that ends at the first failure, all in the current directory. quotes looks up, in the sources, every
message that a document quotes as **`message`**; … in it stands for what varies.
"""
import glob
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DOCUMENTS = ["README.md"] + sorted(os.path.relpath(f, ROOT) for f in glob.glob(ROOT + "/docs/*.md"))
COMMAND = re.compile(r"^\s*(\$ )?(#.*\n\s*)*(sudo |env )?(make|git|apt-get|apt|dpkg\S*|install|cat|cp|mkdir|curl|jq|sqlite3|systemctl|systemd-\S+|journalctl|kubectl|podman|docker|buildah|"
                     r"minisign|promtool|crontab|setpriv|tar|rsync|useradd|adduser|rm|chmod|chown|sysctl|modprobe|echo|printf|ls|kill|ssh|scp|(\S*/)?wattloop-[a-z-]+ [^|│])")
BLOCK_SECONDS = 30


def blocks(text):
    """(line number, mark or None, code) of every block of code."""
    lines = text.split("\n")
    i, mark, found = 0, None, []
    while i < len(lines):
        line = lines[i]
        note = re.match(r"\s*<!--\s*(run|not run: .*?)\s*-->\s*$", line)
        fence = re.match(r"(\s*)(```+|~~~+)", line)
        first = i + 1
        if note:
            mark = note.group(1)
        elif fence:
            end = next((k for k in range(i + 1, len(lines)) if lines[k].strip() == fence.group(2)), len(lines))
            found.append((first, mark, "\n".join(s[len(fence.group(1)):] for s in lines[i + 1:end])))
            i, mark = end, None
        elif line.startswith("    ") and (i == 0 or not lines[i - 1].strip()):
            end = i
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            found.append((first, mark, "\n".join(s[4:] for s in lines[i:end]).rstrip()))
            i, mark = end - 1, None
        elif line.strip():
            mark = None
        i += 1
    return found


def read(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as f:
        return f.read()


def check():
    for name in DOCUMENTS:
        bare = [str(n) for n, mark, code in blocks(read(name)) if not mark and COMMAND.match(code)]
        claim = f"{name}: every block of commands is run by this test or says why not"
        print(f"not ok - {claim}: line {', '.join(bare)}" if bare else f"ok - {claim}")


def run(name):
    for number, mark, code in blocks(read(name)):
        if mark != "run":
            continue
        claim = f"{name}, line {number}: the commands work"
        done = subprocess.run(["timeout", "-k", "2", str(BLOCK_SECONDS), "bash", "-euo", "pipefail", "-c", code],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
        tail = " / ".join(done.stdout.strip().split("\n")[-3:])
        print(f"ok - {claim}" if done.returncode == 0 else f"not ok - {claim}: exit {done.returncode}; {tail}")


def sources():
    """All string literals of the programs and scripts, those that are split over lines joined."""
    parts = []
    for pattern in ("*/*.c", "*/*/*.c", "*/*.h", "tests/deps", "deploy/demo/*.sh"):
        for path in glob.glob(os.path.join(ROOT, pattern)):
            if not path.startswith((os.path.join(ROOT, "build"), os.path.join(ROOT, "tests/unit"), os.path.join(ROOT, "tests/system"))):
                with open(path, encoding="utf-8") as f:
                    parts.append(re.sub(r'"\s*\n\s*"', "", f.read()).replace('\\"', '"'))
    return "\n".join(parts)


def quotes(name):
    known = sources()
    messages = re.findall(r"\*\*`([^`]+)`\*\*", read(name))
    lost = [m for m in messages if not all(part.strip() in known for part in m.split("…"))]
    claim = f"{name}: each of the {len(messages)} messages that it quotes is in the sources"
    print(f"not ok - {claim}: {'; '.join(lost)}" if lost or not messages else f"ok - {claim}")


if __name__ == "__main__":
    {"check": check, "run": run, "quotes": quotes}[sys.argv[1]](*sys.argv[2:])
