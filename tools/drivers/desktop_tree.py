"""What is on the screen as accessibility tells it, one line each, indented by depth:

    role "name" x,y widthxheight states = value

desktop_tree.py SECONDS [PART-OF-A-TITLE]: of the application whose window is active, or of windows
with such a title.  It speaks D-Bus itself and asks about many things at once: a library that asks
one after the other takes minutes on an emulated machine, and seconds to be loaded."""
import os
import sys
import time
from _socket import AF_UNIX, SOCK_STREAM, socket  # what the module "socket" adds takes a second
from _struct import pack, unpack_from

AT_ONCE = 100  # questions without an answer yet
SILENCE_S = 6  # after so long without any answer there will be none
NODES_MAX = 2000
LINES_MAX = 400
DEPTH_MAX = 60
TEXT_MAX = 200
ATSPI = "org.a11y.atspi."
ROOT = ATSPI + "Registry", "/org/a11y/atspi/accessible/root"
ACTIVE, CHECKED, EDITABLE, EXPANDED, FOCUSED, PRESSED, SELECTED, SENSITIVE, SHOWING = (
    1, 4, 7, 10, 12, 20, 23, 24, 25)
STATES = (("focused", FOCUSED), ("checked", CHECKED), ("selected", SELECTED), ("expanded", EXPANDED),
          ("pressed", PRESSED), ("editable", EDITABLE), ("active", ACTIVE))
DULL = {"panel", "filler", "section", "unknown", "redundant object", "generic", "static",
        "scroll pane", "viewport", "separator", "layered pane", "root pane", "split pane", "paragraph"}
TEXTS = {"paragraph", "section", "static", "text", "label", "heading", "terminal"}
NUMBERS = {"slider", "spin button", "progress bar"}
INPUTS = {"push button", "menu item", "check box", "entry", "radio button"}


# ---- D-Bus, as much of it as is needed here ----

FIXED = {"y": ("<B", 1), "b": ("<I", 4), "i": ("<i", 4), "u": ("<I", 4), "x": ("<q", 8), "d": ("<d", 8)}


def type_end(kind, at):
    """Where the one whole type ends that begins at @at."""
    while kind[at] == "a":
        at += 1
    if kind[at] != "(":
        return at + 1
    at += 1
    while kind[at] != ")":
        at = type_end(kind, at)
    return at + 1


def read(data, at, kind):
    """One value of the type @kind, and where it ends."""
    first = kind[0]
    if first in FIXED:
        form, size = FIXED[first]
        at = (at + size - 1) & -size
        return unpack_from(form, data, at)[0], at + size
    if first in "so":
        at = (at + 3) & -4
        end = at + 4 + unpack_from("<I", data, at)[0]
        return data[at + 4:end].decode("utf-8", "replace"), end + 1
    if first in "gv":
        end = at + 1 + data[at]
        text = data[at + 1:end].decode()
        return (text, end + 1) if first == "g" else read(data, end + 1, text)
    values = []
    if first == "a":
        at = (at + 3) & -4
        size = unpack_from("<I", data, at)[0]
        at += 4
        if kind[1] in "(xd":
            at = (at + 7) & -8
        end = at + size
        while at < end:
            value, at = read(data, at, kind[1:])
            values.append(value)
        return values, end
    if first != "(":
        raise ValueError("D-Bus type " + kind)
    at = (at + 7) & -8
    inner = 1
    while kind[inner] != ")":
        end = type_end(kind, inner)
        value, at = read(data, at, kind[inner:end])
        values.append(value)
        inner = end
    return tuple(values), at


def write(kind, *values):
    out = b""
    for one, value in zip(kind, values):
        if one in "so":
            text = value.encode()
            out += bytes(-len(out) % 4) + pack("<I", len(text)) + text + b"\0"
        else:  # "i", "u"
            out += bytes(-len(out) % 4) + pack(FIXED[one][0], value)
    return out


class Bus:
    """A connection.  ask() is all it does."""

    def __init__(self, address):
        self.fd = socket(AF_UNIX, SOCK_STREAM)
        self.rest = bytearray()
        self.serial = 0
        self.late = False
        for pair in address.partition(":")[2].split(","):
            key, _, name = pair.partition("=")
            if key in ("path", "abstract"):
                self.fd.settimeout(SILENCE_S)
                self.fd.connect("\0" + name if key == "abstract" else name)
                break
        self.fd.sendall(b"\0AUTH EXTERNAL " + str(os.getuid()).encode().hex().encode() + b"\r\n")
        if not self.fd.recv(200).startswith(b"OK"):
            raise OSError("the bus lets in nobody but its own user")
        self.fd.sendall(b"BEGIN\r\n")
        bus = "org.freedesktop.DBus"
        self.ask([((bus, "/org/freedesktop/DBus"), bus, "Hello")])

    def send(self, place, interface, member, kind="", *values):
        self.serial += 1
        fields = b""
        for code, form, text in ((1, "o", place[1]), (2, "s", interface), (3, "s", member),
                                 (6, "s", place[0])):
            fields += bytes(-len(fields) % 8) + bytes((code, 1)) + form.encode() + b"\0"
            fields += write("s", text)
        if kind:
            fields += bytes(-len(fields) % 8) + bytes((8, 1)) + b"g\0" + bytes((len(kind),))
            fields += kind.encode() + b"\0"
        body = write(kind, *values)
        head = b"l\1\0\1" + pack("<III", len(body), self.serial, len(fields)) + fields
        self.fd.sendall(head + bytes(-len(head) % 8) + body)
        return self.serial

    def receive(self, size):
        """That many bytes; None when there are none in time."""
        while len(self.rest) < size:
            left = min(deadline - time.monotonic(), SILENCE_S)
            if left <= 0:
                return None
            self.fd.settimeout(left)
            try:
                data = self.fd.recv(65536)
            except TimeoutError:
                return None
            if not data:
                raise OSError("the bus is gone")
            self.rest += data
        taken = bytes(self.rest[:size])
        del self.rest[:size]
        return taken

    def answer(self):
        """The next message: which question it answers (0: none), and its first value or None."""
        head = self.receive(16)
        if head is None:
            return None
        body_size, _, fields_size = unpack_from("<III", head, 4)
        fields_size += -fields_size % 8
        data = self.receive(fields_size + body_size)
        if data is None:
            return None
        fields = dict(read(head + data, 12, "a(yv)")[0])
        kind = fields.get(8)  # of what it says; 5 is which question that answers
        said = read(data[fields_size:], 0, kind)[0] if head[1] == 2 and kind else None
        return fields.get(5), said

    def ask(self, questions):
        """The answers in their order; None for an error, and for what came too late."""
        answers = [None] * len(questions)
        if self.late:
            return answers
        for first in range(0, len(questions), AT_ONCE):
            waiting = {self.send(*questions[i]): i
                       for i in range(first, min(first + AT_ONCE, len(questions)))}
            while waiting:
                got = self.answer()
                if got is None:
                    self.late = True
                    return answers
                if got[0] in waiting:
                    answers[waiting.pop(got[0])] = got[1]
        return answers


# ---- the tree ----

def get(place, interface, name):
    return place, "org.freedesktop.DBus.Properties", "Get", "ss", ATSPI + interface, name


class Node:
    """A thing on the screen: its place on the bus, and what was learned of it."""

    def __init__(self, place, depth):
        self.place, self.depth = place, depth
        self.role = self.name = self.value = ""
        self.states, self.box, self.children = 0, None, []

    def has(self, state):
        return self.states >> state & 1


def learn(bus, nodes, questions, take):
    """@questions of each node, told to take(node, answers)."""
    asked = [question for node in nodes for question in questions(node)]
    answers = bus.ask(asked)
    per = len(asked) // max(len(nodes), 1)
    for i, node in enumerate(nodes):
        take(node, answers[i * per:i * per + per])


def learn_states(bus, nodes):
    def take(node, said):
        words = said[0] or [0, 0]
        node.states = words[0] | (words[1] << 32 if len(words) > 1 else 0)

    learn(bus, nodes, lambda n: [(n.place, ATSPI + "Accessible", "GetState")], take)


def learn_names(bus, nodes):
    def take(node, said):
        node.role, node.name = said[0] or "", short(said[1] or "")
        node.box = said[2]
        node.children = [Node(place, node.depth + 1) for place in said[3] or ()]

    learn(bus, nodes, lambda n: [
        (n.place, ATSPI + "Accessible", "GetRoleName"), get(n.place, "Accessible", "Name"),
        (n.place, ATSPI + "Component", "GetExtents", "u", 0),
        (n.place, ATSPI + "Accessible", "GetChildren")], take)


def learn_values(bus, nodes):
    """What is written in them, and how far a slider is."""
    def take_text(node, said):
        text = short(said[0] or "")
        if node.has(EDITABLE) or node.role == "terminal":
            node.value = text
        elif not node.name:
            node.name = text

    def take_number(node, said):
        node.value = "%g" % said[0] if said[0] is not None else ""

    texts = [n for n in nodes if n.has(EDITABLE) or n.role in TEXTS and not n.name and not n.children]
    for end in 2 * TEXT_MAX, -1:  # LibreOffice tells nothing of a text that ends earlier
        learn(bus, texts, lambda n: [(n.place, ATSPI + "Text", "GetText", "ii", 0, end)], take_text)
        texts = [n for n in texts if not n.name and not n.value]
    learn(bus, [n for n in nodes if n.role in NUMBERS],
          lambda n: [get(n.place, "Value", "CurrentValue")], take_number)


def short(value):
    value = " ".join(value.replace("\ufffc", " ").split())
    return value if len(value) <= TEXT_MAX else value[:TEXT_MAX - 1] + "…"


def grow(bus, roots):
    """Learns of everything that shows below @roots, level by level; whether something is missing."""
    level, room = roots, NODES_MAX
    while level and room > 0 and not bus.late and level[0].depth < DEPTH_MAX:
        learn_names(bus, level)
        learn_values(bus, level)
        below = [child for node in level for child in node.children][:room]
        room -= len(below)
        learn_states(bus, below)
        level = [node for node in below if node.has(SHOWING)]
    return bool(level) or bus.late


def windows_of(bus):
    """The windows of every application that answers, as lists."""
    places = bus.ask([(ROOT, ATSPI + "Accessible", "GetChildren")])[0] or ()
    apps = [Node(place, 0) for place in places]
    learn_names(bus, apps)
    bus.late = False  # one that hangs is passed over
    windows = [window for app in apps for window in app.children]
    learn_states(bus, windows)
    learn_names(bus, windows)
    bus.late = False
    return apps


def choose(apps, title):
    """Pairs of an application and those of its windows that are meant."""
    if title:
        chosen = [(app, [w for w in app.children if title in w.name]) for app in apps]
    else:
        chosen = [(app, [w for w in app.children if w.has(SHOWING)]) for app in apps]
        for app, windows in chosen:
            active = [w for w in windows if w.has(ACTIVE)]
            if active:  # its menus and dialogs are windows, too
                return [(app, active + [w for w in windows if w not in active and w.role != "frame"])]
    return [(app, windows) for app, windows in chosen if windows]


def line_of(node):
    words = [node.role]
    if node.name:
        words.append('"%s"' % node.name.replace('"', "'"))
    if node.box and node.box[2] > 0 and node.box[3] > 0:
        words.append("%d,%d %dx%d" % node.box)
    words += [label for label, state in STATES if node.has(state)]
    if node.role in INPUTS and not node.has(SENSITIVE):
        words.append("disabled")
    if node.value and node.value != node.name:
        words.append("= " + node.value)
    return " ".join(words)


def lines_of(node, indent, above, lines):
    """Appends to @lines what is told of @node and what is in it."""
    same = node.role == "static" and node.name == above  # what a button says, once more
    if (node.name or node.value or node.role and node.role not in DULL) and not same:
        lines.append("  " * min(indent, 20) + line_of(node))
        indent += 1
    for child in node.children:
        if child.has(SHOWING) and len(lines) <= LINES_MAX:
            lines_of(child, indent, node.name, lines)


def main():
    title = sys.argv[2] if len(sys.argv) > 2 else ""
    session = Bus(os.environ.get("DBUS_SESSION_BUS_ADDRESS") or "unix:path=/run/user/%d/bus" % os.getuid())
    address = session.ask([(("org.a11y.Bus", "/org/a11y/bus"), "org.a11y.Bus", "GetAddress")])[0]
    if not address:
        raise OSError("accessibility is not running here")
    bus = Bus(address)
    apps = windows_of(bus)
    lines = []
    chosen = choose(apps, title)
    missing = grow(bus, [window for _, windows in chosen for window in windows])
    for app, windows in chosen:
        lines.append('application "%s"' % app.name)
        for window in windows:
            lines_of(window, 1, "", lines)
    if not lines:
        lines.append("no window%s tells what is in it" % (' with "%s" in its title' % title if title else ""))
    if len(lines) > LINES_MAX:
        lines[LINES_MAX:] = ["… (more than %d lines)" % LINES_MAX]
    if missing:
        lines.append("(in part: the rest did not answer in time)" if bus.late else "(in part: there is more)")
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")
    print("\n".join(lines))


if __name__ == "__main__":
    deadline = time.monotonic() + float(sys.argv[1])
    try:
        main()
    except OSError as fault:
        sys.exit("accessibility: %s" % fault)
