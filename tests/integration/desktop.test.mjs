// The desktop through the whole program: an official client, real QEMU, the image "desktop".
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { imageOf, keep, PATIENCE, place, read, screenOf, until } from './screen.mjs';
import { AIOS, connectV1, environment, good, home, output, textOf } from './support.mjs';

const IMAGES = process.env.AIOS_TEST_IMAGES; // shared by all builds of this tree

const dir = home();
let client;
let computer;

const call = async (name, args = {}) =>
  client.callTool({ name, arguments: { ...(computer ? { computer } : {}), ...args } }, undefined, { timeout: PATIENCE });
const run = async (command) => output(await call('terminal_run', { command }));
const { act, did, textWhenItCan, tree, frontTitle, inFront, treeWith, screenshot } = screenOf(call);

// It says in its title what was done to it, which is what the list of windows shows.
const PAGE = `<!doctype html><meta charset="utf-8"><title>Ready</title>
<style>
  body { margin: 0; font: 20px sans-serif; height: 3000px }
  h1 { position: absolute; left: 340px; top: 20px; font-size: 72px; margin: 0 }
  input { position: absolute; left: 340px; top: 150px; width: 500px; font-size: 32px }
  button { position: absolute; left: 340px; top: 230px; width: 500px; height: 260px; font-size: 32px }
</style>
<h1>Lighthouse</h1><input aria-label="Words"><button>Touch me</button>
<script>
  const say = (text) => { document.title = text; };
  const pad = document.querySelector('button'), field = document.querySelector('input');
  let down;
  pad.onmousedown = (e) => { down = [e.clientX, e.clientY]; };
  pad.onmouseup = (e) => {
    const far = [e.clientX - down[0], e.clientY - down[1]];
    const name = ['left', 'middle', 'right'][e.button];
    if (far[0] || far[1]) say('dragged ' + far); else say(name + ' ' + e.detail + (e.shiftKey ? ' shifted' : ''));
  };
  oncontextmenu = (e) => e.preventDefault();
  onscroll = () => say(scrollY > 0 ? 'scrolled down' : 'scrolled up');
  const held = new Set();
  document.onkeydown = (e) => {
    if (document.activeElement === field) return;
    held.add(e.key);
    if (e.ctrlKey && e.altKey && e.key === 'y') { e.preventDefault(); say('combined'); }
  };
  document.onkeyup = (e) => {
    if (document.activeElement !== field && e.key === 'k' && held.has('k')) say('held and let go');
  };
</script>`;

before(async () => {
  assert.ok(IMAGES, 'AIOS_TEST_IMAGES must be set; run through ctest');
  fs.mkdirSync(IMAGES, { recursive: true });
  fs.mkdirSync(path.join(dir, 'cache'), { mode: 0o700 });
  fs.symlinkSync(IMAGES, path.join(dir, 'cache/images'));
  const built = spawnSync(AIOS, ['image', 'build', 'desktop'], {
    env: { ...environment(dir), PATH: `${process.env.PATH}:/usr/sbin:/sbin` }, encoding: 'utf8' });
  assert.equal(built.status, 0, built.stderr);
  const connected = await connectV1({
    dir, args: ['--tools', 'computer,terminal,file,desktop'],
    config: { tool: { call_timeout_ms: PATIENCE }, vm: { images_dir: IMAGES } },
  });
  client = connected.client;
  await connected.connect();
  const made = await call('computer_create', { kind: 'vm', image: 'desktop' });
  good(made);
  computer = made.structuredContent.computer;
}, { timeout: 3000000 });

after(() => client?.close());

test('the screen is shown with its size and scale, and the browser is in front', async () => {
  await screenshot();
  await inFront('about:blank - Chromium');
  const [browser, panel, ...others] = JSON.parse(await textWhenItCan('windows')).sort((a, b) => a.y - b.y);
  assert.deepEqual([browser.title, browser.class, browser.width, browser.focused, browser.minimized],
    ['about:blank - Chromium', 'Chromium', 1280, true, false]);
  assert.deepEqual([panel.class, panel.focused, others.length], ['Tint2', false, 0]);
  // Before anything was moved the pointer is where the server has put it.
  assert.equal(await did('cursor_position'), '[640, 400]');
});

test('an address is typed, and the page is where the tree says it is', async () => {
  good(await call('file_write', { path: '/workspace/page.html', content: PAGE }));
  await did('record_start').then((text) => assert.match(text, /\/workspace\/recording_\w+/));
  await did('left_click', { coordinate: place(await treeWith('"Address and search bar"'), 'entry "Address').middle });
  await did('key', { text: 'ctrl+a' });
  await did('type', { text: 'file:///workspace/page.html\n' });
  await inFront('Ready - Chromium');
  const told = place(await treeWith('heading "Lighthouse"'), 'heading "Lighthouse"');
  const seen = await until(async () => read(await screenshot('desktop-browser.png'), 'Lighthouse'),
    (all) => all.length === 1, 'the word on the screenshot');
  assert.ok(seen[0].x > told.x && seen[0].x < told.x + told.width, JSON.stringify([seen, told]));
  assert.ok(seen[0].y > told.y && seen[0].y < told.y + told.height, JSON.stringify([seen, told]));
});

test('any text is typed into the browser', async () => {
  await did('left_click', { coordinate: place(await tree(), 'entry "Words"').middle });
  await did('type', { text: 'é ß 漢 Ω' });
  await until(tree, (text) => /entry "Words" .*= é ß 漢 Ω$/m.test(text), 'what was typed');
  await did('triple_click', { coordinate: place(await tree(), 'entry "Words"').middle });
  await did('type', { text: 'again {~}' });
  await until(tree, (text) => /entry "Words" .*= again \{~\}$/m.test(text), 'what was typed instead');
});

test('clicks, drags, scrolling and keys do what they say', async () => {
  const { middle: [x, y] } = place(await tree(), 'push button "Touch me"');
  const coordinate = [x, y];
  for (const [action, args, title] of [
    ['left_click', { coordinate }, 'left 1'],
    ['right_click', { coordinate }, 'right 1'],
    ['middle_click', { coordinate }, 'middle 1'],
    ['left_click', { coordinate, text: 'shift' }, 'left 1 shifted'],
    ['left_click_drag', { start_coordinate: coordinate, coordinate: [x + 90, y - 60] }, 'dragged 90,-60'],
    ['scroll', { coordinate: [200, 600], scroll_direction: 'down', scroll_amount: 5 }, 'scrolled down'],
    ['key', { text: 'Home' }, 'scrolled up'],
    ['key', { text: 'ctrl+alt+y' }, 'combined'],
    ['hold_key', { text: 'k', duration: 1 }, 'held and let go'],
  ]) {
    await did(action, args);
    await inFront(`${title} - Chromium`);
  }
  // Half a second between two clicks makes them two, and a busy machine may take that long.
  for (const [action, title] of [['double_click', 'left 2'], ['triple_click', 'left 3']]) {
    await until(async () => {
      await did('wait', { duration: 1 });
      await did(action, { coordinate });
      return frontTitle();
    }, (text) => text.includes(`${title} - Chromium`), title);
  }
  await did('left_mouse_down', { coordinate: [x - 50, y] });
  await did('mouse_move', { coordinate: [x + 50, y + 20] });
  await did('left_mouse_up');
  await inFront('dragged 100,20 - Chromium');
  assert.equal(await did('cursor_position'), `[${x + 50}, ${y + 20}]`);
});

test('what changes nothing is said to change nothing', async () => {
  await did('mouse_move', { coordinate: [200, 600] });
  assert.match(await did('wait', { duration: 0.1 }), /^wait: /);
  await until(() => did('key', { text: 'shift' }), (text) => text.startsWith('key: nothing on the screen has changed'),
    'a key without effect');
});

test('a part of the screen is enlarged', async () => {
  const at = place(await tree(), 'heading "Lighthouse"');
  const zoomed = await act('zoom', { region: [at.x, at.y, at.x + at.width, at.y + at.height] });
  assert.match(good(zoomed), new RegExp(`${at.width} x ${at.height} pixels of the screen`));
  const image = imageOf(zoomed);
  assert.ok(image.width > at.width && image.width <= 1568, `${image.width}`);
  assert.equal(read(image.png, 'Lighthouse').length, 1);
  keep(imageOf(await act('zoom', { region: [320, 90, 860, 300] })).png, 'desktop-zoom.png');
});

test('what cannot be done is said', async () => {
  for (const [action, args, want] of [
    ['left_click', { coordinate: [1280, 10] }, /coordinate is \[1280, 10\]; the screenshot ends at \[1279, 799\]/],
    ['left_click', { coordinate: [10, -1] }, /coordinate/],
    ['mouse_move', {}, /needs coordinate: \[x, y\]/],
    ['left_click_drag', { start_coordinate: [5, 900], coordinate: [5, 5] }, /start_coordinate is \[5, 900\]/],
    ['zoom', {}, /zoom needs region/],
    ['zoom', { region: [50, 50, 40, 60] }, /x0 < x1/],
    ['scroll', { coordinate: [5, 5] }, /scroll_direction/],
    ['key', { text: 'ctrl+strange' }, /"strange" is no key/],
    ['key', {}, /needs text/],
    ['type', { text: 'a\u0007' }, /control character 7/],
  ]) {
    const answer = await act(action, args);
    assert.ok(answer.isError, `${action} ${JSON.stringify(args)}: ${textOf(answer)}`);
    assert.match(textOf(answer), want);
  }
  const sandbox = await call('desktop', { computer: undefined, action: 'screenshot' });
  assert.ok(sandbox.isError);
  assert.match(textOf(sandbox), /computer_create \{"kind": "vm", "image": "desktop"\}/);
});

test('what was done is kept as pictures, one for each step', async () => {
  const said = await did('record_stop');
  const [, count, folder] = /^(\d+) pictures in (\/workspace\/recording_\w+)/.exec(said) ?? [];
  assert.ok(Number(count) > 20, said);
  assert.match(said, /and as a video in video\.mp4 there|no video/);
  const names = (await run(`cd ${folder}; for f in *.png; do head -c 4 $f | tail -c 3; echo " $f"; done`)).split('\n');
  assert.equal(names.length, Number(count));
  assert.deepEqual([names[0], names.at(-1)], ['PNG 00001.png', `PNG ${count.padStart(5, '0')}.png`]);
  if (/video\.mp4/.test(said)) {
    assert.match(await run(`ffprobe -v error -count_frames -show_entries stream=nb_read_frames,width -of csv=p=0 ${folder}/video.mp4`),
      new RegExp(`^1280,${count}$`));
  }
  assert.ok((await act('record_stop')).isError);
});
