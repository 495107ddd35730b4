// The browser's tools side by side with @playwright/mcp, on the same pages in one run: the time of
// opening a page, reading it and clicking in it, the bytes that a model is given, and which of the
// awkward cases succeed.  node tests/bench/browser_peer.mjs, with AIOS (the program) and
// AIOS_NODE_MODULES set as for the integration tests; CHROMIUM names the peer's browser.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { once } from 'node:events';
import { load, textOf, environment } from '../integration/support.mjs';
import { program, input } from '../integration/browser_site.mjs';

const PORT = 8741;
const ROUNDS = Number(process.argv[2] ?? 9);
const { Client } = await load('@modelcontextprotocol/sdk/client/index.js');
const { StdioClientTransport } = await load('@modelcontextprotocol/sdk/client/stdio.js');
const home = fs.mkdtempSync(path.join(os.tmpdir(), 'aios-peer-'));

class Side {
  constructor(name, command, args, env) {
    this.name = name;
    this.transport = new StdioClientTransport({ command, args, env, cwd: home, stderr: 'ignore' });
    this.client = new Client({ name: 'bench', version: '1' });
  }

  async call(tool, args = {}) {
    const begin = performance.now();
    const result = await this.client.callTool({ name: tool, arguments: args }, undefined, { timeout: 120000 });
    this.ms = performance.now() - begin;
    const text = textOf(result);
    this.bytes = Buffer.byteLength(text);
    if (result.isError) throw new Error(text.slice(0, 500));
    return text;
  }

  go(where) { return this.call('browser_navigate', { url: `http://127.0.0.1:${PORT}${where}` }); }
  snapshot() { return this.call('browser_snapshot'); }
}

// Where a line says role "name", its reference; both write it in brackets.
const refIn = (text, what, from = '') => {
  const at = from ? text.indexOf(from) : 0;
  const found = new RegExp(`${what.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}[^\\n]*?\\[(?:[a-z]+\\] \\[)*(?:ref=)?((?:f\\d+)?e\\d+)`).exec(text.slice(Math.max(at, 0)));
  if (!found) throw new Error(`no ${what}`);
  return found[1];
};

const aios = new Side('aios', process.env.AIOS, ['mcp', '--tools', 'computer,terminal,file,browser'], environment(home));
aios.act = (action, args) => aios.call('browser_act', { action, timeout_ms: 5000, ...args });
const peer = new Side('@playwright/mcp', process.execPath, [
  path.join(process.env.AIOS_NODE_MODULES, '@playwright/mcp/cli.js'), '--headless', '--no-sandbox', '--isolated', '--caps=vision',
  '--executable-path', process.env.CHROMIUM ?? '/usr/lib/chromium/chromium'], { ...process.env });

// A case: what each side does after it has opened the page and read it (@s), and what must be there.
const click = (what, from) => ({
  aios: (s) => aios.act('click', { ref: refIn(s, what, from) }),
  peer: (s) => peer.call('browser_click', { element: what, target: refIn(s, what, from) }),
});
const type = (what, text) => ({
  aios: (s) => aios.act('fill', { ref: refIn(s, what), text }),
  peer: (s) => peer.call('browser_type', { element: what, target: refIn(s, what), text }),
});
const cases = [
  ['a form', '/form', /name=Jo&.*colour=g|name=Jo&.*colour=Green/, {
    aios: async (s) => {
      await aios.act('fill', { fields: { [refIn(s, 'textbox "Name"')]: 'Jo', [refIn(s, 'combobox "Colour"')]: 'Green', [refIn(s, 'checkbox "I agree"')]: 'true' } });
      await aios.act('click', { ref: refIn(s, 'button "Send"') });
    },
    peer: async (s) => {
      await peer.call('browser_fill_form', { fields: [
        { name: 'Name', element: 'Name', type: 'textbox', target: refIn(s, 'textbox "Name"'), value: 'Jo' },
        { name: 'Colour', element: 'Colour', type: 'combobox', target: refIn(s, 'combobox "Colour"'), value: 'Green' },
        { name: 'I agree', element: 'I agree', type: 'checkbox', target: refIn(s, 'checkbox "I agree"'), value: 'true' }] });
      await peer.call('browser_click', { element: 'Send', target: refIn(s, 'button "Send"') });
    } }],
  ['an open shadow root', '/shadow', /open clicked/, click('button "Open button"')],
  ['a closed shadow root', '/shadow', /shut clicked/, click('button "Shut button"')],
  ['a frame', '/frames', /inner clicked/, click('button "Inner button"')],
  ['a frame of another site', '/frames', /inner clicked/, click('button "Inner button"', 'far')],
  ['a dialog', '/dialogs', /confirmed true/, {
    aios: async (s) => { await aios.act('click', { ref: refIn(s, 'button "Confirm"') }); await aios.act('accept'); },
    peer: async (s) => { await peer.call('browser_click', { element: 'x', target: refIn(s, 'button "Confirm"') }); await peer.call('browser_handle_dialog', { accept: true }); } }],
  ['files for a field', '/files', /a\.txt 5/, {
    aios: (s) => aios.act('upload', { ref: refIn(s, 'file "Papers"'), values: ['/workspace/a.txt'] }),
    peer: async (s) => { await peer.call('browser_click', { element: 'x', target: refIn(s, 'button "Papers"') }); await peer.call('browser_file_upload', { paths: [path.join(home, 'a.txt')] }); } }],
  ['files by a button', '/files', /chosen a\.txt/, {
    aios: (s) => aios.act('upload', { ref: refIn(s, 'button "Choose a file"'), values: ['/workspace/a.txt'] }),
    peer: async (s) => { await peer.call('browser_click', { element: 'x', target: refIn(s, 'button "Choose a file"') }); await peer.call('browser_file_upload', { paths: [path.join(home, 'a.txt')] }); } }],
  ['dragging', '/drag', /dropped card/, {
    aios: (s) => aios.act('drag', { ref: refIn(s, 'drag "Card"'), to: 'text=Drop here' }),
    peer: () => peer.call('browser_drag', { startElement: 'x', startTarget: '#card', endElement: 'y', endTarget: '#zone' }) }],
  ['dragging by mouse events', '/drag', /knob at 4\d\d/, {
    aios: (s) => aios.act('drag', { ref: refIn(s, 'slider "Knob"'), to: '#goal' }),
    peer: (s) => peer.call('browser_drag', { startElement: 'x', startTarget: refIn(s, 'slider "Knob"'), endElement: 'y', endTarget: '#goal' }) }],
  ['editable content', '/editable', /essay: Second/, {
    aios: (s) => aios.act('fill', { ref: refIn(s, 'textbox "Essay"'), text: 'Second' }),
    peer: () => peer.call('browser_type', { element: 'Essay', target: '[contenteditable]', text: 'Second' }) }],
  ['a canvas by coordinates', '/canvas', /canvas \d+ \d+/, {
    aios: async () => { await aios.call('browser_screenshot'); await aios.act('click', { ref: '60,50' }); },
    peer: () => peer.call('browser_mouse_click_xy', { element: 'x', x: 60, y: 50 }) }],
  ['covered for a while', '/uncovered', /reached/, click('button "Under"')],
  ['moving for a while', '/moving', /caught/, click('button "Moving"')],
  ['disabled for a while', '/late', /pressed/, click('button "Late"')],
  ['a controlled field', '/controlled', /u ABC/, type('textbox "Upper"', 'abc')],
  ['shown by hovering', '/hover', /picked/, {
    aios: async () => { await aios.act('hover', { ref: 'text=Products' }); await aios.act('click', { ref: 'text=Pick me' }); },
    peer: async () => { await peer.call('browser_hover', { element: 'x', target: '.top' }); await peer.call('browser_click', { element: 'y', target: '.menu button' }); } }],
  ['a box behind its label', '/labels', /box true/, {
    aios: (s) => aios.act('check', { ref: refIn(s, 'checkbox "Fancy"') }),
    peer: () => peer.call('browser_click', { element: 'x', target: 'label' }) }],
  ['a list without end', '/scroll', /row 60\b/, {
    aios: async (s) => {
      for (let i = 0; i < 4; i++) await aios.act('scroll', { ref: refIn(s, 'scroll'), dy: 5000 });
      await aios.act('click', { ref: refIn(await aios.snapshot(), 'button "Row 60"') });
    },
    peer: async () => {
      for (let i = 0; i < 4; i++) await peer.call('browser_evaluate', { function: '() => new Promise((done) => { list.scrollTop = 1e6; setTimeout(done, 100); })' });
      await peer.call('browser_click', { element: 'x', target: refIn(await peer.snapshot(), 'button "Row 60"') });
    } }],
  ['the last of 50,000 nodes', '/big', /\/item\/12499/, {
    aios: async () => { await aios.act('click', { ref: refIn(await aios.call('browser_snapshot', { match: 'Open 12499' }), 'link "Open 12499"') }); },
    peer: async (s) => { await peer.call('browser_click', { element: 'x', target: refIn(s, 'link "Open 12499"') }); } }],
];

const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];
const measure = async (side, rounds, prepare, body) => {
  const ms = [];
  let bytes = 0;
  for (let i = 0; i < rounds; i++) {
    const s = await prepare?.();
    await body(s);
    ms.push(side.ms);
    bytes = side.bytes;
  }
  return { ms: median(ms), bytes };
};
const row = (...cells) => console.log(cells.map((cell, i) => (i ? String(cell).padStart(16) : String(cell).padEnd(30))).join(' '));

let site;
try {
  for (const side of [aios, peer]) await side.client.connect(side.transport);
  site = spawn('python3', ['-c', program, String(PORT)], { stdio: ['pipe', 'pipe', 'ignore'] });
  site.stdin.end(input(PORT));
  await once(site.stdout, 'data');
  fs.writeFileSync(path.join(home, 'a.txt'), 'hello');
  await aios.call('file_write', { path: '/workspace/a.txt', content: 'hello' });
  await aios.call('file_write', { path: '/workspace/site.py', content: program });
  await aios.call('file_write', { path: '/workspace/site.json', content: input(PORT) });
  const run = /r_[0-9a-z]{20,}/.exec(await aios.call('terminal_run', { command: `python3 /workspace/site.py ${PORT} </workspace/site.json`, background: true }))[0];
  for (let i = 0; i < 10 && !/ready/.test(await aios.call('terminal_read', { run, offset: 0, wait_ms: 2000 })); i++);
  for (const side of [aios, peer]) await side.go('/'); // its browser has started

  row('', 'aios', '@playwright/mcp', 'ratio');
  const compare = async (what, rounds, prepare, body) => {
    const a = await measure(aios, rounds, () => prepare?.(aios), (s) => body(aios, s));
    const p = await measure(peer, rounds, () => prepare?.(peer), (s) => body(peer, s));
    row(what + ', ms', a.ms.toFixed(1), p.ms.toFixed(1), (p.ms / a.ms).toFixed(1));
    row(what + ', bytes', a.bytes, p.bytes, (p.bytes / a.bytes).toFixed(1));
  };
  const pushed = (side, ref) => (side === aios ? aios.act('click', { ref }) : peer.call('browser_click', { element: 'x', target: ref }));
  for (const where of ['/form', '/', '/frames']) {
    await compare('navigate ' + where, ROUNDS, null, (side) => side.go(where));
    await compare('snapshot ' + where, ROUNDS, null, (side) => side.snapshot());
  }
  await compare('click', ROUNDS, async (side) => { await side.go('/shadow'); return refIn(await side.snapshot(), 'button "Open button"'); }, pushed);
  await compare('navigate, 50,000 nodes', 1, null, (side) => side.go('/big'));
  await compare('snapshot, 50,000 nodes', Math.min(ROUNDS, 3), null, (side) => side.snapshot());

  const won = { aios: 0, [peer.name]: 0 };
  for (const [name, where, want, steps] of cases) {
    const outcome = [];
    for (const side of [aios, peer]) {
      const begin = performance.now();
      let said = 'yes';
      try {
        await side.go(where);
        await (side === aios ? steps.aios : steps.peer)(await side.snapshot());
        const text = await side.snapshot();
        if (!want.test(text)) said = 'no effect';
      } catch (error) {
        said = 'no';
        if (process.env.VERBOSE) console.log(side.name, name, error.message);
        if (side === peer) await peer.call('browser_press_key', { key: 'Escape' }).catch(() => {});
      }
      if (said === 'yes') won[side.name]++;
      outcome.push(`${said} ${Math.round(performance.now() - begin)} ms`);
    }
    row(name, ...outcome);
  }
  row('cases that succeed', won.aios, won[peer.name], `of ${cases.length}`);
} finally {
  for (const side of [aios, peer]) await side.client.close().catch(() => {});
  site?.kill();
  fs.rmSync(home, { recursive: true, force: true, maxRetries: 10 });
}
