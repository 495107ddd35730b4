"""document_edit: sections of texts, and files that are plain text."""
import re

import document
from document import Fault, quote
from document_edit import block_end, escape, tag_attribute, tag_name, tokens, unescape


def plain_words(text):
    return " ".join(text.split()).lower()


def lines_of(markdown):
    """(kind, text) of each block: level of a heading, "item" or "text"."""
    blocks, open_text = [], False
    for line in markdown.split("\n"):
        heading = re.match(r"(#{1,6})\s+(.*)", line)
        item = re.match(r"\s*[-*+]\s+(.*)", line)
        if heading:
            blocks.append((len(heading[1]), heading[2].strip()))
        elif item:
            blocks.append(("item", item[1]))
        elif line.strip() and open_text:
            blocks[-1] = (blocks[-1][0], blocks[-1][1] + " " + line.strip())
            continue
        elif line.strip():
            blocks.append(("text", line.strip()))
        open_text = bool(line.strip()) and not heading
    if not blocks:
        raise Fault("invalid", "insert_section needs \"text\": markdown with headings, paragraphs and lists")
    return blocks


def styled(text):
    """(text, bold, italic) pieces of **bold** and *italic*."""
    for piece in re.split(r"(\*\*[^*]+\*\*|\*[^*\s][^*]*\*)", text):
        if piece.startswith("**") and len(piece) > 4:
            yield piece[2:-2], True, False
        elif piece.startswith("*") and len(piece) > 2:
            yield piece[1:-1], False, True
        elif piece:
            yield piece, False, False


class Word:
    part, body = "word/document.xml", "w:body"

    def __init__(self, package):
        self.levels, self.ids = {}, {}
        if package.archive.has("word/styles.xml"):
            current = None
            for token in tokens(package.text("word/styles.xml")):
                name, kind = tag_name(token)
                if name == "w:style" and kind == "open":
                    current = tag_attribute(token, "w:styleId")
                elif name == "w:name" and current:
                    word = (tag_attribute(token, "w:val") or "").lower()
                    self.ids[word] = current
                    match = re.fullmatch(r"heading ([1-9])", word)
                    if match:
                        self.levels[current] = int(match[1])
                elif name == "w:outlineLvl" and current:
                    self.levels.setdefault(current, int(tag_attribute(token, "w:val") or 8) + 1)

    def heading(self, block):
        """(level, text) of a heading, or (0, "")."""
        if tag_name(block[0])[0] != "w:p":
            return 0, ""
        level, text, reading = 0, [], False
        for token in block:
            name, kind = tag_name(token)
            if name == "w:pStyle":
                level = self.levels.get(tag_attribute(token, "w:val"), 0)
            elif name == "w:outlineLvl":
                level = int(tag_attribute(token, "w:val") or 8) + 1
            elif name == "w:t":
                reading = kind == "open"
            elif reading and not name:
                text.append(unescape(token))
        return (level if level < 10 else 0), "".join(text)

    def kept(self, block):
        """What must stay of a paragraph that is deleted: the page layout that ends in it."""
        for i, token in enumerate(block):
            if tag_name(token) == ("w:sectPr", "open"):
                return ["<w:p>", "<w:pPr>"] + block[i:block_end(block, i)] + ["</w:pPr>", "</w:p>"]
        return []

    def made(self, kind, text, parts):
        style, extra = "", ""
        if isinstance(kind, int):
            style = self.ids.get("heading %d" % kind, "")
            extra = "" if style else '<w:outlineLvl w:val="%d"/>' % (kind - 1)
        elif kind == "item":
            style = self.ids.get("list bullet", "")
            text = text if style else "• " + text
        head = ('<w:pStyle w:val="%s"/>' % escape(style) if style else "") + extra
        runs = ""
        for piece, bold, italic in styled(text):
            marks = ("<w:b/>" if bold or extra else "") + ("<w:i/>" if italic else "")
            runs += "<w:r>%s<w:t xml:space=\"preserve\">%s</w:t></w:r>" % ("<w:rPr>%s</w:rPr>" % marks if marks else "",
                                                                           escape(piece))
        return "<w:p>%s%s</w:p>" % ("<w:pPr>%s</w:pPr>" % head if head else "", runs)

    @staticmethod
    def ends(token):
        return tag_name(token)[0] == "w:sectPr"


class Writer:
    part, body = "content.xml", "office:text"

    def __init__(self, package):
        pass

    def heading(self, block):
        if tag_name(block[0])[0] != "text:h":
            return 0, ""
        text = "".join(unescape(t) for t in block if not t.startswith("<"))
        return int(tag_attribute(block[0], "text:outline-level") or 1), text

    def kept(self, block):
        return []

    def made(self, kind, text, parts):
        text = escape("".join(t for t, _, _ in styled(text)))
        if isinstance(kind, int):
            like = next((t for t in parts if tag_name(t)[0] == "text:h"
                         and tag_attribute(t, "text:outline-level") == str(kind)), "")
            style = tag_attribute(like, "text:style-name") or "Heading_20_%d" % kind if like else "Heading_20_%d" % kind
            return '<text:h text:style-name="%s" text:outline-level="%d">%s</text:h>' % (escape(style), kind, text)
        if kind == "item":
            like = next((t for t in parts if tag_name(t) == ("text:list", "open") and "text:style-name" in t), "")
            if like:
                return "%s<text:list-item><text:p>%s</text:p></text:list-item></text:list>" % (re.sub(
                    r"\sxml:id=\"[^\"]*\"", "", like), text)
            text = "• " + text
        return '<text:p text:style-name="Text_20_body">%s</text:p>' % text

    @staticmethod
    def ends(token):
        return False


def blocks_of(parts, form):
    """[(begin, end), ...] of what stands in the body, one after the other."""
    at = next((i for i, t in enumerate(parts) if tag_name(t) == (form.body, "open")), None)
    if at is None:
        raise Fault("invalid", "the document has no %s" % form.body)
    stop, found, at = block_end(parts, at) - 1, [], at + 1
    while at < stop:
        end = block_end(parts, at) if tag_name(parts[at])[0] else at + 1
        if tag_name(parts[at])[0] and not form.ends(parts[at]):
            found.append((at, end))
        elif form.ends(parts[at]):
            stop = at
        at = end
    return found, stop


def section(parts, form, title):
    """(begin, end, level) of the section of a heading, as indexes of tokens."""
    blocks, stop = blocks_of(parts, form)
    heads = []
    for begin, end in blocks:
        level, text = form.heading(parts[begin:end])
        if level:
            heads.append((begin, level, text))
    wanted = plain_words(title.lstrip("# "))
    hits = [i for i, h in enumerate(heads) if plain_words(h[2]) == wanted]
    if len(hits) != 1:
        raise Fault("not_found" if not hits else "invalid", "nothing was changed: %s heading is %s; there are %s" % (
            "no" if not hits else "more than one", quote(title[:80]), ", ".join(quote(h[2][:60]) for h in heads[:12]) or "none"))
    begin, level, _ = heads[hits[0]]
    return begin, next((b for b, other, _ in heads[hits[0] + 1:] if other <= level), stop), level


def forms(package):
    return Word(package) if package.kind == "docx" else Writer(package)


def delete_section(package, at, text):
    form = forms(package)
    parts = package.parts(form.part)
    begin, end, _ = section(parts, form, at)
    blocks = [(b, e) for b, e in blocks_of(parts, form)[0] if begin <= b < end]
    parts[begin:end] = [t for b, e in blocks for t in form.kept(parts[b:e])]
    package.touch(form.part)
    return "deleted the section %s (%d blocks)" % (quote(at[:80]), len(blocks))


def insert_section(package, at, text):
    form = forms(package)
    parts = package.parts(form.part)
    blocks = lines_of(text)
    end = section(parts, form, at)[1] if at else blocks_of(parts, form)[1]
    parts[end:end] = tokens("".join(form.made(kind, words, parts) for kind, words in blocks))
    package.touch(form.part)
    return "inserted %d blocks %s" % (len(blocks), "after the section %s" % quote(at[:80]) if at else "at the end")


# ---- plain text ----

def sections_of_text(text, title):
    heads, at, fenced = [], 0, False
    for line in text.split("\n"):
        fenced ^= line.startswith(("```", "~~~"))
        match = None if fenced else re.match(r"(#{1,6})\s+(.*)", line)
        if match:
            heads.append((at, len(match[1]), match[2]))
        at += len(line) + 1
    hits = [i for i, h in enumerate(heads) if plain_words(h[2]) == plain_words(title.lstrip("# "))]
    if len(hits) != 1:
        raise Fault("not_found" if not hits else "invalid", "nothing was changed: %s heading is %s; there are %s" % (
            "no" if not hits else "more than one", quote(title[:80]), ", ".join(quote(h[2][:60]) for h in heads[:12]) or "none"))
    begin, level, _ = heads[hits[0]]
    return begin, next((b for b, other, _ in heads[hits[0] + 1:] if other <= level), len(text))


def set_separated(text, kind, at, value):
    """One field of one record; the other lines stay as they are."""
    import csv
    import io
    import document_sheet
    column, row = document_sheet.cell_address(at.rpartition("!")[2])
    lines = text.splitlines(keepends=True)
    marks = {c: text[:8192].count(c) for c in (",", ";", "\t", "|")}
    mark = "\t" if kind == "tsv" else max(marks, key=marks.get) if any(marks.values()) else ","
    ending = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
    if lines and not lines[-1].endswith(("\n", "\r")):
        lines[-1] += ending
    reader, begin, number, fields = csv.reader(lines, delimiter=mark), 0, 0, []
    for fields in reader:
        number += 1
        if number == row:
            break
        begin = reader.line_num
    end = reader.line_num
    if number < row:
        lines += [ending] * (row - number - 1)
        begin, end, fields = len(lines), len(lines), []
    fields = fields + [""] * (column - len(fields))
    before, fields[column - 1] = fields[column - 1], value
    out = io.StringIO()
    csv.writer(out, delimiter=mark, lineterminator=ending).writerow(fields)
    lines[begin:end] = [out.getvalue()]
    return "".join(lines), "%s: %s, was %s" % (at, quote(value[:200]), quote(before[:200]))


def one_text_edit(text, kind, edit):
    op, at, new = edit["op"], edit.get("at", ""), edit.get("text", "")
    if op == "replace":
        count = text.count(at) if at else 0
        if count == 0:
            raise Fault("not_found", "nothing was changed: the text does not contain %s" % quote(at[:120]))
        if count > 1 and not edit.get("all"):
            raise Fault("invalid", "nothing was changed: %s occurs %d times; make it longer, or send \"all\":true" % (
                quote(at[:120]), count))
        return text.replace(at, new), "replaced %s by %s %d times" % (quote(at[:60]), quote(new[:60]), count)
    if op == "set_cell" and kind in ("csv", "tsv"):
        return set_separated(text, kind, at, new)
    if kind not in ("md", "txt") or op not in ("insert_section", "delete_section"):
        raise Fault("unsupported", "%s does not work on %s; replace does, and document_convert makes another format" % (
            op, kind))
    if op == "delete_section":
        begin, end = sections_of_text(text, at)
        return text[:begin] + text[end:], "deleted the section %s" % quote(at[:80])
    end = sections_of_text(text, at)[1] if at else len(text)
    head = text[:end] if text[:end].endswith("\n") or not end else text[:end] + "\n"
    return "%s\n%s\n%s%s" % (head, new.strip("\n"), "\n" if text[end:] else "", text[end:]), "inserted %d bytes %s" % (
        len(new.encode()), "after the section %s" % quote(at[:80]) if at else "at the end")


def plain(path, goal, kind, edits):
    import document_text
    with open(path, "rb") as f:
        data = f.read()
    if kind in ("doc", "xls", "ppt", "rtf", "epub"):
        raise Fault("unsupported", "%s cannot be edited in place; document_convert makes docx, xlsx or pptx of it" % kind)
    text, said = document_text.decode(data)
    name = said.split(" ")[0].replace("windows-", "cp")
    bom = next((b for b in (b"\xef\xbb\xbf", b"\xff\xfe\0\0", b"\xff\xfe", b"\xfe\xff") if data.startswith(b)), b"")
    if bom:
        name = {b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}.get(bom, "utf-32-le")
    done = []
    for edit in edits:
        text, what = one_text_edit(text, kind, edit)
        done.append(what)
    try:
        document.put(goal, bom + text.encode(name))
    except UnicodeEncodeError as error:
        raise Fault("invalid", "nothing was changed: the file is %s, which has no %s" % (said, quote(
            error.object[error.start:error.end]))) from None
    return done
