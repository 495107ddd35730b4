// LibreOffice Writer in the desktop's machine: what a document says is on the screen, and what is
// typed into it is in the file.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { PATIENCE, place, read, screenOf, until, words } from './screen.mjs';
import { buildImages, connectV1, good, output, placed, placedConfig, placedHome } from './support.mjs';

const FILE = '/workspace/letter.fodt'; // one file of XML, which Ctrl+S saves without a question
const LETTER = `<?xml version="1.0" encoding="UTF-8"?>
<office:document xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0"
  xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" office:version="1.3"
  office:mimetype="application/vnd.oasis.opendocument.text"><office:body><office:text>
<text:p>The lighthouse keeper</text:p></office:text></office:body></office:document>
`;
const TYPED = ['Second letter', 'Grüße: é ß 漢字 😀 Ωμέγα → done'];

let client;
let computer;

const call = async (name, args = {}) =>
  client.callTool({ name, arguments: { ...(computer ? { computer } : {}), ...args } }, undefined, { timeout: PATIENCE });
const { did, inFront, screenshot, treeWith } = screenOf(call);

// Where a word is, once it is seen after @doing something.  The cursor beside it may look like
// another letter of it.  In between the machine has its processor for itself.
const seen = async (word, doing = async () => {}) => {
  const found = (all) => all.filter((one) => one.word.includes(word));
  const all = await until(async () => {
    await doing();
    return words(await screenshot());
  }, (all) => found(all).length === 1, `"${word}" on the screenshot`, 2000);
  return found(all)[0];
};

const paragraphs = (text) => [...text.matchAll(/<text:p[^>]*>([^<]*)</g)].map(([, inside]) => inside);

before(async () => {
  buildImages('desktop', 'base');
  const connected = await connectV1({
    dir: placedHome(), args: ['--tools', 'computer,terminal,file,desktop'], config: placedConfig() });
  client = connected.client;
  await connected.connect();
  const made = await call('computer_create', placed());
  good(made);
  computer = made.structuredContent.computer;
}, { timeout: 3000000 });

after(() => client?.close());

test('a document is opened, and its words are on the screen and in the tree', async () => {
  good(await call('file_write', { path: FILE, content: LETTER }));
  good(await call('terminal_run', { command: `exec libreoffice --writer --norestore --nologo ${FILE}`, background: true }));
  await seen('lighthouse');
  await inFront('letter.fodt - LibreOffice Writer');
  assert.match(await treeWith('lighthouse'), /^ *paragraph .*= The lighthouse keeper$/m);
});

test('what is typed is on the screen where the tree says it is, and in the saved file', async () => {
  // Writer shows its window long before it takes keys.  The pointer would hide words that it is on.
  await seen('ready', async () => {
    await did('left_click', { coordinate: [600, 600] });
    await did('key', { text: 'ctrl+a' });
    await did('type', { text: 'It is ready now' });
  });
  await did('key', { text: 'ctrl+a' });
  await did('type', { text: TYPED.join('\n') });
  const saved = await until(async () => {
    await did('key', { text: 'ctrl+s' });
    return output(await call('terminal_run', { command: `tail -c 2000 ${FILE}` }));
  }, (text) => text.includes('</office:document>') && !text.includes('lighthouse'), 'the saved letter', 2000);
  assert.deepEqual(paragraphs(saved), TYPED);

  const at = await seen('Second');
  assert.equal(read(await screenshot(), 'lighthouse').length, 0);
  const told = await treeWith(`= ${TYPED[1]}`);
  assert.deepEqual([...told.matchAll(/^ *paragraph .*= (.*)$/mg)].map(([, text]) => text), TYPED);
  // Places are off by the menu's height while Writer has not been told where its window is.
  const box = place(told, 'paragraph');
  assert.ok(at.x > box.x && at.x < box.x + box.width, JSON.stringify([at, box]));
  assert.ok(Math.abs(at.y - box.middle[1]) < 40, JSON.stringify([at, box]));
  await inFront('letter.fodt - LibreOffice Writer');
  await screenshot('desktop-writer.png');
});
