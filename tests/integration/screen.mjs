// A screen, as the suites of the desktop touch it and look at it.  What came of a click or a key is
// told by programs themselves, by the windows' titles, the accessibility tree and files, and never
// by the tool that did it.  With AIOS_PICTURES=FOLDER screenshots are kept there.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { good, home, textOf } from './support.mjs';

export const PATIENCE = 600000; // an emulated program on a busy machine; an idle one takes seconds
const PICTURES = process.env.AIOS_PICTURES;
const dir = home();

// Ask until the answer is as wanted; returns it.  Nothing here is a matter of time.
export const until = async (ask, wanted, what, pause = 200) => {
  let answer;
  for (const end = Date.now() + PATIENCE; Date.now() < end; await new Promise((done) => setTimeout(done, pause))) {
    answer = await ask();
    if (wanted(answer)) return answer;
  }
  throw new Error(`${what}: not within ${PATIENCE} ms; ${JSON.stringify(answer).slice(0, 3000)}`);
};

// The place of the first thing in a tree whose line begins with @start.
export const place = (text, start) => {
  const line = text.split('\n').map((l) => l.trim()).find((l) => l.startsWith(start));
  const found = / (-?\d+),(-?\d+) (\d+)x(\d+)/.exec(line?.slice(start.length) ?? '');
  assert.ok(found, `no place of ${start} in ${text}`);
  const [x, y, width, height] = found.slice(1).map(Number);
  return { x, y, width, height, middle: [Math.round(x + width / 2), Math.round(y + height / 2)] };
};

export const imageOf = (result) => {
  const image = result.content.find((block) => block.type === 'image');
  assert.equal(image?.mimeType, 'image/png', textOf(result));
  const png = Buffer.from(image.data, 'base64');
  assert.equal(png.toString('latin1', 1, 4), 'PNG');
  return { png, width: png.readUInt32BE(16), height: png.readUInt32BE(20) };
};
export const keep = (png, name) => {
  if (PICTURES && name) fs.writeFileSync(path.join(PICTURES, name), png);
};

// The words that are read on a picture, and the middle of each.  Reading takes a second of a processor,
// so the same picture is not read again.
let last = { png: Buffer.alloc(0), words: [] };
export const words = (png) => {
  if (last.png.equals(png)) return last.words;
  const file = path.join(dir, 'read.png');
  fs.writeFileSync(file, png);
  const { stdout, stderr, status } = spawnSync('tesseract', [file, '-', '--psm', '11', 'tsv'],
    { encoding: 'utf8', env: { ...process.env, OMP_THREAD_LIMIT: '1' } });
  assert.equal(status, 0, stderr);
  const found = stdout.split('\n').slice(1).map((line) => line.split('\t')).filter((row) => row[11]?.trim())
    .map(([, , , , , , x, y, width, height, , word]) => ({ word: word.trim(), x: +x + width / 2, y: +y + height / 2 }));
  last = { png, words: found };
  return found;
};
export const read = (png, word) => words(png).filter((one) => one.word === word);

// What can be done on the screen of the computer that @call asks.
export const screenOf = (call) => {
  const act = (action, args = {}) => call('desktop', { action, ...args });
  const did = async (action, args = {}) => good(await act(action, args));
  // Busy machines may be too late with some questions; asked again they are not.
  const textWhenItCan = (action, args) => until(async () => {
    const answer = await act(action, args);
    return answer.isError && /timeout/.test(textOf(answer)) ? undefined : good(answer);
  }, (text) => text !== undefined, action);
  const tree = (title) => textWhenItCan('tree', title ? { text: title } : {});
  // By its server, which answers sooner than the list of windows.
  const frontTitle = async () => textOf(await call('terminal_run', { command: 'xdotool getactivewindow getwindowname' }));
  return {
    act, did, textWhenItCan, tree, frontTitle,
    inFront: (part) => until(frontTitle, (title) => title.includes(part), `a window "${part}" in front`),
    treeWith: (part) => until(tree, (text) => text.includes(part), `"${part}" in the tree`),
    screenshot: async (name) => {
      const result = await act('screenshot');
      assert.match(good(result), /Screen of 1280 x 800, shown at 1280 x 800: scale 1\.000/);
      const image = imageOf(result);
      assert.deepEqual([image.width, image.height], [1280, 800]);
      keep(image.png, name);
      return image.png;
    },
  };
};
