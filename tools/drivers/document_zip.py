"""Documents that are archives of XML: opened only when what they hold is of a sane size, read
without entities, and written so that every other member stays as it is."""
import struct
import xml.etree.ElementTree as tree
import zipfile
import zlib
from xml.parsers import expat

from document import MIB, Fault, encrypted

MEMBERS_MAX = 20_000
INFLATED_MAX = 512 * MIB
PART_MAX = 192 * MIB  # of one member that is parsed here
PIECE = 1 << 18


class Found(Exception):
    pass


def refuse_declarations(data, name, path, doctype_allowed):
    """Entities can grow without limit or name files: no document of an office program declares any."""
    def doctype(*_):
        if not doctype_allowed:
            raise Fault("denied", "%s is refused: its part %s has a document type declaration (DOCTYPE), which no "
                        "office program writes and which can expand without limit or name other files" % (path, name))

    def entity(*_):
        raise Fault("denied", "%s is refused: its part %s declares XML entities, which can expand without limit or "
                    "name other files" % (path, name))

    def element(*_):
        raise Found

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = doctype
    parser.EntityDeclHandler = entity
    parser.StartElementHandler = element
    try:
        parser.Parse(data, False)
    except (Found, expat.ExpatError):
        pass  # broken XML is the business of whoever reads it


class Archive:
    """An office document: checked as a whole before anything of it is used."""

    def __init__(self, path):
        self.path = path
        try:
            self.zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, ValueError, struct.error, EOFError, UnicodeDecodeError):
            raise Fault("invalid", "%s is damaged or cut short: its zip archive has no readable end; fetch or copy it "
                        "again" % path) from None
        self.infos = {}
        for info in self.zip.infolist():
            self.infos[info.filename] = info
        if "EncryptedPackage" in self.infos:
            raise encrypted(path)

    def check(self):
        if len(self.infos) > MEMBERS_MAX:
            raise Fault("limit", "%s holds %d files; a document may hold %d" % (self.path, len(self.infos), MEMBERS_MAX))
        total = sum(i.file_size for i in self.zip.infolist())
        if total > INFLATED_MAX:
            raise self.bomb(total)
        if "META-INF/manifest.xml" in self.infos and b"encryption-data" in self.read("META-INF/manifest.xml"):
            raise encrypted(self.path)
        book = "mimetype" in self.infos and b"epub" in self.read("mimetype")
        total = 0
        for info in self.zip.infolist():
            if info.flag_bits & 1:
                raise encrypted(self.path)
            head = b""
            for piece in self.inflate(info):
                if len(head) < PIECE:
                    head += piece
                total += len(piece)
                if total > INFLATED_MAX:
                    raise self.bomb(total)
            if info.filename.lower().endswith((".xml", ".rels", ".xhtml", ".opf", ".ncx", ".html", ".vml")):
                refuse_declarations(head, info.filename, self.path, book)
        return self

    def bomb(self, total):
        return Fault("limit", "%s is refused: unpacked it has more than %d MiB (a document may have %d), as a zip bomb "
                     "has" % (self.path, (total - 1) // MIB, INFLATED_MAX // MIB))

    def raw(self, info):
        """The bytes of a member as they are stored."""
        f = self.zip.fp
        f.seek(info.header_offset)
        head = f.read(30)
        if len(head) < 30 or head[:4] != b"PK\x03\x04":
            raise self.damaged(info.filename)
        name, extra = struct.unpack("<HH", head[26:30])
        f.seek(name + extra, 1)
        data = f.read(info.compress_size)
        if len(data) < info.compress_size:
            raise self.damaged(info.filename)
        return data

    def inflate(self, info):
        """Piece by piece, never more than it declares."""
        data = self.raw(info)
        if info.compress_type == zipfile.ZIP_STORED:
            if len(data) != info.file_size:
                raise self.damaged(info.filename)
            yield data
            return
        if info.compress_type != zipfile.ZIP_DEFLATED:
            raise Fault("unsupported", "%s uses a compression that documents do not have" % self.path)
        engine, size = zlib.decompressobj(-15), 0
        try:
            while data and not engine.eof:
                piece = engine.decompress(data, PIECE)
                data = engine.unconsumed_tail
                size += len(piece)
                if size > info.file_size:
                    raise Fault("invalid", "%s is refused: its member %s unpacks to more than it declares, as a zip "
                                "bomb does" % (self.path, info.filename))
                yield piece
        except zlib.error:
            raise self.damaged(info.filename) from None
        if size != info.file_size:
            raise self.damaged(info.filename)

    def damaged(self, name):
        return Fault("invalid", "%s is damaged or cut short: its member %s is not whole" % (self.path, name))

    def names(self):
        return list(self.infos)

    def has(self, name):
        return name in self.infos

    def read(self, name, most=PART_MAX):
        info = self.infos.get(name)
        if info is None:
            raise Fault("invalid", "%s is no whole document: it has no %s" % (self.path, name))
        if info.flag_bits & 1:
            raise encrypted(self.path)
        if info.file_size > most:
            raise Fault("limit", "%s: the part %s has %d MiB; %d may be read" % (self.path, name,
                                                                               info.file_size // MIB, most // MIB))
        data = b"".join(self.inflate(info))
        if zlib.crc32(data) != info.CRC:
            raise self.damaged(name)
        return data

    def xml(self, name):
        try:
            return tree.fromstring(self.read(name))
        except (tree.ParseError, ValueError) as error:
            raise Fault("invalid", "%s: its part %s is not well-formed: %s" % (self.path, name, error)) from None

    def relations(self, part):
        """{id: (type's last word, target path)} of a part of an OOXML document."""
        folder, _, base = part.rpartition("/")
        name = "%s/_rels/%s.rels" % (folder, base) if folder else "_rels/%s.rels" % base
        found = {}
        if not self.has(name):
            return found
        for r in self.xml(name):
            to = r.get("Target", "")
            if r.get("TargetMode") != "External":
                to = resolve(folder, to)
            found[r.get("Id")] = (r.get("Type", "").rsplit("/", 1)[-1], to)
        return found

    def replaced(self, changes, without=()):
        """The archive's bytes with some members changed or left out; the others are copied as stored."""
        out, central, count = bytearray(), bytearray(), 0
        for info in self.zip.infolist():
            if info.filename in without:
                continue
            name = info.filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437")
            year, month, day, hour, minute, second = info.date_time
            when = (hour << 11 | minute << 5 | second // 2, (max(year, 1980) - 1980) << 9 | month << 5 | day)
            method, crc, size, data = info.compress_type, info.CRC, info.file_size, None
            if info.filename in changes:
                plain = changes[info.filename]
                crc, size = zlib.crc32(plain), len(plain)
                data = plain
                if method == zipfile.ZIP_DEFLATED:
                    engine = zlib.compressobj(6, zlib.DEFLATED, -15)
                    data = engine.compress(plain) + engine.flush()
            else:
                data = self.raw(info)
            flags = info.flag_bits & ~8  # sizes stand before the data
            fields = struct.pack("<HHHHHIIIH", 20, flags, method, *when, crc, len(data), size, len(name))
            where = len(out)
            out += b"PK\x03\x04" + fields + struct.pack("<H", 0) + name + data
            central += b"PK\x01\x02" + struct.pack("<H", info.create_version | info.create_system << 8) + fields
            central += struct.pack("<HHHHII", 0, 0, 0, info.internal_attr, info.external_attr, where) + name
            count += 1
        end = struct.pack("<HHHHIIH", 0, 0, count, count, len(central), len(out), 0)
        return bytes(out + central + b"PK\x05\x06" + end)


def resolve(folder, to):
    if to.startswith("/"):
        return to[1:]
    parts = folder.split("/") if folder else []
    for piece in to.split("/"):
        if piece == "..":
            parts = parts[:-1]
        elif piece not in (".", ""):
            parts.append(piece)
    return "/".join(parts)


def local(element):
    """The name of an element or attribute without its namespace."""
    return element.tag.rpartition("}")[2] if hasattr(element, "tag") else element.rpartition("}")[2]


def attribute(element, name):
    """By its name without a namespace, or None."""
    for key, value in element.attrib.items():
        if key == name or key.endswith("}" + name):
            return value
    return None


def kind(path):
    archive = Archive(path).check()
    names = archive.names()
    if archive.has("mimetype"):
        said = archive.read("mimetype", 200).decode("latin-1").strip()
        for ending, word in (("odt", ".text"), ("ods", ".spreadsheet"), ("odp", ".presentation"), ("epub", "epub")):
            if word in said:
                return ending
    for ending, main in (("docx", "word/"), ("xlsx", "xl/"), ("pptx", "ppt/")):
        if any(n.startswith(main) for n in names):
            return ending
    raise Fault("invalid", "%s is a zip archive, but no document that can be read; unzip it with terminal_run" % path)
