"""Slides: PPTX and ODP, one after the other, with titles, lists, tables and notes."""
from document import SHOWN, Answer, Fault, paged, quote, spans
from document_read import markdown_table
from document_zip import Archive, attribute, local


def pptx_paragraph(paragraph):
    text = "".join((e.text or "") if local(e) == "t" else "\n" if local(e) == "br" else "" for e in paragraph.iter())
    level = 0
    for e in paragraph:
        if local(e) == "pPr":
            level = int(e.get("lvl") or 0)
    return level, text.strip()


def pptx_table(frame):
    return markdown_table([[" ".join(pptx_paragraph(p)[1] for p in cell.iter() if local(p) == "p")
                            for cell in row if local(cell) == "tc"] for row in frame.iter() if local(row) == "tr"])


def pptx_shapes(root):
    """(what, value) in the order of drawing: title, paragraph, table."""
    stack = [root]
    while stack:
        shape = stack.pop()
        word = local(shape)
        if word == "tbl":
            yield "table", pptx_table(shape)
        elif word == "sp":
            role = next((e.get("type", "body") for e in shape.iter() if local(e) == "ph"), "")
            if role in ("sldNum", "dt", "ftr"):
                continue
            for p in (e for e in shape.iter() if local(e) == "p"):
                level, text = pptx_paragraph(p)
                if text:
                    yield ("title" if role in ("title", "ctrTitle") else "text"), (level, text)
        elif word == "AlternateContent":
            stack += [e for e in shape if local(e) == "Fallback"] or list(shape)
        else:
            stack += reversed(list(shape))


class Slides:
    label = "slide"

    def __init__(self, path, kind, request):
        self.path, self.kind = path, kind
        self.markdown = request.get("format", "markdown") == "markdown"
        self.archive = Archive(path)
        self.parts = self.pptx_parts() if kind == "pptx" else self.odp_pages()
        if not self.parts:
            raise Fault("invalid", "%s has no slides" % path)

    def pptx_parts(self):
        relations = self.archive.relations("")
        main = next((to for kind, to in relations.values() if kind == "officeDocument"), "ppt/presentation.xml")
        relations = self.archive.relations(main)
        found = []
        for element in self.archive.xml(main).iter():
            if local(element) == "sldId":
                where = next((v for k, v in element.attrib.items() if k.endswith("}id")), None)
                if where in relations:
                    found.append(relations[where][1])
        return found

    def odp_pages(self):
        return [e for e in self.archive.xml("content.xml").iter() if local(e) == "page"
                and e.tag.startswith("{urn:oasis:names:tc:opendocument:xmlns:drawing")]

    def about(self):
        return "%s, %d slides" % (self.kind.upper(), len(self.parts))

    def pptx_slide(self, part):
        """(title, lines, notes)"""
        title, lines = [], []
        for what, value in pptx_shapes(self.archive.xml(part)):
            if what == "title":
                title.append(value[1])
            elif what == "table":
                lines += ["", value, ""]
            else:
                lines.append("%s- %s" % ("  " * value[0], value[1].replace("\n", " ")))
        notes = []
        for kind, to in self.archive.relations(part).values():
            if kind == "notesSlide" and self.archive.has(to):
                notes = [v[1] for w, v in pptx_shapes(self.archive.xml(to)) if w == "text"]
        return " ".join(title), lines, "\n".join(notes)

    @staticmethod
    def odp_slide(page):
        title, lines, notes = [], [], []

        def walk(element, level, into):
            word = local(element)
            if word == "notes":
                for child in element:
                    walk(child, 0, notes)
                return
            if word in ("footer", "page-number"):
                return
            if word == "frame" and attribute(element, "class") == "title" and into is lines:
                into = title
            if word == "frame" and attribute(element, "class") in ("page-number", "footer", "date-time", "header"):
                return
            if word == "table":
                into += ["", markdown_table([["".join(c.itertext()) for c in row if local(c) == "table-cell"]
                                             for row in element.iter() if local(row) == "table-row"]), ""]
                return
            if word in ("p", "h"):
                text = "".join(element.itertext()).strip()
                if text:
                    into.append("%s- %s" % ("  " * max(0, level - 1), text) if into is lines else text)
                for child in element:
                    if local(child) in ("frame", "custom-shape"):
                        walk(child, level, into)
                return
            for child in element:
                walk(child, level + (word == "list"), into)

        walk(page, 0, lines)
        return " ".join(title), lines, "\n".join(notes)

    def slide(self, number):
        part = self.parts[number - 1]
        return self.pptx_slide(part) if self.kind == "pptx" else self.odp_slide(part)

    def text(self, number):
        title, lines, notes = self.slide(number)
        head = "## Slide %d%s" if self.markdown else "--- slide %d%s ---"
        body = "\n".join(lines).strip("\n")
        return "%s\n\n%s%s\n" % (head % (number, ": " + title if title else ""), body,
                                 "\n\nNotes: " + notes if notes else "")

    def content(self, request, shown, offset):
        count = len(self.parts)
        wanted = spans(request["pages"], count, "slides") if request.get("pages") else [(1, count)]
        numbers = [n for a, b in wanted for n in range(a, b + 1)]
        out, used = [], 0
        for n in numbers:
            text = self.text(n)
            size = len(text.encode("utf-8", "replace"))
            if not out and (size > SHOWN or offset):
                return paged(text, offset, shown, "slide %d of %d" % (n, count), ',"pages":"%d"' % n)
            if used + size > SHOWN:
                return Answer("%s[%s; go on with document_read {\"path\":%s,\"pages\":\"%d-%d\"}]" % (
                    "\n".join(out), self.about(), quote(shown), n, numbers[-1]))
            out.append(text)
            used += size
        return Answer("%s[%s]" % ("\n".join(out), self.about()))

    def outline(self):
        return "\n".join("%d. %s" % (n, self.slide(n)[0] or "(no title)") for n in range(1, len(self.parts) + 1))

    def pieces(self):
        for n in range(1, len(self.parts) + 1):
            title, lines, notes = self.slide(n)
            yield n, "\n".join([title] + lines + [notes])

    def tables(self):
        found = []
        for n in range(1, len(self.parts) + 1):
            found += [("Slide %d" % n, line) for line in self.slide(n)[1] if line.startswith("| ")]
        return found

    def metadata(self):
        import document_text
        return [("slides", len(self.parts))] + document_text.properties(self.path)

    def images(self):
        import document_text
        return document_text.zipped_images(self.path)

    def image(self, name):
        import document_text
        return document_text.zipped_image(self.path, name)
