"""Images as an answer can hold them: PNG, JPEG or WebP, not larger than a model looks at."""
import struct
import zlib

from document import MIB, Fault, folder, have, run

EDGE = 1568
BYTES_MAX = 3 * MIB


def size_of(data):
    """(type, width, height); the type is None where an answer cannot hold it as it is."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) > 24:
        return ("image/png",) + struct.unpack(">II", data[16:24])
    if data[:3] == b"\xff\xd8\xff":
        at = 2
        while at + 9 < len(data) and data[at] == 0xFF:
            if 0xC0 <= data[at + 1] <= 0xCF and data[at + 1] not in (0xC4, 0xC8, 0xCC):
                height, width = struct.unpack(">HH", data[at + 5:at + 9])
                return "image/jpeg", width, height
            at += 2 + struct.unpack(">H", data[at + 2:at + 4])[0]
        return "image/jpeg", 0, 0
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp", 0, 0
    return None, 0, 0


def unfilter(raw, width, height, bpp):
    """The rows of a PNG of eight bits a channel."""
    stride, rows, before = width * bpp, [], bytearray(width * bpp)
    for y in range(height):
        at = y * (stride + 1)
        how, row = raw[at], bytearray(raw[at + 1:at + 1 + stride])
        if how == 1:
            for i in range(bpp, stride):
                row[i] = row[i] + row[i - bpp] & 255
        elif how == 2:
            row = bytearray(a + b & 255 for a, b in zip(row, before))
        elif how == 3:
            for i in range(stride):
                row[i] = row[i] + ((row[i - bpp] if i >= bpp else 0) + before[i] >> 1) & 255
        elif how == 4:
            for i in range(stride):
                a, b, c = (row[i - bpp] if i >= bpp else 0), before[i], (before[i - bpp] if i >= bpp else 0)
                p, q, r = abs(b - c), abs(a - c), abs(a + b - 2 * c)
                row[i] = row[i] + (a if p <= q and p <= r else b if q <= r else c) & 255
        rows.append(row)
        before = row
    return rows


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def smaller_png(data, most=EDGE):
    """Every n-th pixel of a plain PNG, or None for one that this does not read."""
    at, parts, palette = 8, [], b""
    width, height, depth, colour, _, _, laced = struct.unpack(">IIBBBBB", data[16:29])
    if depth != 8 or laced or colour not in (0, 2, 3, 4, 6) or width * height > 40_000_000:
        return None
    while at + 8 <= len(data):
        size, name = struct.unpack(">I4s", data[at:at + 8])
        if name == b"IDAT":
            parts.append(data[at + 8:at + 8 + size])
        elif name in (b"PLTE", b"tRNS"):
            palette += data[at:at + 12 + size]
        at += 12 + size
    bpp = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    need = height * (width * bpp + 1)
    raw = zlib.decompressobj().decompress(b"".join(parts), need)
    if len(raw) < need:
        return None
    step = -(-max(width, height) // most)
    out = bytearray()
    rows = unfilter(raw, width, height, bpp)[::step]
    across = len(range(0, width, step))
    for row in rows:
        thin = bytearray(across * bpp)
        for channel in range(bpp):
            thin[channel::bpp] = row[channel::bpp * step]
        out += b"\0" + thin
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", across, len(rows), 8, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + palette + chunk(b"IDAT", zlib.compress(bytes(out))) + chunk(b"IEND", b"")


def presentable(data):
    """(type, bytes, note) of an image, converted or made smaller where that is needed."""
    import os
    kind, width, height = size_of(data)
    if kind and max(width, height) <= EDGE and len(data) <= BYTES_MAX:
        return kind, data, "%s, %d x %d pixels" % (kind, width, height) if width else kind
    thin = smaller_png(data) if kind == "image/png" else None
    if thin is None and have("soffice"):
        from document_office import office
        source = os.path.join(folder(), "picture")
        with open(source, "wb") as f:
            f.write(data)
        run(["pdftoppm", "-png", "-singlefile", "-scale-to", str(EDGE), office(source, "pdf"), os.path.join(folder(), "shown")],
            "a picture")
        with open(os.path.join(folder(), "shown.png"), "rb") as f:
            thin = f.read()
    if thin is None or len(thin) > BYTES_MAX:
        raise Fault("unsupported", "this picture of %d bytes (%s) cannot be shown as it is, and nothing here makes it "
                    "smaller" % (len(data), kind or "neither PNG nor JPEG nor WebP"))
    _, w, h = size_of(thin)
    return "image/png", thin, "%s, %d x %d pixels, shown at %d x %d" % (kind or "converted", width, height, w, h)
