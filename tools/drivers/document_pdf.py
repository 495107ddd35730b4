"""PDF: pages by range, without the rest of the file being converted."""
import json
import os
import re

import document
import document_pages
from document import SHOWN, Answer, Fault, folder, have, quote, run, spans
from document_read import markdown_table

AT_ONCE = 24  # pages of one run of pdftotext, while an answer fills
OCR_PAGES = 3  # in one answer: a page takes seconds
SCAN_TEXT = 12  # characters; a page with fewer has no text to speak of


def described(text, path):
    found = {}
    for line in text.decode("utf-8", "replace").split("\n"):
        key, colon, value = line.partition(":")
        if colon:
            found[key.strip()] = value.strip()
    if not found.get("Pages", "").isdigit():
        raise Fault("invalid", "%s is damaged: pdfinfo finds no pages in it" % path)
    return found


def info(path, first, last):
    return described(run(["pdfinfo", "-f", str(first), "-l", str(last), path], path, cap=4 << 20), path)


class Pdf:
    kind, label = "pdf", "page"

    def __init__(self, path, request):
        self.path = path
        self.markdown = request.get("format", "markdown") == "markdown"
        self.known = self.asking = None

    def ask(self):
        """Have pdfinfo at work while something else is, if it was not asked about this file before."""
        self.asking = document.Program(["pdfinfo", self.path], self.path, cap=4 << 20)
        return self

    @property
    def info(self):
        if self.known is None:
            self.known = described(document.cached(self.path, "pdfinfo", lambda: (
                self.asking or self.ask().asking).finish()), self.path)
        return self.known

    @property
    def count(self):
        return int(self.info["Pages"])

    def about(self):
        return "PDF, %d pages" % self.count

    def range_text(self, first, last):
        """Texts of the pages, in order."""
        alone = document_pages.alone(self.path, first, last)
        try:
            text = self.text(alone, 1, last - first + 1) if alone else self.text(self.path, first, last)
        except Fault:
            if not alone:
                raise
            text = self.text(self.path, first, last)
        pages = text.split("\f")
        pages += [""] * (last - first + 1 - len(pages))
        return [p.rstrip() for p in pages[:last - first + 1]]

    def text(self, path, first, last):
        return run(["pdftotext", "-layout", "-enc", "UTF-8", "-f", str(first), "-l", str(last), path, "-"],
                   self.path).decode("utf-8", "replace")

    def scanned(self, first, last):
        """Pages of the range that show an image."""
        text = run(["pdfimages", "-list", "-f", str(first), "-l", str(last), self.path], self.path, cap=8 << 20)
        return {int(line.split()[0]) for line in text.decode("latin-1").split("\n")[2:] if line.strip()}

    def recognised(self, page):
        base = os.path.join(folder(), "scan%d" % page)
        run(["pdftoppm", "-r", "200", "-gray", "-png", "-singlefile", "-f", str(page), "-l", str(page), self.path, base],
            self.path)
        return run(["tesseract", base + ".png", "-"], "page %d of %s" % (page, self.path)).decode("utf-8", "replace")

    def page_text(self, page, text, pictures, budget):
        if len("".join(text.split())) >= SCAN_TEXT:
            return text
        if page not in pictures:
            return text or "(no text)"
        if not have("tesseract"):
            return text + "\n(scanned: a picture without text; document_render shows it, and with the Debian package " \
                "tesseract-ocr its text would be recognised)"
        if budget[0] <= 0 or document.left() < 12:
            return text + "\n(scanned: a picture without text; ask for this page alone to have its text recognised)"
        budget[0] -= 1
        return "(scanned; recognised by tesseract, so mistakes are possible)\n" + self.recognised(page).strip()

    def early(self, pages):
        """{first page: its text} of what can be read before the number of pages is known."""
        if not re.fullmatch(r"[1-9]\d{0,6}", pages) or document.kept(self.path, "pdfinfo"):
            return {}
        self.ask()
        try:
            return {int(pages): self.range_text(int(pages), int(pages))}
        except Exception:
            return {}  # it is told once more, or there is no such page

    def content(self, request, shown, offset):
        known = self.early(request.get("pages") or "1-")
        wanted = spans(request["pages"], self.count) if request.get("pages") else [(1, self.count)]
        out, used, budget, final = [], 0, [OCR_PAGES], wanted[-1][1]
        for first, last in wanted:
            at = first
            while at <= last:
                upto = min(last, at + AT_ONCE - 1)
                texts = known.pop(at, None) if upto == at else None
                texts = texts or self.range_text(at, upto)
                bare = any(len("".join(t.split())) < SCAN_TEXT for t in texts)
                pictures = self.scanned(at, upto) if bare else ()
                for page, text in enumerate(texts, at):
                    text = "%s %d%s\n%s\n" % ("## Page" if self.markdown else "--- page", page,
                                              "" if self.markdown else " ---",
                                              self.page_text(page, text, pictures, budget))
                    size = len(text.encode())
                    if not out and (size > SHOWN or offset):
                        return self.long_page(page, text, shown, offset, final)
                    if used + size > SHOWN:
                        return self.answer(out, shown, wanted[0][0], page - 1, page, final)
                    out.append(text)
                    used += size
                at = upto + 1
        return self.answer(out, shown, wanted[0][0], final, None, final)

    def answer(self, out, shown, first, last, then, final):
        note = "PDF, page %d to %d of %d" % (first, last, self.count)
        if then:
            note += "; go on with document_read {\"path\":%s,\"pages\":\"%d-%s\"}" % (
                quote(shown), then, final if final < self.count else "")
        return Answer("%s[%s]" % ("\n".join(out), note))

    def long_page(self, page, text, shown, offset, final):
        answer = document.paged(text, offset, shown, "PDF, page %d of %d" % (page, self.count),
                                ',"pages":"%d-%d"' % (page, final))
        if "go on with" not in answer.text[-300:] and page < final:
            answer.text = answer.text[:-1] + "; go on with document_read {\"path\":%s,\"pages\":\"%d-%d\"}]" % (
                quote(shown), page + 1, final)
        return answer

    def metadata(self):
        return [(k.lower(), v) for k, v in self.info.items() if k not in ("File size",)]

    def whole(self):
        """All pages' texts."""
        data = document.cached(self.path, "pdftotext", lambda: run(
            ["pdftotext", "-layout", "-enc", "UTF-8", self.path, "-"], self.path))
        return data.decode("utf-8", "replace").split("\f")[:self.count]

    def pieces(self):
        return list(enumerate(self.whole(), 1))

    def outline(self):
        data = json.loads(run(["qpdf", "--json=2", "--json-key=outlines", "--no-warn", "--warning-exit-0", self.path],
                              self.path))
        lines, stack = [], [(0, item) for item in reversed(data.get("outlines") or [])]
        while stack and len(lines) < 5000:
            depth, item = stack.pop()
            page = item.get("destpageposfrom1")
            lines.append("%s- %s%s" % ("  " * min(depth, 20), item.get("title", ""), " (page %s)" % page if page else ""))
            stack += [(depth + 1, kid) for kid in reversed(item.get("kids") or [])]
        return "\n".join(lines) or "(this PDF has no outline; search finds words)"

    def tables(self):
        """Lines that stand in the same columns; what the layout of the text shows of tables."""
        found = []
        for page, text in enumerate(self.whole(), 1):
            group = []
            for line in text.split("\n") + [""]:
                cells = [c for c in re.split(r"\s{2,}", line.strip()) if c]
                if len(cells) >= 2 and (not group or len(cells) == len(group[0])):
                    group.append(cells)
                    continue
                if len(group) >= 3:
                    found.append(("Page %d" % page, markdown_table(group)))
                group = [cells] if len(cells) >= 2 else []
        return found

    def images(self):
        text = run(["pdfimages", "-list", self.path], self.path, cap=8 << 20).decode("latin-1")
        found, index = [], {}
        for line in text.split("\n")[2:]:
            cells = line.split()
            if len(cells) < 9 or cells[2] not in ("image", "stencil"):
                continue
            page = int(cells[0])
            index[page] = index.get(page, 0) + 1
            found.append(("page%d-%d" % (page, index[page]), "%s x %s pixels, %s" % (cells[3], cells[4], cells[8])))
        return found

    def image(self, name):
        match = re.fullmatch(r"page(\d+)-(\d+)", name)
        if not match:
            return None
        page, wanted = match.groups()
        listed = run(["pdfimages", "-list", "-f", page, "-l", page, self.path], self.path).decode("latin-1")
        lines = [line.split() for line in listed.split("\n")[2:] if line.strip()]
        base = os.path.join(folder(), "image")
        run(["pdfimages", "-png", "-f", page, "-l", page, self.path, base], self.path)
        numbers = [n for n, cells in enumerate(lines) if cells[2] in ("image", "stencil")]
        if int(wanted) < 1 or int(wanted) > len(numbers):
            return None
        with open("%s-%03d.png" % (base, numbers[int(wanted) - 1]), "rb") as f:
            return f.read()
