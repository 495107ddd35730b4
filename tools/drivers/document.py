"""Reads, converts and edits documents: one request after the other, each in a process of its own.

A request is a JSON object (see serve()), with its length as eight digits before it; so is the answer
on standard output, which is one line of JSON
  {"ok": true, "text": LENGTH, "images": [[TYPE, LENGTH], ...]}  or  {"error": CODE, "text": LENGTH}
and then the bytes that it tells of.  Nothing of a document is ever run, and nothing that it refers
to is fetched.  Programs that are used run with a limit of memory, time and output each.
"""
import json
import os
import resource
import signal
import subprocess
import time

SHOWN = 26_000  # bytes of text in one answer
MIB = 1 << 20
INPUT_MAX = 256 * MIB
OUTPUT_MAX = 64 * MIB  # of one program
MEMORY = 1536 * MIB  # of this process, and of each that it starts
FETCH_MAX = 128 * MIB
CACHE = "/tmp/.aios-documents"
CACHE_MAX = 24  # results that are kept
DIED = 64  # exit code, and the signal added to it: the work on a document ended without an answer
IDLE = 300  # seconds without a request after which the driver ends

# Program: its Debian package, and the memory it may have.
PROGRAMS = {
    "pdftotext": ("poppler-utils", 1024 * MIB),
    "pdfinfo": ("poppler-utils", 1024 * MIB),
    "pdftoppm": ("poppler-utils", 1024 * MIB),
    "pdfimages": ("poppler-utils", 1024 * MIB),
    "qpdf": ("qpdf", 1024 * MIB),
    "tesseract": ("tesseract-ocr", 1024 * MIB),
    "curl": ("curl", 512 * MIB),
    "pandoc": ("pandoc", 0),  # takes its limit as an option; it reserves addresses by the terabyte
    "soffice": ("libreoffice-writer-nogui, libreoffice-calc-nogui, libreoffice-impress-nogui, python3-uno", 0),
}


class Fault(Exception):
    """What the caller is told: code is one of the names that tools/document.c knows."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


class Answer:
    def __init__(self, text="", images=()):
        self.text = text
        self.images = list(images)


deadline = 0.0
scratch = None


def left():
    """Seconds until this process must have answered."""
    return max(0.5, deadline - time.monotonic())


def folder():
    """A folder that is removed in the end."""
    global scratch
    if scratch is None:
        scratch = "/tmp/document-%d-%s" % (os.getpid(), os.urandom(6).hex())
        os.mkdir(scratch, 0o700)
    return scratch


def unnamed():
    """A file without a name, gone when it is closed."""
    name = os.path.join(folder(), "stream")
    f = open(name, "w+b")
    os.unlink(name)
    return f


def clear():
    for where, folders, files in os.walk(scratch, topdown=False):
        for name in files:
            os.unlink(os.path.join(where, name))
        os.rmdir(where)


# ---- programs ----

def have(name):
    return any(os.access(os.path.join(f, name), os.X_OK) for f in os.environ.get("PATH", "").split(":") if f)


def missing(name):
    return Fault("not_found", "%s is not in this computer. computer_create {\"image\":\"desktop\"} makes one "
                 "that has it, or install the Debian package %s" % (name, PROGRAMS[name][0]))


def environment(network=False):
    keep = dict(os.environ)
    if not network:
        for name in list(keep):
            if name.lower().endswith("_proxy"):
                del keep[name]
    keep["LC_ALL"] = "C.UTF-8"
    return keep


class Program:
    """One that works on a document; its limits are those of this process for as long as it takes to start."""

    def __init__(self, argv, what, stdin=None, network=False, cap=OUTPUT_MAX, file_max=512 * MIB):
        self.name, self.what, self.stdin, self.cap = argv[0], what, stdin, cap
        _, self.memory = PROGRAMS[self.name]
        if not have(self.name):
            raise missing(self.name)
        limits = [(resource.RLIMIT_FSIZE, cap if self.name not in ("curl", "qpdf") else file_max)]
        if self.memory:
            limits.append((resource.RLIMIT_AS, self.memory))
        before = [(which, resource.getrlimit(which)) for which, _ in limits]
        self.errors, self.out = unnamed(), unnamed()
        try:
            for which, most in limits:
                resource.setrlimit(which, (most, resource.getrlimit(which)[1]))
            self.child = subprocess.Popen(argv, stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
                                          stdout=self.out, stderr=self.errors, env=environment(network), cwd=folder(),
                                          start_new_session=True)
        finally:
            for which, values in before:
                resource.setrlimit(which, values)

    def end(self):
        try:
            os.killpg(self.child.pid, signal.SIGKILL)
        except OSError:
            pass
        self.child.wait()

    def finish(self):
        """Its standard output; it must succeed with no more than cap bytes of it."""
        seconds = left()
        with self.errors, self.out:
            try:
                self.child.communicate(self.stdin, timeout=seconds)
            except subprocess.TimeoutExpired:
                raise Fault("timeout", "%s took longer than %.0f s with %s and was stopped; take fewer pages, or a "
                            "smaller document" % (self.name, seconds, self.what)) from None
            finally:
                self.end()
            self.errors.seek(0)
            said = " ".join(self.errors.read(2000).decode("utf-8", "replace").split())
            self.out.seek(0)
            data = self.out.read(self.cap + 1)
        if self.child.returncode == -signal.SIGXFSZ or len(data) >= self.cap:
            raise Fault("limit", "%s wrote more than %d MiB for %s and was stopped" % (self.name, self.cap // MIB, self.what))
        if self.child.returncode != 0:
            raise explain(self.name, self.child.returncode, said, self.what, self.memory)
        return data


def run(*args, **options):
    return Program(*args, **options).finish()


def explain(program, status, said, what, memory):
    low = said.lower()
    if "incorrect password" in low or "invalid password" in low:
        return encrypted(what)
    if "heap exhausted" in low or "out of memory" in low or "bad_alloc" in low or "memory" in low and status == 251:
        return Fault("limit", "%s needs more memory for %s than a document may take" % (program, what))
    if "trailer" in low or "xref" in low or "end of file" in low:
        return Fault("invalid", "%s is damaged or cut short: fetch or copy it again (%s: %s)" % (what, program, said[:120]))
    if status < 0:
        return Fault("invalid", "%s was ended by signal %d while it worked on %s%s; the file is damaged, or needs more "
                     "than %d MiB" % (program, -status, what, ": " + said[:200] if said else "", memory // MIB or 512))
    return Fault("invalid", "%s cannot make anything of %s: %s" % (program, what, said[:300] or "status %d" % status))


def encrypted(what):
    return Fault("denied", "%s is encrypted and its password is not known here; remove the protection first (PDF: "
                 "qpdf --decrypt --password=… in.pdf out.pdf)" % what)


def pandoc(arguments, what, stdin=None, sandbox=True):
    """Without files, network or filters of its own: --sandbox reads what the command names, no more."""
    options = ["pandoc", "+RTS", "-M768m", "-RTS"] + (["--sandbox"] if sandbox else [])
    return run(options + arguments, what, stdin)


# ---- files ----

def fetch(url):
    """Through the proxy of the computer; kept, so that further pages need no second fetch."""
    import hashlib
    os.makedirs(CACHE, exist_ok=True)
    name = url.split("?")[0].split("#")[0].rstrip("/").rsplit("/", 1)[-1][-80:] or "document"
    name = "".join(c if c.isalnum() or c in "._-" else "_" for c in name)
    path = os.path.join(CACHE, hashlib.sha256(url.encode()).hexdigest()[:10] + "-" + name)
    if not have("curl"):
        raise missing("curl")
    part = path + ".part"
    try:
        kind = run(["curl", "-sS", "-L", "--max-redirs", "8", "--proto", "=http,https", "--fail", "--max-filesize",
                    str(FETCH_MAX), "--max-time", "%d" % max(1, left() - 1), "-o", part, "-w", "%{content_type}",
                    "--", url], url, network=True, file_max=FETCH_MAX)
    except Fault as fault:
        if fault.code == "invalid":
            raise Fault("io", "cannot fetch %s; a computer reaches only what computer_create {\"allow\":[…]} named. %s"
                        % (url, fault)) from None
        raise
    os.replace(part, path)
    if "." not in name:
        ending = {b"application/pdf": ".pdf", b"text/html": ".html", b"text/csv": ".csv"}.get(kind.split(b";")[0].strip())
        if ending:
            os.replace(path, path + ending)
            path += ending
    return path


def locate(given):
    """The file that is meant, which must be one."""
    if given.startswith(("http://", "https://")):
        return fetch(given)
    path = os.path.expanduser(given) if given.startswith("~") else os.path.join("/workspace", given)
    if not os.path.exists(path):
        raise Fault("not_found", "there is no %s in the computer; file_list shows what there is" % path)
    if not os.path.isfile(path):
        raise Fault("invalid", "%s is not a file" % path)
    size = os.path.getsize(path)
    if size == 0:
        raise Fault("invalid", "%s is empty" % path)
    if size > INPUT_MAX:
        raise Fault("limit", "%s has %d MiB; documents may have %d" % (path, size // MIB, INPUT_MAX // MIB))
    return path


def target(given):
    path = os.path.expanduser(given) if given.startswith("~") else os.path.join("/workspace", given)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    return path


def put(path, data):
    """Whole or not at all."""
    temporary = "%s.%d.part" % (path, os.getpid())
    try:
        with open(temporary, "wb") as f:
            f.write(data)
        if os.path.exists(path):
            os.chmod(temporary, os.stat(path).st_mode & 0o7777)
        os.replace(temporary, path)
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)


def place(path, purpose):
    """Where what was made of this state of the file is kept."""
    import hashlib
    state = os.stat(path)
    key = "%s\0%d\0%d\0%d\0%s" % (path, state.st_mtime_ns, state.st_size, state.st_ino, purpose)
    return os.path.join(CACHE, hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()[:24])


def kept(path, purpose):
    return os.path.exists(place(path, purpose))


def cached(path, purpose, make):
    """The bytes that make() gives for this state of the file, kept for the next page of it."""
    where = place(path, purpose)
    try:
        with open(where, "rb") as f:
            return f.read()
    except OSError:
        pass
    data = make()
    try:
        os.makedirs(CACHE, exist_ok=True)
        put(where, data)
        files = [e for e in os.scandir(CACHE) if e.is_file() and not e.name.endswith(".lock")]
        for old in sorted(files, key=lambda e: e.stat().st_mtime)[:-CACHE_MAX]:
            os.unlink(old)
    except OSError:
        pass  # a full disk costs time, not the answer
    return data


ZIPPED = ("docx", "docm", "dotx", "xlsx", "xlsm", "xltx", "pptx", "pptm", "ppsx", "potx", "odt", "ott", "ods", "odp",
          "epub")
ALIKE = {"htm": "html", "xhtml": "html", "markdown": "md", "tex": "latex", "docm": "docx", "dotx": "docx",
         "xlsm": "xlsx", "xltx": "xlsx", "pptm": "pptx", "ppsx": "pptx", "potx": "pptx", "ott": "odt",
         "asc": "txt", "text": "txt", "log": "txt"}
KNOWN = ("pdf", "docx", "xlsx", "pptx", "odt", "ods", "odp", "epub", "html", "md", "latex", "rtf", "csv", "tsv", "eml",
         "ipynb", "rst", "org", "doc", "xls", "ppt", "json", "xml", "docbook", "fb2")


def sniff(path):
    """What kind of document it is: the first bytes decide, then the name."""
    with open(path, "rb") as f:
        head = f.read(4096)
    ending = os.path.splitext(path)[1].lower().lstrip(".")
    if b"%PDF-" in head[:1024]:
        return "pdf"
    if head.startswith(b"{\\rtf"):
        return "rtf"
    if head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        if ending in ZIPPED:
            raise encrypted(path)
        return ending if ending in ("doc", "xls", "ppt") else "doc"
    if head.startswith(b"PK\x03\x04") or ending in ZIPPED:
        import document_zip
        return document_zip.kind(path)
    ending = ALIKE.get(ending, ending)
    if ending == "pdf":
        raise Fault("invalid", "%s is no PDF: it does not begin with %%PDF-" % path)
    if ending in KNOWN:
        return ending
    low = head.lstrip().lower()
    if low.startswith((b"<!doctype html", b"<html")):
        return "html"
    return "txt"


# ---- answers ----

def spans(text, count, what="pages"):
    """"3", "10-12", "5-", "1,4-6" as [(first, last), ...] within 1..count."""
    found = []
    for piece in text.replace(" ", "").split(","):
        first, dash, last = piece.partition("-")
        if not first.isdigit() or last and not last.isdigit():
            raise Fault("invalid", "%s must look like \"3\", \"10-12\" or \"5-\", not \"%s\"" % (what, text[:60]))
        a, b = int(first), int(last) if last else count if dash else int(first)
        if a < 1 or a > count or b < a:
            raise Fault("invalid", "there are %s 1 to %d; \"%s\" is not among them" % (what, count, piece[:40]))
        found.append((a, min(b, count)))
    return found


def quote(text):
    return json.dumps(text, ensure_ascii=False)


def paged(text, offset, path, about, more=""):
    """The piece of text from offset on, cut at the end of a line, and how to read on."""
    data = text.encode("utf-8", "replace")
    if offset >= len(data) > 0:
        return Answer("[%s; the text ends at %d]" % (about, len(data)))
    while 0 < offset < len(data) and data[offset] & 0xC0 == 0x80:
        offset += 1
    end = min(len(data), offset + SHOWN)
    if end < len(data):
        line = data.rfind(b"\n", offset + SHOWN // 2, end)
        end = line + 1 if line > 0 else end
        while data[end] & 0xC0 == 0x80:
            end -= 1
    piece = data[offset:end].decode("utf-8", "replace")
    note = about
    if offset > 0 or end < len(data):
        note += "; bytes %d to %d of %d" % (offset, end, len(data))
    if end < len(data):
        note += "; go on with document_read {\"path\":%s%s,\"offset\":%d}" % (quote(path), more, end)
    return Answer("%s%s[%s]" % (piece, "" if piece.endswith("\n") or not piece else "\n", note))


def search(pieces, query, label, path, about):
    """Lines of pieces [(place, text), ...] that contain query, with where they are."""
    needle = " ".join(query.lower().split())
    hits, shown, used = 0, [], 0
    for place, text in pieces:
        for number, line in enumerate(text.split("\n"), 1):
            flat = " ".join(line.split())
            at = flat.lower().find(needle)
            if at < 0:
                continue
            hits += 1
            start = max(0, at - 120)
            row = "%s %s: %s%s%s" % (label, place if place else number, "…" if start else "", flat[start:at + len(needle) + 160],
                                     "…" if len(flat) > at + len(needle) + 160 else "")
            used += len(row.encode()) + 1
            if used < SHOWN:
                shown.append(row)
    if not hits:
        return Answer("[%s: nothing contains %s]" % (about, quote(query)))
    cut = "; the first %d are shown" % len(shown) if len(shown) < hits else ""
    return Answer("\n".join(shown) + "\n[%s: %d lines contain %s%s]" % (about, hits, quote(query), cut))


def send(header, *parts):
    out = json.dumps(header).encode() + b"\n" + b"".join(parts)
    with os.fdopen(answers, "wb") as f:
        f.write(b"%08d" % len(out))
        f.write(out)


def dispatch(request):
    tool = request["tool"]
    if tool == "read":
        import document_read
        return document_read.read(request)
    if tool == "edit":
        import document_edit
        return document_edit.edit(request)
    import document_convert
    return getattr(document_convert, tool)(request)


def keep(receive, parts):
    """Answer requests until none comes for a while.  A process of its own for each has the memory, the
    time and the files of one document, and takes them along when it ends."""
    import gc
    import select
    gc.disable()
    waiting = select.poll()
    waiting.register(0, select.POLLIN)
    parts = ["hashlib"] + [p for p in parts if p != "document"]
    while waiting.poll(IDLE * 1000):
        head = receive(8)
        request = receive(int(head))
        gc.freeze()  # so that no process copies what all of them share by looking for garbage in it
        child = os.fork()
        if child == 0:
            gc.enable()
            serve(request)
            os._exit(0)  # there is nothing left to tidy up
        status = os.waitpid(child, 0)[1]
        if status:  # it answered nothing: the caller is told by this one's end, what it started ends too
            os._exit(DIED + (os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0))
        # What the next ones need is made ready while nobody waits.
        while parts and not waiting.poll(0):
            __import__(parts.pop(0))
    os._exit(0)


def serve(request):
    """Answer one request: {"tool": "read", "seconds": 40, ...arguments}."""
    global deadline, answers
    request = json.loads(request)
    deadline = time.monotonic() + request.get("seconds", 40)
    answers = os.dup(1)
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY + 256 * MIB))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o022)
    try:
        answer = dispatch(request)
        text = answer.text.encode("utf-8", "replace")
        whole = ({"ok": True, "text": len(text), "images": [[kind, len(data)] for kind, data in answer.images]}, text,
                 *[data for _, data in answer.images])
    except Fault as error:
        whole = told(error.code, str(error))
    except MemoryError:
        whole = None
    except RecursionError:
        whole = told("limit", "the document is nested too deeply")
    except OSError as error:
        whole = told("io", "%s: %s" % (error.filename, error.strerror) if error.filename else str(error))
    except Exception as error:  # whatever a damaged file leads to
        whole = told("invalid", "%s is not as its format says: %s: %s" % (request["path"], type(error).__name__,
                                                                          str(error)[:200]))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY + 256 * MIB,) * 2)  # enough to say so
    if scratch:
        clear()
    send(*(whole or told("limit", "the document needs more memory than one may take (%d MiB)" % (MEMORY // MIB))))


def told(code, text):
    text = text.encode("utf-8", "replace")[:480].decode("utf-8", "ignore").encode()
    return {"error": code, "text": len(text)}, text
