"""LibreOffice, kept warm: loaded once in a computer, and copied by fork for each document.

The keeper loads LibreOffice's library as LibreOfficeKit does (its event loop asks us what is next, and
it has no second thread, so that a fork is a whole LibreOffice), makes itself a bridge to its objects
in the same process, and waits on a socket.  A document is opened in a fork of it: with a limit of
memory and a deadline of its own, hidden, without macros, updates or questions.  Whatever it does to
that process is gone with it.  The keeper ends when nobody has come for some minutes."""
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
import time

import document
from document import MIB, Fault

IDLE = 300  # seconds
WORKERS = 8  # documents at once

# Formulas are computed anew; macros never run, links to other files and sites are not followed, nothing is updated or reported.
SETTINGS = """<?xml version="1.0" encoding="UTF-8"?>
<oor:items xmlns:oor="http://openoffice.org/2001/registry" xmlns:xs="http://www.w3.org/2001/XMLSchema"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
%s</oor:items>
""" % "".join("<item oor:path=\"/org.openoffice.%s\"><prop oor:name=\"%s\" oor:op=\"fuse\"><value>%s</value></prop></item>\n"
              % row for row in (
                  ("Office.Common/Security/Scripting", "MacroSecurityLevel", "3"),
                  ("Office.Common/Security/Scripting", "DisableMacrosExecution", "true"),
                  ("Office.Common/Security/Scripting", "BlockUntrustedRefererLinks", "true"),
                  ("Office.Calc/Formula/Load", "OOXMLRecalcMode", "0"),
                  ("Office.Calc/Formula/Load", "ODFRecalcMode", "0"),
                  ("Office.Common/Load", "UpdateDocMode", "0"),
                  ("Office.Writer/Content/Update", "Link", "0"),
                  ("Office.Calc/Content/Update", "Link", "2"),
                  ("Office.Common/Misc", "CrashReport", "false"),
                  ("Setup/Office", "ooSetupInstCompleted", "true")))

CSV = "Text - txt - csv (StarCalc)"
# What a document is: the filters that write it as something else.
WRITERS = {
    "text.TextDocument": {"docx": "MS Word 2007 XML", "odt": "writer8", "rtf": "Rich Text Format", "doc": "MS Word 97",
                          "html": "HTML (StarWriter)", "pdf": "writer_pdf_Export", "png": "writer_png_Export"},
    "sheet.SpreadsheetDocument": {"xlsx": "Calc MS Excel 2007 XML", "ods": "calc8", "xls": "MS Excel 97", "csv": CSV,
                                  "tsv": CSV, "html": "HTML (StarCalc)", "pdf": "calc_pdf_Export",
                                  "png": "calc_png_Export"},
    "presentation.PresentationDocument": {"pptx": "Impress MS PowerPoint 2007 XML", "odp": "impress8",
                                          "ppt": "MS PowerPoint 97", "html": "impress_html_Export",
                                          "pdf": "impress_pdf_Export", "png": "impress_png_Export"},
    "drawing.DrawingDocument": {"pdf": "draw_pdf_Export", "png": "draw_png_Export"},
}


def program():
    """The folder of LibreOffice's libraries, with its bridge to Python in it."""
    found = next((f for f in os.environ.get("PATH", "").split(":") if f and os.access(f + "/soffice", os.X_OK)), None)
    where = os.path.dirname(os.path.realpath(found + "/soffice")) if found else ""
    if not found or not os.path.exists(where + "/libpyuno.so"):
        raise document.missing("soffice")
    return where


# ---- who asks ----

def home():
    """A folder of this user's own: the profile, the socket."""
    where = os.path.join(document.CACHE, "office-%d" % os.getuid())
    os.makedirs(document.CACHE, exist_ok=True)
    for path in (where, where + "/user"):
        os.makedirs(path, mode=0o700, exist_ok=True)
    return where


def connect(where):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        s.settimeout(document.left())
        s.connect(where + "/socket")
        return s
    except OSError:
        s.close()
        return None


def connected(where):
    """A connection to the keeper, which is started if there is none."""
    import fcntl
    s = connect(where)
    if s:
        return s
    with open(where + "/lock", "w") as held:
        while True:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if document.left() < 2:
                    raise Fault("busy", "LibreOffice is still starting in this computer; try again") from None
                select.select([], [], [], 0.02)
        s = connect(where)
        if s is None:
            start(where)
            s = connect(where)
    if s is None:
        raise Fault("internal", "LibreOffice does not take documents in this computer")
    return s


def start(where):
    libraries = program()
    reading, writing = os.pipe()
    between = os.fork()
    if between == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                keeper(where, libraries, writing)
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(between, 0)
    said = b""
    with os.fdopen(reading, "rb", 0) as f:
        while select.select([f], [], [], document.left())[0]:
            piece = f.read(4096)
            if not piece:
                break
            said += piece
        else:
            raise Fault("timeout", "LibreOffice did not start in time; try again")
    if said != b"ready":
        raise Fault("internal", "LibreOffice does not start in this computer: %s" % (
            said.decode("utf-8", "replace")[:300] or "it ended at once"))


def office(path, to):
    """Path of what LibreOffice makes of a file."""
    if not document.have("soffice"):
        raise document.missing("soffice")
    where, seconds = home(), document.left()
    made = os.path.join(document.folder(), "office-%s.%s" % (os.urandom(4).hex(), to))
    job = {"path": os.path.abspath(path), "to": to, "made": made, "seconds": seconds, "load": ""}
    if path.lower().endswith((".csv", ".tsv")):
        job["path"], job["load"] = separated(path)
    # A keeper that was about to end is met once, never twice.
    reply = b""
    for _ in range(2):
        with connected(where) as s:
            reply = asked(s, job, path, seconds)
        if reply:
            break
    if reply != b"+ok":
        raise refused(reply[1:].decode("utf-8", "replace"), path, to)
    if not os.path.exists(made):
        raise Fault("invalid", "LibreOffice made no %s of %s" % (to, path))
    if os.path.getsize(made) > 128 * MIB:
        raise Fault("limit", "what LibreOffice makes of %s has %d MiB" % (path, os.path.getsize(made) // MIB))
    return made


def asked(s, job, path, seconds):
    """Its words, beginning with "+" when it has begun; none when it was gone before."""
    reply = b""
    try:
        s.sendall(json.dumps(job).encode() + b"\n")
        while len(reply) < 4096:
            s.settimeout(document.left())
            piece = s.recv(4096)
            if not piece:
                break
            reply += piece
    except socket.timeout:
        if not reply:  # not even begun: the keeper itself hangs, and the next document gets a new one
            pid = struct.unpack("3i", s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
            if pid > 1:
                os.kill(pid, signal.SIGKILL)
        raise Fault("timeout", "LibreOffice took longer than %.0f s with %s and was stopped; take a smaller document"
                    % (seconds, path)) from None
    except OSError:
        pass
    return reply


def refused(said, path, to):
    if "bad_alloc" in said or "MemoryError" in said:
        return Fault("limit", "LibreOffice needs more memory for %s than a document may take (%d MiB)" % (
            path, document.MEMORY // MIB))
    if not said:
        return Fault("invalid", "LibreOffice was ended by its work on %s: it is damaged, or needs more than %d MiB" % (
            path, document.MEMORY // MIB))
    return Fault("invalid", "LibreOffice cannot read %s: it is damaged, encrypted, or nothing that becomes %s (%s)" % (
        path, to, said[:120]))


def separated(path):
    """A text of fields, as UTF-8, and what LibreOffice must know of it."""
    import document_sheet
    book = document_sheet.Separated(path, path[-3:].lower())
    copy = os.path.join(document.folder(), "fields.csv")
    with open(copy, "w", encoding="utf-8", newline="") as f:
        f.write(book.parts[""])
    return copy, "%d,34,76,1" % ord(book.mark)


# ---- the keeper ----

def keeper(where, libraries, ready):
    """Runs in a session of its own, of which nobody waits for the end."""
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(nothing, fd)
        os.dup2(ready, 3)
        os.closerange(4, 4096)
        os.set_inheritable(3, False)
        temporary = where + "/tmp"
        sweep([temporary])
        os.makedirs(temporary, mode=0o700)
        os.chdir(where)
        settings = where + "/user/registrymodifications.xcu"
        document.put(settings, SETTINGS.encode())
        for name in [n for n in os.environ if n.lower().endswith("_proxy")]:
            del os.environ[name]
        os.environ.update(LC_ALL="C.UTF-8", TMPDIR=temporary, TMP=temporary, TEMP=temporary,
                          SAL_USE_VCLPLUGIN="svp", SAL_LOK_OPTIONS="unipoll",
                          CONFIGURATION_LAYERS=layers(libraries, settings))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (512 * MIB, 512 * MIB))
        run_loop(where, libraries)
    except BaseException as error:
        os.write(3, ("%s: %s" % (type(error).__name__, error)).encode("utf-8", "replace")[:1000])
    finally:
        os._exit(1)


def left_in(temporary):
    """What lies in LibreOffice's folders for what is temporary."""
    return {e.path for f in os.scandir(temporary) if f.is_dir() for e in os.scandir(f.path)}


def sweep(paths):
    """Remove what documents that were killed have left."""
    import shutil
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)
        if os.path.lexists(path):
            os.unlink(path)


def layers(libraries, settings):
    """Its configuration without what it would write back, which takes a thread."""
    with open(libraries + "/fundamentalrc", encoding="utf-8") as f:
        line = next((n for n in f if n.startswith("CONFIGURATION_LAYERS=")), "")
    given = [p for p in line.rstrip("\n").partition("=")[2].split(" ") if p.startswith(("xcsxcu:", "res:"))]
    return " ".join(given + ["user:*file://" + settings])


def run_loop(where, libraries):
    import ctypes
    name = next(n for n in ("libmergedlo.so", "libsofficeapp.so") if os.path.exists(libraries + "/" + n))
    kit = ctypes.CDLL(libraries + "/" + name, mode=os.RTLD_LAZY | ctypes.RTLD_GLOBAL)
    hook = kit.libreofficekit_hook_2
    hook.argtypes, hook.restype = [ctypes.c_char_p, ctypes.c_char_p], ctypes.POINTER(ctypes.POINTER(ctypes.c_void_p))
    it = hook(libraries.encode(), b"file://" + where.encode())
    if not it:
        raise RuntimeError("its library could not be set up")
    on_poll = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
    on_wake = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    # struct _LibreOfficeKitClass: its size, destroy, … and runLoop as the fourteenth member.
    loop = ctypes.CFUNCTYPE(None, ctypes.c_void_p, on_poll, on_wake, ctypes.c_void_p)(it[0][13])
    begun = []

    def poll(_, microseconds):
        if begun:  # it waits while it works
            select.select([], [], [], min(max(microseconds, 0), 2000) / 1e6)
            return 0
        begun.append(True)
        try:
            attend(where, Office(ctypes, kit, libraries))
        except BaseException as error:
            try:
                os.write(3, ("%s: %s" % (type(error).__name__, error)).encode("utf-8", "replace")[:1000])
            except OSError:
                pass
        os._exit(1)

    loop(ctypes.cast(it, ctypes.c_void_p), on_poll(poll), on_wake(lambda _: None), 1)


class Office:
    """Its objects, by way of the bridge that LibreOffice has for Python."""

    def __init__(self, ctypes, kit, libraries):
        bridge = ctypes.PyDLL(libraries + "/libpyuno.so", mode=ctypes.RTLD_GLOBAL)
        context = ctypes.c_void_p()
        get = kit._ZN10comphelper26getProcessComponentContextEv
        get.argtypes, get.restype = [ctypes.c_void_p], ctypes.c_void_p
        get(ctypes.addressof(context))
        into = bridge._ZN5pyuno7Runtime10initializeERKN3com3sun4star3uno9ReferenceINS4_17XComponentContextEEE
        into.argtypes, into.restype = [ctypes.c_void_p], None
        into(ctypes.addressof(context))
        sys.path[:0] = [libraries, "/usr/lib/python3/dist-packages"]
        import uno
        self.struct = uno.getClass("com.sun.star.beans.PropertyValue")
        context = uno.getComponentContext()
        self.desktop = context.ServiceManager.createInstanceWithContext("com.sun.star.frame.Desktop", context)
        self.url = uno.systemPathToFileUrl

    def properties(self, **given):
        return tuple(self.struct(name, -1, value, 0) for name, value in given.items())

    def open(self, url, **more):
        return self.desktop.loadComponentFromURL(url, "_blank", 0, self.properties(
            Hidden=True, MacroExecutionMode=0, UpdateDocMode=0, **more))

    def convert(self, url, to, made, load=""):
        more = {"FilterName": CSV, "FilterOptions": load} if load else {}
        doc = self.open(url, **more)
        if doc is None:
            raise ValueError("it does not open")
        kind = next((k for k in WRITERS if doc.supportsService("com.sun.star." + k)), None)
        if to not in WRITERS.get(kind, {}):
            raise ValueError("it is %s" % (kind or "of no kind that is known"))
        options = {"csv": "44,34,76,1", "tsv": "9,34,76,1"}.get(to, "")
        doc.storeToURL(self.url(made), self.properties(FilterName=WRITERS[kind][to], FilterOptions=options))
        doc.close(True)


def attend(where, it):
    """Take one document after the other until none has come for a while."""
    path = where + "/socket"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if os.path.exists(path):
        os.unlink(path)
    listener.bind(path)
    listener.listen(16)
    os.write(3, b"ready")
    os.close(3)
    # Opened once after the first document, so that the next find their libraries in memory.
    cold, first, busy, used, ours = ["swriter", "simpress", "scalc"], False, set(), time.monotonic(), None
    while True:
        ended = [child for child in busy if os.waitpid(child, os.WNOHANG)[0]]
        busy.difference_update(ended)
        if ours is None and not cold and not busy:
            ours = left_in(where + "/tmp")
        elif ended and not busy and ours is not None:
            sweep(left_in(where + "/tmp") - ours)
        first = first or bool(busy)
        came = select.select([listener], [], [], 0.1 if busy else 0 if cold and first else IDLE)[0]
        if came and len(busy) < WORKERS:
            connection = listener.accept()[0]
            child = os.fork()
            if child == 0:
                listener.close()
                serve(connection, it)
            connection.close()
            busy.add(child)
            used = time.monotonic()
        elif came:
            select.select([], [], [], 0.05)
        elif cold and first and not busy:
            try:
                it.convert("private:factory/" + cold.pop(0), "pdf", where + "/tmp/first.pdf")
            except Exception:
                pass  # this LibreOffice has no such part
        elif not busy and time.monotonic() - used >= IDLE:
            os.unlink(path)
            os._exit(0)


def serve(connection, it):
    """One document, in a process of its own, which ends when its time is up or nobody waits any more."""
    import fcntl
    try:
        connection.settimeout(10)
        line = b""
        while not line.endswith(b"\n"):
            piece = connection.recv(65536)
            if not piece:
                os._exit(0)
            line += piece
        job = json.loads(line)
        for which in (signal.SIGALRM, signal.SIGIO):
            signal.signal(which, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGALRM, signal.SIGIO))
        signal.setitimer(signal.ITIMER_REAL, max(0.1, job["seconds"]))
        connection.settimeout(None)
        connection.sendall(b"+")
        fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(connection, fcntl.F_SETFL, fcntl.fcntl(connection, fcntl.F_GETFL) | os.O_ASYNC)
        reply = "ok"
        try:
            it.convert(it.url(job["path"]), job["to"], job["made"], job["load"])
        except BaseException as error:
            reply = "%s %s" % (type(error).__name__, error)
        connection.sendall(reply.encode("utf-8", "replace")[:1000])
    finally:
        os._exit(0)
