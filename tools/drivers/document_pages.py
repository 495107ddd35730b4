"""Some pages of a PDF as a PDF, without the pages before them being read.

pdftotext walks the tree of pages from the first one, and makes something of each page that it passes.
Here the tree is walked once for each state of the file, and where its pages are is kept.  For a few of
them the file then gets an update (ISO 32000-1, 7.5.6) after which its tree leads to them alone.

Whatever is out of the ordinary (Odd) is left to pdftotext, which mends damaged files: those that are
encrypted, in which a cross-reference or an object is not where it should be, or of hybrid form.
"""
import itertools
import json
import mmap
import os
import re
import shutil
import time
import zlib

import document

EARLY = 200  # pages that pdftotext passes in no time
COPIED_MAX = 32 << 20  # bytes of a file: a copy of a larger one takes longer than the walk
PAGES_MAX = 200_000
SECTIONS_MAX = 256
UNPACKED_MAX = 64 << 20  # bytes of all streams that have to be read
LONG = 1 << 16  # bytes of white space, a string or a page's object
KIDS_LONG = 4 << 20
SECONDS = 2  # for the walk: it must not cost what it saves

SPACE = re.compile(rb"(?:[\0\t\n\f\r ]+|%[^\r\n]*)*")
TOKEN = re.compile(rb"\d+[\0\t\n\f\r ]+\d+[\0\t\n\f\r ]+R(?![^\0\t\n\f\r ()<>\[\]{}/%])"
                   rb"|/?[^\0\t\n\f\r ()<>\[\]{}/%]+|/|<[0-9A-Fa-f\0\t\n\f\r ]*>")
STRING = re.compile(rb"[^()\\]*(?:\\.[^()\\]*)*", re.DOTALL)
REFERENCE = re.compile(rb"(\d{1,9})[\0\t\n\f\r ]+0[\0\t\n\f\r ]+R")
REFERENCES = re.compile(rb"\[[\0\t\n\f\r ]*(?:\d{1,9}[\0\t\n\f\r ]+0[\0\t\n\f\r ]+R[\0\t\n\f\r ]*)*\]")
SUBSECTION = re.compile(rb"[\0\t\n\f\r ]*(\d{1,10})[ ](\d{1,10})[ ]*(?:\r\n|\r|\n)")
CONTENTS = re.compile(rb"/Contents[\0\t\n\f\r ]*(?:\[|\d+[\0\t\n\f\r ]+\d+[\0\t\n\f\r ]+R)")
HEADER = re.compile(rb"(\d{1,9})[\0\t\n\f\r ]+0[\0\t\n\f\r ]+obj(?![0-9A-Za-z])")
END = re.compile(rb"startxref\s+(\d{1,10})\s+%%EOF")
ROW = re.compile(rb"(\d{10}) 00000 n(?: \r| \n|\r\n)")


def page_pattern():
    """A page's dictionary, with others in it to a depth of two, and nothing behind it.  No text is matched in two
    ways, else one that does not match could take for ever."""
    blank, over = rb"[\0\t\n\f\r ]*", rb"(?![^\0\t\n\f\r ()<>\[\]{}/%])"
    name = rb"/[^\0\t\n\f\r ()<>\[\]{}/%]+" + over
    value = plain = rb"\d+[\0\t\n\f\r ]+\d+[\0\t\n\f\r ]+R" + over + rb"|[+-]?[0-9.]+" + over + rb"|(?:true|false|null)" + \
        over + rb"|" + name + rb"|\((?:[^()\\]|\\.)*\)|<[0-9A-Fa-f\0\t\n\f\r ]*>"
    for _ in range(2):
        value = rb"%s|\[(?:%s(?:%s))*%s\]|<<(?:%s%s%s(?:%s))*%s>>" % (
            plain, blank, value, blank, blank, name, blank, value, blank)
    return re.compile(rb"%s<<(?:%s%s%s(?:%s))*%s>>%s" % (blank, blank, name, blank, value, blank, blank), re.DOTALL)


PAGE = page_pattern()


class Odd(Exception):
    """Not a file to find one's own way in."""


# ---- syntax ----

def space(data, at):
    """Where the white space and the comments end that begin at `at`."""
    return SPACE.match(data, at, at + LONG).end()


def after_string(data, at):
    """Where the string whose parenthesis is at `at` ends."""
    depth, at = 1, at + 1
    while depth:
        at = STRING.match(data, at, at + LONG).end()
        if data[at:at + 1] not in (b"(", b")"):
            raise Odd("a string without an end")
        depth += 1 if data[at:at + 1] == b"(" else -1
        at += 1
    return at


def after(data, at):
    """Where the object ends that begins at `at`."""
    open_ones = 0
    while True:
        at = space(data, at)
        two = data[at:at + 2]
        if two == b"<<" or two[:1] == b"[":
            open_ones += 1
            at += 2 if two == b"<<" else 1
        elif two == b">>" or two[:1] == b"]":
            open_ones -= 1
            at += 2 if two == b">>" else 1
        elif two[:1] == b"(":
            at = after_string(data, at)
        else:
            token = TOKEN.match(data, at)
            if not token:
                raise Odd("no object")
            at = token.end()
        if open_ones <= 0:
            if open_ones < 0:
                raise Odd("an end without a beginning")
            return at


def entries(data, at):
    """{name: (begin, end) of its value} of the dictionary at `at`, and where that begins and ends."""
    begin = space(data, at)
    if data[begin:begin + 2] != b"<<":
        raise Odd("no dictionary")
    found, at = {}, begin + 2
    while True:
        at = space(data, at)
        if data[at:at + 2] == b">>":
            return found, begin, at + 2
        name = TOKEN.match(data, at)
        if not name or data[at:at + 1] != b"/" or b"#" in name.group() or name.group() in found:
            raise Odd("no name, or one that is there twice or not written plainly")
        value = space(data, name.end())
        at = after(data, value)
        found[name.group()] = (value, at)


def number(data, span):
    text = data[span[0]:span[1]] if span else b""
    if not text.isdigit() or len(text) > 10:
        raise Odd("no number")
    return int(text)


def reference(data, span):
    found = REFERENCE.fullmatch(data, *span) if span else None
    if not found:
        raise Odd("no reference")
    return int(found.group(1))


# ---- where the objects are ----

def unpacked(reader, found, end, length):
    """The bytes of the stream whose dictionary ends at `end`."""
    data = reader.data
    at = space(data, end)
    if data[at:at + 6] != b"stream":
        raise Odd("no stream")
    at += 6 + (2 if data[at + 6:at + 8] == b"\r\n" else 1)
    packed = data[at:at + length]
    if b"/Filter" not in found:
        return packed
    if data[slice(*found[b"/Filter"])].strip(b"[] ") != b"/FlateDecode":
        raise Odd("another filter")
    if reader.room <= 0:  # which would be no limit
        raise Odd("too much to unpack")
    inflate = zlib.decompressobj()
    try:
        out = inflate.decompress(packed, reader.room)
    except zlib.error:
        raise Odd("a stream that cannot be unpacked") from None
    if not inflate.eof:
        raise Odd("a stream too long, or cut short")
    reader.room -= len(out)
    return out


def unpredicted(rows, width):
    """Without PNG's prediction from the row above, which is the one that writers of these tables use."""
    step = width + 1
    if len(rows) % step or rows[::step].translate(None, b"\2"):
        raise Odd("another prediction")
    out = bytearray(len(rows) // step * width)
    for column in range(width):
        out[column::width] = bytes(itertools.accumulate(rows[column + 1::step], lambda a, b: a + b & 255))
    return bytes(out)


class Table:
    """A section of the cross-references as a stream."""

    def __init__(self, reader, at):
        data = reader.data
        self.found, _, end = entries(data, reader.header(at)[1])
        if data[slice(*self.found.get(b"/Type", (0, 0)))] != b"/XRef":
            raise Odd("no cross-reference stream")
        rows = unpacked(reader, self.found, end, number(data, self.found.get(b"/Length")))
        self.widths = self.numbers(data, b"/W")
        width = sum(self.widths)
        if len(self.widths) != 3 or not 0 < width < 24:
            raise Odd("widths")
        if b"/DecodeParms" in self.found:
            parms, _, _ = entries(data, self.found[b"/DecodeParms"][0])
            if number(data, parms.get(b"/Predictor")) >= 10:
                if number(data, parms.get(b"/Columns")) != width:
                    raise Odd("columns")
                rows = unpredicted(rows, width)
            elif number(data, parms[b"/Predictor"]) != 1:
                raise Odd("another prediction")
        self.rows, self.width = rows, width
        parts = self.numbers(data, b"/Index") if b"/Index" in self.found else [0, number(data, self.found.get(b"/Size"))]
        self.parts = list(zip(parts[::2], parts[1::2]))

    def numbers(self, data, name):
        text = data[slice(*self.found.get(name, (0, 0)))].strip(b"[]").split()
        if not text or not all(n.isdigit() and len(n) < 10 for n in text):
            raise Odd("no list of numbers")
        return [int(n) for n in text]

    def find(self, wanted):
        before = 0
        for first, count in self.parts:
            if first <= wanted < first + count:
                at = (before + wanted - first) * self.width
                row = self.rows[at:at + self.width]
                if len(row) < self.width:
                    raise Odd("a table cut short")
                a, b, _ = self.widths
                kind = int.from_bytes(row[:a], "big") if a else 1
                return kind, int.from_bytes(row[a:a + b], "big"), int.from_bytes(row[a + b:], "big")
            before += count
        return None


class Rows:
    """A section of the cross-references as text."""

    def __init__(self, reader, at):
        data = self.data = reader.data
        self.parts, at = [], at + 4
        while True:
            part = SUBSECTION.match(data, at)
            if not part:
                break
            first, count = int(part.group(1)), int(part.group(2))
            self.parts.append((first, count, part.end()))
            at = part.end() + 20 * count
        at = space(data, at)
        if data[at:at + 7] != b"trailer":
            raise Odd("no trailer")
        self.found, _, _ = entries(data, at + 7)
        if b"/XRefStm" in self.found:
            raise Odd("of hybrid form")

    def find(self, wanted):
        for first, count, at in self.parts:
            if first <= wanted < first + count:
                row = ROW.match(self.data, at + 20 * (wanted - first))
                return (1, int(row.group(1)), 0) if row else (0, 0, 0)
        return None


class Reader:
    """Objects by number: as the latest update of the file says, without anything being mended."""

    def __init__(self, data):
        self.data, self.sections, self.packs, self.room = data, [], {}, UNPACKED_MAX
        if data[:5] != b"%PDF-":
            raise Odd("something before the beginning")
        last = data.rfind(b"startxref", max(0, len(data) - 1024))
        found = END.match(data, last) if last >= 0 else None
        if not found:
            raise Odd("no end")
        self.start = at = int(found.group(1))
        seen = set()
        while True:
            if at in seen or len(seen) >= SECTIONS_MAX:
                raise Odd("sections without end")
            seen.add(at)
            self.sections.append((Rows if data[at:at + 4] == b"xref" else Table)(self, at))
            previous = self.sections[-1].found.get(b"/Prev")
            if not previous:
                break
            at = number(data, previous)
        self.trailer = self.sections[0].found
        if any(b"/Encrypt" in section.found for section in self.sections):
            raise Odd("encrypted")

    def header(self, at):
        """The number of the object at `at`, and where its value begins."""
        found = HEADER.match(self.data, at)
        if not found:
            raise Odd("no object at %d" % at)
        return int(found.group(1)), found.end()

    def pack(self, wanted):
        """(text, {object: (begin, end)}) of a stream of objects."""
        if wanted not in self.packs:
            data, at = self.find(wanted)[:2]
            if data is not self.data:
                raise Odd("a stream in a stream")
            found, _, end = entries(data, at)
            span = found.get(b"/Length")
            length = number(data, span) if REFERENCE.fullmatch(data, *(span or (0, 0))) is None else \
                self.integer(reference(data, span))
            text = unpacked(self, found, end, length)
            count, first = number(data, found.get(b"/N")), number(data, found.get(b"/First"))
            head = text[:first].split()
            if len(head) != 2 * count or not all(n.isdigit() for n in head):
                raise Odd("the head of a stream of objects")
            where = [int(n) + first for n in head[1::2]]
            self.packs[wanted] = text, {int(n): span for n, span in zip(head[::2], zip(where, where[1:] + [len(text)]))}
        return self.packs[wanted]

    def integer(self, wanted):
        data, at, _ = self.find(wanted)
        begin = space(data, at)
        return number(data, (begin, after(data, begin)))

    def find(self, wanted):
        """(text, begin, end) of an object's value; the end may lie behind it, and is -1 where that is far."""
        for section in self.sections:
            found = section.find(wanted)
            if found is None:
                continue
            kind, place, _ = found
            if kind == 1 and not (isinstance(section, Table) and found[2]):
                name, at = self.header(place)
                if name != wanted:
                    raise Odd("another object")
                return self.data, at, self.data.find(b"endobj", at, at + LONG)
            if kind == 2:
                text, spans = self.pack(place)
                if wanted not in spans:
                    raise Odd("another object")
                return (text, *spans[wanted])
            raise Odd("an object that is free")
        raise Odd("no such object")


# ---- the tree ----

def is_leaf(data, at, end):
    """As pdftotext decides it, which passes over what is damaged as if it were not there; where a word does not
    stand, that name does not."""
    if end < 0 or end - at > LONG:
        raise Odd("a very long page")
    text = data[at:end]
    if b"/Contents" in text and not CONTENTS.search(text):
        raise Odd("no contents")
    if PAGE.fullmatch(text) and b"/Kids" not in text and b"#" not in text:
        return True
    found, _, behind = entries(text, 0)
    if space(text, behind) != len(text):
        raise Odd("more than a dictionary")
    return b"/Kids" not in found or text[slice(*found.get(b"/Type", (0, 0)))] == b"/Page"


def cut(reader, wanted):
    """[what is before, between, behind] the list of pages and their number in a node of the tree, whether the
    list comes first, and the list's objects."""
    data, at, _ = reader.find(wanted)
    found, begin, end = entries(data, at)
    kids, count = found.get(b"/Kids"), found.get(b"/Count")
    if not kids or not count:
        raise Odd("a node without pages")
    number(data, count)
    kids_data, kids_span = data, kids
    if REFERENCE.fullmatch(data, *kids):
        kids_data, start, _ = reader.find(reference(data, kids))
        start = space(kids_data, start)
        kids_span = start, after(kids_data, start)
    if kids_span[1] - kids_span[0] > KIDS_LONG or not REFERENCES.fullmatch(kids_data, *kids_span):
        raise Odd("pages that are not references")
    one, two = sorted((kids, count))
    pieces = [data[begin:one[0]], data[one[1]:two[0]], data[two[1]:end]]
    return ([p.decode("latin-1") for p in pieces], kids < count,
            [int(n) for n in REFERENCE.findall(kids_data, *kids_span)])


def walk(path):
    """What is kept of a file: each page's object and node, and the nodes."""
    with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data:
        reader = Reader(data)
        root = reference(data, reader.trailer.get(b"/Root"))
        catalog, at, _ = reader.find(root)
        first = reference(catalog, entries(catalog, at)[0].get(b"/Pages"))
        nodes, pages, above, seen, stack = [], [], [], {first}, [(first, -1)]
        enough = time.monotonic() + SECONDS
        while stack:
            wanted, parent = stack.pop()
            if time.monotonic() > enough:
                raise Odd("too much work")
            if parent >= 0:
                found = reader.find(wanted)
                if is_leaf(*found):
                    pages.append(wanted)
                    above.append(parent)
                    if len(pages) > PAGES_MAX:
                        raise Odd("too many pages")
                    continue
                if wanted in seen:
                    raise Odd("a node in two places")
                seen.add(wanted)
            pieces, kids_first, kids = cut(reader, wanted)
            nodes.append([wanted, parent, kids_first, pieces])
            stack += [(kid, len(nodes) - 1) for kid in reversed(kids)]
        return {"start": reader.start, "size": number(data, reader.trailer.get(b"/Size")), "root": root,
                "nodes": nodes, "pages": pages, "above": above}


def known(path):
    """What walk() finds, or None: once for each state of the file."""
    def make():
        try:
            return json.dumps(walk(path), separators=(",", ":")).encode()
        except (Odd, ValueError, OSError, RecursionError, MemoryError):
            return b"null"
    return json.loads(document.cached(path, "pages", make))


def update(tree, first, last, length):
    """What to write behind a file of that length, so that its tree has pages `first` to `last` alone."""
    nodes, kids, counts = tree["nodes"], {}, {}
    for page, node in zip(tree["pages"][first - 1:last], tree["above"][first - 1:last]):
        below = page
        while node >= 0:
            new = node not in kids
            if below is not None:
                kids.setdefault(node, []).append(below)
            counts[node] = counts.get(node, 0) + 1
            below = nodes[node][0] if new else None
            node = nodes[node][1]
    out, rows = [b"\n"], []
    for node in sorted(kids):
        name, _, kids_first, (before, between, behind) = nodes[node]
        inserted = ["[%s]" % " ".join("%d 0 R" % n for n in kids[node]), str(counts[node])]
        a, b = inserted if kids_first else reversed(inserted)
        rows.append(b"%d 1\n%010d 00000 n \n" % (name, length + sum(map(len, out))))
        out.append(("%d 0 obj\n%s %s %s %s %s\nendobj\n" % (name, before, a, between, b, behind)).encode("latin-1"))
    start = length + sum(map(len, out))
    return b"".join(out) + b"xref\n" + b"".join(rows) + \
        b"trailer\n<< /Size %d /Root %d 0 R /Prev %d >>\nstartxref\n%d\n%%%%EOF\n" % (
            tree["size"], tree["root"], tree["start"], start)


def alone(path, first, last):
    """A PDF whose first pages are pages `first` to `last` of this one, or None."""
    length = os.path.getsize(path)
    if first <= EARLY or length > COPIED_MAX:
        return None
    tree = known(path)
    if not tree or last > len(tree["pages"]):
        return None
    copy = os.path.join(document.folder(), "pages.pdf")
    try:
        shutil.copyfile(path, copy)
        with open(copy, "ab") as f:
            f.write(update(tree, first, last, length))
    except OSError:  # a full disk costs time, not the answer
        if os.path.exists(copy):
            os.unlink(copy)
        return None
    return copy
