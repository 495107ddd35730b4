"""Sheets: XLSX, ODS and CSV, read row by row as values, with the formulas that gave them."""
import csv
import datetime
import io
import re
import xml.etree.ElementTree as tree

import document
from document import SHOWN, Answer, Fault, quote
from document_zip import Archive, attribute, local

CELLS_MAX = 2_000_000  # looked at in one answer
ROWS_MAX = 1_048_576
DATE_FORMATS = set(range(14, 23)) | {27, 30, 36, 45, 46, 47, 50, 57}


def column_name(number):
    name = ""
    while number:
        number, rest = divmod(number - 1, 26)
        name = chr(65 + rest) + name
    return name


def column_number(name):
    number = 0
    for c in name:
        number = number * 26 + ord(c) - 64
    return number


def cell_address(text):
    match = re.fullmatch(r"\$?([A-Za-z]{1,3})\$?(\d{1,7})", text)
    if not match or not 1 <= int(match[2]) <= ROWS_MAX or column_number(match[1].upper()) > 16384:
        raise Fault("invalid", "%s is no cell; write it as B2 or Sheet1!B2" % quote(text[:60]))
    return column_number(match[1].upper()), int(match[2])


def number_text(value):
    """1200.0 as 1200, 0.1 as 0.1."""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


class Xlsx:
    def __init__(self, path):
        self.archive = Archive(path)
        relations = self.archive.relations("")
        self.main = next((to for kind, to in relations.values() if kind == "officeDocument"), "xl/workbook.xml")
        self.relations = self.archive.relations(self.main)
        self.book = self.archive.xml(self.main)
        self.base_1904 = any(local(e) == "workbookPr" and e.get("date1904") in ("1", "true") for e in self.book)
        self.parts = {}
        self.hidden = set()
        for element in self.book.iter():
            if local(element) == "sheet":
                kind, part = self.relations.get(attribute_of_relation(element), ("", ""))
                if kind == "worksheet":
                    self.parts[element.get("name")] = part
                    if element.get("state", "visible") != "visible":
                        self.hidden.add(element.get("name"))
        self.strings = None
        self.dates = None

    def part(self, kind):
        return next((to for k, to in self.relations.values() if k == kind), None)

    def shared(self, index):
        if self.strings is None:
            part = self.part("sharedStrings")
            self.strings = []
            if part:
                for item in self.archive.xml(part):
                    self.strings.append(rich_text(item))
        return self.strings[index] if 0 <= index < len(self.strings) else "#REF!"

    def is_date(self, style):
        if self.dates is None:
            self.dates = []
            part = self.part("styles")
            root = self.archive.xml(part) if part else ()
            custom = {}
            for element in root:
                if local(element) == "numFmts":
                    for f in element:
                        custom[int(f.get("numFmtId", -1))] = re.sub(r'"[^"]*"|\[[^\]]*\]|\\.', "", f.get("formatCode", ""))
                if local(element) == "cellXfs":
                    for f in element:
                        form = int(f.get("numFmtId", 0))
                        self.dates.append(form in DATE_FORMATS or bool(re.search("[ymdhs]", custom.get(form, ""), re.I)))
        return 0 <= style < len(self.dates) and self.dates[style]

    def date(self, value):
        start = datetime.datetime(1904, 1, 1) if self.base_1904 else datetime.datetime(1899, 12, 30)
        try:
            when = start + datetime.timedelta(seconds=round(value * 86400))
        except OverflowError:
            return number_text(value)
        if 0 <= value < 1:
            return when.strftime("%H:%M:%S")
        return when.strftime("%Y-%m-%d") if value == int(value) else when.strftime("%Y-%m-%d %H:%M:%S")

    def value(self, cell):
        kind, raw, formula = cell.get("t", "n"), None, None
        for part in cell:
            word = local(part)
            if word == "v":
                raw = part.text or ""
            elif word == "f":
                formula = part.text or ""
            elif word == "is":
                raw = rich_text(part)
        if raw is None:
            return "", formula
        if kind == "s":
            raw = self.shared(int(raw)) if raw.strip().isdigit() else raw
        elif kind == "b":
            raw = "TRUE" if raw.strip() == "1" else "FALSE"
        elif kind == "n":
            try:
                number = float(raw)
                raw = self.date(number) if self.is_date(int(cell.get("s", 0))) else number_text(number)
            except (ValueError, OverflowError):
                pass
        return raw, formula

    def rows(self, name):
        """(row, {column: (value, formula)}) of rows that hold something."""
        source = io.BytesIO(self.archive.read(self.parts[name]))
        row_at, parents = 0, []
        try:
            for event, element in tree.iterparse(source, ("start", "end")):
                if event == "start":
                    parents.append(element)
                    continue
                parents.pop()
                if local(element) != "row":
                    continue
                row_at = int(element.get("r") or row_at + 1)
                cells, column = {}, 0
                for cell in element:
                    where = cell.get("r")
                    column = column_number(where.rstrip("0123456789")) if where else column + 1
                    value = self.value(cell)
                    if value != ("", None):
                        cells[column] = value
                if cells:
                    yield row_at, cells
                if parents:
                    parents[-1].remove(element)
        except tree.ParseError as error:
            raise Fault("invalid", "sheet %s is not well-formed: %s" % (name, error)) from None


def attribute_of_relation(element):
    return next((v for k, v in element.attrib.items() if k.endswith("}id")), None)


def rich_text(item):
    """The text of its runs, phonetic hints left out."""
    parts = []
    for element in item:
        word = local(element)
        if word == "t":
            parts.append(element.text or "")
        elif word == "r":
            parts += [t.text or "" for t in element if local(t) == "t"]
    return "".join(parts)


class Ods:
    hidden = ()

    def __init__(self, path):
        self.archive = Archive(path)
        root = self.archive.xml("content.xml")
        self.parts = {attribute(e, "name"): e for e in root.iter() if local(e) == "table"}

    @staticmethod
    def value(cell):
        kind, formula = attribute(cell, "value-type"), attribute(cell, "formula")
        if formula:
            formula = re.sub(r"\[\.?([^\]]*)\]", lambda m: m[1].replace(":.", ":"), re.sub(r"^\w+:=|^=", "", formula))
        if kind == "boolean":
            return (attribute(cell, "boolean-value") or "").upper(), formula
        if kind in ("float", "currency", "percentage"):
            try:
                return number_text(float(attribute(cell, "value"))), formula
            except (TypeError, ValueError, OverflowError):
                pass
        if kind == "date":
            return (attribute(cell, "date-value") or "").replace("T", " "), formula
        return "\n".join("".join(p.itertext()) for p in cell if local(p) == "p"), formula

    def rows(self, name):
        at = 0
        for row in self.parts[name].iter():
            if local(row) != "table-row":
                continue
            cells, column = {}, 0
            for cell in row:
                if local(cell) not in ("table-cell", "covered-table-cell"):
                    continue
                repeat = int(attribute(cell, "number-columns-repeated") or 1)
                value = self.value(cell)
                if value != ("", None):
                    for n in range(min(repeat, 1024)):
                        cells[column + 1 + n] = value
                column += repeat
            repeat = int(attribute(row, "number-rows-repeated") or 1)
            if cells:
                for n in range(min(repeat, 10_000)):
                    yield at + 1 + n, cells
            at += repeat


class Separated:
    hidden = ()

    def __init__(self, path, kind):
        import document_text
        with open(path, "rb") as f:
            text, self.encoding = document_text.decode(f.read())
        self.parts = {"": text}
        csv.field_size_limit(16 << 20)
        head = text[:8192]
        marks = {c: head.count(c) for c in (",", ";", "\t", "|")}
        self.mark = "\t" if kind == "tsv" else max(marks, key=marks.get) if any(marks.values()) else ","

    def rows(self, name):
        try:
            for number, row in enumerate(csv.reader(io.StringIO(self.parts[name], newline=""), delimiter=self.mark), 1):
                cells = {column: (value, None) for column, value in enumerate(row, 1) if value}
                if cells:
                    yield number, cells
        except csv.Error as error:
            raise Fault("invalid", "this is no whole table of separated values: %s" % error) from None


class Sheets:
    label = "sheet"

    def __init__(self, path, kind, request):
        self.path, self.kind = path, kind
        self.book = Xlsx(path) if kind == "xlsx" else Ods(path) if kind == "ods" else Separated(path, kind)
        self.markdown = request.get("format", "markdown") == "markdown"
        if not self.book.parts:
            raise Fault("invalid", "%s has no sheets" % path)

    def about(self):
        if self.kind in ("csv", "tsv"):
            return "%s, %s" % (self.kind.upper(), self.book.encoding)
        return "%s, %d sheets" % (self.kind.upper(), len(self.book.parts))

    def wanted(self, text):
        """(sheet, first row, last row, first column, last column) of "Sales!B2:D20", "Sales!500:" or "Sales"."""
        names = list(self.book.parts)
        name, mark, area = text.rpartition("!")
        if text in self.book.parts:
            name, mark, area = text, "", ""
        elif not mark and re.fullmatch(r"\$?[A-Za-z]{0,3}\$?\d+(:\S*)?|[A-Za-z]{1,3}:[A-Za-z]{1,3}", text):
            name = names[0]
        elif not mark:
            name, area = text, ""
        name = name.strip("'")
        if name not in self.book.parts and name.isdigit() and 1 <= int(name) <= len(names):
            name = names[int(name) - 1]
        if name not in self.book.parts:
            raise Fault("not_found", "there is no sheet %s; there are %s" % (quote(name), ", ".join(names[:30])))
        match = re.fullmatch(r"\$?([A-Za-z]{0,3})\$?(\d*)(:?)\$?([A-Za-z]{0,3})\$?(\d*)", area)
        if not match:
            raise Fault("invalid", "%s is no range; write A1:D20, 5:20 or 500:" % quote(area[:60]))
        a, first, colon, b, last = match.groups()
        first_row = int(first or 1)
        last_row = int(last or (ROWS_MAX if colon or not first else first_row))
        first_column = column_number(a.upper()) or 1
        return name, first_row, last_row, first_column, column_number(b.upper()) or (16384 if colon or not a else
                                                                                     first_column)

    def table(self, area, room):
        """(text, row at which it was cut or 0, rows)."""
        name, first, last, left, right = area
        shown, used, looked, cut = [], 0, 0, 0
        for number, cells in self.book.rows(name):
            if number < first:
                continue
            looked += len(cells)
            if number > last:
                break
            row = {c: v for c, v in cells.items() if left <= c <= right}
            size = sum(len(v.encode("utf-8", "replace")) + len(f or "") + 3 for v, f in row.values()) + 10
            if (used + size > room or looked > CELLS_MAX) and shown:
                cut = number
                break
            used += size
            if row:
                shown.append((number, row))
        if not shown:
            return "(empty)", 0, 0
        low, high = min(min(r) for _, r in shown), max(max(r) for _, r in shown)
        high = min(high, low + 255)
        lines = [[""] + [column_name(c) for c in range(low, high + 1)]] if self.markdown else []
        for number, row in shown:
            values = []
            for c in range(low, high + 1):
                value, formula = row.get(c, ("", None))
                if self.markdown and formula:
                    value = "%s {=%s}" % (value, formula)
                values.append(value[:4000])
            lines.append(([str(number)] if self.markdown else []) + values)
        if not self.markdown:
            return "\n".join("\t".join(" ".join(v.split()) for v in row) for row in lines), cut, len(shown)
        from document_read import markdown_table
        return markdown_table(lines), cut, len(shown)

    def content(self, request, shown, offset):
        area = request.get("sheet") or ""
        if not area and request.get("pages"):
            area = request["pages"]
        areas = [self.wanted(area)] if area else [self.wanted(n) for n in self.book.parts]
        out, used, notes = [], 0, ""
        for index, one in enumerate(areas):
            if used > SHOWN * 3 // 4:
                notes = "; go on with document_read {\"path\":%s,\"sheet\":%s}, then %d more sheets" % (
                    quote(shown), quote(one[0]), len(areas) - index - 1)
                break
            # Bars and the row's number are not counted cell by cell.
            text, cut, _ = self.table(one, (SHOWN - used) * 4 // 5)
            if len(areas) > 1 or one[0]:
                text = "## %s%s\n\n%s" % (one[0], " (hidden)" if one[0] in self.book.hidden else "", text)
            used += len(text.encode("utf-8", "replace"))
            out.append(text)
            if cut:
                rest = "%s%s%d:%s%s" % (one[0] + "!" if one[0] else "", column_name(one[3]), cut, column_name(one[4]),
                                        one[2] if one[2] < ROWS_MAX else "")
                notes = "; rows before %d are shown, go on with document_read {\"path\":%s,\"sheet\":%s}" % (
                    cut, quote(shown), quote(rest))
                if index + 1 < len(areas):
                    notes += ", then the sheets %s" % ", ".join(a[0] for a in areas[index + 1:index + 20])
                break
        text = "\n\n".join(out)
        if len(text.encode("utf-8", "replace")) > SHOWN + 4000:
            text = text.encode("utf-8", "replace")[:SHOWN].decode("utf-8", "ignore") + "\n(cut: a wide row; ask for fewer columns)"
        return Answer("%s\n[%s%s]" % (text, self.about(), notes))

    def outline(self):
        lines = []
        for name in self.book.parts:
            rows = columns = cells = 0
            for number, row in self.book.rows(name):
                rows, columns, cells = max(rows, number), max(columns, max(row)), cells + len(row)
            span = "A1:%s%d, %d cells" % (column_name(columns), rows, cells) if cells else "empty"
            lines.append("- %s (%s%s)" % (name or "table", span, ", hidden" if name in self.book.hidden else ""))
        return "\n".join(lines)

    def metadata(self):
        if self.kind in ("csv", "tsv"):
            return [("encoding", self.book.encoding), ("separator", repr(self.book.mark))]
        import document_text
        return [("sheets", ", ".join(self.book.parts))] + document_text.properties(self.path)

    def tables(self):
        return [(name, self.table(self.wanted(name) if name else ("", 1, ROWS_MAX, 1, 16384), 1 << 20)[0])
                for name in self.book.parts]

    def pieces(self):
        for name in self.book.parts:
            for number, cells in self.book.rows(name):
                for column, (value, formula) in cells.items():
                    yield "%s!%s%d" % (name, column_name(column), number) if name else "%s%d" % (
                        column_name(column), number), value + (" {=%s}" % formula if formula else "")

    def images(self):
        import document_text
        return document_text.zipped_images(self.path) if self.kind in document.ZIPPED else []

    def image(self, name):
        import document_text
        return document_text.zipped_image(self.path, name) if self.kind in document.ZIPPED else None
