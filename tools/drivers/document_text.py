"""What is text in the end: office texts, books, web pages and markup by pandoc; mail, notebooks
and plain text of any encoding here."""
import os
import re

import document
from document import Answer, Fault, cached, paged, pandoc, quote
from document_read import markdown_table

# Format: what pandoc reads it as, raw markup of the format left out.
READERS = {"docx": "docx", "odt": "odt", "epub": "epub", "html": "html-native_divs-native_spans", "latex": "latex",
           "rtf": "rtf", "rst": "rst", "org": "org", "docbook": "docbook", "fb2": "fb2"}
PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".svg", ".emf", ".wmf")


def open_text(path, kind):
    if kind in READERS:
        return Text(path, kind)
    if kind == "eml":
        return Mail(path)
    if kind == "ipynb":
        return Notebook(path)
    return Plain(path, kind)


def decode(data):
    """The text of bytes, and what they were taken for."""
    for bom, name in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe\0\0", "utf-32"), (b"\0\0\xfe\xff", "utf-32"),
                      (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(bom):
            return data.decode(name, "replace"), name.replace("-sig", "") + " (byte order mark)"
    try:
        text = data.decode("utf-8")
        if "\0" not in text:
            return text, "utf-8"
    except UnicodeDecodeError:
        pass
    head = data[:65536]
    for at, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        if head[at::2].count(0) * 10 > len(head) * 3 and head[1 - at::2].count(0) * 20 < len(head):
            return data.decode(name, "replace"), name + " (by its zero bytes)"
    if b"\0" in head:
        raise Fault("unsupported", "this is a binary file of no kind that document_read knows")
    return by_letters(data)


def by_letters(data):
    """A statistic: in which encoding do the bytes beyond ASCII make letters of one script."""
    sample = data[:65536]
    best, how = 0.72, None
    for name, pattern in (("shift_jis", "[\u3040-\u30ff\u4e00-\u9fff\u3000-\u303f\uff00-\uffef]"),
                          ("euc_jp", "[\u3040-\u30ff\u4e00-\u9fff\u3000-\u303f]"),
                          ("euc_kr", "[\uac00-\ud7a3]"), ("gb18030", "[\u4e00-\u9fff\u3000-\u303f\uff00-\uffef]"),
                          ("cp1251", "[\u0430-\u044f\u0451]"), ("koi8_r", "[\u0430-\u044f\u0451]")):
        try:
            text = sample.decode(name, "strict" if len(sample) == len(data) else "ignore")
        except UnicodeDecodeError:
            continue
        foreign = [c for c in text if ord(c) > 127]
        fit = len(re.findall(pattern, text)) / max(1, len(foreign))
        if name in ("shift_jis", "euc_jp") and not re.search("[\u3040-\u30ff]", text):
            continue
        if len(foreign) >= 4 and fit > best:
            best, how = fit, name
    if how:
        return data.decode(how, "replace"), how + " (guessed by its letters)"
    try:
        return data.decode("cp1252"), "windows-1252 (guessed)"
    except UnicodeDecodeError:
        return data.decode("latin-1"), "latin-1 (every byte a character)"


def readable(kind, text):
    """pandoc 2.17 swallows the letter after the "?" that stands for a character in RTF."""
    return re.sub(r"(\\u-?\d+) ?\?", r"\1\\'3f", text) if kind == "rtf" else text


def with_heads(path):
    """pandoc's reader of ODT leaves out the head of a table: it becomes the first row."""
    import document_zip
    archive = document_zip.Archive(path)
    content = archive.read("content.xml")
    if b"table:table-header-rows" not in content:
        return path
    changed = os.path.join(document.folder(), "heads.odt")
    with open(changed, "wb") as f:
        f.write(archive.replaced({"content.xml": re.sub(rb"</?table:table-header-rows\s*/?>", b"", content)}))
    return changed


def tidy(text):
    """Without anchors and wrappers, which say nothing to a reader, and with a head for each table."""
    out, fenced = [], False
    for line in text.split("\n"):
        fenced ^= line.startswith(("```", "~~~"))
        if not fenced:
            line = re.sub(r"<span id=\"[^\"]*\"></span>", "", line)
            bare = re.sub(r"</?div\b[^>]*>|<a [^>]*class=\"footnote-back\"[^>]*>.*?</a>", "", line)
            if bare != line and not bare.strip():
                continue
            line = re.sub(r"<a href=\"#[^\"]*\"[^>]*>(.*?)</a>", r"\1", bare)
            # A table without a head: its first row becomes the head.
            if (len(out) >= 2 and line.startswith("|") and re.fullmatch(r"\|[-:| ]+\|", out[-1])
                    and re.fullmatch(r"\|[ |]*\|", out[-2])):
                out[-2:] = [line, out[-1]]
                continue
        if line.strip() or fenced or out and out[-1]:
            out.append(line)
    return "\n".join(out)


class Text:
    """A document that pandoc reads."""
    label = "line"

    def __init__(self, path, kind):
        self.path, self.kind = path, kind
        self.encoding = None
        self.texts = {}

    def about(self):
        return self.kind.upper() + (", " + self.encoding if self.encoding and self.encoding != "utf-8" else "")

    def source(self):
        with open(self.path, "rb") as f:
            data = f.read()
        said = re.search(rb"<meta[^>]{0,200}charset=[\"']?([\w-]{1,40})", data[:4096]) if self.kind == "html" else None
        if said and not data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
            try:
                text, self.encoding = data.decode(said[1].decode()), said[1].decode().lower()
                return text
            except (LookupError, UnicodeDecodeError):
                pass
        text, self.encoding = decode(data)
        return text

    def convert(self, form):
        to = "gfm+footnotes" if form == "markdown" else "plain"
        options = ["-f", READERS[self.kind], "-t", to, "--wrap=none"]
        if self.kind in document.ZIPPED:
            path = with_heads(self.path) if self.kind == "odt" else self.path
            data = pandoc(options + ["--", path], self.path)
        else:
            data = pandoc(options, self.path, stdin=readable(self.kind, self.source()).encode("utf-8", "replace"))
        return tidy(data.decode("utf-8", "replace")).encode("utf-8", "replace") if form == "markdown" else data

    def text(self, form="markdown"):
        if form not in self.texts:
            data = cached(self.path, "text " + form, lambda: self.convert(form))
            self.texts[form] = data.decode("utf-8", "replace")
        return self.texts[form]

    def content(self, request, shown, offset):
        form = request.get("format", "markdown")
        if request.get("pages"):
            raise Fault("invalid", "%s has no pages of its own; use \"offset\", what=outline for its sections, or "
                        "document_convert to PDF first" % self.kind)
        text = self.text(form)
        return paged(text, offset, shown, self.about(), "" if form == "markdown" else ',"format":"text"')

    def pieces(self):
        return [(0, self.text())]

    def outline(self):
        """Headings, and the offset at which each is read on."""
        lines, at, fenced = [], 0, False
        for line in self.text().split("\n"):
            if line.startswith(("```", "~~~")):
                fenced = not fenced
            match = None if fenced else re.match(r"(#{1,6}) +(.*)", line)
            if match:
                lines.append("%s- %s (offset %d)" % ("  " * (len(match[1]) - 1), match[2], at))
            at += len(line.encode("utf-8", "replace")) + 1
        return "\n".join(lines)

    def tables(self):
        found, group, heading, html = [], [], "", False
        for line in self.text().split("\n") + [""]:
            if line.startswith("#"):
                heading = line.lstrip("# ")
            html = html or line.startswith("<table")
            if html or line.startswith("|"):
                group.append(line)
                html = html and not line.startswith("</table")
            elif group:
                found.append(("Table %d%s" % (len(found) + 1, ": " + heading if heading else ""), "\n".join(group)))
                group = []
        return found

    def metadata(self):
        if self.kind in ("docx", "odt", "epub"):
            return properties(self.path)
        text = self.text()
        pairs = [("words", len(text.split())), ("lines", text.count("\n") + 1), ("encoding", self.encoding)]
        title = re.search(r"<title[^>]*>([^<]*)", self.source(), re.I) if self.kind == "html" else None
        return ([("title", title[1])] if title else []) + pairs

    def images(self):
        if self.kind not in ("docx", "odt", "epub"):
            return [(m, "referred to; not fetched") for m in re.findall(r"!\[[^\]]*\]\(([^)\s]+)", self.text())
                    if not m.startswith("data:")]
        return zipped_images(self.path)

    def image(self, name):
        return zipped_image(self.path, name) if self.kind in document.ZIPPED else None


def zipped_images(path):
    import document_zip
    archive = document_zip.Archive(path)
    return [(n, "%d bytes" % archive.infos[n].file_size) for n in archive.names() if n.lower().endswith(PICTURES)
            and not n.startswith("Thumbnails/")]


def zipped_image(path, name):
    import document_zip
    archive = document_zip.Archive(path)
    return archive.read(name, 64 << 20) if archive.has(name) else None


def properties(path):
    """Title, author and the like of an archive of XML."""
    import document_zip
    archive = document_zip.Archive(path)
    names = [n for n in archive.names() if n in ("docProps/core.xml", "docProps/app.xml", "meta.xml") or n.endswith(".opf")]
    pairs = []
    for name in names[:3]:
        for element in archive.xml(name).iter():
            word = document_zip.local(element)
            if word in ("item", "itemref", "HeadingPairs", "TitlesOfParts", "lpstr", "i4"):
                continue
            if word == "document-statistic":
                pairs += [(k.rpartition("}")[2], v) for k, v in element.attrib.items()]
            elif element.text and element.text.strip() and len(element) == 0:
                pairs.append((word, element.text.strip()[:500]))
    return pairs


class Plain(Text):
    """Text that is shown as it is: markdown, source, logs."""

    def convert(self, form):
        return self.source().encode("utf-8", "replace")

    def text(self, form="markdown"):
        if not self.texts:
            self.texts = {"": self.source().replace("\r\n", "\n").replace("\r", "\n")}
        return self.texts[""]


class Mail(Text):
    def __init__(self, path):
        super().__init__(path, "eml")
        import email
        import email.policy
        with open(path, "rb") as f:
            self.message = email.message_from_binary_file(f, policy=email.policy.default)
        if not self.message.keys():
            raise Fault("invalid", "%s has no headers of a mail" % path)

    def body(self, form):
        body = self.message.get_body(("plain", "html"))
        if body is None:
            return "(no text)"
        data = body.get_payload(decode=True) or b""
        charset = body.get_content_charset() or "utf-8"
        try:
            text = data.decode(charset)
        except (LookupError, UnicodeDecodeError):
            text, _ = decode(data)
        if body.get_content_type() != "text/html":
            return text
        return pandoc(["-f", READERS["html"], "-t", "gfm" if form == "markdown" else "plain", "--wrap=none"], self.path,
                      stdin=text.encode("utf-8", "replace")).decode("utf-8", "replace")

    def attached(self):
        """(name, type, bytes) of what comes with it, a mail in the mail included."""
        found = []
        for part in self.message.walk():
            if part.is_multipart() or part is self.message or len(found) >= 1000:
                continue
            if part.get_filename() or part.get_content_maintype() not in ("text", "multipart"):
                data = part.get_payload(decode=True) or b""
                name = part.get_filename() or (part.get("Content-ID") or "part%d" % (len(found) + 1)).strip("<>")
                found.append((name, part.get_content_type(), data))
        return found

    def convert(self, form):
        head = ["%s: %s" % (k, self.message.get(k)) for k in ("From", "To", "Cc", "Date", "Subject") if self.message.get(k)]
        files = ["- %s (%s, %d bytes)" % (n, t, len(d)) for n, t, d in self.attached()]
        tail = "\n\nAttachments:\n" + "\n".join(files) if files else ""
        return ("\n".join(head) + "\n\n" + self.body(form).strip() + tail + "\n").encode("utf-8", "replace")

    def metadata(self):
        return [(k.lower(), v) for k, v in self.message.items()][:60]

    def images(self):
        return [(n, "%s, %d bytes" % (t, len(d))) for n, t, d in self.attached() if t.startswith("image/")]

    def image(self, name):
        return next((d for n, t, d in self.attached() if n == name and t.startswith("image/")), None)


class Notebook(Text):
    def __init__(self, path):
        super().__init__(path, "ipynb")
        import json
        try:
            book = json.loads(self.source())
            self.cells = book["cells"] if "cells" in book else [c for s in book["worksheets"] for c in s["cells"]]
            self.language = book.get("metadata", {}).get("kernelspec", {}).get("language", "python")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Fault("invalid", "%s is no whole notebook: %s" % (path, error)) from None

    @staticmethod
    def joined(value):
        return "".join(value) if isinstance(value, list) else str(value or "")

    def outputs(self):
        """(number of the cell, type, value) of what cells gave."""
        for number, cell in enumerate(self.cells, 1):
            for out in cell.get("outputs") or []:
                if "text" in out:
                    yield number, "text/plain", self.joined(out["text"])
                if "ename" in out:
                    yield number, "text/plain", "%s: %s" % (out["ename"], out.get("evalue", ""))
                for kind, value in (out.get("data") or {}).items():
                    yield number, kind, self.joined(value)

    def convert(self, form):
        given = {}
        for number, kind, value in self.outputs():
            if kind == "text/plain":
                given.setdefault(number, []).append("```\n%s\n```" % value.rstrip()[:20000])
            elif kind in ("image/png", "image/jpeg"):
                given.setdefault(number, []).append("[image cell%d]" % number)
        parts = []
        for number, cell in enumerate(self.cells, 1):
            source = self.joined(cell.get("source", cell.get("input", ""))).rstrip()
            if cell.get("cell_type") == "code":
                source = "```%s\n%s\n```" % (self.language, source.rstrip())
            parts.append("\n\n".join([source] + given.get(number, [])))
        return ("\n\n".join(parts) + "\n").encode("utf-8", "replace")

    def metadata(self):
        return [("cells", len(self.cells)), ("language", self.language)]

    def images(self):
        return [("cell%d" % n, kind) for n, kind, _ in self.outputs() if kind in ("image/png", "image/jpeg")]

    def image(self, name):
        import base64
        return next((base64.b64decode(v) for n, k, v in self.outputs() if "cell%d" % n == name and k.startswith("image/")
                     and "svg" not in k), None)
