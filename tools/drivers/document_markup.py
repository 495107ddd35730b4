"""What pandoc makes of one markup or office text as another.

Readers run with --sandbox.  Debian's pandoc cannot write office formats in it, because its templates
are files.  So what was read goes as a tree, from which everything that names a file or a site is
taken out, to a second run that only writes.  Markdown that names nothing takes one run.  (A filter in
one run would come too late: pandoc fetches the pictures for an office format before it.)"""
import json
import os
import re

import document
from document import folder, pandoc
from document_text import PICTURES, decode, readable, tidy, with_heads

IN = {"docx": "docx", "odt": "odt", "epub": "epub", "html": "html", "md": "markdown", "txt": "markdown",
      "latex": "latex", "rtf": "rtf", "rst": "rst", "org": "org", "ipynb": "ipynb", "docbook": "docbook", "fb2": "fb2"}
OUT = {"docx": "docx", "odt": "odt", "epub": "epub", "html": "html", "md": "gfm+footnotes", "txt": "plain",
       "latex": "latex", "rtf": "rtf", "rst": "rst", "org": "org", "ipynb": "ipynb", "docbook": "docbook",
       "fb2": "fb2", "pptx": "pptx"}
HEADS = ("title", "subtitle", "author", "date", "abstract", "lang", "keywords", "subject", "description")
WITH_PICTURES = ("docx", "odt", "epub", "pptx", "html")


def unpacked(path):
    """{name in the archive: path of a copy} of the pictures that a document brings along."""
    import document_zip
    archive, found = document_zip.Archive(path), {}
    for name in archive.names():
        if name.lower().endswith(PICTURES) and len(found) < 2000:
            found[name] = os.path.join(folder(), "picture%d%s" % (len(found), os.path.splitext(name)[1].lower()))
            with open(found[name], "wb") as f:
                f.write(archive.read(name))
    return found


def picture(url, path, inside):
    """The path that may be read for an image of the document, or None."""
    if url.startswith("data:"):
        return url
    if inside is not None:
        return next((p for n, p in inside.items() if n == url or n.endswith("/" + url) or url.endswith("/" + n)), None)
    home = os.path.realpath(os.path.dirname(path))
    wanted = os.path.realpath(os.path.join(home, url))
    return wanted if wanted.startswith(home + "/") and os.path.isfile(wanted) else None


def confined(node, path, inside):
    """The tree without raw markup that names something, and with no images but the document's own."""
    if isinstance(node, list):
        kept = []
        for item in node:
            if isinstance(item, dict) and item.get("t") in ("RawBlock", "RawInline") and re.search(
                    r"src|href|url|import|data\s*=|poster|action", item["c"][1], re.I):
                continue
            kept.append(confined(item, path, inside))
        return kept
    if not isinstance(node, dict):
        return node
    if node.get("t") == "Image":
        attributes, alt, (url, title) = node["c"]
        found = picture(url, path, inside)
        if found is None:
            return {"t": "Span", "c": [["", [], []], confined(alt, path, inside)]}
        return {"t": "Image", "c": [attributes, confined(alt, path, inside), [found, title]]}
    return {key: confined(value, path, inside) for key, value in node.items()}


def names_nothing(source):
    """Markdown without a picture, markup of another kind, or a head of metadata."""
    return not re.search(rb"!\[|<[A-Za-z!/?]|\\[A-Za-z]|\{=|^(?:---|\.\.\.)\s*$", source, re.M) and not source.startswith(b"%")


def markup(path, kind, to):
    """The bytes of the other format."""
    out = os.path.join(folder(), "made." + to)
    packed = kind in document.ZIPPED
    with open(path, "rb") as f:
        source = None if packed else readable(kind, decode(f.read())[0]).encode("utf-8", "replace")
    reading = ["-f", IN[kind]]
    writing = ["-t", OUT[to], "-o", out, "--standalone", "--wrap=none"]
    if to in ("html", "epub"):
        writing += ["--metadata", "pagetitle=" + os.path.splitext(os.path.basename(path))[0]]
    files = ["--", with_heads(path) if kind == "odt" else path] if packed else []
    if to in ("docx", "odt", "pptx") and kind in ("md", "txt") and names_nothing(source):
        pandoc(reading + writing, path, stdin=source, sandbox=False)
    elif to in WITH_PICTURES:
        tree = json.loads(pandoc(reading + ["-t", "json"] + files, path, stdin=source))
        tree["meta"] = {k: v for k, v in tree["meta"].items() if k in HEADS}
        tree = confined(tree, path, unpacked(path) if packed else None)
        if to == "html":
            writing += ["--self-contained"]
        pandoc(["-f", "json"] + writing, path, stdin=json.dumps(tree).encode(), sandbox=False)
    else:
        pandoc(reading + writing + files, path, stdin=source)
    with open(out, "rb") as f:
        data = f.read()
    return tidy(data.decode("utf-8", "replace")).encode() if to == "md" else data
