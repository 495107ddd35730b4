"""The driver of documents by itself: what needs no computer."""
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import zipfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "drivers"))
sys.dont_write_bytecode = True
import document  # noqa: E402
import document_cells  # noqa: E402
import document_edit  # noqa: E402
import document_office  # noqa: E402
import document_pages  # noqa: E402
import document_text  # noqa: E402
import document_zip  # noqa: E402


class Driver(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        document.deadline = document.time.monotonic() + 60

    def tearDown(self):
        self.folder.cleanup()

    def archive(self, members):
        path = os.path.join(self.folder.name, "a.zip")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
            for name, data in members.items():
                z.writestr(name, data)
        return path

    def fault(self, code, call, *args):
        with self.assertRaises(document.Fault) as caught:
            call(*args)
        self.assertEqual(caught.exception.code, code)
        return str(caught.exception)

    def test_a_missing_program_is_named_with_its_package_and_the_image_that_has_it(self):
        path, os.environ["PATH"] = os.environ["PATH"], self.folder.name
        try:
            for name, (package, _) in document.PROGRAMS.items():
                text = self.fault("not_found", document.run, [name], "x")
                self.assertIn(package, text)
                self.assertIn('computer_create {"image":"desktop"}', text)
        finally:
            os.environ["PATH"] = path

    def test_programs_get_no_proxy_but_curl(self):
        os.environ["https_proxy"] = "http://127.0.0.1:1"
        self.assertNotIn("https_proxy", document.environment())
        self.assertIn("https_proxy", document.environment(network=True))

    def test_page_ranges(self):
        self.assertEqual(document.spans("3", 10), [(3, 3)])
        self.assertEqual(document.spans("2-4, 9-", 10), [(2, 4), (9, 10)])
        self.assertEqual(document.spans("9-20", 10), [(9, 10)])
        for text in ("0", "11", "4-2", "a", "", "1-b", "-3"):
            self.fault("invalid", document.spans, text, 10)

    def test_tokens_join_to_the_same_text(self):
        for text in ('<a b="x>y"><!-- <c> --><![CDATA[<d>]]>t&amp;t</a>', "<a", "plain", "<?xml?><a/>\n", "a < b <c>"):
            self.assertEqual("".join(document_edit.tokens(text)), text)

    def test_text_is_replaced_over_the_borders_of_runs(self):
        parts = document_edit.tokens("<w:p><w:t>one t</w:t><w:x/><w:t>wo th</w:t><w:t>ree two</w:t></w:p>")
        indexes = document_edit.paragraphs(parts, ("w:p",), "w:t")[0]
        self.assertEqual(document_edit.replace_in(parts, indexes, "two", "2&", 9), 2)
        self.assertEqual("".join(parts), '<w:p><w:t>one 2&amp;</w:t><w:x/><w:t xml:space="preserve"> th</w:t><w:t>ree 2&amp;'
                                         '</w:t></w:p>')

    def test_other_members_of_an_archive_stay_as_they_are(self):
        path = self.archive({"a": b"a" * 5000, "b": os.urandom(3000), "c": b""})
        out = os.path.join(self.folder.name, "out.zip")
        with open(out, "wb") as f:
            f.write(document_zip.Archive(path).replaced({"a": b"new"}, {"c"}))
        with zipfile.ZipFile(path) as before, zipfile.ZipFile(out) as after:
            self.assertIsNone(after.testzip())
            self.assertEqual(after.namelist(), ["a", "b"])
            self.assertEqual(after.read("a"), b"new")
            self.assertEqual(after.read("b"), before.read("b"))

    def test_declarations_are_refused_in_every_encoding(self):
        for encoding in ("utf-8", "utf-16"):
            text = '<?xml version="1.0" encoding="%s"?><!DOCTYPE a><a/>' % encoding
            path = self.archive({"word/document.xml": text.encode(encoding)})
            self.fault("denied", document_zip.Archive(path).check)
        path = self.archive({"mimetype": "application/epub+zip", "a.xhtml": "<!DOCTYPE html><html/>"})
        document_zip.Archive(path).check()
        path = self.archive({"mimetype": "application/epub+zip", "a.xhtml": '<!DOCTYPE html [<!ENTITY a "b">]><html/>'})
        self.fault("denied", document_zip.Archive(path).check)

    def test_an_archive_that_is_too_large_or_cut_is_refused(self):
        path = self.archive({"word/document.xml": b" " * 3_000_000})
        document_zip.INFLATED_MAX, kept = 1_000_000, document_zip.INFLATED_MAX
        try:
            self.fault("limit", document_zip.Archive(path).check)
        finally:
            document_zip.INFLATED_MAX = kept
        with open(path, "r+b") as f:
            f.truncate(200)
        self.fault("invalid", document_zip.Archive, path)

    def test_formulas_as_open_formula(self):
        for plain, want in (("=A1+B$2", "of:=[.A1]+[.B$2]"), ("=SUM(A1:B2,3)", "of:=SUM([.A1:.B2];3)"),
                            ('=IF(A1="B2","x","y")', 'of:=IF([.A1]="B2";"x";"y")'), ("=Two!C3", "of:=[$Two.C3]")):
            self.assertEqual(document_cells.open_formula(plain), want)

    def test_encodings(self):
        for text, encoding in (("Gr\u00fc\u00dfe", "cp1252"), ("\u043c\u0438\u0440 \u0438 \u0442\u0440\u0443\u0434", "koi8_r"),
                               ("\u4f60\u597d\u4e16\u754c", "gb18030"), ("\uc548\ub155\ud558\uc138\uc694", "euc_kr"),
                               ("\u00e9", "utf-8"), ("word", "utf-16-be"), ("x\u00e9", "utf-32")):
            self.assertEqual(document_text.decode(text.encode(encoding))[0], text, encoding)
        self.fault("unsupported", document_text.decode, bytes(range(256)))


class Kept(unittest.TestCase):
    """The driver as it is started in a computer."""

    def setUp(self):
        here = os.path.dirname(document.__file__)
        self.folder = tempfile.TemporaryDirectory()
        self.file("a.txt", "words")
        parts = b""
        for name in sorted(f for f in os.listdir(here) if f.startswith("document") and f != "document_boot.py"):
            with open(os.path.join(here, name), "rb") as f:
                parts += b"\x01" + name[:-3].encode() + b"\n" + f.read()
        with open(os.path.join(here, "document_boot.py")) as f:
            boot = f.read()
        path = self.folder.name + ":" + os.environ["PATH"]
        self.driver = subprocess.Popen([sys.executable, "-I", "-S", "-E", "-c", boot], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, env=dict(os.environ, PATH=path))
        self.send(parts)

    def tearDown(self):
        self.driver.kill()
        self.driver.wait()
        self.driver.stdin.close()
        self.driver.stdout.close()
        self.folder.cleanup()

    def file(self, name, text):
        path = os.path.join(self.folder.name, name)
        with open(path, "w") as f:
            f.write(text)
        return path

    def send(self, data):
        self.driver.stdin.write(b"%08d" % len(data) + data)
        self.driver.stdin.flush()

    def ask(self, **request):
        self.send(json.dumps(dict(request, seconds=60)).encode())

    def answer(self):
        return self.driver.stdout.read(int(self.driver.stdout.read(8))).decode()

    def test_one_driver_answers_one_request_after_the_other(self):
        for _ in range(3):
            self.ask(tool="read", path=os.path.join(self.folder.name, "a.txt"))
            self.assertIn("words\n[TXT]", self.answer())
            self.ask(tool="read", path=os.path.join(self.folder.name, "none.txt"))
            self.assertIn('{"error": "not_found"', self.answer())

    def test_a_request_whose_process_dies_ends_the_driver_with_how_it_died(self):
        said = os.path.join(self.folder.name, "pids")
        program = self.file("pandoc", "#!/bin/sh\necho $PPID $$ >%s.new; mv %s.new %s; exec sleep 600\n" % (said, said, said))
        os.chmod(program, 0o755)
        self.ask(tool="read", path=self.file("a.html", "<p>x</p>"))
        until = time.monotonic() + 60
        while not os.path.exists(said) and time.monotonic() < until:
            time.sleep(0.02)
        with open(said) as f:
            child, program = map(int, f.read().split())
        os.kill(child, signal.SIGKILL)
        try:
            self.assertEqual(self.driver.wait(60), document.DIED + signal.SIGKILL)
        finally:
            os.kill(program, signal.SIGKILL)
        self.assertEqual(self.driver.stdout.read(), b"")


class Office(unittest.TestCase):
    def test_a_keeper_that_hangs_is_ended_by_the_one_who_has_waited(self):
        with tempfile.TemporaryDirectory() as folder:
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(folder + "/socket")
            child = os.fork()
            if child == 0:
                listener.listen(1)
                signal.pause()
            try:
                listener.close()
                document.deadline = time.monotonic() + 60
                s = None
                while s is None and time.monotonic() < document.deadline:
                    s = document_office.connect(folder)
                document.deadline = time.monotonic() + 0.5
                with s, self.assertRaises(document.Fault) as caught:
                    document_office.asked(s, {"path": "x"}, "x", 1)
                self.assertEqual(caught.exception.code, "timeout")
            finally:
                ended = os.waitpid(child, os.WNOHANG)
                if ended[0] == 0:
                    until = time.monotonic() + 30
                    while ended[0] == 0 and time.monotonic() < until:
                        time.sleep(0.01)
                        ended = os.waitpid(child, os.WNOHANG)
                if ended[0] == 0:
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
            self.assertEqual(ended, (child, signal.SIGKILL))


class Pages(unittest.TestCase):
    """Some pages alone: what pdftotext reads then must be what it reads of them among all the others."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.cache, document.CACHE = document.CACHE, os.path.join(self.folder.name, "cache")
        document.deadline = document.time.monotonic() + 300

    def tearDown(self):
        document.CACHE = self.cache
        self.folder.cleanup()
        if document.scratch:
            document.clear()
            document.scratch = None

    def place(self, name):
        return os.path.join(self.folder.name, name)

    def make(self, count, wide, name="a.pdf", change=lambda objects: None):
        """A tree of nodes with `wide` children each; a page has its size and its font from a node above."""
        objects, waiting, level = {1: "<< /Type /Catalog /Pages 2 0 R >>", 3: "<< /Type /Font /Subtype /Type1 /BaseFont "
                                   "/Courier >>"}, [], []
        for page in range(1, count + 1):
            text = "BT /F1 12 Tf 40 700 Td (Page %d, of \\(many\\)) Tj ET" % page
            objects[3 * page + 2] = "<< /Length %d >>\nstream\n%s\nendstream" % (len(text), text)
            level.append((3 * page + 3, "/Type /Page /Contents %d 0 R" % (3 * page + 2), 1))
        free = 3 * count + 10
        while len(level) > wide:
            waiting += level
            level = [(free + n, level[n * wide:(n + 1) * wide], None) for n in range(-(-len(level) // wide))]
            free += len(level)
        waiting += level + [(2, level, None)]
        parents = {kid[0]: name for name, kids, _ in waiting if not isinstance(kids, str) for kid in kids}

        def leaves(kids):
            return 1 if isinstance(kids, str) else sum(leaves(kid[1]) for kid in kids)
        for name_, kids, _ in waiting:
            inside = kids if isinstance(kids, str) else "/Count %d /Type /Pages %% a comment (\n/Kids [%s] /Note (a \\) in (one \\( more) of it)" \
                % (leaves(kids), " ".join("%d 0 R" % kid[0] for kid in kids)) if name_ % 2 else \
                "/Type /Pages /Kids [ %s ]/Count %d" % ("\n".join("%d 0 R" % kid[0] for kid in kids), leaves(kids))
            if name_ == 2:
                inside += " /MediaBox [0 0 612 792] /Resources << /Font << /F1 3 0 R >> >>"
            else:
                inside += " /Parent %d 0 R" % parents[name_]
            objects[name_] = "<< %s >>" % inside
        change(objects)
        out, where = b"%PDF-1.5\n", {}
        for number, value in sorted(objects.items()):
            where[number] = len(out)
            out += b"%d 0 obj\n%s\nendobj\n" % (number, value.encode("latin-1"))
        start = len(out)
        out += b"xref\n0 %d\n" % (max(objects) + 1)
        for number in range(max(objects) + 1):
            out += b"%010d 00000 n \n" % where[number] if number in where else b"0000000000 65535 f \n"
        out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (max(objects) + 1, start)
        with open(self.place(name), "wb") as f:
            f.write(out)
        return self.place(name)

    def text(self, path, first, last):
        return subprocess.run(["pdftotext", "-layout", "-f", str(first), "-l", str(last), path, "-"],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout

    def same(self, path, spans, must=True):
        for first, last in spans:
            alone = document_pages.alone(path, first, last)
            if must:
                self.assertIsNotNone(alone, "%s %d-%d" % (path, first, last))
            if alone:
                self.assertEqual(self.text(alone, 1, last - first + 1), self.text(path, first, last),
                                 "%s %d-%d" % (path, first, last))
                self.assertEqual(self.text(alone, last - first + 2, last - first + 2), b"")

    def odd(self, path, why=""):
        with self.assertRaisesRegex(document_pages.Odd, why, msg=path):
            document_pages.walk(path)
        self.assertIsNone(document_pages.alone(path, 250, 250), path)

    SPANS = [(201, 201), (205, 228), (299, 300), (250, 250), (300, 300)]

    def test_of_flat_and_of_deep_trees(self):
        for wide in (2, 7, 300):
            path = self.make(300, wide)
            self.assertIn(b"Page 250, of (many)", self.text(document_pages.alone(path, 250, 250), 1, 1))
            self.same(path, self.SPANS)
            os.unlink(path)

    def test_of_files_whose_objects_are_packed_or_in_another_order(self):
        plain = self.make(300, 11)
        for n, options in enumerate((["--object-streams=generate"], ["--linearize"], ["--qdf"],
                                     ["--linearize", "--object-streams=generate"])):
            path = self.place("b%d.pdf" % n)
            subprocess.run(["qpdf", *options, plain, path], check=True)
            self.same(path, self.SPANS)

    def test_of_a_file_that_was_changed_behind_its_end(self):
        path = self.make(300, 7)
        tree = document_pages.known(path)
        with open(path, "r+b") as f:  # pages 3 to 290 are all that is left
            length = f.seek(0, 2)
            f.write(document_pages.update(tree, 3, 290, length))
        self.assertIn(b"Page 252,", self.text(document_pages.alone(path, 250, 250), 1, 1))
        self.same(path, [(201, 202), (288, 288)])

    def test_what_is_early_long_or_not_there_is_left_alone(self):
        path = self.make(300, 7)
        self.assertIsNone(document_pages.alone(path, 200, 201))
        self.assertIsNone(document_pages.alone(path, 300, 301))
        most, document_pages.COPIED_MAX = document_pages.COPIED_MAX, 1000
        self.assertIsNone(document_pages.alone(path, 250, 250))
        document_pages.COPIED_MAX = most
        self.assertIsNotNone(document_pages.alone(path, 250, 250))

    def test_odd_files_are_left_alone(self):
        def kid(name, value):
            return lambda objects: objects.update({name: value})
        path = self.make(300, 300)
        with open(path, "rb") as f:
            whole = f.read()
        odd = {
            "junk": b"\n" + whole, "cut": whole[:-400], "moved": whole.replace(b"\n3 0 obj", b"\n3  0 obj", 1),
            "encrypted": whole.replace(b"/Root 1", b"/Encrypt 3 0 R /Root 1"),
            "hybrid": whole.replace(b"/Root 1", b"/XRefStm 9 /Root 1"), "empty": b"%PDF-1.4\n",
        }
        for name, data in odd.items():
            with open(self.place(name), "wb") as f:
                f.write(data)
            self.odd(self.place(name))
        for name, change in {
            "cycle": kid(903, "<< /Type /Pages /Kids [2 0 R] /Count 1 >>"), "no page": kid(903, "(a string)"),
            "no reference": kid(2, "<< /Type /Pages /Kids [6 0 R (x)] /Count 2 >>"),
            "no number": kid(2, "<< /Type /Pages /Kids [6 0 R] /Count /Two >>"),
            "nothing": kid(2, "<< /Type /Pages >>"), "no end": kid(2, "<< /Type /Pages (("),
        }.items():
            self.odd(self.make(300, 300, name, change), "two places" if name == "cycle" else "")

    def test_a_table_predicted_from_the_row_above(self):
        self.assertEqual(document_pages.unpredicted(b"\2\1\2" b"\2\1\xff" b"\2\0\1", 2), b"\1\2\2\1\2\2")
        for rows in (b"\2\1\2\0\1\1", b"\2\1\2\1\1\1", b"\2\1\2\2\1"):
            with self.assertRaises(document_pages.Odd):
                document_pages.unpredicted(rows, 2)

    def test_what_is_no_page_is_seen_at_once(self):
        for inside in ("[1 2 [3 (4)] 5]", "<< /B [1 0 R 2 0 R] /C << /D true >> >>", "/B", "1 0 R", "11111", "[ ]", "<414243>"):
            text = b"<< /Type /Page %s >>" % (b"/A %s\n" % inside.encode() * 2000)[:60_000].rsplit(b"\n", 1)[0]
            start = time.monotonic()
            self.assertTrue(document_pages.PAGE.fullmatch(text))
            for end in (b">", b" (", b" 1", b"]"):
                self.assertIsNone(document_pages.PAGE.fullmatch(text[:-2] + end))
                self.assertIsNone(document_pages.PAGE.fullmatch(text + end))
            self.assertLess(time.monotonic() - start, 20, inside)

    def test_work_without_end_is_given_up(self):
        path = self.make(300, 300, "c.pdf", lambda objects: objects.update(
            {2: "<< /Type /Pages /Kids [%s] /Count 199999 >>" % ("6 0 R " * 199_999), 6: "<< /Type /Page /Name /a#20b /Text (%s) >>" % ("[" * 60_000)}))
        start = time.monotonic()
        self.odd(path, "too much work")
        self.assertLess(time.monotonic() - start, 60)

    def test_what_would_be_too_much_to_unpack_is_left_alone(self):
        path = self.place("p.pdf")
        subprocess.run(["qpdf", "--object-streams=generate", self.make(300, 7), path], check=True)
        most, room = document_pages.UNPACKED_MAX, 0
        try:
            while room < 1 << 20:
                document_pages.UNPACKED_MAX = room
                try:
                    document_pages.walk(path)
                    break
                except document_pages.Odd as odd:
                    self.assertRegex(str(odd), "too much to unpack|too long")
                room = room * 2 or 1
            self.assertIn(room, range(1 << 10, 1 << 20))
        finally:
            document_pages.UNPACKED_MAX = most

    def test_a_damaged_file_is_read_as_it_is_without_this(self):
        import random
        chance = random.Random(7)
        plain, packed, files = self.make(300, 7), self.place("p.pdf"), []
        subprocess.run(["qpdf", "--object-streams=generate", plain, packed], check=True)
        for path in (plain, packed):
            with open(path, "rb") as f:
                files += [f.read()] * 60
        alone = 0
        for data in files:
            data = bytearray(data)
            for _ in range(3):
                data[chance.randrange(len(data))] = chance.choice(b"0123456789 R/<>[]()%\n\0x")
            path = self.place("d%d.pdf" % chance.randrange(1 << 40))
            with open(path, "wb") as f:
                f.write(data)
            self.same(path, [(250, 251)], must=False)
            alone += document_pages.alone(path, 250, 251) is not None
            os.unlink(path)
        self.assertGreater(alone, 10)


if __name__ == "__main__":
    unittest.main()
