#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The work of updater_kill.sh: updater_kill.py BUILD DIR ROUNDS SEED. Prints a line every 100 rounds."""
import os
import random
import subprocess
import sys
import threading
import time

from updater_lab import Lab, check, entries_of, id_of, is_whole, pack

BUILD, DIR, ROUNDS, SEED = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
STEPS_MAX = 500
CLEAN_EVERY = 10  # rounds
rng = random.Random(SEED)
lab = Lab(BUILD, DIR)
version = 0
known = set()  # ids that were signed


def fresh(h):
    """A new model, newer than all before, at each question."""
    global version
    version += 1
    entries = entries_of(20 + version % 1000 / 100, padding=2000)
    body = pack(entries)
    known.add(id_of(entries))
    h.reply(body, signature=lab.sign(body, id_of(entries), version=version))


class Asker(threading.Thread):
    """Asks the estimator for watts all the time."""

    def __init__(self):
        super().__init__(daemon=True)
        self.answers, self.failures, self.ended = 0, [], False

    def run(self):
        while not self.ended:
            try:
                if lab.served() not in known:
                    self.failures.append("an answer without watts, or of an unknown model")
            except OSError as e:
                self.failures.append(str(e))
            self.answers += 1
            time.sleep(0.005)


def state():
    """What is wrong with the store, "" when nothing is."""
    if not is_whole(lab.slot):
        return f"current ({lab.current()}) is no complete model"
    return "" if lab.current() in known else "current is a model that nobody signed"


def clean_run():
    """What is wrong after a run that is left alone."""
    r, out = lab.run(lab.command("update"))
    if r != 0:
        return f"exit {r}: {out}"
    if lab.staging():
        return f"staging holds {lab.staging()}"
    models = [n for n in os.listdir(lab.slot) if len(n) == 64]
    links = [n for n in os.listdir(lab.slot) if n.startswith(".")]
    return f"{len(models)} models, {links}" if len(models) > 2 or links else state()


lab.answer = fresh
first = clean_run()
lab.start_estimator()
asker = Asker()
asker.start()

# ---- before each step ----
broken, dirty, step = [], [first] if first else [], 0
while step < STEPS_MAX:
    step += 1
    r, out = lab.run(lab.faulty("update"), FAULT=f"kill:{step}")
    wrong = state()
    broken += [f"step {step}: {wrong}"] if wrong else []
    if r >= 0:  # there are no more steps
        break
    wrong = clean_run()
    dirty += [f"step {step}: {wrong}"] if wrong else []
check(f"current names a complete, signed model after a kill before each of {step - 1} steps", not broken and step > 20,
      "; ".join(broken))
check("the next run after each of them installs a model and leaves staging empty", not dirty, "; ".join(dirty))

# ---- at random moments ----
begin = time.monotonic()
for _ in range(3):
    clean_run()
usual = (time.monotonic() - begin) / 3
killed = switched = 0
broken, dirty, before = [], [], lab.current()
for n in range(1, ROUNDS + 1):
    child = subprocess.Popen(lab.command("update"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(rng.uniform(0, usual * 1.1))
    child.kill()
    killed += child.wait() < 0
    wrong = state()
    broken += [f"round {n}: {wrong}"] if wrong else []
    switched += lab.current() != before
    before = lab.current()
    if n % CLEAN_EVERY == 0:
        wrong = clean_run()
        dirty += [f"round {n}: {wrong}"] if wrong else []
        before = lab.current()
    if n % 100 == 0:
        print(f"# round {n} of {ROUNDS}: {killed} killed, {switched} behind the switch, {len(broken)} broken, "
              f"{asker.answers} answers, {len(asker.failures)} failed", flush=True)
check(f"current names a complete, signed model after each of {ROUNDS} kills at random moments", not broken,
      "; ".join(broken))
check(f"kills hit running updaters ({killed}) before and behind the switch ({switched})",
      killed >= ROUNDS / 3 and switched >= 1)
wrong = clean_run()
check("runs in between and at the end install a model and leave staging empty", not dirty and not wrong,
      "; ".join(dirty) + wrong)
asker.ended = True
asker.join()
check(f"the estimator answered each of {asker.answers} requests", asker.answers > ROUNDS and not asker.failures,
      "; ".join(asker.failures[:3]))
lab.close()
