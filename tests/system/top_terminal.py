# SPDX-License-Identifier: Apache-2.0
"""A terminal of 80 columns for `top`: what it draws, what keys do, and how it leaves. PROGRAM is run without arguments."""
import fcntl, os, pty, re, select, signal, struct, subprocess, sys, termios, time

PATIENCE_S = 60


def claim(text, holds, why=""):
    print(("ok - " if holds else "not ok - ") + text + ("" if holds else f": {why!r}"), flush=True)


class Terminal:
    def __init__(self, program):
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 80, 0, 0))
        self.before = termios.tcgetattr(self.slave)
        self.text = ""

        def own():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen([program], stdin=self.slave, stdout=self.slave, stderr=self.slave, preexec_fn=own)

    def read_until(self, done):
        end = time.monotonic() + PATIENCE_S
        while not done() and time.monotonic() < end:
            if select.select([self.master], [], [], 0.1)[0]:
                self.text += os.read(self.master, 65536).decode()
        return done()

    def shows(self, text):
        return self.read_until(lambda: text in self.text)

    def press(self, key):
        self.text = ""
        os.write(self.master, key)

    def ended(self):
        return self.read_until(lambda: self.process.poll() is not None) and self.shows("\033[?1049l")

    def restored(self):
        return termios.tcgetattr(self.slave) == self.before and self.text.rstrip().endswith("\033[?25h\033[?1049l")


t = Terminal(sys.argv[1])
claim("on a terminal the table is live", t.shows("by watts") and t.shows("q quit") and t.text.startswith("\033[?1049h"), t.text)
lines = [re.sub(r"\033\[[?0-9]*[A-Za-z]", "", line) for line in t.text.replace("\r", "").split("\n")]
claim("no line is longer than the terminal is wide", max(map(len, lines)) <= 80, lines)
claim("nor has the table more lines than it", t.text.split("q quit")[0].count("\n") < 12, t.text)
t.press(b"c")
claim("a key chooses what to sort by", t.shows("by cpu_percent"), t.text)
t.press(b"r")
claim("another turns the order round", t.shows("by cpu_percent, reversed"), t.text)
t.press(b"q")
claim("q ends it", t.ended() and t.process.returncode == 0, t.text)
claim("and the terminal is as before", t.restored(), t.text[-80:])
t = Terminal(sys.argv[1])
t.shows("q quit")
t.press(b"\x03")
claim("so it is after an interrupt", t.ended() and t.restored(), t.text[-80:])
t = Terminal(sys.argv[1])
t.shows("q quit")
t.process.send_signal(signal.SIGTERM)
claim("and after SIGTERM", t.ended() and t.restored(), t.text[-80:])
