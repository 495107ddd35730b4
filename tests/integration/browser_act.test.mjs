// browser_snapshot and browser_act on pages that make it hard.
import test, { before, after } from 'node:test';
import assert from 'node:assert/strict';
import { buildImages, good, PART, PLACE, placed, placedConfig, placedHome, Raw, textOf } from './support.mjs';
import { program, input } from './browser_site.mjs';

const PORT = 8731; // in a computer of its own
let raw, computer;

const call = (name, args = {}) => raw.call(name, computer && name !== 'terminal_read' ? { computer, ...args } : args);
const go = async (path) => {
  const text = good(await call('browser_navigate', { url: `http://127.0.0.1:${PORT}${path}` }));
  assert.match(text, new RegExp(`127\\.0\\.0\\.1:${PORT}`));
};
const snapshot = async (args = {}) => good(await call('browser_snapshot', args));
const act = async (action, args = {}) => good(await call('browser_act', { action, ...args }));
const refused = async (action, args = {}) => {
  const result = await call('browser_act', { action, ...args });
  assert.equal(result.isError, true, textOf(result));
  return textOf(result);
};
// The ref of the line that begins so: role "name".
const refIn = (text, start) => {
  const found = new RegExp(`^ *${start.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')} \\[((?:f\\d+)?[ef]\\d+)`, 'm').exec(text)
    ?? new RegExp(`${start.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')} \\[((?:f\\d+)?[ef]\\d+)`).exec(text);
  assert.ok(found, `no ${start} in:\n${text}`);
  return found[1];
};
const says = async (pattern) => assert.match(await snapshot(), pattern);

before(async () => {
  if (PLACE) buildImages('desktop');
  raw = new Raw({ args: ['--tools', 'computer,terminal,file,browser'],
    ...(PLACE ? { dir: placedHome(), config: placedConfig() } : {}) });
  await raw.initialize();
  raw.send({ method: 'notifications/initialized' });
  if (PLACE) ({ computer } = (await raw.call('computer_create', placed())).structuredContent);
  good(await call('file_write', { path: '/workspace/site.py', content: program }));
  good(await call('file_write', { path: '/workspace/site.json', content: input(PORT) }));
  good(await call('file_write', { path: '/workspace/a.txt', content: 'hello' }));
  good(await call('file_write', { path: '/workspace/b.txt', content: 'hello you' }));
  const run = good(await call('terminal_run', { command: `python3 /workspace/site.py ${PORT} </workspace/site.json`, background: true }));
  const handle = /r_[0-9a-z]{20,}/.exec(run)[0];
  for (let i = 0; i < 20; i++)
    if (/ready/.test(good(await call('terminal_read', { run: handle, offset: 0, wait_ms: 3000 })))) return;
  throw new Error('the site does not begin');
}, { timeout: 3000000 });
after(async () => { await raw?.close(); });

// In a virtual machine each of them takes a minute or so: what is done to a form is enough.
const test_ = PART ? () => {} : test;

test_('an outline has what is to be seen, and nothing else', async () => {
  await go('/');
  const text = await snapshot();
  for (const line of [/^nav "Main"$/m, /^ link "Form" \[e\d+\]$/m, /^ h1 "Welcome"$/m, /^ "Some bold and slanted text\."$/m,
    /^ {2}row: Tea \| 3 \| button "Buy tea" \[e\d+\]$/m, /^ img "A cat"$/m]) assert.match(text, line);
  assert.doesNotMatch(text, /hidden/);
  assert.match(await snapshot({ links: true }), /link "Form" \[e\d+\] http:\/\/127\.0\.0\.1:\d+\/form$/m);
});

test_('references stay, and are never given twice', async () => {
  await go('/');
  const first = await snapshot();
  assert.equal(refIn(await snapshot(), 'link "Form"'), refIn(first, 'link "Form"'));
  await go('/form');
  const second = await snapshot();
  assert.ok(Number(/e(\d+)/.exec(refIn(second, 'textbox "Name"'))[1]) > Number(/e(\d+)/.exec(refIn(first, 'link "Form"'))[1]));
  assert.match(await refused('click', { ref: refIn(first, 'link "Form"') }), /no longer in the page; take a browser_snapshot/);
});

test_('only a part, a few levels, what matches, what changed', async () => {
  await go('/');
  assert.equal((await snapshot({ match: 'buy milk' })).split('\n').slice(1).join('\n').replace(/e\d+/, 'e'),
    'main\n table\n  row: Milk | 2 | button "Buy milk" [e]');
  const shallow = await snapshot({ depth: 1 });
  assert.match(shallow, /^main \[e\d+ \d+ lines below\]$/m);
  const main = /^main \[(e\d+)/m.exec(shallow)[1];
  const below = await snapshot({ root: main });
  assert.match(below, /h1 "Welcome"/);
  assert.doesNotMatch(below, /nav/);
  await snapshot();
  assert.equal(await snapshot({ changed: true }), 'nothing changed');
  assert.match(await snapshot({ match: 'no such words' }), /nothing matches/);
});

test_('50,000 nodes come in pages', async () => {
  await go('/big');
  let text = await snapshot();
  assert.ok(Buffer.byteLength(text) <= 32768);
  let pages = 1;
  let cursor;
  const seen = new Set();
  for (; ;) {
    for (const line of text.split('\n')) if (/^link/.test(line)) seen.add(line);
    cursor = /cursor: (\d+)/.exec(text)?.[1];
    if (!cursor || pages === 3) break;
    text = await snapshot({ cursor: Number(cursor) });
    pages++;
  }
  assert.equal(pages, 3);
  assert.ok(seen.size > 2000);
  assert.match(await snapshot({ match: 'Open 12499' }), /link "Open 12499"/);
  assert.match(await snapshot({ cursor: 24990 }), /Item/);
});

test('a form: several fields at once, lists, boxes, a date, a range', async () => {
  await go('/form');
  const text = await snapshot();
  const ref = (start) => refIn(text, start);
  await act('fill', { fields: { [ref('textbox "Name"')]: 'Jo "J" Doe', [ref('textbox "E-mail"')]: 'jo@example.org',
    [ref('textbox "Note"')]: 'one\ntwo', [ref('combobox "Colour"')]: 'Blue', [ref('checkbox "I agree"')]: 'true',
    [ref('date "Day"')]: '2026-11-22', [ref('slider "Count"')]: '7' } });
  assert.match(await act('select', { ref: ref('listbox "Extras"'), values: ['Cream', 'Milk'] }), /changed|done/);
  await act('check', { ref: ref('radio "Large"') });
  assert.match(await act('check', { ref: ref('radio "Large"') }), /already/);
  const changed = await act('click', { ref: ref('button "Send"'), snapshot: true });
  assert.match(changed, /sent name=Jo\+%22J%22\+Doe&mail=jo%40example\.org&note=one%0(D%0)?Atwo&colour=b&extras=Cream&extras=Milk&terms=on&size=l&day=2026-11-22&count=7&secret=hunter2/);
  assert.match(await snapshot(), /password "Secret" \[e\d+\] = "\*+"$/m);
  assert.match(await act('uncheck', { ref: ref('checkbox "I agree"'), snapshot: true }), /~.*checkbox "I agree"/);
  assert.match(await refused('select', { ref: ref('combobox "Colour"'), values: ['Mauve'], timeout_ms: 100 }), /no option "Mauve"; there are "Red", "Green", "Blue"/);
  assert.match(await refused('fill', { ref: ref('date "Day"'), text: 'tomorrow', timeout_ms: 100 }), /takes values such as 2026-11-22/);
  assert.match(await refused('uncheck', { ref: ref('radio "Large"') }), /radio button cannot be unchecked/);
});

test_('shadow roots, open and closed', async () => {
  await go('/shadow');
  const text = await snapshot();
  assert.match(text, /"in the open"/);
  assert.match(text, /"slotted text"/);
  assert.match(await act('click', { ref: refIn(text, 'button "Open button"'), snapshot: true }), /open clicked/);
  assert.match(await act('click', { ref: refIn(text, 'button "Shut button"'), snapshot: true }), /shut clicked/);
  assert.match(await act('type', { ref: refIn(text, 'textbox "Shut field"'), text: 'abc', snapshot: true }), /shut typed abc/);
});

test_('frames, of another site too', async () => {
  await go('/frames');
  const text = await snapshot();
  const [, same, other] = /^iframe "Same" \[(f\d+)\][^]*^iframe "Other" \[(f\d+)\]/m.exec(text);
  const ref = (frame, what) => new RegExp(`${what} \\[(${frame}e\\d+)`).exec(text)[1];
  for (const frame of [same, other]) {
    assert.match(await act('click', { ref: ref(frame, 'button "Inner button"'), snapshot: true }), /inner clicked/);
    assert.match(await act('fill', { ref: ref(frame, 'textbox "Inner field"'), text: 'in frame', snapshot: true }), /inner typed in frame/);
    assert.match(await act('type', { ref: ref(frame, 'textbox "Inner field"'), text: ' 2', snapshot: true }), /inner typed in frame 2/);
    assert.match(await act('click', { ref: ref(frame, 'button "Low button"'), snapshot: true }), /low clicked/);
  }
  assert.match(await snapshot({ root: other }), /h2 "Inside"/);
});

test_('dialogs are told of, and answered', async () => {
  await go('/dialogs');
  assert.match(await act('click', { ref: 'text=Alert' }), /dialog: alert.*Beware/);
  const blocked = await call('browser_snapshot');
  assert.equal(blocked.isError, true);
  assert.equal(await act('accept'), 'accepted the dialog');
  await says(/alerted/);
  assert.match(await act('click', { ref: 'text=Confirm' }), /dialog: confirm.*Sure\?/);
  await act('dismiss');
  await says(/confirmed false/);
  await act('click', { ref: 'text=Prompt' });
  await act('accept', { text: 'Ann' });
  await says(/prompted Ann/);
  assert.match(await refused('accept'), /dialog/);
});

test_('files are uploaded, by the field and by a button', async () => {
  await go('/files');
  const text = await snapshot();
  assert.match(await act('upload', { ref: refIn(text, 'file "Papers"'), values: ['/workspace/a.txt', '/workspace/b.txt'], snapshot: true }), /a\.txt 5, b\.txt 9/);
  assert.match(await act('upload', { ref: refIn(text, 'button "Choose a file"'), values: ['/workspace/a.txt'], snapshot: true }), /chosen a\.txt/);
  assert.match(await refused('upload', { ref: refIn(text, 'file "Papers"'), values: ['/workspace/none'] }), /none/);
});

test_('dragging, of both kinds', async () => {
  await go('/drag');
  const text = await snapshot();
  assert.match(await act('drag', { ref: refIn(text, 'drag "Card"'), to: 'text=Drop here', snapshot: true }), /dropped card/);
  assert.match(await act('drag', { ref: refIn(text, 'slider "Knob"'), to: '#goal', snapshot: true }), /knob at 4[0-9]{2}/);
});

test_('scrolling: a list without end, and its end', async () => {
  await go('/scroll');
  const list = refIn(await snapshot(), 'scroll');
  assert.match(await act('scroll', { ref: list, dy: 100 }), /scrolled: it is at 100 of/);
  for (let i = 0; i < 30; i++) if (/nothing scrolled/.test(await act('scroll', { ref: list, dy: 3000 }))) break;
  const text = await snapshot({ match: 'Row 200' });
  assert.match(await act('click', { ref: refIn(text, 'button "Row 200"'), snapshot: true }), /row 200/);
  assert.match(await act('click', { ref: 'text=Row 1', timeout_ms: 300 }).catch((e) => e.message), /be more exact|changed/);
});

test_('what can be edited without being a field', async () => {
  await go('/editable');
  const ref = refIn(await snapshot(), 'textbox "Essay"');
  assert.match(await act('type', { ref, text: ', and more – ünï', snapshot: true }), /essay: First words, and more – ünï/);
  assert.match(await act('fill', { ref, text: 'New', snapshot: true }), /essay: New"/);
});

test_('a canvas, by the coordinates of a screenshot', async () => {
  await go('/canvas');
  assert.match(await snapshot(), /canvas "Board" \[e\d+\]/);
  const shot = await call('browser_screenshot');
  assert.ok(!shot.isError, textOf(shot));
  assert.match(await act('click', { ref: '58,48', snapshot: true }), /canvas \d+ \d+/);
});

test_('waits until it can be done, or says why not', async () => {
  await go('/covered');
  assert.match(await refused('click', { ref: 'text=Under', timeout_ms: 300 }), /button "Under" could not be clicked within 30{2,3} ms: covered by <div class=overlay>/);
  await go('/uncovered');
  assert.match(await act('click', { ref: 'text=Under', snapshot: true, timeout_ms: 20000 }), /reached/);
  await go('/moving');
  assert.match(await act('click', { ref: 'text=Moving', snapshot: true, timeout_ms: 20000 }), /caught/);
  await go('/late');
  assert.match(await act('click', { ref: 'button', snapshot: true, timeout_ms: 20000 }), /pressed/);
  await go('/never');
  assert.match(await refused('click', { ref: 'button', timeout_ms: 200 }), /disabled/);
  assert.match(await refused('type', { ref: 'p', text: 'x', timeout_ms: 200 }), /not a field/);
  await go('/dead');
  assert.equal(await act('click', { ref: 'text=Dead' }), 'focus: button "Dead"');
  assert.equal(await act('click', { ref: 'text=Dead' }), 'nothing changed');
});

test_('fields that a program controls', async () => {
  await go('/controlled');
  const text = await snapshot();
  assert.match(await act('fill', { ref: refIn(text, 'textbox "Upper"'), text: 'abc' }), /holds "ABC" now/);
  await says(/u ABC/);
  await act('type', { ref: refIn(text, 'textbox "Digits"'), text: 'a1b2' });
  await says(/d 12/);
});

test_('keys, with what is held down', async () => {
  await go('/keys');
  const ref = refIn(await snapshot(), 'textbox "Field"');
  await act('press', { ref, text: 'Control+a' });
  await says(/Control a KeyA 65/);
  await act('press', { text: 'Delete' });
  await says(/textbox "Field" \[e\d+ focused\]$/m);
  await act('press', { text: 'Shift+End' });
  await says(/Shift End End 35/);
  assert.match(await refused('press', { ref, text: 'Contrl+x' }), /is not a key; send Enter/);
});

test_('what shows on hovering, two clicks, the other button', async () => {
  await go('/hover');
  await act('hover', { ref: 'text=Twice' });
  assert.doesNotMatch(await snapshot(), /Pick me/);
  assert.match(await act('hover', { ref: 'text=Products', snapshot: true }), /Pick me/);
  assert.match(await act('click', { ref: 'text=Pick me', snapshot: true }), /picked/);
  assert.match(await act('double_click', { ref: 'text=Twice', snapshot: true }), /double/);
  assert.match(await act('right_click', { ref: 'text=Twice', snapshot: true }), /context/);
});

test_('a label for a box that cannot be seen; what is no control at all', async () => {
  await go('/labels');
  assert.match(await act('check', { ref: refIn(await snapshot(), 'checkbox "Fancy"'), snapshot: true }), /box true/);
  assert.match(await act('click', { ref: 'text=Plain thing', snapshot: true }), /plain clicked/);
});

test_('where a click leads is told', async () => {
  await go('/navigate');
  assert.match(await act('click', { ref: 'text=Pop up' }), /new tab t\d+/);
  const tab = /t\d+/.exec(good(await call('browser_tabs')))[0];
  assert.match(good(await call('browser_act', { action: 'click', ref: 'text=Go to the form', tab })), /navigated to http:\/\/127\.0\.0\.1:\d+\/form/);
});

test_('what cannot be meant is refused with what to send', async () => {
  await go('/');
  assert.match(await refused('click'), /send "ref"/);
  assert.match(await refused('click', { ref: 'e999999' }), /e999999 is no longer in the page/);
  assert.match(await refused('click', { ref: 'f77e1' }), /no longer in the page/);
  assert.match(await refused('click', { ref: 'a' }), /elements match a/);
  assert.match(await refused('click', { ref: '!!' }), /neither a reference/);
  assert.match(await refused('scroll'), /send "dy"/);
  assert.match(await refused('drag', { ref: 'h1' }), /send "to"/);
});
