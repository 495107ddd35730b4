"""document_convert, document_render and document_write: LibreOffice and pandoc at work."""
import os
import re

import document
import document_markup
from document import Answer, Fault, cached, folder, pandoc, run, spans
from document_office import office

OFFICE_TEXT = ("docx", "odt", "rtf", "doc")
OFFICE_SHEET = ("xlsx", "ods", "xls", "csv", "tsv")
OFFICE_SLIDE = ("pptx", "odp", "ppt")
ENDINGS = {"latex": "tex", "docbook": "xml"}

def contents(path):
    with open(path, "rb") as f:
        return f.read()


def office_file(path, to):
    """The same, kept for the next page."""
    data = cached(path, "office " + to, lambda: contents(office(path, to)))
    made = os.path.join(folder(), "kept." + to)
    with open(made, "wb") as f:
        f.write(data)
    return made


def pdf_of(path, kind):
    """Path of the document as PDF."""
    if kind == "pdf":
        return path
    if kind in OFFICE_TEXT + OFFICE_SHEET + OFFICE_SLIDE:
        return office_file(path, "pdf")
    if kind not in document_markup.IN:
        raise Fault("unsupported", "no program here makes PDF of %s" % kind)
    return written(cached(path, "pdf", lambda: contents(office(written(document_markup.markup(path, kind, "odt"), "odt"), "pdf"))), "pdf")


def written(data, ending):
    path = os.path.join(folder(), "between." + ending)
    with open(path, "wb") as f:
        f.write(data)
    return path


def text_of_pdf(path):
    return run(["pdftotext", "-layout", "-enc", "UTF-8", path, "-"], path)


def convert(request):
    source = document.locate(request["path"])
    kind = document.sniff(source)
    given = request["to"]
    if "/" in given or "." in given:
        goal = document.target(given)
        to = os.path.splitext(goal)[1].lower().lstrip(".")
    else:
        to, goal = given.lower(), None
    to = document.ALIKE.get(to, to)
    if goal is None:
        base = os.path.splitext(source)[0]
        if source.startswith(document.CACHE):
            base = document.target(os.path.basename(base))
        goal = "%s.%s" % (base, ENDINGS.get(to, to))
    if os.path.exists(goal) and os.path.samefile(goal, source):
        raise Fault("invalid", "%s is %s already" % (source, to))
    data, by = made(source, kind, to)
    document.put(goal, data)
    return Answer("%s written: %s, %d bytes, from %s by %s" % (goal, to, len(data), kind, by))


def made(source, kind, to):
    """(bytes, the program that made them)"""
    if to == "pdf":
        return contents(pdf_of(source, kind)), "LibreOffice"
    if kind == "pdf":
        if to == "txt":
            return text_of_pdf(source), "pdftotext"
        raise Fault("unsupported", "a PDF can be converted to txt; document_read gives its tables, document_render its "
                    "pages as images")
    for family in (OFFICE_SHEET, OFFICE_SLIDE):
        if kind in family and (to in family or to in ("html", "png")):
            return contents(office(source, to)), "LibreOffice"
        if kind in family and to in ("md", "txt", "tsv"):
            import document_read
            read = {"format": "markdown" if to == "md" else "text"}
            doc = document_read.open_document(source, read)
            return "\n\n".join(doc.text(n) if hasattr(doc, "text") else doc.tables()[n - 1][1] for n in range(
                1, (len(doc.parts) if hasattr(doc, "parts") else len(doc.book.parts)) + 1)).encode(), "the reader"
    if kind == "doc" or to in ("doc", "odp"):
        if kind in document_markup.IN and kind not in OFFICE_TEXT:
            return contents(office(written(document_markup.markup(source, kind, "pptx" if to == "odp" else "odt"),
                                           "pptx" if to == "odp" else "odt"), to)), "pandoc and LibreOffice"
        if to in OFFICE_TEXT:
            return contents(office(source, to)), "LibreOffice"
        source, kind = office_file(source, "docx"), "docx"
    if kind in OFFICE_TEXT and to in OFFICE_TEXT and document.have("soffice"):
        return contents(office(source, to)), "LibreOffice"
    if kind in document_markup.IN and to in document_markup.OUT:
        return document_markup.markup(source, kind, to), "pandoc"
    outs = sorted({"pdf"} | (set(document_markup.OUT) if kind in document_markup.IN else set()) |
                  {e for f in (OFFICE_TEXT, OFFICE_SHEET, OFFICE_SLIDE) if kind in f for e in f})
    raise Fault("unsupported", "%s cannot be made of %s; there are %s" % (to, kind, ", ".join(outs)))


def render(request):
    import document_image
    import document_pdf
    shown = document.locate(request["path"])
    path = pdf_of(shown, document.sniff(shown))
    count = document_pdf.Pdf(path, {}).count
    wanted = spans(request.get("pages") or "1", count)
    numbers = [n for a, b in wanted for n in range(a, b + 1)]
    images, notes = [], []
    for page in numbers[:4]:
        size = next((v for k, v in document_pdf.info(path, page, page).items()
                     if re.fullmatch(r"Page +%d +size|Page size" % page, k)), "612 x 792 pts")
        across, down = (float(x) for x in re.findall(r"[\d.]+", size)[:2])
        dpi = request.get("dpi", 100)
        scale = ["-r", str(dpi)]
        if max(across, down) * dpi / 72 > document_image.EDGE:
            scale = ["-scale-to", str(document_image.EDGE)]
        base = os.path.join(folder(), "page%d" % page)
        run(["pdftoppm", "-png", "-singlefile", "-f", str(page), "-l", str(page)] + scale + [path, base], shown)
        data = contents(base + ".png")
        if len(data) > document_image.BYTES_MAX:
            run(["pdftoppm", "-jpeg", "-singlefile", "-f", str(page), "-l", str(page)] + scale + [path, base], shown)
            data = contents(base + ".jpg")
        kind, w, h = document_image.size_of(data)
        images.append((kind, data))
        notes.append("page %d of %d, %d x %d pixels" % (page, count, w, h))
    if len(numbers) > 4:
        notes.append("4 pages at most are shown at once; go on with \"pages\":\"%d-%d\"" % (numbers[4], numbers[-1]))
    return Answer("[%s]" % "; ".join(notes), images)


def write(request):
    goal = document.target(request["path"])
    to = document.ALIKE.get(*[os.path.splitext(goal)[1].lower().lstrip(".")] * 2)
    if to not in document_markup.OUT and to not in ("pdf", "odp"):
        raise Fault("invalid", "the path must end in one of %s" % ", ".join(
            "." + ENDINGS.get(e, e) for e in sorted({"pdf", "odp"} | set(document_markup.OUT))))
    between = {"pdf": "odt", "odp": "pptx"}.get(to, to)
    out = os.path.join(folder(), "made." + between)
    options = ["-f", "markdown+lists_without_preceding_blankline+task_lists", "-t", document_markup.OUT[between], "-o", out,
               "--standalone", "--resource-path=%s:/workspace" % os.path.dirname(goal)]
    if between in ("html", "epub"):
        options += ["--metadata", "pagetitle=" + os.path.splitext(os.path.basename(goal))[0]]
    if between == "html":
        options += ["--self-contained"]
    text = request["markdown"]
    remote = re.findall(r"!\[[^\]]*\]\(\s*<?((?:https?|ftp):[^)\s>]+)", text)
    if remote:
        raise Fault("invalid", "remote images are not fetched: %s. Put the file into the computer (curl) and name its "
                    "path" % ", ".join(remote[:3]))
    lost = [i for i in re.findall(r"!\[[^\]]*\]\(\s*<?([^)\s>]+)", text) if not i.startswith("data:") and not any(
        os.path.exists(os.path.join(d, i)) for d in (os.path.dirname(goal), "/workspace"))]
    if lost:
        raise Fault("not_found", "there is no image %s; paths are below %s or /workspace" % (lost[0], os.path.dirname(goal)))
    # Without --sandbox: the agent's own text may name its own images.  No proxy is in the environment.
    pandoc(options, "the markdown", stdin=text.encode("utf-8", "replace"), sandbox=False)
    if between != to:
        out = office(out, to)
    data = contents(out)
    document.put(goal, data)
    return Answer("%s written: %s, %d bytes" % (goal, to, len(data)))
