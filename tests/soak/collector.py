#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A long run of the collector among everything that could make it wrong: containers that come and go, a counter
of 40 W that wraps, kill -9, a full disk. Needs root. (Pids that are taken over: tests/qemu, on a machine of their own.)

    tests/soak/collector.py SECONDS SEED

Two collectors sample every 100 ms. One runs through: its memory and descriptors must stay, and what it charged must be what
the kernel charged. The other writes to a small disk that fills up, and is killed. The joules of both must be those drawn.
Prints how it goes every minute, then a line per claim, then "N passed, N failed, N skipped"."""
import contextlib
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

WATTS = 40
MODULUS_UJ = 20_000_000_000  # a round every 500 s, the first ends after 15 s
LIFE_S = 1.0                # of a container: several samples, even where a sample comes late
CHURNERS = 16
FORGOTTEN_S = 600           # containers without activity stay in memory and in /metrics so long
FILL_EVERY_S, KILL_EVERY_S = 30, 12
CGROUPS = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup/cpu,cpuacct"]

stopping = threading.Event()
counts = {"containers": 0, "kills": 0, "full": 0}
failures = []


def claim(words, good, why=""):
    failures.append(not good)
    print(f"{'ok' if good else 'not ok'} - {words}" + (f" ({why})" if why else ""), flush=True)


class Counter(threading.Thread):
    """A RAPL zone that draws WATTS, by the clock."""

    def __init__(self, root):
        super().__init__(daemon=True)
        self.zone = root / "class/powercap/intel-rapl:0"
        self.zone.mkdir(parents=True)
        self.zero_s = time.monotonic() + 15 - MODULUS_UJ / WATTS / 1e6
        (self.zone / "name").write_text("package-0\n")
        (self.zone / "max_energy_range_uj").write_text(f"{MODULUS_UJ}\n")
        self.write()

    def write(self):
        new = self.zone / "energy_uj.new"
        new.write_text(f"{int((time.monotonic() - self.zero_s) * WATTS * 1e6) % MODULUS_UJ}\n")
        new.rename(self.zone / "energy_uj")

    def run(self):
        while not stopping.is_set():
            self.write()
            time.sleep(0.01)


def make_parent():
    """A cgroup of our own, and what tells the CPU time in ns that was spent in it and in those that were below it."""
    for mount in CGROUPS:
        parent = pathlib.Path(mount) / f"wattloop-soak-{os.getpid()}"
        try:
            parent.mkdir()
        except OSError:
            continue
        stat, usage = parent / "cpu.stat", parent / "cpuacct.usage"
        if stat.exists() and "usage_usec" in stat.read_text():
            return parent, lambda: 1000 * int(stat.read_text().split()[1])
        if usage.exists():
            return parent, lambda: int(usage.read_text())
        parent.rmdir()
    return None, None


def live(container, burn_s, rest_s):
    """A process in a container: burns CPU, rests, ends. Returns its CPU time in seconds, that before it entered included."""
    pid = os.fork()
    if pid == 0:
        try:
            (container / "cgroup.procs").write_text("0")
            while time.process_time() < burn_s:
                pass
            time.sleep(rest_s)
        finally:
            os._exit(0)
    _, _, usage = os.wait4(pid, 0)
    return usage.ru_utime + usage.ru_stime


def remove(container):
    while True:
        try:
            return container.rmdir()
        except OSError:
            time.sleep(0.01)


def churn(parent, worker, rng):
    """Containers one after the other, each new. In a process of its own: the clock of process_time() is the process's."""
    n, cpu_s = 0, 0.0
    while not stopping.is_set():
        name = hashlib.sha256(f"{worker} {n} {rng.random()}".encode()).hexdigest()
        container = parent / f"docker-{name}.scope"
        container.mkdir()
        cpu_s += live(container, rng.uniform(0.01, 0.05), LIFE_S)
        remove(container)
        n += 1
    return n, cpu_s


def spawn(function, *arguments):
    """A process that runs function until SIGTERM and writes what it returns as JSON to the returned pipe."""
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            signal.signal(signal.SIGTERM, lambda *_: stopping.set())
            os.write(into, json.dumps(function(*arguments)).encode())
        finally:
            os._exit(0)
    os.close(into)
    return pid, out


def join(process):
    pid, out = process
    os.kill(pid, signal.SIGTERM)
    os.waitpid(pid, 0)
    return json.loads(os.read(out, 4096) or b"null")


def start(directory, database, log, *options):
    program = pathlib.Path(os.environ.get("B", "build")) / "bin/wattloop-collector"
    return subprocess.Popen([program, "run", "--config", directory / "empty.yaml", "--sampling-interval", "100ms",
                             "--sysfs-root", directory / "sys", "--power-sources", "rapl", "--store-path", database,
                             "--metrics-listen", "127.0.0.1:0", *options], stderr=open(log, "ab"))


def kib(pid, key):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    return 0


def slope(points):
    """Of a line through (x, y), by least squares."""
    n = len(points)
    mx, my = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    return sum((x - mx) * (y - my) for x, y in points) / max(1e-9, sum((x - mx) ** 2 for x, _ in points))


def torment(directory, small, rng, seconds):
    """The second collector's life."""
    filler, victim = small / "filler", None
    kill_at = time.monotonic()
    end, fill_at = kill_at + seconds, kill_at + 5
    while time.monotonic() < end:
        now = time.monotonic()
        if victim is None or victim.poll() is not None or now >= kill_at:
            if victim is not None:
                victim.kill()
                victim.wait()
                counts["kills"] += 1
            victim = start(directory, small / "samples.db", directory / "small.log", "--store-retention-size", "10MiB")
            kill_at = now + rng.uniform(0.5, 2) * KILL_EVERY_S
        if now >= fill_at:
            try:
                with open(filler, "wb", buffering=0) as f:
                    while True:
                        f.write(bytes(4096))
            except OSError:
                counts["full"] += 1
            time.sleep(rng.uniform(0.5, 3))
            filler.unlink(missing_ok=True)
            fill_at = now + rng.uniform(0.5, 2) * FILL_EVERY_S
        time.sleep(0.2)
    victim.send_signal(signal.SIGTERM)
    victim.wait()


def judge(name, path, starts):
    """No negative delta, and at every interval the joules that were drawn while it was measured."""
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    one = lambda sql: db.execute(sql).fetchone()[0]
    claim(f"the {name} file is sound", one("PRAGMA integrity_check") == "ok")
    claim(f"the {name} file has no negative delta", one(
        "SELECT count(*) FROM usage_delta WHERE cpu_time_ns < 0 OR page_cache_pages < 0 OR net_tx_irq < 0 OR net_rx_irq < 0 "
        "OR block_irq < 0") == 0)
    claim(f"time only grows in the {name} file", one(
        "SELECT count(*) FROM (SELECT end_ms, start_ms, lag(end_ms) OVER (ORDER BY interval_id) AS last FROM interval) "
        "WHERE start_ms < last") == 0)
    worst, backwards, last_uj, n, base_uj, drawn, apart = 0.0, 0, None, 0, 0, 0.0, 0.0
    # An interval without a reading is a gap: its joules are not known and in no total (after more than 10 s a whole round of
    # the counter could be missing).
    for energy_uj, duration_ns in db.execute(
            "SELECT energy_uj, duration_ns FROM power JOIN interval USING (interval_id) ORDER BY interval_id"):
        if last_uj is None:
            base_uj = energy_uj
        else:
            drawn += WATTS * duration_ns / 1e9
            backwards += energy_uj < last_uj
        last_uj = energy_uj
        apart = (energy_uj - base_uj) / 1e6 - drawn
        worst = max(worst, abs(apart))
        n += 1
    claim(f"the {name} file has intervals", n > 3, f"{n}")
    claim(f"joules never go down in the {name} file", backwards == 0)
    # Clock and counter are read one after the other: a machine that stops in between shifts joules to the next interval.
    claim(f"the {name} file's joules are {WATTS} W at every interval, give or take 5 s", worst <= 5 * WATTS,
          f"at worst {worst:.1f} J apart")
    claim(f"the {name} file's joules are {WATTS} W in the end", abs(apart) <= WATTS * (1 + 0.1 * starts) + 0.002 * drawn,
          f"{apart:+.1f} J of {drawn:.1f}")
    return db


def hurry():
    """What else runs may wait: this is no test of a busy machine."""
    os.nice(-15)
    # Where the process has an autogroup, that has the weight; where it has none, the kernel says EINVAL.
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/autogroup").write_text("-15")


def main():
    seconds, seed = float(sys.argv[1]), int(sys.argv[2])
    rng = random.Random(seed)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="wattloop-soak-"))
    small = directory / "small"
    small.mkdir()
    (directory / "empty.yaml").touch()
    parent, inside_ns = make_parent()
    if os.geteuid() != 0 or not parent or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", small], check=False).returncode:
        shutil.rmtree(directory)
        print("skip - the soak needs root, a cgroup with an account of CPU time, and mount\n0 passed, 0 failed, 1 skipped")
        return 0
    hurry()
    print(f"# {seconds:.0f} s, seed {seed}, Linux {os.uname().release}", flush=True)
    counter = Counter(directory / "sys")
    counter.start()
    steady = start(directory, directory / "samples.db", directory / "steady.log")
    while b"beginning an epoch" not in (directory / "steady.log").read_bytes() and steady.poll() is None:
        time.sleep(0.1)
    time.sleep(1)
    churners = [spawn(churn, parent, i, random.Random(seed * 1000 + i)) for i in range(CHURNERS)]
    tormentor = threading.Thread(target=torment, args=(directory, small, rng, seconds))
    tormentor.start()

    memory, descriptors, begin = [], [], time.monotonic()
    told = begin
    while tormentor.is_alive():
        now = time.monotonic()
        if steady.poll() is None:
            memory.append((now - begin, kib(steady.pid, "RssAnon"), kib(steady.pid, "VmRSS")))
            descriptors.append(len(os.listdir(f"/proc/{steady.pid}/fd")))
        if now - told >= 60:
            told = now
            print(f"# {now - begin:5.0f} s: RSS {memory[-1][2]} KiB, anonymous {memory[-1][1]} KiB, {counts['kills']} kills, "
                  f"{counts['full']} full disks", flush=True)
        time.sleep(1)
    tormentor.join()
    lives = [join(c) or (0, 0.0) for c in churners]
    counts["containers"], whole_s = sum(n for n, _ in lives), sum(cpu_s for _, cpu_s in lives)
    time.sleep(2)  # the last deaths are told
    inside_s = inside_ns() / 1e9
    alive = steady.poll() is None
    steady.send_signal(signal.SIGTERM)
    status = steady.wait()

    print(f"# {counts}", flush=True)
    claim("the collector ran through", alive and status == 0, f"status {status}")
    half = [p for p in memory if p[0] >= memory[-1][0] / 2]
    # Until the first are forgotten each new container takes its place; later their number only varies.
    young = half[0][0] < FORGOTTEN_S
    for i, what in ((1, "anonymous memory"), (2, "resident memory")):
        grown = slope([(p[0], p[i]) for p in half]) * (half[-1][0] - half[0][0])
        allowed = 512 + (20 * counts["containers"] if young else half[0][i] / 10)
        claim(f"{what} does not grow in the second half" + (", but for containers not yet forgotten" if young else ""),
              grown <= allowed, f"{grown:+.0f} KiB by the fitted line; {half[-1][i]} KiB in the end")
    quarter = max(1, len(descriptors) // 4)  # some are open during a sample only
    first, last = min(descriptors[:quarter]), min(descriptors[-quarter:])
    claim("no descriptor leaks", last <= first, f"{first} at first, {last} in the end")
    db = judge("steady", directory / "samples.db", 1)
    charged = db.execute("SELECT total(cpu) FROM (SELECT max(cpu_time_ns) AS cpu FROM usage JOIN entity USING (entity_id) "
                         "WHERE kind = 'container' AND cgroup LIKE '%wattloop-soak-%' GROUP BY entity_id)").fetchone()[0]
    charged_s = charged / 1e9
    claim(f"{counts['containers']} containers were charged what the kernel says, within 1 %",
          0.99 * inside_s <= charged_s <= 1.01 * whole_s,
          f"{charged_s:.3f} s of CPU; {inside_s:.3f} s were spent inside, {whole_s:.3f} s with the time before they entered")
    db.close()
    claim("it was killed and its disk was full", counts["kills"] > 0 and counts["full"] > 0,
          f"{counts['kills']} and {counts['full']} times")
    judge("killed", small / "samples.db", counts["kills"] + 1).close()
    parent.rmdir()
    stopping.set()
    counter.join()
    subprocess.run(["umount", small], check=False)
    if any(failures):
        print(f"# left in {directory}")
    else:
        shutil.rmtree(directory)
    print(f"{failures.count(False)} passed, {failures.count(True)} failed, 0 skipped", flush=True)
    return 1 if any(failures) else 0


if __name__ == "__main__":
    sys.exit(main())
