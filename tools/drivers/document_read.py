"""document_read: what all formats share.

A format is a class with kind, path and what of content(), outline(), metadata(), tables(), images(),
pieces() and image() makes sense for it; each returns plain values, which become an answer here."""
import os

import document
from document import Answer, Fault, paged, quote, search


def open_document(path, request):
    kind = document.sniff(path)
    if kind == "pdf":
        import document_pdf
        return document_pdf.Pdf(path, request)
    if kind in ("doc", "ppt", "xls"):
        import document_convert
        newer = {"doc": "docx", "ppt": "pptx", "xls": "xlsx"}[kind]
        path = document_convert.office_file(path, newer)
        kind = newer
    if kind in ("xlsx", "ods", "csv", "tsv"):
        import document_sheet
        return document_sheet.Sheets(path, kind, request)
    if kind in ("pptx", "odp"):
        import document_slide
        return document_slide.Slides(path, kind, request)
    import document_text
    return document_text.open_text(path, kind)


def rows(pairs):
    return "\n".join("%s: %s" % (k, " ".join(str(v).split())) for k, v in pairs if v not in (None, ""))


def listed_images(doc, path):
    found = doc.images()
    if not found:
        return Answer("[%s has no images]" % doc.about())
    text = "\n".join("%s  %s" % (name, note) for name, note in found[:400])
    return Answer("%s\n[%d images%s; show one with document_read {\"path\":%s,\"image\":%s}]" % (
        text, len(found), ", the first 400 are listed" if len(found) > 400 else "", quote(path), quote(found[0][0])))


def shown_image(doc, name):
    data = doc.image(name)
    if data is None:
        raise Fault("not_found", "%s has no image %s; what=images lists them" % (doc.path, quote(name)))
    import document_image
    kind, data, note = document_image.presentable(data)
    return Answer("[%s: %s]" % (name, note), [(kind, data)])


def read(request):
    path = document.locate(request["path"])
    doc = open_document(path, request)
    shown = path if request["path"].startswith("http") else request["path"]
    what = request.get("what", "content")
    offset = request.get("offset", 0)
    if request.get("image"):
        return shown_image(doc, request["image"])
    if request.get("query"):
        what = "search"
    if what == "content":
        return doc.content(request, shown, offset)
    if what == "images":
        return listed_images(doc, shown)
    if what == "metadata":
        pairs = [("type", doc.kind), ("bytes", os.path.getsize(path))] + doc.metadata()
        return Answer(rows(pairs))
    more = ',"what":"%s"' % what
    if what == "outline":
        return paged(doc.outline() or "(no headings)", offset, shown, doc.about() + ", outline", more)
    if what == "tables":
        tables = doc.tables()
        text = "\n\n".join("%s\n\n%s" % (title, table) for title, table in tables)
        return paged(text, offset, shown, "%s: %d tables" % (doc.about(), len(tables)), more)
    if not request.get("query"):
        raise Fault("invalid", "what=search needs \"query\"")
    return search(doc.pieces(), request["query"], doc.label, shown, doc.about())


def markdown_table(lines):
    """Rows of cells as a pipe table; the first row is its head."""
    if not lines:
        return ""
    width = max(len(row) for row in lines)
    clean = [[" ".join(str(cell).split()).replace("|", "\\|") for cell in row] + [""] * (width - len(row))
             for row in lines]
    head = "| " + " | ".join(clean[0]) + " |\n|" + " --- |" * width
    return "\n".join([head] + ["| " + " | ".join(row) + " |" for row in clean[1:]])
