"""Makes the documents of document.test.mjs, inside a computer: document_corpus.py FOLDER [WHAT …]."""
import base64
import email.message
import json
import os
import struct
import subprocess
import sys
import zipfile
import zlib

here = sys.argv[1]
W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
X = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
R = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
TYPES = '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="rels" ' \
    'ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Default Extension="xml" ' \
    'ContentType="application/xml"/><Default Extension="png" ContentType="image/png"/>%s</Types>'
RELS = '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">%s</Relationships>'


def rel(number, kind, target, mode=""):
    return '<Relationship Id="rId%d" Type="%s/%s" Target="%s"%s/>' % (number, R, kind, target, mode)


def override(part, kind):
    return '<Override PartName="/%s" ContentType="application/vnd.openxmlformats-officedocument.%s+xml"/>' % (part, kind)


def place(name):
    return os.path.join(here, name)


def archive(name, members):
    with zipfile.ZipFile(place(name), "w", zipfile.ZIP_DEFLATED) as z:
        for member, data in members.items():
            z.writestr(member, data)


def png(width, height):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    rows = b"".join(b"\0" + bytes((x * 255 // width, y * 255 // height, 90) [i] for x in range(width) for i in range(3))
                    for y in range(height))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + \
        chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def paragraph(text, style=""):
    runs = "".join('<w:r><w:t xml:space="preserve">%s</w:t></w:r>' % piece for piece in text.split("|"))
    return "<w:p>%s%s</w:p>" % ('<w:pPr><w:pStyle w:val="%s"/></w:pPr>' % style if style else "", runs)


def docx_members(body):
    heads = "".join('<w:style w:type="paragraph" w:styleId="H%d"><w:name w:val="heading %d"/></w:style>' % (n, n) for n in (1, 2))
    return {
        "[Content_Types].xml": TYPES % (override("word/document.xml", "wordprocessingml.document.main") +
                                        override("word/styles.xml", "wordprocessingml.styles")),
        "_rels/.rels": RELS % rel(1, "officeDocument", "word/document.xml"),
        "word/_rels/document.xml.rels": RELS % rel(1, "styles", "styles.xml"),
        "word/styles.xml": "<w:styles %s>%s</w:styles>" % (W, heads),
        "word/document.xml": '<?xml version="1.0" encoding="UTF-8"?><w:document %s><w:body>%s<w:sectPr/></w:body></w:document>'
                             % (W, body),
        "word/media/image1.png": png(40, 30),
        "customXml/odd.bin": bytes(range(256)) * 20,
    }


def docx():
    cells = [["Part", "Count"], ["bolts", "12"], ["nuts", "30"]]
    table = '<w:tbl><w:tblGrid><w:gridCol w:w="2000"/><w:gridCol w:w="2000"/></w:tblGrid>%s</w:tbl>' % "".join("<w:tr>%s</w:tr>" % "".join("<w:tc>%s</w:tc>" % paragraph(c) for c in row)
                                          for row in cells)
    body = paragraph("Report", "H1") + paragraph("The quick bro|wn fox|es run.") + paragraph("Parts", "H2") + table + \
        paragraph("Nothing else.") + paragraph("End", "H2") + paragraph("Fish &amp; chips.")
    archive("report.docx", docx_members(body))


def xlsx():
    rows = "".join('<row r="%d"><c r="A%d"><v>%d</v></c><c r="B%d" t="inlineStr"><is><t>line %d</t></is></c></row>'
                   % (n, n, n, n, n) for n in range(1, 4001))
    first = '<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c></row>' \
        '<row r="2"><c r="A2" t="inlineStr"><is><t>bolts</t></is></c><c r="B2"><v>12</v></c><c r="C2" s="1"><v>45292</v></c></row>' \
        '<row r="3"><c r="A3" t="str"><v>sum</v></c><c r="B3"><f>SUM(B2:B2)</f><v>12</v></c><c r="D3" t="b"><v>1</v></c></row>'
    sheet = '<?xml version="1.0"?><worksheet %s><dimension ref="A1:D3"/><sheetData>%s</sheetData><pageMargins left="0.7" ' \
        'right="0.7" top="0.7" bottom="0.7" header="0.3" footer="0.3"/></worksheet>'
    main = "spreadsheetml."
    archive("book.xlsx", {
        "[Content_Types].xml": TYPES % (override("xl/workbook.xml", main + "sheet.main") +
                                        override("xl/calcChain.xml", main + "calcChain") +
                                        override("xl/sharedStrings.xml", main + "sharedStrings") +
                                        override("xl/styles.xml", main + "styles") +
                                        override("xl/worksheets/sheet1.xml", main + "worksheet") +
                                        override("xl/worksheets/sheet2.xml", main + "worksheet")),
        "_rels/.rels": RELS % rel(1, "officeDocument", "xl/workbook.xml"),
        "xl/workbook.xml": '<workbook %s xmlns:r="%s"><sheets><sheet name="Stock" sheetId="1" r:id="rId1"/><sheet name="Long '
                           'list" sheetId="2" state="hidden" r:id="rId2"/></sheets></workbook>' % (X, R),
        "xl/_rels/workbook.xml.rels": RELS % (rel(1, "worksheet", "worksheets/sheet1.xml") +
                                              rel(2, "worksheet", "worksheets/sheet2.xml") + rel(3, "styles", "styles.xml") +
                                              rel(4, "sharedStrings", "sharedStrings.xml") + rel(5, "calcChain", "calcChain.xml")),
        "xl/calcChain.xml": '<calcChain %s><c r="B3" i="1"/></calcChain>' % X,
        "xl/styles.xml": '<styleSheet %s><fonts count="1"><font/></fonts><fills count="1"><fill/></fills><borders count="1">'
                         '<border/></borders><cellStyleXfs count="1"><xf/></cellStyleXfs><cellXfs count="2"><xf numFmtId="0"/>'
                         '<xf numFmtId="14" applyNumberFormat="1"/></cellXfs></styleSheet>' % X,
        "xl/sharedStrings.xml": '<sst %s><si><t>Part</t></si><si><r><t>Co</t></r><r><t>unt</t></r></si></sst>' % X,
        "xl/worksheets/sheet1.xml": sheet % (X, first),
        "xl/worksheets/sheet2.xml": sheet % (X, rows),
    })


def pdf(name, objects):
    """objects: {number: bytes or (dictionary, stream)}; 1 is the catalog."""
    out, where = bytearray(b"%PDF-1.5\n%\xe2\xe3\xcf\xd3\n"), {}
    for number, value in objects.items():
        where[number] = len(out)
        if isinstance(value, tuple):
            value = b"<< %s /Length %d >>\nstream\n%s\nendstream" % (value[0], len(value[1]), value[1])
        out += b"%d 0 obj\n%s\nendobj\n" % (number, value)
    start, count = len(out), max(objects) + 1
    out += b"xref\n0 %d\n0000000000 65535 f \n" % count
    for number in range(1, count):
        out += b"%010d 00000 n \n" % where[number]
    out += b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (count, start)
    with open(place(name), "wb") as f:
        f.write(out)


FONT = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"


def pages_pdf(name, count):
    """Page N says "This is page N of COUNT", and has a table."""
    objects = {1: b"<< /Type /Catalog /Pages 2 0 R >>", 3: FONT}
    kids = []
    for n in range(1, count + 1):
        page, text = 2 + 2 * n, b"BT /F1 12 Tf 72 720 Td (This is page %d of %d) Tj " % (n, count)
        for line in range(30):
            text += b"0 -18 Td (item %d) Tj 200 0 Td (%d) Tj -200 0 Td " % (line, line * n)
        objects[page] = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R /Resources << /Font << " \
            b"/F1 3 0 R >> >> >>" % (page + 1)
        objects[page + 1] = (b"", text + b"ET")
        kids.append(b"%d 0 R" % page)
    objects[2] = b"<< /Type /Pages /Count %d /Kids [%s] >>" % (count, b" ".join(kids))
    pdf(name, dict(sorted(objects.items())))


def form_pdf():
    widget = b"/Type /Annot /Subtype /Widget /P 4 0 R /F 4"
    look = b"/Type /XObject /Subtype /Form /BBox [0 0 20 20]"
    pdf("form.pdf", {
        1: b"<< /Type /Catalog /Pages 2 0 R /AcroForm << /Fields [6 0 R 7 0 R 8 0 R] /DR << /Font << /Helv 3 0 R >> >> /DA "
           b"(/Helv 12 Tf 0 g) >> >>",
        2: b"<< /Type /Pages /Count 1 /Kids [4 0 R] >>", 3: FONT,
        4: b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 5 0 R /Resources << /Font << /F1 3 0 R >> >> "
           b"/Annots [6 0 R 7 0 R 8 0 R] >>",
        5: (b"", b"BT /F1 12 Tf 72 740 Td (Name:) Tj ET"),
        6: b"<< %s /FT /Tx /T (name) /Rect [120 730 400 750] /DA (/Helv 12 Tf 0 g) >>" % widget,
        7: b"<< %s /FT /Btn /T (agree) /Rect [120 700 140 720] /V /Off /AS /Off /AP << /N << /Yes 9 0 R /Off 10 0 R >> >> >>"
           % widget,
        8: b"<< %s /FT /Ch /Ff 131072 /T (size) /Opt [(small) (large)] /Rect [120 660 300 680] /DA (/Helv 12 Tf 0 g) >>" % widget,
        9: (look, b"0 0 20 20 re f"), 10: (look, b""),
    })


def scan_pdf():
    """What a scanner makes of a page: a picture of it."""
    pages_pdf("one.pdf", 1)
    subprocess.run(["pdftoppm", "-gray", "-r", "150", "-singlefile", place("one.pdf"), place("one")], check=True)
    with open(place("one.pgm"), "rb") as f:
        _, size, _, pixels = f.read().split(b"\n", 3)
    width, height = map(int, size.split())
    pdf("scan.pdf", {
        1: b"<< /Type /Catalog /Pages 2 0 R >>", 2: b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
        3: b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << /XObject << /I 5 0 R >> >> >>",
        4: (b"", b"q 612 0 0 792 0 0 cm /I Do Q"),
        5: (b"/Type /XObject /Subtype /Image /Width %d /Height %d /ColorSpace /DeviceGray /BitsPerComponent 8 /Filter "
            b"/FlateDecode" % (width, height), zlib.compress(pixels)),
    })


def texts():
    rows = {"latin1.txt": ("Gr\u00fc\u00dfe aus K\u00f6ln", "latin-1"),
            "cyrillic.txt": ("\u043f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440 " * 5, "cp1251"),
            "sjis.txt": ("\u3053\u3093\u306b\u3061\u306f\u4e16\u754c " * 5, "shift_jis"),
            "utf16.txt": ("h\u00e9llo w\u00f6rld", "utf-16"), "wide.txt": ("plain words in two bytes each", "utf-16-le"),
            "utf8.txt": ("\u00e9t\u00e9", "utf-8")}
    for name, (text, encoding) in rows.items():
        with open(place(name), "wb") as f:
            f.write(text.encode(encoding))
    mail = email.message.EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "a@example.org", "b@example.org", "Gr\u00fc\u00dfe"
    mail.set_content("See the picture.\n")
    mail.add_attachment(png(20, 10), maintype="image", subtype="png", filename="dot.png")
    with open(place("mail.eml"), "wb") as f:
        f.write(bytes(mail))
    with open(place("note.ipynb"), "w") as f:
        json.dump({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [
            {"cell_type": "markdown", "source": ["# Study\n"], "metadata": {}},
            {"cell_type": "code", "source": "print(6*7)", "metadata": {}, "execution_count": 1, "outputs": [
                {"output_type": "stream", "name": "stdout", "text": ["42\n"]},
                {"output_type": "display_data", "metadata": {}, "data": {"image/png": base64.b64encode(png(8, 8)).decode()}}]}]}, f)
    with open(place("picture.png"), "wb") as f:
        f.write(png(60, 40))


# ---- hostile ----

def lying_zip(name, members, lie):
    """As archive(), but the member @lie says that it is small."""
    archive(name, members)
    with open(place(name), "rb") as f:
        data = bytearray(f.read())
    real = struct.pack("<I", len(members[lie]))
    data = data.replace(real, struct.pack("<I", 1000))
    with open(place(name), "wb") as f:
        f.write(data)


def hostile():
    entity = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY secret SYSTEM "file:///etc/passwd">]>'
    members = docx_members(paragraph("inside &secret;"))
    members["word/document.xml"] = members["word/document.xml"].replace('<?xml version="1.0" encoding="UTF-8"?>', entity)
    archive("xxe.docx", members)
    lol = '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a0 "lol">%s]>' % "".join(
        '<!ENTITY a%d "%s">' % (n, ("&a%d;" % (n - 1)) * 10) for n in range(1, 10))
    xlsx()
    with zipfile.ZipFile(place("book.xlsx")) as z:
        members = {n: z.read(n) for n in z.namelist()}
    members["xl/sharedStrings.xml"] = lol + '<sst %s><si><t>&a9;</t></si></sst>' % X
    archive("laughs.xlsx", members)
    ods = {"mimetype": "application/vnd.oasis.opendocument.spreadsheet",
           "content.xml": lol + "<office:document-content xmlns:office='urn:oasis:names:tc:opendocument:xmlns:office:1.0'>&a9;"
                                "</office:document-content>"}
    archive("laughs.ods", ods)
    # 600 MiB of nothing, made without holding it.
    with zipfile.ZipFile(place("bomb.docx"), "w", zipfile.ZIP_DEFLATED) as z:
        for member, data in docx_members(paragraph("x")).items():
            if member != "word/document.xml":
                z.writestr(member, data)
        with z.open("word/document.xml", "w") as f:
            for _ in range(600):
                f.write(bytes(1 << 20))
    members = docx_members(paragraph("x"))
    members["word/document.xml"] = b"<a>" + b" " * (40 << 20)
    lying_zip("lying.docx", members, "word/document.xml")
    docx()
    for name, keep in (("report.docx", 0.6), ("one.pdf", 0.3)):
        with open(place(name), "rb") as f:
            data = f.read()
        with open(place("cut-" + name), "wb") as f:
            f.write(data[:int(len(data) * keep)])
    subprocess.run(["qpdf", "--encrypt", "secret", "owner", "256", "--", place("one.pdf"), place("locked.pdf")], check=True)
    with open(place("locked.docx"), "wb") as f:
        f.write(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(4000))
    with open(place("false.pdf"), "wb") as f:
        f.write(b"not a PDF at all")
    # 10 million strings: far more memory as a tree than as a file.
    with zipfile.ZipFile(place("book.xlsx")) as z, zipfile.ZipFile(place("heavy.xlsx"), "w", zipfile.ZIP_DEFLATED, True, 1) as to:
        for name in z.namelist():
            if name != "xl/sharedStrings.xml":
                to.writestr(name, z.read(name))
        with to.open("xl/sharedStrings.xml", "w") as f:
            f.write(b"<sst %s>" % X.encode())
            for _ in range(100):
                f.write(b"<si><t>x</t></si>" * 100_000)
            f.write(b"</sst>")
    macro()


def macro():
    """A text that would write a file as soon as it is opened."""
    o = "urn:oasis:names:tc:opendocument:xmlns:"
    lib = "http://openoffice.org/2000/library"
    archive("macro.odt", {
        "mimetype": "application/vnd.oasis.opendocument.text",
        "META-INF/manifest.xml": '<manifest:manifest xmlns:manifest="%smanifest:1.0">%s</manifest:manifest>' % (o, "".join(
            '<manifest:file-entry manifest:full-path="%s" manifest:media-type="%s"/>' % (p, t) for p, t in (
                ("/", "application/vnd.oasis.opendocument.text"), ("content.xml", "text/xml"),
                ("styles.xml", "text/xml"), ("Basic/Standard/Module1.xml", "text/xml"), ("Basic/Standard/script-lb.xml", "text/xml"),
                ("Basic/script-lc.xml", "text/xml")))),
        "content.xml": '<office:document-content xmlns:office="%soffice:1.0" xmlns:text="%stext:1.0" xmlns:script="%sscript:1.0" '
                       'xmlns:xlink="http://www.w3.org/1999/xlink" office:version="1.2"><office:scripts><office:event-listeners>'
                       '<script:event-listener script:language="ooo:script" script:event-name="dom:load" xlink:href="'
                       'vnd.sun.star.script:Standard.Module1.Main?language=Basic&amp;location=document"/></office:event-listeners>'
                       '</office:scripts><office:body><office:text><text:p>With a macro</text:p></office:text></office:body>'
                       '</office:document-content>' % (o, o, o),
        "styles.xml": '<office:document-styles xmlns:office="%soffice:1.0" office:version="1.2"/>' % o,
        "Basic/script-lc.xml": '<library:libraries xmlns:library="%s" xmlns:xlink="http://www.w3.org/1999/xlink"><library:library '
                               'library:name="Standard" library:link="false"/></library:libraries>' % lib,
        "Basic/Standard/script-lb.xml": '<library:library xmlns:library="%s" library:name="Standard"><library:element '
                                        'library:name="Module1"/></library:library>' % lib,
        "Basic/Standard/Module1.xml": '<script:module xmlns:script="http://openoffice.org/2000/script" script:name="Module1" '
                                      'script:language="StarBasic">Sub Main\nShell("/usr/bin/touch /workspace/macro-ran")\nEnd Sub'
                                      '</script:module>',
    })


def remote(address):
    """Documents that name a server: whoever fetches shows up there."""
    with open(place("remote.html"), "w") as f:
        f.write('<html><head><link rel="stylesheet" href="{0}/style.css"></head><body><h1>Remote</h1><img src="{0}/a.png">'
                '<iframe src="{0}/frame"></iframe><object data="{0}/object"></object></body></html>'.format(address))
    with open(place("remote.md"), "w") as f:
        f.write("# Remote\n\n![picture](%s/b.png)\n" % address)
    drawing = '<w:p><w:r><w:drawing><wp:inline xmlns:wp="http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing" ' \
        'distT="0"><wp:extent cx="914400" cy="914400"/><wp:docPr id="1" name="p"/><a:graphic xmlns:a="http://schemas.' \
        'openxmlformats.org/drawingml/2006/main"><a:graphicData uri="http://schemas.openxmlformats.org/drawingml/2006/picture">' \
        '<pic:pic xmlns:pic="http://schemas.openxmlformats.org/drawingml/2006/picture"><pic:nvPicPr><pic:cNvPr id="1" name="p"/>' \
        '<pic:cNvPicPr/></pic:nvPicPr><pic:blipFill><a:blip xmlns:r="%s" r:link="rId9"/></pic:blipFill><pic:spPr/></pic:pic>' \
        '</a:graphicData></a:graphic></wp:inline></w:drawing></w:r></w:p>' % R
    members = docx_members(paragraph("Remote") + drawing)
    members["word/_rels/document.xml.rels"] = RELS % (rel(1, "styles", "styles.xml") + rel(
        9, "image", address + "/c.png", ' TargetMode="External"'))
    archive("remote.docx", members)


os.makedirs(here, exist_ok=True)
wanted = sys.argv[2:]
if "big" in wanted:
    pages_pdf("big.pdf", 3000)
elif "remote" in wanted:
    remote(wanted[1])
else:
    for make in (docx, xlsx, form_pdf, scan_pdf, texts) + ((hostile,) if "hostile" in wanted else ()):
        make()
