"""document_edit: one cell of a sheet, with as little of the sheet's XML touched as can be."""
import re

import document_sheet
from document import Fault, quote
from document_edit import block_end, escape, tag_attribute, tag_name
from document_sheet import attribute_of_relation, cell_address, column_name, column_number

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")


def local_name(token):
    name, kind = tag_name(token)
    return name.rpartition(":")[2], kind


def without(token, *names):
    """A tag without some of its attributes."""
    for name in names:
        token = re.sub(r"\s%s\s*=\s*(\"[^\"]*\"|'[^']*')" % name, "", token)
    return token


def opened(token):
    return token[:-2].rstrip() + ">" if token.endswith("/>") else token


def split_place(package, at):
    name, mark, where = at.rpartition("!")
    column, row = cell_address(where)
    book = document_sheet.Xlsx(package.path) if package.kind == "xlsx" else document_sheet.Ods(package.path)
    names = list(book.parts)
    name = name.strip("'") if mark else names[0]
    if name not in names:
        raise Fault("not_found", "nothing was changed: there is no sheet %s; there are %s" % (
            quote(name), ", ".join(names[:30])))
    return book, name, column, row


def set_cell(package, at, text):
    book, name, column, row = split_place(package, at)
    change = xlsx if package.kind == "xlsx" else ods
    before = change(package, book, name, column, row, text)
    return "%s!%s%d: %s, was %s" % (name, column_name(column), row, quote(text[:200]), quote(before[:200]))


# ---- XLSX ----

def typed(text, date):
    """(type attribute, what is inside the cell)"""
    if text == "":
        return "", ""
    if text.startswith("="):
        return "", "<{p}f>%s</{p}f>" % escape(text[1:])
    if NUMBER.fullmatch(text):
        return "", "<{p}v>%s</{p}v>" % text.lstrip("+")
    if text.lower() in ("true", "false"):
        return ' t="b"', "<{p}v>%d</{p}v>" % (text.lower() == "true")
    match = re.fullmatch(r"(\d{4})-(\d\d)-(\d\d)", text) if date else None
    if match:
        import datetime
        try:
            return "", "<{p}v>%d</{p}v>" % (datetime.date(*map(int, match.groups())) - datetime.date(1899, 12, 30)).days
        except ValueError:
            pass
    text = text[1:] if text.startswith("'") else text
    return ' t="inlineStr"', "<{p}is><{p}t xml:space=\"preserve\">%s</{p}t></{p}is>" % escape(text)


def find(parts, at, end, name, key, wanted):
    """The child that has this number, or where it must be inserted: (index, found)."""
    number = 0
    while at < end:
        word, kind = local_name(parts[at])
        if word == name and kind != "close":
            where = tag_attribute(parts[at], "r")
            number = key(where) if where else number + 1
            if number >= wanted:
                return at, number == wanted
            at = block_end(parts, at)
        else:
            at += 1
    return end, False


def xlsx(package, book, sheet, column, row, text):
    part = book.parts[sheet]
    parts = package.parts(part)
    data = next((i for i, t in enumerate(parts) if local_name(t) in (("sheetData", "open"), ("sheetData", "empty"))), None)
    if data is None:
        raise Fault("invalid", "sheet %s has no cells to set (a chart sheet?)" % sheet)
    prefix = tag_name(parts[data])[0].rpartition(":")[0]
    prefix = prefix + ":" if prefix else ""
    if parts[data].endswith("/>"):
        parts[data:data + 1] = [opened(parts[data]), "</%ssheetData>" % prefix]
    end = block_end(parts, data) - 1
    at, found = find(parts, data + 1, end, "row", int, row)
    if not found:
        parts[at:at] = ['<%srow r="%d">' % (prefix, row), "</%srow>" % prefix]
    elif parts[at].endswith("/>"):
        parts[at:at + 1] = [opened(parts[at]), "</%srow>" % prefix]
    parts[at] = without(parts[at], "spans")
    cell_end = block_end(parts, at) - 1
    where, found = find(parts, at + 1, cell_end, "c", lambda r: column_number(r.rstrip("0123456789")), column)
    style, before, stop = "", "", where
    if found:
        stop = block_end(parts, where)
        style = tag_attribute(parts[where], "s") or ""
        before = old_value(package, book, parts, where, stop)
    kind, inside = typed(text, book.is_date(int(style or 0)))
    new = '<%sc r="%s%d"%s%s>%s</%sc>' % (prefix, column_name(column), row, ' s="%s"' % style if style else "", kind,
                                          inside.replace("{p}", prefix), prefix)
    from document_edit import tokens
    parts[where:stop] = tokens(new)
    widen(parts, column, row)
    package.touch(part)
    recalculate(package, book)
    return before


def old_value(package, book, parts, at, stop):
    """What the cell held; a formula that others depend on by sharing it must stay."""
    import xml.etree.ElementTree as tree
    for i in range(at, stop):
        if local_name(parts[i])[0] != "f" or local_name(parts[i])[1] == "close":
            continue
        drop_chain(package, book)
        if tag_attribute(parts[i], "ref") and tag_attribute(parts[i], "t") in ("shared", "array"):
            span = tag_attribute(parts[i], "ref")
            if ":" in span:
                raise Fault("unsupported", "nothing was changed: the formula of this cell is shared by %s; set those "
                            "cells one by one from the last to the first in a spreadsheet program, or with openpyxl"
                            % span)
    try:
        source = "".join(parts[at:stop])
        element = tree.fromstring(re.sub(r"(</?)\w+:", r"\1", re.sub(r"\s\w+:\w+=(\"[^\"]*\"|'[^']*')", "", source)))
    except tree.ParseError:
        return ""
    value, formula = book.value(element)
    return "=" + formula if formula else value


def widen(parts, column, row):
    """The sheet's stated area."""
    for i, token in enumerate(parts[:200]):
        if local_name(token)[0] == "dimension":
            match = re.fullmatch(r"([A-Z]+)(\d+)(?::([A-Z]+)(\d+))?", tag_attribute(token, "ref") or "")
            if match:
                a, b, c, d = match[1], int(match[2]), match[3] or match[1], int(match[4] or match[2])
                left, right = min(column_number(a), column), max(column_number(c), column)
                ref = "%s%d:%s%d" % (column_name(left), min(b, row), column_name(right), max(d, row))
                parts[i] = re.sub(r"\sref=\"[^\"]*\"", ' ref="%s"' % ref, token)
            return


def recalculate(package, book):
    """Whoever opens the file is to compute its formulas anew."""
    parts = package.parts(book.main)
    last = None
    for i, token in enumerate(parts):
        word, kind = local_name(token)
        if word == "calcPr" and kind != "close":
            parts[i] = re.sub(r"(/?)>$", r' fullCalcOnLoad="1"\1>', without(token, "fullCalcOnLoad"))
            package.touch(book.main)
            return
        if word in ("sheets", "functionGroups", "externalReferences", "definedNames") and kind != "open":
            last = i
    if last is not None:
        prefix = tag_name(parts[last])[0].rpartition(":")[0]
        parts.insert(last + 1, '<%scalcPr fullCalcOnLoad="1"/>' % (prefix + ":" if prefix else ""))
        package.touch(book.main)


def drop_chain(package, book):
    """The order of calculation names the cells with formulas; programs make it anew."""
    chain = book.part("calcChain")
    if not chain or chain in package.dropped:
        return
    package.dropped.add(chain)
    folder, _, base = book.main.rpartition("/")
    for name, key, value in (("[Content_Types].xml", "PartName", "/" + chain),
                             ("%s/_rels/%s.rels" % (folder, base), "Target", None)):
        parts = package.parts(name)
        for i, token in enumerate(parts):
            said = tag_attribute(token, key) if token.startswith("<") else None
            if said and (said == value or value is None and said.endswith(chain.rpartition("/")[2])):
                del parts[i]
                package.touch(name)
                break


# ---- ODS ----

def repeats(token, key):
    return int(tag_attribute(token, key) or 1)


def with_repeat(block, key, count):
    """The same element, standing for count of them."""
    head = without(block[0], key)
    if count > 1:
        head = re.sub(r"(/?)>$", r' %s="%d"\1>' % (key, count), head)
    return [head] + block[1:]


def isolate(parts, at, end, names, key, wanted, filler):
    """Make one element stand for the wanted number alone; its index."""
    number, last = 0, at
    while at < end:
        word, kind = tag_name(parts[at])
        if word in names and kind != "close":
            stop, count = block_end(parts, at), repeats(parts[at], key)
            if wanted <= number + count:
                block, first, after = parts[at:stop], wanted - number - 1, number + count - wanted
                new = with_repeat(block, key, first) if first else []
                index = at + len(new)
                new += with_repeat(block, key, 1)
                new += with_repeat(block, key, after) if after else []
                parts[at:stop] = new
                return index
            number += count
            at = last = stop
        else:
            at += 1
    new = with_repeat(list(filler), key, wanted - number - 1) if wanted - number > 1 else []
    parts[last:last] = new + list(filler)
    return last + len(new)


def open_formula(text):
    """=SUM(A1:B2) as OpenFormula has it: of:=SUM([.A1:.B2])."""
    def one(match):
        if match[1]:
            return match[1]
        sheet = (match[2] or "")[:-1]
        dot = "$%s." % sheet if sheet else "."
        ends = match[3].split(":")
        return "[%s]" % ":".join((dot if i == 0 else ".") + e for i, e in enumerate(ends))
    cell = r"\$?[A-Z]{1,3}\$?\d+"
    return "of:=" + re.sub(r"(\"[^\"]*\")|((?:'[^']+'|\w+)!)?(%s(?::%s)?)(?![\w(])" % (cell, cell), one,
                           text[1:]).replace(",", ";")


def ods(package, book, sheet, column, row, text):
    parts = package.parts("content.xml")
    table = next(i for i, t in enumerate(parts) if tag_name(t) == ("table:table", "open")
                 and tag_attribute(t, "table:name") == sheet)
    first = next((i for i in range(table, block_end(parts, table)) if tag_name(parts[i])[0] == "table:table-row"), None)
    if first is None:
        raise Fault("invalid", "sheet %s has no rows" % sheet)
    cell = ["<table:table-cell/>"]
    at = isolate(parts, first, block_end(parts, table) - 1, ("table:table-row",), "table:number-rows-repeated", row,
                 ["<table:table-row>"] + cell + ["</table:table-row>"])
    where = isolate(parts, at + 1, block_end(parts, at) - 1, ("table:table-cell", "table:covered-table-cell"),
                    "table:number-columns-repeated", column, cell)
    stop = block_end(parts, where)
    before = next((dict(c).get(column, ("", None)) for n, c in book.rows(sheet) if n == row), ("", None))
    head = without(parts[where], *[r"(?:office|calcext):[\w-]*value[\w-]*", "table:formula", "office:string-value"])
    head = opened(head)[:-1]
    name = tag_name(parts[where])[0]
    shown = text[1:] if text.startswith("'") else text
    if text == "":
        new = [head + "/>"]
    elif text.startswith("="):
        new = [head + ' table:formula="%s">' % escape(open_formula(text)), "</%s>" % name]
    else:
        kind = 'office:value-type="string"'
        if NUMBER.fullmatch(text):
            kind = 'office:value-type="float" office:value="%s"' % text.lstrip("+")
        elif text.lower() in ("true", "false"):
            kind = 'office:value-type="boolean" office:boolean-value="%s"' % text.lower()
        elif re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            kind = 'office:value-type="date" office:date-value="%s"' % text
        new = ["%s %s>" % (head, kind), "<text:p>", escape(shown), "</text:p>", "</%s>" % name]
    parts[where:stop] = new
    package.touch("content.xml")
    return "=" + before[1] if before[1] else before[0]
