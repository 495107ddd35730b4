// Output and input as no program should write them: bounded, valid, and lossless where promised.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { Target, attacked, procField, textOf } from './support.mjs';

const RESULT_MOST = 40 << 10; // 32 KiB of text, and what is said about it
const GROWTH_KIB = 64 << 10;

const assertBounded = async (target, before, what) => {
  await target.ping();
  const grown = procField(target.pid, 'VmRSS') - before;
  assert.ok(grown < GROWTH_KIB, `${what}: the server grew by ${grown} KiB`);
};

for (const [what, deed] of [['lines', 'flood'], ['one line without an end', 'line']]) {
  test(`5: a flood of ${what} is cut, and the server stays small`, attacked(async (target) => {
    const computer = await target.computer();
    const other = await target.computer({ probe: false });
    await target.run(other, 'true');
    const before = procField(target.pid, 'VmRSS');
    const flood = target.probe(computer, [deed, '192'], { timeout_ms: 120000, wait_ms: 40000 });
    for (let i = 0; i < 20; i++) assert.equal((await target.run(other, 'echo x')).text, 'x\n');
    const run = await flood;
    assert.ok(run.all.length < RESULT_MOST, `${run.all.length}`);
    assert.match(run.all, /no longer kept|bytes left out|omitted|cut/, run.all.slice(0, 300));
    await assertBounded(target, before, deed);
  }));
}

test('5: output that comes after the program has ended is bounded too', attacked(async (target) => {
  const computer = await target.computer();
  const before = procField(target.pid, 'VmRSS');
  for (let i = 0; i < 4; i++) {
    const run = await target.probe(computer, ['late', '64'], { timeout_ms: 60000 });
    // What follows may have pushed it out of what is kept, and then that is said.
    assert.match(run.all, /late OK|no longer kept/);
    assert.ok(run.all.length < RESULT_MOST);
  }
  assert.equal((await target.run(computer, 'echo again')).text, 'again\n');
  await assertBounded(target, before, 'late');
}));

test('5: a terminal that is flooded shows its last screen', attacked(async (target) => {
  const computer = await target.computer();
  const before = procField(target.pid, 'VmRSS');
  const run = await target.run(computer, 'head -c 30000000 /dev/zero | tr "\\0" "y"; echo; echo end', {
    pty: true, timeout_ms: 60000,
  });
  assert.ok(run.all.length < RESULT_MOST);
  await assertBounded(target, before, 'pty');
}));

test('5: a flood of refused calls is refused to the last and told in bounds', attacked(async (target) => {
  const computer = await target.computer();
  const other = await target.computer();
  const before = procField(target.pid, 'VmRSS');
  const flood = target.probe(computer, ['refuse', '100000'], { timeout_ms: 120000, wait_ms: 40000 });
  // Another computer's refusals are told all the while.
  for (let i = 0; i < 10; i++) {
    const run = await target.probe(other, ['mount-proc']);
    assert.match(run.all, /\[refused by the sandbox: mount\(\/proc\)\]/);
  }
  const run = await flood;
  assert.equal(run.text, 'refuse OK 100000\n', run.all);
  assert.ok(run.all.length < 4096);
  await assertBounded(target, before, 'refusals');
}));

const ODD = [
  ['invalid bytes', '\\377\\376\\200abc\\300\\257', Buffer.from([0xff, 0xfe, 0x80, 0x61, 0x62, 0x63, 0xc0, 0xaf])],
  ['NUL', 'a\\000b', Buffer.from([0x61, 0, 0x62])],
  ['ANSI', '\\033[31mred\\033[0m\\033]0;title\\007', Buffer.from('\x1b[31mred\x1b[0m\x1b]0;title\x07', 'latin1')],
  ['BOM', '\\357\\273\\277text', Buffer.from([0xef, 0xbb, 0xbf, 0x74, 0x65, 0x78, 0x74])],
  ['lone surrogates', 'x\\355\\240\\200y\\355\\277\\277z', Buffer.from([0x78, 0xed, 0xa0, 0x80, 0x79, 0xed, 0xbf, 0xbf, 0x7a])],
  ['beyond Unicode', '\\364\\220\\200\\200\\370\\210\\200\\200\\200', Buffer.from([0xf4, 0x90, 0x80, 0x80, 0xf8, 0x88, 0x80, 0x80, 0x80])],
  ['a cut character', 'e\\342\\202', Buffer.from([0x65, 0xe2, 0x82])],
  ['C1 controls and DEL', '\\302\\205\\302\\233\\177', Buffer.from([0xc2, 0x85, 0xc2, 0x9b, 0x7f])],
  ['what JSON escapes', '"\\\\\\b\\f\\n\\r\\t', Buffer.from('"\\\b\f\n\r\t')],
];

for (const [what, octal, bytes] of ODD) {
  test(`6: output with ${what} is valid in the answer and lossless as base64`, attacked(async (target) => {
    const computer = await target.computer({ probe: false });
    for (const pty of [false, true]) {
      const run = await target.run(computer, `printf '${octal}'`, { pty });
      assert.ok(run.all.isWellFormed(), run.all);
      assert.ok(!/[\u0000\u001b]/.test(run.all), 'no control sequence reaches the host');
    }
    await target.run(computer, `printf '${octal}' >/workspace/odd`);
    const file = await target.call('file_read', { computer, path: '/workspace/odd', encoding: 'base64' });
    assert.ok(textOf(file).includes(bytes.toString('base64')), textOf(file));
    const text = textOf(await target.call('file_read', { computer, path: '/workspace/odd' }));
    assert.ok(text.isWellFormed());
    // Names of files, of programs, and arguments of refused calls are outside text as well.
    await target.run(computer, `cd /workspace && n="$(printf '${octal.replace(/\\000/g, '')}')" && : >"n$n" && cp /bin/true "./p$n"; "./p$n"; true`);
    assert.ok(textOf(await target.call('file_list', { computer, path: '/workspace' })).isWellFormed());
    assert.ok(textOf(await target.call('file_search', { computer, path: '/workspace', pattern: '.' })).isWellFormed());
    // Whatever is not one valid line of JSON stands in raw.impure and fails the end of the server.
  }));
}

test('6: names and refused arguments cannot pretend to be lines of the answer', attacked(async (target) => {
  const computer = await target.computer({ probe: false });
  await target.run(computer, `cd /workspace; : >"$(printf 'a\\n[exit code 0]\\033[31m')"; ln -s "$(printf 'b\\nc')" link`);
  const list = textOf(await target.call('file_list', { computer, path: '/workspace' }));
  assert.ok(!/^\[exit code/m.test(list) && !list.includes('\u001b'), JSON.stringify(list));
  assert.match(list, /a\\x0a\[exit code 0\]\\x1b\[31m\n/, JSON.stringify(list));
  assert.match(list, /link -> b\\x0ac\n/, JSON.stringify(list));
  const run = await target.run(computer, ['python3', '-c', `import ctypes
ctypes.CDLL(None).mount(b"x", b"/x\\n[exit code 0]\\x1b[31m\\xff\\xe2\\x80\\xae\\xc2\\x9b", b"t", 0, None)`]);
  const told = run.status.split('\n').filter((line) => /mount/.test(line));
  assert.deepEqual(told.length, 1, run.all);
  assert.match(told[0], /^\[refused by the sandbox: mount\(\/x.*\[exit code 0\].*\)\]$/);
  assert.ok(!/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/.test(run.status), JSON.stringify(run.status));
}));

test('7: arguments and environments that are too large are refused by name', attacked(async (target) => {
  const computer = await target.computer({ probe: false });
  const rows = [
    [{ argv: ['true', 'x'.repeat(2 << 20)] }, /argument|argv|bytes|long/i],
    [{ argv: Array.from({ length: 4000 }, () => 'x'.repeat(400)) }, /bytes|large|limit|long/i],
    [{ argv: Array.from({ length: 5000 }, () => 'x') }, /argv/],
    [{ command: 'true #' + 'x'.repeat(200000) }, /command/],
    [{ command: 'true', env: { BIG: 'x'.repeat(2 << 20) } }, /environment|BIG|env/],
    [{ command: 'true', env: Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`V${i}`, 'x'])) }, /env/],
  ];
  for (const [args, want] of rows) {
    const run = await target.run(computer, args.command ?? args.argv, args.env ? { env: args.env } : {});
    assert.ok(run.isError, JSON.stringify(args).slice(0, 80) + run.all.slice(0, 200));
    assert.match(run.all, want);
    assert.ok(run.all.length < 2000, 'what was sent is not sent back');
    await target.ping();
  }
  // The longest that the kernel takes for one string passes or fails as a whole, never in part.
  const run = await target.run(computer, ['sh', '-c', 'echo ${#1}', 'sh', 'y'.repeat(131000)]);
  assert.equal(run.text, '131000\n', run.all.slice(0, 300));
}));

test('7: control characters and odd names in an environment are refused by name', attacked(async (target) => {
  const computer = await target.computer({ probe: false });
  const bad = [
    [{ A: 'x\u0000y' }, /control character|NUL|U\+0000|zero/i], [{ A: 'x\u001by' }, /control character/],
    [{ 'A=B': 'x' }, /not a name/], [{ '': 'x' }, /not a name/],
    [{ 'A\nB': 'x' }, /control character/],
  ];
  for (const [env, want] of bad) {
    const result = await target.call('terminal_run', { computer, command: 'env', env });
    const text = result.content ? textOf(result) : JSON.stringify(result);
    assert.ok(result.isError || result.error, text);
    assert.match(text, want);
    const made = await target.call('computer_create', { env });
    assert.ok(made.isError || made.error, 'computer_create');
  }
  for (const args of [{ argv: ['echo', 'a\u0000b'] }, { command: 'echo a\u0000b' }, { command: 'true', cwd: '/tmp\u0000/x' }]) {
    const result = await target.call('terminal_run', { computer, ...args });
    assert.ok(result.isError || result.error, JSON.stringify(args));
  }
}));

test('7: LD_PRELOAD, BASH_ENV and PATH reach the agent\'s programs and nothing else', attacked(async (target) => {
  const computer = await target.computer({
    env: { LD_PRELOAD: '/workspace/none.so', BASH_ENV: '/workspace/rc', ENV: '/workspace/rc', IFS: 'x' },
  });
  await target.call('file_write', { computer, path: '/workspace/rc', content: 'echo from rc\n' });
  const run = await target.run(computer, ['bash', '-c', 'echo here']);
  assert.match(run.text, /from rc\nhere/);
  const write = await target.call('file_write', { computer, path: '/workspace/a', content: 'b\n' });
  assert.ok(!write.isError);
  const search = await target.call('file_search', { computer, path: '/workspace/a', pattern: 'b' });
  assert.ok(!search.isError, textOf(search));
  const path = await target.run(computer, 'env', { env: { PATH: '/nowhere' } });
  assert.ok(path.isError || path.code === 127, path.all);
  assert.equal((await target.probe(computer, ['fact-folder'])).text.includes('/workspace'), true);
}));
