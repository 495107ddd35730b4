// Much at once, much output and much data: everything is answered, whole, and memory stays bounded.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { good, growthKib, handleIn, output, Raw, rssKib, textOf, withV1 } from './support.mjs';

const start = async (options) => {
  const raw = new Raw(options);
  await raw.initialize();
  return raw;
};
const sha256 = (data) => createHash('sha256').update(data).digest('hex');

test('64 programs that sleep run at once', async () => {
  await withV1(async ({ call }) => {
    good(await call('terminal_run', { command: 'true' }));
    const began = Date.now();
    const results = await Promise.all(Array.from({ length: 64 }, (_, i) =>
      call('terminal_run', { command: `sleep 1; echo ${i}` })));
    results.forEach((result, i) => assert.equal(output(result), String(i)));
    assert.ok(Date.now() - began < 32000, 'one after the other'); // far from that, on any machine
  });
});

test('more calls than workers and queue are answered, each once: done, or busy', async () => {
  const raw = await start({ config: { tool: { workers: 4, queue: 16 } } });
  good(await raw.call('terminal_run', { command: 'true' }));
  const answers = await Promise.all(Array.from({ length: 100 }, () => raw.call('terminal_run', { command: 'sleep 0.2' })));
  const busy = answers.filter((answer) => answer.isError);
  busy.forEach((answer) => assert.match(textOf(answer), /busy|queue|again/i));
  assert.ok(answers.length - busy.length >= 16, String(busy.length));
  assert.ok(busy.length > 0);
  assert.equal(raw.messages.length, 0);
  good(await raw.call('terminal_run', { command: 'true' }));
  await raw.close();
});

test('40 computers live and work at once; one more than allowed is refused with what to do', async () => {
  const raw = await start({ config: { computer: { max_per_agent: 40 } } });
  const made = await Promise.all(Array.from({ length: 40 }, (_, i) =>
    raw.call('computer_create', { memory_mb: 128, disk_mb: 32, labels: { number: String(i) } })));
  const handles = made.map((result) => { good(result); return result.structuredContent.computer; });
  assert.equal(new Set(handles).size, 40);
  await Promise.all(handles.map((computer, i) => raw.call('terminal_run', { computer, command: `echo ${i} > mine; sleep 0.3` })));
  const read = await Promise.all(handles.map((computer) => raw.call('terminal_run', { computer, command: 'cat mine; ls | wc -l' })));
  read.forEach((result, i) => assert.equal(output(result), `${i}\n1`));
  const refused = await raw.call('computer_create');
  assert.equal(refused.isError, true);
  assert.match(textOf(refused), /40.*computer_destroy/s);
  assert.equal((await raw.call('computer_list')).structuredContent.computers.length, 40);
  good(await raw.call('computer_destroy', { computer: handles[7] }));
  good(await raw.call('computer_create'));
  assert.equal((await raw.close()).code, 0);
});

test('a flood of output costs the server no more than its ring, and others are answered meanwhile', async () => {
  const raw = await start();
  good(await raw.call('terminal_run', { command: 'true' }));
  const before = rssKib(raw.child.pid);
  raw.send({ id: 'flood', method: 'tools/call', params: { name: 'terminal_run',
    arguments: { command: 'yes & until [ -e enough ]; do sleep 0.05; done; kill $!; wait; exit 9' } } });
  let most = before;
  // As long as it takes for some calls, and 3 s of flood at least.
  const least = Date.now() + 3000;
  for (let calls = 0; calls < 20 || Date.now() < least; calls++) {
    assert.equal(output(await raw.call('terminal_run', { command: 'echo meanwhile' })), 'meanwhile');
    most = Math.max(most, rssKib(raw.child.pid));
  }
  assert.equal(raw.messages.length, 0, 'the flood has ended');
  good(await raw.call('file_write', { path: 'enough', content: '' }));
  const { result } = await raw.find((m) => m.id === 'flood');
  assert.ok(textOf(result).length < 40000);
  assert.match(textOf(result), /\ny\n[^]*\[exit code 9/);
  assert.match(textOf(result), /no longer kept/);
  assert.ok(most - before < growthKib(raw.child.pid, 12 << 10), `it grew from ${before} to ${most} KiB`);
  await raw.close();
});

test('a flood to a terminal costs no more, and its last screen is right', async () => {
  const raw = await start();
  const started = await raw.call('terminal_run', { pty: true, command: 'stty -echo; timeout 2 yes; clear; echo the end; read x' });
  const run = handleIn(started, 'r');
  const before = rssKib(raw.child.pid);
  let text = '';
  for (const end = Date.now() + 30000; !text.includes('the end');) {
    assert.ok(Date.now() < end, text);
    text = good(await raw.call('terminal_read', { run, wait_ms: 1000 }));
  }
  assert.ok(!/^y$/m.test(text), text);
  assert.ok(rssKib(raw.child.pid) - before < growthKib(raw.child.pid, 12 << 10));
  await raw.close();
});

test('long output is paged by offset, whole and exact', async () => {
  await withV1(async ({ call }) => {
    const first = await call('terminal_run', { command: 'seq 1 100000' });
    assert.ok(JSON.stringify(first).length < 40000);
    assert.match(textOf(first), /^1\n2\n[^]*\n100000\n/);
    const next = /"offset":(\d+)\} goes on here/.exec(textOf(first));
    const run = handleIn(first, 'r');
    const whole = Array.from({ length: 100000 }, (_, i) => `${i + 1}\n`).join('');
    let text = first.content[0].text.slice(0, Number(next[1])); // what came before the gap
    let offset = Number(next[1]);
    for (let pages = 0; ; pages++) {
      assert.ok(pages < 100);
      const page = await call('terminal_read', { run, offset });
      text += page.content[0].text;
      const go = /bytes (\d+) to (\d+) of (\d+)(; go on with terminal_read \{"run":"(r_[0-9a-z]+)","offset":(\d+)\})?/.exec(textOf(page));
      assert.equal(Number(go[1]), offset);
      assert.equal(Number(go[3]), whole.length);
      if (!go[4]) break;
      assert.equal(go[5], run);
      offset = Number(go[6]);
    }
    assert.equal(sha256(text), sha256(whole));
    assert.match(good(await call('terminal_read', { run, offset: 10 * whole.length })), /the output ends at byte 588895/);
  });
});

test('output beyond the ring says what is lost', async () => {
  await withV1(async ({ call }) => {
    const first = await call('terminal_run', { command: 'seq 1 1000000' });
    const run = handleIn(first, 'r');
    const page = good(await call('terminal_read', { run, offset: 0 }));
    const [, lost] = /the oldest (\d+) bytes of output are no longer kept/.exec(page);
    assert.equal(Number(lost), 6888896 - (1 << 20));
    assert.match(good(await call('terminal_read', { run, tail: 2 })), /^999999\n1000000\n/);
  });
});

test('files of megabytes go in and come back unchanged', async () => {
  await withV1(async ({ call }) => {
    const data = Buffer.alloc(5000000);
    for (let i = 0, x = 1; i < data.length; i++) data[i] = (x = (x * 69069 + 1) >>> 0) >>> 24;
    good(await call('file_write', { path: 'blob', content: data.toString('base64'), encoding: 'base64' }));
    assert.match(output(await call('terminal_run', { command: 'sha256sum blob' })), new RegExp(sha256(data)));
    const parts = [];
    const size = 24000;
    for (let offset = 0; offset < data.length; offset += size * 32) {
      parts.push(...await Promise.all(Array.from({ length: Math.min(32, Math.ceil((data.length - offset) / size)) }, (_, i) =>
        call('file_read', { path: 'blob', offset: offset + i * size, bytes: size, encoding: 'base64' })
          .then((part) => Buffer.from(part.content[0].text, 'base64')))));
    }
    assert.equal(sha256(Buffer.concat(parts)), sha256(data));
  });
});

test('messages of up to 8 MiB are taken, longer ones refused, and the server stays small', async () => {
  const raw = await start();
  const text = 'häßlich '.repeat(880000).slice(0, 6500000); // two bytes for some: just below the limit
  const message = (id, content) => JSON.stringify({ jsonrpc: '2.0', id, method: 'tools/call',
    params: { name: 'file_write', arguments: { path: 'big', content } } }) + '\n';
  assert.ok(Buffer.byteLength(message('big', text)) < 8 << 20);
  assert.ok(Buffer.byteLength(message('big', text)) > 7.5 * (1 << 20));
  raw.write(message('big', text));
  good((await raw.find((m) => m.id === 'big')).result);
  assert.match(output(await raw.call('terminal_run', { command: 'sha256sum big' })), new RegExp(sha256(text)));
  raw.write(message('huge', 'x'.repeat(9 << 20)));
  const refused = await raw.find((m) => m.error);
  assert.match(refused.error.message, /8|long|large/);
  assert.deepEqual((await raw.request('ping')).result, {});
  assert.ok(rssKib(raw.child.pid) < growthKib(raw.child.pid, 100 << 10), String(rssKib(raw.child.pid)));
  await raw.close();
});
