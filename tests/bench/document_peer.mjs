// The documents' tools side by side with pandoc, pdftotext and soffice run by hand: in a computer of
// the same kind (terminal_run), and on the host.  Rounds alternate; the medians of one run count.
// node tests/bench/document_peer.mjs [ROUNDS], with AIOS (the program) and AIOS_NODE_MODULES set as
// for the integration tests.  The target: at most 1.2 times and 50 ms.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { load, textOf, environment, output } from '../integration/support.mjs';

const ROUNDS = Number(process.argv[2] ?? 7);
const { Client } = await load('@modelcontextprotocol/sdk/client/index.js');
const { StdioClientTransport } = await load('@modelcontextprotocol/sdk/client/stdio.js');
const home = fs.mkdtempSync(path.join(os.tmpdir(), 'aios-peer-'));
const host = path.join(home, 'host');
const corpus = fs.readFileSync(new URL('../integration/document_corpus.py', import.meta.url), 'utf8');
const client = new Client({ name: 'bench', version: '1' });
let computer;
const call = async (name, args) => {
  const result = await client.callTool({ name, arguments: { ...(computer ? { computer } : {}), ...args } }, undefined, { timeout: 120000 });
  if (result.isError) throw new Error(textOf(result).slice(0, 500));
  return result;
};
const inside = async (command) => output(await call('terminal_run', { command }));
const native = (command) => {
  const { status, stderr } = spawnSync('/bin/sh', ['-c', command], { cwd: host, encoding: 'utf8',
    env: { PATH: '/usr/local/bin:/usr/bin:/bin', HOME: host, LC_ALL: 'C.UTF-8' } });
  if (status) throw new Error(stderr.slice(0, 500));
};
const timed = async (body) => {
  const begin = performance.now();
  await body();
  return performance.now() - begin;
};
const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];
const row = (...cells) => console.log(cells.map((cell, i) => String(cell)[i ? 'padStart' : 'padEnd'](i ? 12 : 30)).join(' '));
const ms = (value) => value.toFixed(0);

const markdown = `# Report\n\n${Array.from({ length: 60 }, (_, n) => `## Part ${n}\n\nA paragraph of *some* words about ${n}, with a note[^${n}].\n\n` +
  `| a | b |\n|---|---|\n| ${n} | ${n * n} |\n\n[^${n}]: Note ${n}.\n`).join('\n')}`;
// What is timed: by the tool, and by hand.  Each round has a file of its own ($N), so that nothing kept helps.
const rows = [
  ['DOCX read', (n) => call('document_read', { path: `docx/${n}.docx` }), (n) => `pandoc -t gfm --wrap=none docx/${n}.docx`],
  ['PDF, one page of a new file', (n) => call('document_read', { path: `pdf/${n}.pdf`, pages: '124' }),
    (n) => `pdftotext -layout -f 124 -l 124 pdf/${n}.pdf -`],
  ['PDF, one page of the same', (n) => call('document_read', { path: 'big.pdf', pages: String(n + 100) }),
    (n) => `pdftotext -layout -f ${n + 100} -l ${n + 100} big.pdf -`],
  ['MD to DOCX, converted', (n) => call('document_convert', { path: `md/${n}.md`, to: `out/${n}.docx` }),
    (n) => `pandoc -f markdown md/${n}.md -o out/h${n}.docx`],
  ['MD to DOCX, written', (n) => call('document_write', { path: `out/w${n}.docx`, markdown }),
    (n) => `pandoc -f markdown md/${n}.md -o out/h${n}.docx`],
  ['DOCX to PDF', (n) => call('document_convert', { path: `docx/${n}.docx`, to: `out/${n}.pdf` }),
    (n) => `soffice -env:UserInstallation=file://$PWD/profile --headless --convert-to pdf --outdir hand docx/${n}.docx >&2`],
  ['XLSX to CSV', (n) => call('document_convert', { path: `xlsx/${n}.xlsx`, to: `out/${n}.csv` }),
    (n) => `soffice -env:UserInstallation=file://$PWD/profile --headless --convert-to csv --outdir hand xlsx/${n}.xlsx >&2`],
];

try {
  fs.mkdirSync(host);
  await client.connect(new StdioClientTransport({ command: process.env.AIOS, args: ['mcp', '--tools', 'computer,terminal,file,document'],
    env: environment(home), cwd: home, stderr: 'inherit' }));
  ({ computer } = (await call('computer_create', { memory_mb: 2048, disk_mb: 1024 })).structuredContent);
  const prepare = `set -e; mkdir -p docx pdf md xlsx out hand; python3 corpus.py . big; python3 corpus.py .; pandoc -f markdown base.md -o base.docx
    for n in $(seq 0 ${ROUNDS}); do cp base.docx docx/$n.docx; cp base.md md/$n.md; cp big.pdf pdf/$n.pdf; cp book.xlsx xlsx/$n.xlsx; done`;
  await call('file_write', { path: '/workspace/corpus.py', content: corpus });
  await call('file_write', { path: '/workspace/base.md', content: markdown });
  fs.writeFileSync(path.join(host, 'corpus.py'), corpus);
  fs.writeFileSync(path.join(host, 'base.md'), markdown);
  await inside(prepare);
  native(prepare);

  row('medians, ms', 'first', 'tool', 'inside', 'native', 'x inside', 'x native', 'over by ms', 'target');
  for (const [name, tool, hand] of rows) {
    const times = { tool: [], inside: [], native: [] };
    let first;
    for (let n = 0; n <= ROUNDS; n++) {
      const took = await timed(() => tool(n));
      const by = await timed(() => inside(`{ ${hand(n)}; } >/dev/null`));
      const alone = await timed(() => native(`{ ${hand(n)}; } >/dev/null`));
      if (n === 0) { first = took; continue; } // the first one starts what is kept warm
      times.tool.push(took);
      times.inside.push(by);
      times.native.push(alone);
    }
    const [a, b, c] = [median(times.tool), median(times.inside), median(times.native)];
    row(name, ms(first), ms(a), ms(b), ms(c), (a / b).toFixed(2), (a / c).toFixed(2), ms(a - 1.2 * b), a <= 1.2 * b + 50 ? 'met' : 'MISSED');
  }
  const pages = { 1: [], 2900: [] };
  for (let n = 1; n <= ROUNDS; n++) {
    for (const page of [1, 2900]) pages[page].push(await timed(() => call('document_read', { path: 'big.pdf', pages: String(page) })));
  }
  const ratio = median(pages[2900]) / median(pages[1]);
  row('PDF, page 2,900 beside page 1', '', ms(median(pages[2900])), ms(median(pages[1])), '', ratio.toFixed(2), '', '', ratio <= 2 ? 'met' : 'MISSED');
} finally {
  await client.close().catch(() => {});
  fs.rmSync(home, { recursive: true, force: true, maxRetries: 10 });
}
