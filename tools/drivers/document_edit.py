"""document_edit: small changes in a document, of which everything else stays as it is."""
import os
import re

import document
from document import Answer, Fault, quote
from document_zip import Archive

# A lossless cut of XML: comments, sections, tags and text; joined again it is the same.
TOKEN = re.compile(r"<!--.*?-->|<!\[CDATA\[.*?\]\]>|<\?.*?\?>|<(?:[^<>\"']|\"[^\"]*\"|'[^']*')*>|[^<]+|<", re.S)


def tokens(text):
    return TOKEN.findall(text)


def tag_name(token):
    """("w:p", kind) with kind "open", "close", "empty"; ("", "") for what is no tag."""
    if not token.startswith("<") or token.startswith(("<!", "<?")):
        return "", ""
    if token.startswith("</"):
        return token[2:-1].strip(), "close"
    return re.match(r"<([^\s/>]*)", token)[1], "empty" if token.endswith("/>") else "open"


def tag_attribute(token, name):
    match = re.search(r"\s%s\s*=\s*(?:\"([^\"]*)\"|'([^']*)')" % re.escape(name), token)
    return None if not match else unescape(match[1] if match[1] is not None else match[2])


def escape(text):
    text = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", "", text)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def unescape(text):
    def one(match):
        word = match[1]
        if word.startswith("#"):
            try:
                return chr(int(word[2:], 16) if word[1:2] in "xX" else int(word[1:]))
            except (ValueError, OverflowError):
                return match[0]
        return {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}.get(word, match[0])
    return re.sub(r"&(#?\w+);", one, text)


def block_end(parts, at):
    """Where the element that opens at parts[at] ends: the index after its closing tag."""
    name, kind = tag_name(parts[at])
    if kind == "empty":
        return at + 1
    depth = 0
    for i in range(at, len(parts)):
        n, k = tag_name(parts[i])
        if n == name:
            depth += (k == "open") - (k == "close")
            if depth == 0:
                return i + 1
    raise Fault("invalid", "the document's XML is not well-formed: <%s> does not end" % name)


# Format: (paragraph's elements, the element whose text counts or None for all, parts by pattern).
TEXTS = {
    "docx": (("w:p",), "w:t", r"word/(document|header\d*|footer\d*|footnotes|endnotes|comments)\.xml"),
    "pptx": (("a:p",), "a:t", r"ppt/(slides|notesSlides)/[^/]+\.xml"),
    "xlsx": (("si", "is"), "t", r"xl/(sharedStrings|worksheets/[^/]+)\.xml"),
    "odt": (("text:p", "text:h"), None, r"(content|styles)\.xml"),
    "ods": (("text:p",), None, r"content\.xml"),
    "odp": (("text:p",), None, r"content\.xml"),
}


def paragraphs(parts, holders, inner):
    """Lists of the indexes of the text tokens of each paragraph; one in another counts for itself."""
    found, stack, reading = [], [], 0
    for i, token in enumerate(parts):
        name, kind = tag_name(token)
        if name in holders and kind == "open":
            stack.append([])
        elif name in holders and kind == "close":
            if stack and stack[-1]:
                found.append(stack[-1])
            stack = stack[:-1]
        elif name and name == inner:
            reading = kind == "open"
        elif not name and stack and (reading or inner is None) and not token.startswith("<"):
            stack[-1].append(i)
    return found


def replace_in(parts, indexes, old, new, most):
    """Replace in the text that the tokens make together; it goes where it began.  How often."""
    texts = [unescape(parts[i]) for i in indexes]
    whole, count, at = "".join(texts), 0, 0
    while count < most:
        at = whole.find(old, at)
        if at < 0:
            break
        start, end, position = at, at + len(old), 0
        for k, text in enumerate(texts):
            a, b = max(start, position), min(end, position + len(text))
            position += len(text)
            if a < b or (a == b == start and k == 0 and not old):
                begin = position - len(text)
                texts[k] = text[:a - begin] + (new if a == start else "") + text[b - begin:]
        whole, at, count = "".join(texts), at + len(new), count + 1
    if count:
        for i, text in zip(indexes, texts):
            if unescape(parts[i]) != text:
                parts[i] = escape(text).replace("&quot;", '"')
                keep_spaces(parts, i, text)
    return count


def keep_spaces(parts, i, text):
    """Word drops white space at the ends of a run that does not ask to keep it."""
    before = parts[i - 1] if i else ""
    if (text != text.strip()) and tag_name(before)[0] in ("w:t", "t") and "xml:space" not in before:
        parts[i - 1] = before[:-1] + ' xml:space="preserve">'


class Package:
    """A document of zip and XML, and what of it has been changed."""

    def __init__(self, path, kind):
        self.path, self.kind = path, kind
        self.archive = Archive(path).check()
        self.changed, self.dropped = {}, set()
        self.parsed = {}

    def text(self, name):
        return self.changed.get(name) or self.archive.read(name).decode("utf-8-sig")

    def parts(self, name):
        if name not in self.parsed:
            try:
                self.parsed[name] = tokens(self.text(name))
            except UnicodeDecodeError:
                raise Fault("unsupported", "the part %s of %s is not UTF-8" % (name, self.path)) from None
        return self.parsed[name]

    def touch(self, name):
        self.changed[name] = "".join(self.parsed[name])

    def names(self):
        return [n for n in self.archive.names() if re.fullmatch(TEXTS[self.kind][2], n)]

    def replace(self, old, new, every):
        holders, inner, _ = TEXTS[self.kind]
        places = {}
        for name in self.names():
            parts = self.parts(name)
            for indexes in paragraphs(parts, holders, inner):
                if old in "".join(unescape(parts[i]) for i in indexes):
                    places.setdefault(name, []).append(indexes)
        total = sum("".join(unescape(self.parts(n)[i]) for i in p).count(old) for n, ps in places.items() for p in ps)
        if total == 0:
            raise Fault("not_found", "nothing was changed: no paragraph or cell contains %s (text may not span "
                        "paragraphs)" % quote(old[:120]))
        if total > 1 and not every:
            raise Fault("invalid", "nothing was changed: %s occurs %d times; make it longer, or send \"all\":true"
                        % (quote(old[:120]), total))
        for name, found in places.items():
            for indexes in found:
                replace_in(self.parts(name), indexes, old, new, 1 << 30)
            self.touch(name)
        return "replaced %s by %s %d times in %s" % (quote(old[:60]), quote(new[:60]), total, ", ".join(places))

    def save(self, goal):
        changes = {n: t.encode() for n, t in self.changed.items()}
        document.put(goal, self.archive.replaced(changes, self.dropped))


def one_edit(package, edit):
    op, at, text = edit["op"], edit.get("at", ""), edit.get("text", "")
    if op == "replace":
        if not at:
            raise Fault("invalid", "replace needs the text to replace as \"at\"")
        return package.replace(at, text, edit.get("all", False))
    if op == "set_cell":
        if package.kind not in ("xlsx", "ods"):
            raise Fault("invalid", "set_cell is for XLSX, ODS and CSV; this is %s" % package.kind)
        import document_cells
        return document_cells.set_cell(package, at, text)
    if op in ("insert_section", "delete_section"):
        if package.kind not in ("docx", "odt"):
            raise Fault("invalid", "%s is for DOCX, ODT and text; this is %s" % (op, package.kind))
        import document_section
        return getattr(document_section, op)(package, at, text)
    raise Fault("invalid", "%s is for PDF forms; this is %s" % (op, package.kind))


def edit(request):
    path = document.locate(request["path"])
    goal = document.target(request["to"]) if request.get("to") else path
    kind = document.sniff(path)
    if not 0 < len(request["edits"]) <= 1000:
        raise Fault("invalid", "\"edits\" takes 1 to 1000 edits")
    if kind in TEXTS:
        package = Package(path, kind)
        done = [one_edit(package, e) for e in request["edits"]]
        package.save(goal)
    elif kind == "pdf":
        import document_form
        done = document_form.fill(path, goal, request["edits"])
    else:
        import document_section
        done = document_section.plain(path, goal, kind, request["edits"])
    return Answer("%s\n[%s written, %d bytes; every other part of it is as it was]" % (
        "\n".join(done), goal, os.path.getsize(goal)))
