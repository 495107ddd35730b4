#!/bin/sh
# With a terminal at both ends the command has one too, of the same size, and ours is given back.
. "$(dirname "$0")/lib.sh"
need_sandbox

expect 0 python3 - "$AIOS" <<'PYTHON'
import fcntl, os, pty, select, signal, struct, sys, termios

def size(fd, rows, cols):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

class Session:
    def __init__(self, *command):
        self.seen = b""
        self.master, slave = pty.openpty()
        self.slave = slave
        size(slave, 33, 77)
        self.before = termios.tcgetattr(slave)
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
            for fd in (0, 1, 2):
                os.dup2(slave, fd)
            os.environ["TERM"] = "vt220"
            os.execv(sys.argv[1], [sys.argv[1], "run", "--", *command])

    def until(self, text):
        while text not in self.seen:
            if not select.select([self.master], [], [], 30)[0]:
                raise SystemExit("waited for %r, saw %r" % (text, self.seen))
            self.seen += os.read(self.master, 4096)
        at = self.seen.index(text) + len(text)
        self.seen = self.seen[at:]

    def type(self, data):
        os.write(self.master, data)

    def end(self, want):
        while True: # what it still prints must not keep it from ending
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                break
            if select.select([self.master], [], [], 0.02)[0]:
                self.seen += os.read(self.master, 4096)
        code = os.waitstatus_to_exitcode(status)
        assert code == want, code
        assert termios.tcgetattr(self.slave) == self.before, "the terminal was not given back"

s = Session("sh", "-c", "tty >/dev/null && stty size && echo $TERM; read line; echo got:$line; exit 6")
s.until(b"33 77")
s.until(b"vt220")
assert not termios.tcgetattr(s.slave)[3] & termios.ICANON, "our terminal is not raw"
s.type(b"abc\r")
s.until(b"got:abc")
s.end(6)

# Keys go through as they are: the terminal inside makes a signal of ^C.
s = Session("sh", "-c", "trap 'echo interrupted; exit 8' INT; echo ready; sleep 60 & wait")
s.until(b"ready")
s.type(b"\x03")
s.until(b"interrupted")
s.end(8)

# A new size is passed on.
s = Session("sh", "-c", "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 60 & wait; done")
s.until(b"ready")
size(s.slave, 11, 22)
s.until(b"11 22")
s.end(0)

# Killed from outside, the terminal is given back all the same.
s = Session("sh", "-c", "echo ready; exec sleep 60")
s.until(b"ready")
os.kill(s.pid, signal.SIGTERM)
s.end(143)
PYTHON
