// Documents: what must come out of each format, round trips, edits that leave the rest alone, and
// hostile files (document_corpus.py makes them inside the computer).
import { before, test } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import http from 'node:http';
import { buildImages, good, home, output, PATIENCE, PLACE, placed, placedConfig, placedHome, textOf, withV1 } from './support.mjs';

// A loopback address that NO_PROXY does not name, so that programs take the proxy to it.
const HOST = '127.0.0.2';
const corpus = fs.readFileSync(new URL('./document_corpus.py', import.meta.url), 'utf8');
const GROUPS = 'computer,terminal,file,document';

// A computer with the corpus for @body, which gets read(), edit() and so on: texts of good answers.
const withDocuments = (body, { make = '', create = {}, timeout = 110000 } = {}) => withV1(async ({ call }) => {
  const { computer } = (await call('computer_create', { ...placed({ memory_mb: 2048, disk_mb: 1024 }), ...create },
    { timeout: PATIENCE })).structuredContent;
  // A conversion may wait for the processor; the client's own limit must not be the shorter one.
  const ask = (name, args) => call(name, { computer, ...args }, { timeout: PATIENCE });
  const sh = async (command) => output(await ask('terminal_run', { command }));
  if (make !== null) {
    good(await ask('file_write', { path: 'corpus.py', content: corpus }));
    await sh(`python3 corpus.py /workspace ${make}`);
  }
  const tool = (name) => async (path, args = {}) => good(await ask(`document_${name}`, { path, ...args }));
  const refusal = async (name, args) => {
    const result = await ask(name, args);
    assert.ok(result.isError, `${name} ${JSON.stringify(args)} succeeded: ${textOf(result).slice(0, 500)}`);
    return textOf(result);
  };
  return body({ ask, sh, refusal, read: tool('read'), convert: tool('convert'), write: tool('write'),
    edit: (path, ...edits) => tool('edit')(path, { edits }) });
}, { dir: PLACE ? placedHome() : home(), args: ['--tools', GROUPS],
  config: placedConfig({ tool: { call_timeout_ms: timeout } }) });

// What no program of an image has a part in is tried in one place.
const testHere = PLACE ? () => {} : test;
before(() => { if (PLACE) buildImages('desktop', 'base'); }, { timeout: 3000000 });

testHere('the records of the group are small', async () => {
  await withV1(async ({ client }) => {
    const { tools } = await client.listTools();
    assert.deepEqual(tools.map((tool) => tool.name).sort(), ['document_convert', 'document_edit', 'document_read',
      'document_render', 'document_write']);
    assert.ok(Buffer.byteLength(tools.map((tool) => JSON.stringify(tool)).join('')) <= 3400);
  }, { args: ['--tools', 'document'] });
});

test('each format gives its text, tables, outline and images', async () => {
  await withDocuments(async ({ ask, read, sh, write }) => {
    const rows = [
      ['report.docx', {}, /# Report\n\nThe quick brown foxes run\.\n\n## Parts\n\n\| *Part *\| *Count *\|\n.*\n\| *bolts *\| *12 *\|\n\| *nuts *\| *30/],
      ['report.docx', { format: 'text' }, /^Report\n\nThe quick brown foxes run\./],
      ['report.docx', { what: 'outline' }, /^- Report \(offset 0\)\n {2}- Parts \(offset \d+\)\n {2}- End/],
      ['report.docx', { what: 'tables' }, /^Table 1: Parts\n\n\| *Part[^]*DOCX: 1 tables/],
      ['report.docx', { what: 'images' }, /^word\/media\/image1\.png {2}\d+ bytes\n\[1 images/],
      ['report.docx', { query: 'brown FOXES' }, /line 3: The quick brown foxes run\./],
      ['book.xlsx', { sheet: 'Stock' }, /\| 1 \| Part \| Count \| {2}\| {2}\|\n\| 2 \| bolts \| 12 \| 2024-01-01 \| {2}\|\n\| 3 \| sum \| 12 \{=SUM\(B2:B2\)\} \| {2}\| TRUE/],
      ['book.xlsx', { sheet: 'Stock!B2:C3', format: 'text' }, /12\t2024-01-01\n12\t/],
      ['book.xlsx', { what: 'outline' }, /Stock \(A1:D3, 8 cells\)\n- Long list \(A1:B4000, 8000 cells, hidden\)/],
      ['book.xlsx', { query: 'line 3999' }, /Long list!B3999: line 3999/],
      ['scan.pdf', {}, /scanned; recognised by tesseract[^]*This is page 1 of 1/],
      ['one.pdf', { what: 'tables' }, /\| item 3 \| 3 \|[^]*1 tables/],
      ['one.pdf', { what: 'metadata' }, /pages: 1\n/],
      ['scan.pdf', { what: 'images' }, /page1-1 {2}1275 x 1650 pixels/],
      ['latin1.txt', {}, /^Grüße aus Köln\n\[TXT, windows-1252/],
      ['cyrillic.txt', {}, /^привет мир[^]*cp1251/],
      ['sjis.txt', {}, /^こんにちは世界[^]*shift_jis/],
      ['utf16.txt', {}, /^héllo wörld\n.*byte order mark/],
      ['wide.txt', {}, /^plain words in two bytes each\n.*utf-16-le/],
      ['utf8.txt', {}, /^été\n\[TXT\]/],
      ['mail.eml', {}, /Subject: Grüße\n\nSee the picture\.\n\nAttachments:\n- dot\.png/],
      ['note.ipynb', {}, /# Study\n\n```python\nprint\(6\*7\)\n```\n\n```\n42\n```\n\n\[image cell2\]/],
    ];
    for (const [file, args, want] of rows) assert.match(await read(file, args), want, `${file} ${JSON.stringify(args)}`);
    const pictures = [['report.docx', 'word/media/image1.png'], ['mail.eml', 'dot.png'], ['note.ipynb', 'cell2'], ['scan.pdf', 'page1-1']];
    for (const [path, image] of pictures) {
      const result = await ask('document_read', { path, image });
      assert.equal(result.content.find((block) => block.type === 'image')?.mimeType, 'image/png', path);
    }
    // What other programs make of one text.
    await write('deck.pptx', { markdown: '# One\n\n- first\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n# Two\n\nlast\n\n::: notes\nsaid aloud\n:::\n' });
    assert.match(await read('deck.pptx', { pages: '1' }), /^## Slide 1: One\n\n- first\n\n\| a \| b \|\n.*\n\| 1 \| 2 \|\n\n?\[PPTX, 2 slides\]/);
    assert.match(await read('deck.pptx', { what: 'outline' }), /1\. One\n2\. Two/);
    assert.match(await read('deck.pptx', { query: 'aloud' }), /slide 2: said aloud/);
    await sh("printf '%s' '\\documentclass{article}\\begin{document}\\section{Tex}Some \\emph{words}.\\end{document}' > a.tex");
    assert.match(await read('a.tex'), /# Tex\n\nSome \*words\*\./);
  });
});

testHere('long documents are read in pieces, and a page of 3,000 without the others', async () => {
  await withDocuments(async ({ read, sh }) => {
    await sh('python3 corpus.py /workspace big');
    assert.match(await read('big.pdf', { pages: '2900-2902' }), /## Page 2900\nThis is page 2900 of 3000\n[^]*item 3 +8706\n[^]*\[PDF, page 2900 to 2902 of 3000\]$/);
    let text = await read('big.pdf');
    const first = /\[PDF, page 1 to (\d+) of 3000; go on with document_read \{"path":"big\.pdf","pages":"(\d+)-"\}\]$/.exec(text);
    assert.equal(Number(first[2]), Number(first[1]) + 1);
    assert.ok(Buffer.byteLength(text) <= 32768);
    assert.match(await read('big.pdf', { pages: `${first[2]}-` }), new RegExp(`^## Page ${first[2]}\nThis is page ${first[2]} of`));
    assert.match(await read('big.pdf', { query: 'page 1234 of' }), /^page 1234: This is page 1234 of 3000\n/);
    // Rows of a sheet, and bytes of a text: every line comes exactly once.
    await sh("python3 -c \"open('long.md','w').write('# Long\\n\\n' + ''.join('line %d of text\\n\\n' % n for n in range(9000)))\"");
    const lines = [];
    for (let offset = 0; ;) {
      text = await read('long.md', { offset });
      lines.push(...[...text.matchAll(/^line (\d+) of text$/gm)].map((match) => Number(match[1])));
      const next = /"offset":(\d+)\}\]$/.exec(text);
      if (!next) break;
      offset = Number(next[1]);
    }
    assert.deepEqual(lines, [...Array(9000).keys()]);
    let sheet = 'Long list', count = 0;
    for (let calls = 0; sheet && calls < 30; calls++) {
      text = await read('book.xlsx', { sheet });
      for (const [, row, cell] of text.matchAll(/^\| (\d+) \| (\d+) \| line \d+ \|$/gm)) {
        assert.equal(Number(row), ++count);
        assert.equal(row, cell);
      }
      sheet = /"sheet":"([^"]+)"\}\]$/.exec(text)?.[1];
    }
    assert.equal(count, 4000);
  });
});

test('what is written is read, converted, shown and edited', async () => {
  await withDocuments(async ({ ask, convert, edit, read, sh, write }) => {
    await write('a.docx', { markdown: '# Heading\n\nA sentence with Åse.\n\n| Name | Sum |\n|---|---|\n| Ada | 12 |\n' });
    assert.match(await edit('a.docx', { op: 'replace', at: 'sentence', text: 'phrase' }), /replaced "sentence" by .* 1 times/);
    assert.match(await convert('a.docx', { to: 'pdf' }), /a\.pdf written: pdf, \d+ bytes, from docx by LibreOffice/);
    assert.match(await read('a.pdf'), /Heading\n[^]*A phrase with Åse\.[^]*Ada +12/);
    const shown = await ask('document_render', { path: 'a.pdf', dpi: 50 });
    assert.equal(shown.content.find((block) => block.type === 'image')?.mimeType, 'image/png', textOf(shown));
    assert.match(await convert('a.docx', { to: 'a.md' }), /by pandoc/);
    assert.match(await read('a.md'), /# Heading[^]*\| Ada +\| 12 +\|/);
    await sh('cp report.docx one.docx');
    assert.match(await read('one.docx', { query: 'brown FOXES' }), /line 3: The quick brown foxes run\./);
    assert.match(await read('book.xlsx', { sheet: 'Stock!B2:C3', format: 'text' }), /12\t2024-01-01\n12\t/);
    assert.match(await edit('book.xlsx', { op: 'set_cell', at: 'Stock!B2', text: '20' }), /Stock!B2: "20", was "12"/);
    assert.match(await read('one.pdf', { what: 'tables' }), /\| item 3 \| 3 \|[^]*1 tables/);
  });
});

test('text, tables and headings survive round trips, and pages are shown', async () => {
  await withDocuments(async ({ ask, convert, read, write, refusal }) => {
    const markdown = '# Heading\n\nA sentence[^1] with Åse.\n\n![dots](picture.png)\n\n## Second\n\n| Name | Sum |\n|---|---|\n| Ada | 12 |\n\n[^1]: The note.\n';
    for (const end of ['docx', 'odt', 'html', 'epub', 'rtf']) {
      await write(`out/a.${end}`, { markdown });
      const text = await read(`out/a.${end}`);
      assert.match(text, /# Heading\n/, end);
      assert.match(text, /A sentence.*with Åse\./, end);
      assert.match(text, /## Second\n/, end);
      assert.match(text, /\| Name +\| Sum +\|\n\|-+\|-+\|\n\| Ada +\| 12 +\|/, end);
      if (end === 'docx' || end === 'odt') {
        assert.match(text, /\[\^1\]: The note\./, end);
        assert.match(await read(`out/a.${end}`, { what: 'images' }), /\.png {2}4772 bytes/, end);
      }
    }
    assert.match(await convert('out/a.docx', { to: 'odt' }), /out\/a\.odt written: odt, \d+ bytes, from docx by LibreOffice/);
    assert.match(await read('out/a.odt'), /\| Ada +\| 12 +\|/);
    assert.match(await convert('out/a.odt', { to: 'out/b.md' }), /by pandoc/);
    assert.match(await read('out/b.md'), /# Heading[^]*\| Ada +\| 12 +\|/);
    await write('out/c.pdf', { markdown });
    assert.match(await read('out/c.pdf'), /Heading\n[^]*A sentence1? ?with Åse\.[^]*Ada +12/);
    assert.match(await read('out/c.pdf', { what: 'images' }), /page1-1 {2}60 x 40 pixels/);
    const shown = await ask('document_render', { path: 'out/a.docx', dpi: 300 });
    const image = Buffer.from(shown.content.find((block) => block.type === 'image').data, 'base64');
    assert.equal(Math.max(image.readUInt32BE(16), image.readUInt32BE(20)), 1568);
    await convert('book.xlsx', { to: 'book2.ods' });
    assert.match(await read('book2.ods', { sheet: 'Stock' }), /\| 2 \| bolts \| 12 \| 2024-01-01 \| {2}\|\n\| 3 \| sum \| 12 \{=SUM\(B2:B2\)\}/);
    await convert('book.xlsx', { to: 'book2.csv' });
    assert.match(await read('book2.csv'), /\| 2 \| bolts \| 12 \|/);
    assert.match(await refusal('document_convert', { path: 'out/c.pdf', to: 'docx' }), /a PDF can be converted to txt/);
    assert.match(await refusal('document_convert', { path: 'book.xlsx', to: 'epub' }), /cannot be made of xlsx; there are csv/);
    assert.match(await refusal('document_write', { path: 'x.docx', markdown: '![a](http://x.example/a.png)' }), /remote images are not fetched/);
    assert.match(await refusal('document_write', { path: 'x.docx', markdown: '![a](none.png)' }), /there is no image none\.png/);
  });
});

// Which members of the archive @a are not the same bytes in @b.
const different = (a, b) => `python3 -c "
import zipfile
a, b = zipfile.ZipFile('${a}'), zipfile.ZipFile('${b}')
assert b.testzip() is None
print(sorted(set(a.namelist()) ^ set(b.namelist())), sorted(n for n in set(a.namelist()) & set(b.namelist()) if a.read(n) != b.read(n)))"`;

test('edits change what they say and nothing else', async () => {
  await withDocuments(async ({ convert, edit, read, refusal, sh }) => {
    await sh('cp report.docx r0.docx; cp book.xlsx b0.xlsx');
    assert.match(await edit('report.docx', { op: 'replace', at: 'brown foxes', text: 'red & <green> fox' },
      { op: 'delete_section', at: 'parts' }, { op: 'insert_section', at: 'End', text: '## Added\n\nWith **bold** words.' }),
    /replaced "brown foxes" by .* 1 times in word\/document\.xml\ndeleted the section "parts" \(3 blocks\)\ninserted 2 blocks after/);
    assert.match(await read('report.docx', { format: 'text' }), /^Report\n\nThe quick red & <green> fox run\.\n\nEnd\n\nFish & chips\.\n\nAdded\n\nWith bold words\./);
    assert.equal(await sh(different('r0.docx', 'report.docx')), "[] ['word/document.xml']");
    assert.match(await edit('book.xlsx', { op: 'set_cell', at: 'Stock!B2', text: '20' }, { op: 'set_cell', at: 'A10', text: 'far & away' },
      { op: 'set_cell', at: "'Long list'!C4000", text: 'last' }), /Stock!B2: "20", was "12"\nStock!A10: .*, was ""\nLong list!C4000/);
    assert.equal(await sh(different('b0.xlsx', 'book.xlsx')), "[] ['xl/workbook.xml', 'xl/worksheets/sheet1.xml', 'xl/worksheets/sheet2.xml']");
    assert.match(await read('book.xlsx', { sheet: 'Long list!3999:' }), /\| 3999 \| 3999 \| line 3999 \| {2}\|\n\| 4000 \| 4000 \| line 4000 \| last \|/);
    await convert('book.xlsx', { to: 'new.csv' }); // LibreOffice computes the sum anew
    assert.match(await sh('cat new.csv'), /"bolts",20,.*\n"sum",20,/);
    // A formula that goes takes its entry in the order of calculation along.
    await edit('book.xlsx', { op: 'set_cell', at: 'B3', text: '=B2*2' });
    assert.match(await sh(different('b0.xlsx', 'book.xlsx')), /^\['xl\/calcChain\.xml'\]/);
    await convert('book.xlsx', { to: 'new.csv' });
    assert.match(await sh('cat new.csv'), /"sum",40,/);
    await convert('b0.xlsx', { to: 'o.ods' });
    assert.match(await edit('o.ods', { op: 'set_cell', at: 'Stock!B2', text: '7' }, { op: 'set_cell', at: 'Stock!F9', text: '=SUM(B2:B2)' },
      { op: 'replace', at: 'line 4000', text: 'line last' }), /Stock!B2: "7", was "12"/);
    assert.match(await read('o.ods', { query: 'last' }), /Long list!B4000: line last/);
    await convert('o.ods', { to: 'o.csv' });
    assert.match(await sh('cat o.csv'), /^"Part","Count"[^]*"bolts",7,[^]*,,,,,7$/);
    await sh("printf 'a,b\\r\\n\"x, y\",2\\r\\nlast,3' > t.csv; printf 'Gr\\374n bl\\374ht' > l.txt");
    await edit('t.csv', { op: 'set_cell', at: 'B2', text: '5' });
    assert.equal(await sh('cat -A t.csv'), 'a,b^M$\n"x, y",5^M$\nlast,3^M$');
    await edit('l.txt', { op: 'replace', at: 'Grün', text: 'Köln' });
    assert.equal(await sh('od -An -tx1 l.txt'), ' 4b f6 6c 6e 20 62 6c fc 68 74');
    assert.match(await edit('form.pdf', { op: 'set_field', at: 'name', text: 'Ada Lovelace' }, { op: 'set_field', at: 'agree', text: 'yes' },
      { op: 'set_field', at: 'size', text: 'large' }), /name: "Ada Lovelace", was ""\nagree: Yes, was Off\nsize: "large"/);
    assert.match(await read('form.pdf'), /Name: +Ada Lovelace[^]*large/);
    assert.match(await sh("qpdf --json=2 --json-key=acroform form.pdf | tr -d '\\n '"), /"value":"u:AdaLovelace"[^]*"value":"\/Yes"/);
    await sh('md5sum report.docx book.xlsx form.pdf t.csv > before');
    const rows = [
      ['report.docx', [{ op: 'replace', at: 'not there', text: 'x' }], /nothing was changed: no paragraph or cell contains "not there"/],
      ['report.docx', [{ op: 'replace', at: 'Fish', text: 'x' }, { op: 'delete_section', at: 'None' }], /no heading is "None"; there are "Report", "End"/],
      ['report.docx', [{ op: 'replace', at: 'e', text: 'x' }], /occurs \d+ times; make it longer, or send "all":true/],
      ['report.docx', [{ op: 'set_cell', at: 'A1', text: 'x' }], /set_cell is for/],
      ['book.xlsx', [{ op: 'set_cell', at: 'Nope!A1', text: 'x' }], /there is no sheet "Nope"; there are Stock, Long list/],
      ['book.xlsx', [{ op: 'set_cell', at: 'A0', text: 'x' }], /is no cell/],
      ['form.pdf', [{ op: 'set_field', at: 'size', text: 'huge' }], /takes one of "small", "large"/],
      ['form.pdf', [{ op: 'set_field', at: 'nobody', text: 'x' }], /there is no field "nobody"; there are "name", "agree", "size"/],
      ['form.pdf', [{ op: 'replace', at: 'Name', text: 'x' }], /only form fields can be set/],
      ['t.csv', [], /1 to 1000 edits/],
    ];
    for (const [path, edits, want] of rows) assert.match(await refusal('document_edit', { path, edits }), want);
    assert.match(await sh('md5sum -c before'), /^(.*: OK\n?){4}$/);
  });
});

testHere('hostile documents are refused or contained, and the computer goes on', async () => {
  await withDocuments(async ({ convert, read, refusal, sh }) => {
    const rows = [
      ['bomb.docx', /more than 600 MiB .*zip bomb/], ['lying.docx', /more than it declares/],
      ['xxe.docx', /document type declaration/], ['laughs.xlsx', /document type declaration/],
      ['laughs.ods', /document type declaration/], ['cut-report.docx', /damaged or cut short/],
      ['cut-one.pdf', /damaged or cut short/], ['locked.pdf', /is encrypted/], ['locked.docx', /is encrypted/],
      ['false.pdf', /is no PDF/], ['none.pdf', /there is no \/workspace\/none\.pdf in the computer; file_list/],
    ];
    for (const [path, want] of rows) {
      const text = await refusal('document_read', { path });
      assert.match(text, want, path);
      assert.doesNotMatch(text, /root:/, path);
      assert.match(await refusal('document_convert', { path, to: 'pdf' }), /./, path);
      assert.match(await refusal('document_render', { path }), /./, path);
      assert.match(await refusal('document_edit', { path, edits: [{ op: 'replace', at: 'x', text: 'y', all: true }] }), /./, path);
    }
    assert.match(await refusal('document_read', { path: 'heavy.xlsx' }), /more memory/);
    await convert('macro.odt', { to: 'pdf' });
    assert.match(await read('macro.pdf'), /With a macro/);
    assert.equal(await sh('test ! -e macro-ran && echo absent'), 'absent');
    assert.equal(await sh('ls -d /tmp/document-* 2>/dev/null | wc -l'), '0');
  }, { make: 'hostile' });
});

testHere('a document that takes too long is given up, and nothing of it goes on', async () => {
  await withDocuments(async ({ refusal, sh }) => {
    await sh("python3 -c \"print('[a](' * 4000)\" > nested.md");
    assert.match(await refusal('document_convert', { path: 'nested.md', to: 'html' }), /took (longer than|too long)/);
    assert.equal(await sh('cat /proc/[0-9]*/comm 2>/dev/null | grep -c pandoc; :'), '0');
  }, { timeout: 15000 });
});

test('a document that is asked for comes through the rules', async () => {
  const server = http.createServer((request, response) => {
    response.writeHead(200, { 'Content-Type': 'text/html' });
    response.end('<h1>Served</h1><p>by the test</p>');
  });
  await new Promise((done) => server.listen(0, HOST, done));
  const address = `http://${HOST}:${server.address().port}`;
  try {
    await withDocuments(async ({ read, refusal }) => {
      assert.match(await read(`${address}/page`), /^# Served\n\nby the test\n/);
      assert.match(await refusal('document_read', { path: 'http://refused.example/a.pdf' }), /computer_create \{"allow"/);
    }, { make: null, create: { allow: [`${HOST}:${server.address().port}`] } });
  } finally {
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
  }
});

test('nothing that a document names is fetched', async () => {
  const asked = [];
  const server = http.createServer((request, response) => {
    asked.push(request.url);
    response.writeHead(200, { 'Content-Type': 'text/html' });
    response.end('<h1>Served</h1><p>by the test</p>');
  });
  await new Promise((done) => server.listen(0, HOST, done));
  const address = `http://${HOST}:${server.address().port}`;
  try {
    await withDocuments(async ({ ask, convert, read, refusal, sh }) => {
      await sh(`python3 corpus.py /workspace remote ${address}`);
      for (const file of ['remote.html', 'remote.md', 'remote.docx']) {
        assert.match(await read(file), /Remote/);
        await convert(file, { to: 'pdf' });
        await convert(file, { to: 'out.epub' });
        await convert(file, { to: 'out.odt' });
        good(await ask('document_render', { path: file }));
      }
      // Nor a file that the head of a text names.
      await sh("echo 'p{color:SECRETWORD}' > /tmp/secret.css; printf -- '---\\ncss: /tmp/secret.css\\n---\\n\\n# Styled\\n' > styled.md");
      await convert('styled.md', { to: 'styled.html' });
      assert.match(await read('styled.html'), /# Styled/);
      assert.equal(await sh("grep -c -e SECRETWORD -e text/css styled.html; :"), '0');
      assert.deepEqual(asked, []);
    }, { create: { allow: [`${HOST}:${server.address().port}`] } });
  } finally {
    server.closeAllConnections();
    await new Promise((done) => server.close(done));
  }
});

// The first process whose file @what (maps, cmdline) contains @text; those that it forked come after it.
const first = (what, text) => `grep -ls '${text}' /proc/[0-9]*/${what} | cut -d/ -f3 | grep -vx $$ | sort -n | head -1`;

test('LibreOffice and the driver are kept, and begin anew where they were ended', async () => {
  await withDocuments(async ({ convert, read, sh }) => {
    const office = () => sh(first('maps', 'libmergedlo'));
    const driver = () => sh(first('cmdline', 'document[.]keep'));
    await convert('report.docx', { to: 'one.pdf' });
    const [warm, resting] = [await office(), await driver()];
    assert.match(warm, /^\d+$/);
    assert.match(resting, /^\d+$/);
    // What it is forked with for each document.
    assert.match(await sh(`cat /proc/${warm}/limits`), /Max file size +536870912 [^]*Max data size +1610612736 [^]*Max core file size +0 /);
    await convert('report.docx', { to: 'two.odt' });
    await convert('book.xlsx', { to: 'three.csv' });
    assert.equal(await office(), warm);
    assert.equal(await driver(), resting);
    await sh(`kill -9 ${warm} ${resting}`);
    await convert('report.docx', { to: 'four.rtf' }); // not kept from before, as a PDF would be
    assert.match(await read('four.rtf'), /The quick brown foxes run/);
    assert.match(await office(), /^\d+$/);
    assert.notEqual(await office(), warm);
    assert.equal(await sh('ls /tmp | grep -c ^document-; :'), '0');
  });
});

testHere('calls at the same moment are answered by drivers of their own', async () => {
  await withDocuments(async ({ convert, read }) => {
    const texts = await Promise.all([read('report.docx'), read('book.xlsx', { sheet: 'Stock' }), read('mail.eml'),
      convert('report.docx', { to: 'a.pdf' }), convert('report.docx', { to: 'b.odt' }), read('note.ipynb')]);
    for (const [i, want] of [/brown foxes/, /bolts/, /dot\.png/, /a\.pdf written/, /b\.odt written/, /Study/].entries()) assert.match(texts[i], want);
    assert.match(await read('latin1.txt'), /Grüße/);
  });
});

testHere('every further format is read, listed, searched and changed', async () => {
  await withDocuments(async ({ ask, convert, edit, read, sh, write }) => {
    const markdown = '# Heading\n\nSome words[^1].\n\n![dots](picture.png)\n\n## Second\n\n| Name | Sum |\n|---|---|\n| Ada | 12 |\n\nTail.\n\n[^1]: The note.\n';
    const deck = '# One\n\n- first\n\n# Two\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n# Three\n\n![dots](picture.png)\n';
    for (const path of ['a.odt', 'a.epub', 'a.html', 'a.pdf', 'a.rtf', 'a.docx']) await write(path, { markdown });
    for (const path of ['d.pptx', 'd.odp']) await write(path, { markdown: deck });
    await convert('book.xlsx', { to: 'b.ods' });
    await sh("printf 'a;b\\n1;\"x;y\"\\n' > s.csv");
    const rows = [
      ['a.odt', { what: 'outline' }, /^- Heading \(offset 0\)\n {2}- Second/],
      ['a.odt', { what: 'tables' }, /^Table 1: Second\n\n\| *Name[^]*Ada/],
      ['a.odt', { what: 'images' }, /\.png {2}4772 bytes/],
      ['a.odt', { query: 'tail' }, /: Tail\./],
      ['a.odt', { format: 'text' }, /^Heading\n\nSome words/],
      ['a.epub', { what: 'images' }, /\.png {2}4772 bytes/],
      ['a.epub', {}, /# Heading[^]*\| Ada +\| 12 +\|/],
      ['a.epub', { what: 'metadata' }, /type: epub[^]*language/],
      ['a.html', {}, /# Heading[^]*Some words[^]*The note\./],
      ['a.html', { what: 'outline' }, /- Heading/],
      ['a.rtf', { query: 'ADA' }, /Ada/],
      ['a.pdf', { what: 'outline' }, /^- Heading \(page 1\)\n {2}- Second \(page 1\)/],
      ['a.pdf', { query: 'tail' }, /^page 1: Tail\./],
      ['a.pdf', { format: 'text' }, /^--- page 1 ---\nHeading/],
      ['d.odp', {}, /^## Slide 1: One\n\n[^]*first[^]*## Slide 2: Two[^]*\| 1 +\| 2 +\|[^]*ODP, 3 slides/],
      ['d.odp', { what: 'outline' }, /^1\. One\n2\. Two/],
      ['d.odp', { query: 'first' }, /slide 1: /],
      ['d.pptx', { what: 'images' }, /ppt\/media\/\S+\.png {2}4772 bytes/],
      ['d.pptx', { what: 'tables' }, /Slide 2[^]*\| 1 \| 2 \|/],
      ['d.pptx', { what: 'metadata' }, /type: pptx[^]*slides: 3/],
      ['b.ods', { what: 'outline' }, /Stock \(A1:D3, 8 cells\)/],
      ['b.ods', { what: 'tables' }, /\| 2 \| bolts \| 12 \|/],
      ['b.ods', { query: 'bolts' }, /Stock!A2: bolts/],
      ['s.csv', {}, /\| 2 \| 1 \| x;y \|/],
      ['mail.eml', { what: 'metadata' }, /subject: Grüße/],
      ['mail.eml', { query: 'picture' }, /See the picture/],
      ['note.ipynb', { what: 'outline' }, /- Study/],
      ['note.ipynb', { what: 'metadata' }, /cells: 2/],
    ];
    for (const [path, args, want] of rows) assert.match(await read(path, args), want, `${path} ${JSON.stringify(args)}`);
    for (const path of ['a.odt', 'a.epub', 'd.pptx', 'd.odp']) {
      const image = /^(\S+\.png) /m.exec(await read(path, { what: 'images' }))[1];
      assert.ok((await ask('document_read', { path, image })).content.some((block) => block.type === 'image'), path);
    }
    await sh('for f in a.odt d.pptx d.odp a.docx; do cp $f old-$f; done');
    const edits = [
      ['a.odt', { op: 'replace', at: 'Some words', text: 'Other & words' }, /Other & words/],
      ['a.odt', { op: 'insert_section', at: 'Second', text: '## Third\n\nNew here.' }, /## Third\n\nNew here\./],
      ['a.odt', { op: 'delete_section', at: 'Second' }, /Other & words[^]*## Third/],
      ['d.pptx', { op: 'replace', at: 'first', text: 'second' }, /- second/],
      ['d.odp', { op: 'replace', at: 'first', text: 'second' }, /second/],
      ['a.docx', { op: 'replace', at: 'Tail.', text: 'Head.' }, /Head\./],
    ];
    for (const [path, one, want] of edits) {
      await edit(path, one);
      assert.match(await read(path), want, `${path} ${one.op}`);
    }
    assert.doesNotMatch(await read('a.odt'), /Ada/);
    assert.equal(await sh(different('old-a.odt', 'a.odt')), "[] ['content.xml']");
    assert.equal(await sh(different('old-a.docx', 'a.docx')), "[] ['word/document.xml']");
    assert.match(await sh(different('old-d.pptx', 'd.pptx')), /^\[\] \['ppt\/slides\/slide1\.xml'\]$/);
    await convert('s.csv', { to: 's.xlsx' });
    assert.match(await read('s.xlsx'), /\| 2 \| 1 \| x;y \|/);
    await convert('book.xlsx', { to: 'b.tsv' });
    assert.match(await sh('cat b.tsv'), /^"?Part"?\t"?Count"?/);
  });
});

testHere('documents that come with the distribution give their text, tables and counts', async () => {
  await withDocuments(async ({ convert, read }) => {
    const office = '/usr/lib/libreoffice';
    assert.match(await read(`${office}/program/opencl/cl-test.ods`, { what: 'outline' }), /cells/);
    assert.match(await read(`${office}/share/template/common/officorr/Modern_business_letter_serif.ott`, { what: 'metadata' }), /type: odt/);
    assert.match(await read(`${office}/LICENSE.html`, { query: 'Mozilla Public License' }), /lines contain/);
    await convert(`${office}/share/template/common/officorr/Modern_business_letter_serif.ott`, { to: '/workspace/letter.pdf' });
    assert.match(await read('letter.pdf', { what: 'metadata' }), /pages: 1\n/);
  });
});

(PLACE === 'desktop' ? test : () => {})('what an image has not is said, with what has it', () => withV1(async ({ call }) => {
  const { computer } = (await call('computer_create', { image: 'base' })).structuredContent;
  await call('terminal_run', { computer, command: "echo '# Text' >a.md; printf '%%PDF-1.4\n' >a.pdf; touch a.docx" });
  const rows = [
    ['browser_navigate', { url: 'about:blank' }, 'chromium'],
    ['document_write', { path: 'b.docx', markdown: '# Text' }, 'pandoc'],
    ['document_convert', { path: 'a.md', to: 'docx' }, 'pandoc'],
    ['document_convert', { path: 'a.md', to: 'pdf' }, 'pandoc|libreoffice-[a-z]+'],
    ['document_read', { path: 'a.pdf' }, 'poppler-utils'],
    ['document_render', { path: 'a.pdf' }, 'poppler-utils'],
    ['document_edit', { path: 'a.pdf', edits: [{ op: 'set_field', at: 'x', text: 'y' }] }, 'qpdf'],
  ];
  for (const [name, args, wanted] of rows) {
    const result = await call(name, { computer, ...args });
    assert.ok(result.isError, `${name}: ${textOf(result)}`);
    assert.match(textOf(result), /computer_create \{"image":"desktop"\}/, name);
    assert.match(textOf(result), new RegExp(`package (${wanted})\\b`), name);
  }
}, { dir: placedHome(), args: ['--tools', `${GROUPS},browser`], config: placedConfig() }));
