// Every tool through the official client of the legacy era, which checks what it is given.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { connectV1, good, handleIn, home, KIND, load, output, PATIENCE, PLACE, textOf, USER, withV1 } from './support.mjs';

const GONE = 'c_00000000000000000000000000';

// Reads a run until its output or screen satisfies @pattern.
const readUntil = async (call, run, pattern) => {
  for (const end = Date.now() + PATIENCE / 4; Date.now() < end;) {
    const text = good(await call('terminal_read', { run, offset: 0, wait_ms: 1000 }));
    if (pattern.test(text)) return text;
    if (!text.includes('still running')) throw new Error(`ended without ${pattern}: ${text}`);
  }
  throw new Error(`${pattern} never came`);
};

test('connects, introduces itself and lists tools that compile', async () => {
  await withV1(async ({ client }) => {
    assert.equal(client.getServerVersion().name, 'aios');
    assert.ok(client.getInstructions().includes('terminal_run'));
    assert.deepEqual(Object.keys(client.getServerCapabilities()).sort(), ['logging', 'tools']);
    const { tools } = await client.listTools(); // compiles each output schema
    const names = tools.map((tool) => tool.name);
    for (const name of ['computer_create', 'computer_list', 'computer_destroy', 'computer_snapshot',
      'terminal_run', 'terminal_read', 'terminal_write', 'terminal_kill', 'code_run',
      'file_read', 'file_write', 'file_edit', 'file_list', 'file_search', 'file_transfer']) {
      assert.ok(names.includes(name), name);
    }
    const { Ajv2020 } = await import('node:module').then(({ createRequire }) =>
      createRequire(path.join(process.env.AIOS_NODE_MODULES, 'x.js'))('ajv/dist/2020.js'));
    const ajv = new Ajv2020({ strict: true, allErrors: true });
    for (const tool of tools) {
      ajv.compile(tool.inputSchema);
      if (tool.outputSchema) ajv.compile(tool.outputSchema);
      assert.ok(tool.title, tool.name);
    }
    assert.deepEqual(await client.ping(), {});
  });
});

test('makes, lists, forks, saves, restores and destroys computers, with valid structured answers', async () => {
  await withV1(async ({ client, call }) => {
    await client.listTools();
    const made = await call('computer_create', {
      kind: KIND, memory_mb: 256, disk_mb: 64, pids: 50, idle_timeout_s: 600,
      allow: ['example.org', '10.0.0.0/8:5432'], labels: { purpose: 'test' }, env: { COLOUR: 'blue' },
    });
    const one = made.structuredContent;
    assert.deepEqual(JSON.parse(textOf(made)), one);
    assert.equal(one.kind, KIND);
    assert.equal(one.default, false);
    assert.deepEqual([one.memory_mb, one.disk_mb, one.pids], [256, 64, 50]);
    assert.deepEqual(one.allow, ['example.org', '10.0.0.0/8:5432']);
    assert.deepEqual(one.labels, { purpose: 'test' });
    const first = one.computer;
    assert.equal(output(await call('terminal_run', { computer: first,
      command: 'echo $COLOUR; echo kept > file' })), 'blue');

    const forked = (await call('computer_create', { from: first, labels: { copy: 'yes' } })).structuredContent;
    assert.notEqual(forked.computer, first);
    assert.deepEqual(forked.labels, { copy: 'yes' });
    assert.deepEqual([forked.memory_mb, forked.pids, forked.allow], [256, 50, one.allow]);
    assert.equal(output(await call('terminal_run', { computer: forked.computer,
      command: 'cat file; echo changed > file; echo $COLOUR' })), 'kept\nblue');
    assert.equal(output(await call('terminal_run', { computer: first, command: 'cat file' })), 'kept');

    const saved = await call('computer_snapshot', { action: 'save', computer: first, label: 'a name' });
    const snapshot = handleIn(saved, 's');
    assert.match(good(await call('computer_snapshot', { action: 'list' })), new RegExp(`${snapshot}.*a name`, 's'));
    good(await call('terminal_run', { computer: first, command: 'rm file' }));
    const restored = handleIn(await call('computer_create', { from: snapshot }), 'c');
    assert.ok(![first, forked.computer].includes(restored));
    assert.equal(output(await call('terminal_run', { computer: restored, command: 'cat file' })), 'kept');

    const listed = (await call('computer_list')).structuredContent.computers;
    assert.deepEqual(listed.map((c) => c.computer), [first, forked.computer, restored]);
    assert.ok(listed.every((c) => c.created_ms_ago >= 0 && c.idle_ms >= 0 && c.runs_live === 0));

    good(await call('computer_snapshot', { action: 'delete', snapshot }));
    const deleted = await call('computer_create', { from: snapshot });
    assert.equal(deleted.isError, true);
    assert.match(textOf(deleted), /computer_snapshot/);
    good(await call('computer_destroy', { computer: first }));
    const gone = await call('terminal_run', { computer: first, command: 'true' });
    assert.equal(gone.isError, true);
    assert.match(textOf(gone), /it was destroyed.*computer_create/s);
    assert.equal((await call('computer_destroy', { computer: first })).isError, true);
    assert.equal((await call('computer_create', { from: GONE })).isError, true);
    assert.equal((await call('computer_list')).structuredContent.computers.length, 2);
  });
});

test('keeps the default computer apart from others, and makes it anew after its end', async () => {
  await withV1(async ({ call }) => {
    assert.deepEqual((await call('computer_list')).structuredContent.computers, []);
    good(await call('file_write', { path: 'mark', content: 'x' }));
    const [mine] = (await call('computer_list')).structuredContent.computers;
    assert.equal(mine.default, true);
    const { computer } = (await call('computer_create')).structuredContent;
    assert.equal((await call('file_read', { path: 'mark', computer })).isError, true);
    good(await call('computer_destroy', { computer: mine.computer }));
    assert.equal((await call('file_read', { path: 'mark' })).isError, true);
    const now = (await call('computer_list')).structuredContent.computers;
    assert.equal(now.length, 2);
    assert.equal(now.filter((c) => c.default).length, 1);
    assert.notEqual(now.find((c) => c.default).computer, mine.computer);
  });
});

test('runs commands: shell, argv, folder, environment, input, exit code', async () => {
  await withV1(async ({ call }) => {
    assert.equal(output(await call('terminal_run', { command: 'echo out; echo err >&2; printf "%s" end' })),
      'out\nerr\nend');
    assert.equal(output(await call('terminal_run', { argv: ['printf', '%s|', 'a b', '$HOME', '*'] })), 'a b|$HOME|*|');
    assert.equal(output(await call('terminal_run', { command: 'pwd' })), '/workspace');
    assert.equal(output(await call('terminal_run', { command: 'pwd', cwd: '/usr/lib' })), '/usr/lib');
    assert.equal(output(await call('terminal_run', { argv: ['printenv', 'ONE', 'TWO'],
      env: { ONE: 'eins', TWO: 'two words\nand lines' } })), 'eins\ntwo words\nand lines');
    assert.equal(output(await call('terminal_run', { command: 'rev', stdin: 'abc\nd\u00e9f\n' })), 'cba\nf\u00e9d');
    assert.equal(output(await call('terminal_run', { command: 'wc -c', stdin: '' })), '0');
    const big = 'x'.repeat(3 << 20);
    assert.equal(output(await call('terminal_run', { command: 'wc -c', stdin: big })), String(big.length));
    assert.equal(output(await call('terminal_run', { command: 'wc -c </dev/stdin' })), '0');
    const failed = await call('terminal_run', { command: 'echo so; exit 7' });
    assert.equal(failed.isError, undefined); // the tool worked; the program failed
    assert.match(textOf(failed), /^so\n[^]*\[exit code 7, .*CPU .*peak .*MiB\]/);
    assert.match(textOf(await call('terminal_run', { command: 'kill -SEGV $$' })), /ended by signal 11/);
    const killed = await call('terminal_run', { command: 'sleep 300 & sleep 300', timeout_ms: 300 });
    assert.match(textOf(killed), /timeout: killed with everything it had started/);
    assert.equal(output(await call('terminal_run', { command: 'cat /proc/[0-9]*/comm 2>/dev/null | grep -c sleep || true' })), '0');
    for (const bad of [{ command: 'a', argv: ['a'] }, { argv: [] }, { command: 'ls', cwd: 'relative' },
      { command: 'cat', stdin: 'x', pty: true }, { command: 'ls', no_such: 1 }]) {
      assert.equal((await call('terminal_run', bad)).isError, true, JSON.stringify(bad));
    }
  });
});

test('shows output as valid text whatever a program writes', async () => {
  await withV1(async ({ call }) => {
    assert.equal(output(await call('terminal_run', {
      command: 'printf "\\033[31mred\\033[0m \\033]0;title\\007plain\\r\\nover\\rOVER\\nab\\bc\\n\\000nul\\n"' })),
    'red plain\nOVER\nac\nnul');
    const odd = output(await call('terminal_run', { command: 'printf "ok \\377\\300\\200 \\355\\240\\200 end"' }));
    assert.match(odd, /^ok .*end$/);
    assert.ok(odd.isWellFormed() && odd.includes('\ufffd'));
    const binary = await call('terminal_run', { command: 'head -c 200000 /dev/urandom' });
    assert.ok(textOf(binary).isWellFormed() && textOf(binary).length < 40000);
  });
});

test('reads a run that goes on: from where it was, by offset, tail and grep, waiting for more', async () => {
  await withV1(async ({ call, dir }) => {
    const started = await call('terminal_run', { background: true,
      command: 'echo first; read x; echo got $x; read y; seq 1 500; echo last' });
    const run = handleIn(started, 'r');
    assert.match(textOf(started), /still running.*terminal_read/s);
    assert.match(await readUntil(call, run, /first/), /first/);
    const nothing = good(await call('terminal_read', { run, wait_ms: 100 }));
    assert.ok(!nothing.includes('first'), nothing);
    assert.match(good(await call('terminal_write', { run, text: 'answer\n' })), /got answer/);
    const waiting = call('terminal_read', { run, wait_ms: 20000 });
    good(await call('terminal_write', { run, text: 'go\n' }));
    good(await waiting);
    const whole = await readUntil(call, run, /last/).catch((e) => e.message);
    assert.match(whole, /first\ngot answer\n1\n2\n[^]*500\nlast/);
    const text = `first\ngot answer\n${Array.from({ length: 500 }, (_, i) => i + 1).join('\n')}\nlast\n`;
    const rest = good(await call('terminal_read', { run, offset: text.indexOf('250') }));
    assert.ok(rest.startsWith('250\n251\n'), rest.slice(0, 100));
    assert.match(good(await call('terminal_read', { run, tail: 3 })), /^499\n500\nlast\n/);
    assert.match(good(await call('terminal_read', { run, grep: '^4.4$' })), /^406:404\n416:414\n[^]*496:494\n/);
    assert.match(good(await call('terminal_read', { run, grep: '5', tail: 2 })), /^501:499|500/);
    assert.match(good(await call('terminal_read', { run, grep: 'nowhere' })), /no line matches/);
    const bad = await call('terminal_read', { run, grep: '(' });
    assert.equal(bad.isError, true);
    assert.match(textOf(bad), /\(/);
    assert.match(good(await call('terminal_read', { run })), /exit code 0/);
    assert.equal((await call('terminal_write', { run, text: 'x' })).isError, true);
    assert.ok(fs.existsSync(dir));
  });
});

test('writes to a pipe and closes it, and refuses what cannot be typed', async () => {
  await withV1(async ({ call }) => {
    const run = handleIn(await call('terminal_run', { command: 'sort', background: true }), 'r');
    good(await call('terminal_write', { run, text: 'b\na\n' }));
    const end = good(await call('terminal_write', { run, text: 'c\n', close: true }));
    assert.match(end, /^a\nb\nc\n[^]*exit code 0/);
    const other = handleIn(await call('terminal_run', { command: 'cat', background: true }), 'r');
    for (const [args, pattern] of [[{}, /text.*keys.*close/s], [{ keys: ['NoSuchKey'] }, /NoSuchKey.*Enter/s],
      [{ keys: [] }, /keys/]]) {
      const refused = await call('terminal_write', { run: other, ...args });
      assert.equal(refused.isError, true, JSON.stringify(args));
      assert.match(textOf(refused), pattern);
    }
    assert.match(good(await call('terminal_write', { run: other, keys: ['x', 'C-a', 'Enter'] })), /^x/);
    assert.match(good(await call('terminal_kill', { run: other })), /killed by signal 15|ended by signal 15/);
  });
});

test('drives vi in a terminal', async () => {
  await withV1(async ({ call }) => {
    good(await call('file_write', { path: 'letter.txt', content: 'Dear Sir,\n' }));
    const started = await call('terminal_run', { argv: ['vi', 'letter.txt'], pty: true, rows: 12, cols: 60 });
    const run = handleIn(started, 'r');
    const screen = await readUntil(call, run, /Dear Sir,/);
    assert.match(screen, /\[screen 60x12, cursor at row 1, column 1\]/);
    good(await call('terminal_write', { run, text: 'oThank you for everything.', keys: ['Escape'] }));
    assert.match(await readUntil(call, run, /Thank you/), /Dear Sir,\nThank you for everything\.\n~/);
    good(await call('terminal_write', { run, text: ':%s/Sir/Madam/', keys: ['Enter'] }));
    await readUntil(call, run, /Dear Madam/);
    good(await call('terminal_write', { run, keys: ['g', 'g', 'd', 'd', 'p', 'Escape'] }));
    await readUntil(call, run, /everything\.\nDear Madam/);
    good(await call('terminal_write', { run, text: ':wq', keys: ['Enter'] }));
    await eventuallyEnded(call, run);
    assert.match(good(await call('file_read', { path: 'letter.txt' })), /^Thank you for everything\.\nDear Madam,\n/);
  });
});

const eventuallyEnded = async (call, run) => {
  for (let i = 0; i < 40; i++) {
    const text = good(await call('terminal_read', { run, wait_ms: 1000 }));
    if (!text.includes('still running')) return text;
  }
  throw new Error('it does not end');
};

test('talks with a Python prompt in a terminal, interrupts it and ends it', async () => {
  await withV1(async ({ call }) => {
    const run = handleIn(await call('terminal_run', { argv: ['python3', '-q'], pty: true }), 'r');
    await readUntil(call, run, />>>/);
    good(await call('terminal_write', { run, text: 'x = 6 * 7', keys: ['Enter'] }));
    good(await call('terminal_write', { run, text: 'print("x is", x)\n' }));
    await readUntil(call, run, /\nx is 42\n/);
    good(await call('terminal_write', { run, text: 'while True: pass\n\n' }));
    good(await call('terminal_write', { run, keys: ['C-c'] }));
    await readUntil(call, run, /KeyboardInterrupt/);
    good(await call('terminal_write', { run, text: 'import os; print(os.get_terminal_size().columns)\n' }));
    await readUntil(call, run, /\n80\n/);
    good(await call('terminal_write', { run, keys: ['C-d'] }));
    assert.match(await eventuallyEnded(call, run), /exit code 0/);
  });
});

test('signals runs', async () => {
  await withV1(async ({ call }) => {
    const start = async (command) => handleIn(await call('terminal_run', { command, background: true }), 'r');
    const trap = await start('trap "echo caught; exit 3" USR1; echo ready; while :; do sleep 0.05; done');
    await readUntil(call, trap, /ready/);
    good(await call('terminal_kill', { run: trap, signal: 'USR1' }));
    assert.match(await readUntil(call, trap, /exit code/), /caught[^]*exit code 3/);
    const tree = await start('sleep 301 & sleep 302 & echo ready; wait');
    await readUntil(call, tree, /ready/);
    assert.match(good(await call('terminal_kill', { run: tree, signal: 'SIGKILL' })), /killed by signal 9/);
    await eventuallyTrue(async () => output(await call('terminal_run',
      { command: 'cat /proc/[0-9]*/cmdline 2>/dev/null | tr "\\0" " " | grep -c "sleep 30[12]" || true' })) === '0');
    const bad = await call('terminal_kill', { run: await start('sleep 300'), signal: 'SIGNOTHING' });
    assert.equal(bad.isError, true);
    assert.match(textOf(bad), /SIGNOTHING.*TERM/);
    assert.match(good(await call('terminal_kill', { run: tree })), /killed by signal 9/); // ended: told again
  });
});

const eventuallyTrue = async (check) => {
  for (const end = Date.now() + 20000; !(await check());) assert.ok(Date.now() < end, String(check));
};

test('writes, reads, edits, lists and searches files', async () => {
  await withV1(async ({ call }) => {
    good(await call('file_write', { path: 'src/a.py', content: 'import os\n\ndef f():\n    return 1\n' }));
    good(await call('file_write', { path: '/workspace/src/b.txt', content: 'one\n' }));
    good(await call('file_write', { path: 'src/b.txt', content: 'two\n', mode: 'append' }));
    const exists = await call('file_write', { path: 'src/b.txt', content: '', mode: 'create' });
    assert.equal(exists.isError, true);
    assert.match(textOf(exists), /src\/b\.txt.*exist/is);
    good(await call('file_write', { path: 'run.sh', content: '#!/bin/sh\necho ran\n', executable: true }));
    assert.equal(output(await call('terminal_run', { argv: ['./run.sh'] })), 'ran');
    assert.match(good(await call('file_read', { path: 'src/b.txt' })), /^one\ntwo\n/);
    assert.match(good(await call('file_read', { path: 'src/a.py', from_line: 3, to_line: 3 })), /^def f\(\):\n/);

    const dry = good(await call('file_edit', { path: 'src/a.py', old_text: 'return 1', new_text: 'return 2', dry_run: true }));
    assert.match(dry, /^--- .*a\.py\n\+\+\+ .*a\.py\n@@ .* @@\n[^]*-    return 1\n\+    return 2\n[^]*dry run/m);
    assert.match(good(await call('file_read', { path: 'src/a.py' })), /return 1/);
    const edited = good(await call('file_edit', { path: 'src/a.py', old_text: 'return 1', new_text: 'return 2' }));
    assert.match(edited, /\+    return 2/);
    assert.match(good(await call('file_read', { path: 'src/a.py' })), /return 2/);
    for (const [edit, pattern] of [
      [{ path: 'src/a.py', old_text: 'return 9', new_text: '' }, /not in.*file_read/s],
      [{ path: 'src/a.py', old_text: 'def  f():', new_text: '' }, /white space/],
      [{ path: 'src/b.txt', old_text: 'o', new_text: '0' }, /occurs 2 times.*replace_all/s],
      [{ path: 'src/b.txt', old_text: '', new_text: '0' }, /empty/],
    ]) {
      const refused = await call('file_edit', edit);
      assert.equal(refused.isError, true, JSON.stringify(edit));
      assert.match(textOf(refused), pattern);
    }
    good(await call('file_edit', { path: 'src/b.txt', old_text: 'o', new_text: '0', replace_all: true }));
    assert.match(good(await call('file_read', { path: 'src/b.txt' })), /^0ne\ntw0\n/);

    const flat = good(await call('file_list'));
    assert.match(flat, /run\.sh\*/);
    assert.match(flat, /src\//);
    assert.ok(!flat.includes('a.py'));
    const deep = good(await call('file_list', { depth: 3, glob: '*.py' }));
    assert.match(deep, /src\/a\.py/);
    assert.ok(!deep.includes('b.txt'));
    assert.match(good(await call('file_search', { pattern: 'ret(urn|rn) [0-9]' })), /src\/a\.py:4:\s+return 2/);
    assert.match(good(await call('file_search', { pattern: 'f()', literal: true, glob: '*.py', context: 1 })),
      /a\.py-2-\n.*a\.py:3:def f\(\):\n.*a\.py-4-/);
    assert.match(good(await call('file_search', { pattern: 'RETURN', ignore_case: true })), /return 2/);
    assert.match(good(await call('file_search', { pattern: 'absent' })), /nothing/);
    assert.equal((await call('file_search', { pattern: '(' })).isError, true);
  });
});

test('shows every edit as a diff that patch applies', async () => {
  await withV1(async ({ call }) => {
    let state = 7;
    const below = (n) => (state = (state * 1103515245 + 12345) % 2147483648) % n;
    let script = 'set -e\n';
    for (let i = 0; i < 40; i++) {
      const old = ['x', 'x\n', '\nx', 'a\nx'][below(4)];
      const text = Array.from({ length: 2 + below(20) }, () => ['a', 'x', 'b x c', '', 'xx'][below(5)]).join('\n') +
        ['', '\n'][below(2)] + `\n${old}`;
      const fresh = ['', 'y', 'y\n', '\n', 'y\nz'][below(5)];
      good(await call('file_write', { path: `f${i}`, content: text }));
      good(await call('file_write', { path: `old${i}`, content: text }));
      const result = await call('file_edit', { path: `f${i}`, old_text: old, new_text: fresh, replace_all: true });
      assert.match(good(result), /replacement/);
      assert.equal(output(await call('terminal_run', { argv: ['cat', `f${i}`] })), text.replaceAll(old, fresh).replace(/\n$/, ''));
      good(await call('file_write', { path: `diff${i}`, content: result.content[0].text }));
      script += `patch -s -o new${i} old${i} diff${i} && cmp new${i} f${i}\n`;
    }
    assert.equal(output(await call('terminal_run', { command: script })), '');
  });
});

test('pages long files, gives bytes exactly, and images as images', async () => {
  await withV1(async ({ call }) => {
    good(await call('terminal_run', { command: 'seq 1 20000 > long; printf "\\377\\000\\001" > bytes' }));
    let text = '';
    let line = 1;
    for (let i = 0; i < 20; i++) {
      const part = await call('file_read', { path: 'long', from_line: line });
      const body = part.content[0].text;
      text += body;
      const next = /"from_line":(\d+)/.exec(textOf(part));
      if (!next) break;
      line = Number(next[1]);
    }
    assert.equal(text, Array.from({ length: 20000 }, (_, i) => `${i + 1}\n`).join(''));
    const bytes = await call('file_read', { path: 'bytes', encoding: 'base64' });
    assert.equal(bytes.content[0].text, '/wAB');
    assert.match(good(await call('file_read', { path: 'bytes' })), /not valid UTF-8/);
    const png = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';
    good(await call('file_write', { path: 'dot.png', content: png, encoding: 'base64' }));
    const image = await call('file_read', { path: 'dot.png' });
    const block = image.content.find((b) => b.type === 'image');
    assert.equal(block.mimeType, 'image/png');
    assert.equal(block.data, png);
    assert.match(textOf(image), /1 x 1/);
    good(await call('terminal_run', { command: 'mkfifo pipe; ln -s /proc/self/mem link; ln -s nowhere dangling' }));
    for (const bad of ['pipe', 'dangling', 'absent', '/dev/zero', '/workspace', 'a\u0000b']) {
      assert.equal((await call('file_read', { path: bad })).isError, true, bad);
    }
  });
});

test('moves files between the host and a computer where the client\'s roots allow it', async () => {
  const { ListRootsRequestSchema } = await import('./support.mjs').then(({ load }) => load('@modelcontextprotocol/sdk/types.js'));
  const dir = home();
  const open = fs.mkdtempSync(path.join(dir, 'open '));
  if (USER) fs.chownSync(open, USER, USER);
  const { client, connect } = await connectV1({ dir });
  client.setRequestHandler(ListRootsRequestSchema, () => ({ roots: [{ uri: `file://${encodeURI(open)}` }] }));
  await connect();
  try {
    const call = (name, args) => client.callTool({ name, arguments: args });
    fs.writeFileSync(path.join(open, 'in'), 'from the host');
    good(await call('file_transfer', { direction: 'upload', host_path: path.join(open, 'in'), path: 'in' }));
    assert.equal(output(await call('terminal_run', { command: 'tr a-z A-Z < in | tee out' })), 'FROM THE HOST');
    good(await call('file_transfer', { direction: 'download', host_path: path.join(open, 'out'), path: 'out' }));
    assert.equal(fs.readFileSync(path.join(open, 'out'), 'utf8'), 'FROM THE HOST');
    const closed = await call('file_transfer', { direction: 'upload', host_path: '/etc/hostname', path: 'x' });
    assert.equal(closed.isError, true);
    assert.ok(textOf(closed).includes(open), textOf(closed));
  } finally {
    await client.close();
  }
});

test('reports progress during a long call, which keeps a short client timeout from striking', async () => {
  await withV1(async ({ client }) => {
    const seen = [];
    const result = await client.callTool({ name: 'terminal_run', arguments: { command: 'sleep 12.5; echo done' } },
      undefined, { onprogress: (p) => seen.push(p), timeout: 12000, resetTimeoutOnProgress: true });
    assert.equal(output(result), 'done');
    assert.ok(seen.length >= 1, 'no progress');
    assert.match(seen[0].message, /sleep 12\.5/);
    for (let i = 1; i < seen.length; i++) assert.ok(seen[i].progress > seen[i - 1].progress);
  });
});

test('cancels: the program ends, and the server goes on', async () => {
  await withV1(async ({ client, call }) => {
    good(await call('terminal_run', { command: 'true' }));
    const abort = new AbortController();
    const cancelled = client.callTool({ name: 'terminal_run', arguments: { command: 'touch began; sleep 311' } },
      undefined, { signal: abort.signal });
    await eventuallyTrue(async () => good(await call('file_list')).includes('began'));
    abort.abort('enough');
    await assert.rejects(cancelled);
    await eventuallyTrue(async () => output(await call('terminal_run',
      { command: 'cat /proc/[0-9]*/cmdline 2>/dev/null | tr "\\0" " " | grep -c "sleep 31[1]" || true' })) === '0');
    assert.deepEqual(await client.ping(), {});
  });
});

test('answers 32 calls in flight, each with its own result', async () => {
  await withV1(async ({ call }) => {
    good(await call('terminal_run', { command: 'true' }));
    const results = await Promise.all(Array.from({ length: 32 }, (_, i) => i % 2
      ? call('terminal_run', { command: `echo number ${i}` })
      : call('file_write', { path: `n${i}`, content: String(i) }).then(() => call('terminal_run', { command: `echo number $(cat n${i})` }))));
    results.forEach((result, i) => assert.equal(output(result), `number ${i}`));
  });
});

test('runs code that remembers, in every language', async () => {
  await withV1(async ({ call }) => {
    const run = async (language, code, more = {}) => call('code_run', { language, code, ...more });
    good(await run('python', 'x = 20\ndef double(n): return 2 * n'));
    assert.match(good(await run('python', 'double(x) + 2')), /\b42\b/);
    const wrong = textOf(await run('python', 'def g():\n    return 1 / 0\ng()'));
    assert.match(wrong, /ZeroDivisionError/);
    assert.match(wrong, /line 2/);
    assert.match(good(await run('python', 'x')), /\b20\b/); // the context outlived the error
    good(await run('javascript', 'let total = 40; const add = (n) => total += n;'));
    assert.match(good(await run('javascript', 'add(2)')), /\b42\b/);
    assert.match(textOf(await run('javascript', 'throw new TypeError("odd")')), /TypeError: odd/);
    good(await run('bash', 'cd /usr/lib; NAME=bashful'));
    assert.match(good(await run('bash', 'echo $NAME in $PWD')), /bashful in \/usr\/lib/);
    assert.match(textOf(await run('c', '#include <stdio.h>\nint main(void) { printf("%d\\n", 6 * 7); return 0; }')),
      PLACE === 'base' ? /gcc \(or cc or clang\) is not in this computer/ : /\b42\b/);
    good(await run('python', 'x = "other"', { context: 'second' }));
    assert.match(good(await run('python', 'x')), /\b20\b/);
    assert.match(good(await run('python', 'x', { context: 'second' })), /other/);
  });
});

// ---- what a rule leaves to a person ----

const asking = {
  access: {
    rules: [
      { tool: 'terminal_run', args: { command: '*rm -rf*' }, decision: 'deny' },
      { tool: 'terminal_run', args: { command: 'echo *' }, decision: 'ask' },
      { tool: 'computer_list', decision: 'ask' },
    ],
  },
};
const impatient = { access: { ...asking.access, ask_timeout_s: 1 } };

// A client whose person answers each question by @answer.
const withPerson = async (answer, body, config = asking) => {
  const { ElicitRequestSchema } = await load('@modelcontextprotocol/sdk/types.js');
  const questions = [];
  const options = {
    config,
    capabilities: { elicitation: {} },
    prepare: (client) => client.setRequestHandler(ElicitRequestSchema, async ({ params }) => {
      questions.push(params);
      return answer(questions.length);
    }),
  };
  await withV1((place) => body({ ...place, questions }), options);
};

test('asks the person about a call, and does what was answered', async () => {
  await withPerson((n) => [
    { action: 'accept', content: {} },
    { action: 'decline' },
    { action: 'cancel' },
    { action: 'accept', content: { remember: true } },
  ][n - 1], async ({ call, questions, dir }) => {
    assert.equal(output(await call('terminal_run', { command: 'echo one', env: { KEY: 'hunter2' } })), 'one');
    assert.match(questions[0].message, /Agent default wants to call the tool terminal_run/);
    assert.match(questions[0].message, /"command":"echo one"/);
    assert.match(questions[0].message, /rule 2: ask terminal_run with command=echo \*/);
    assert.ok(!questions[0].message.includes('hunter2'));
    assert.equal(questions[0].requestedSchema.properties.remember.type, 'boolean');
    for (let i = 0; i < 2; i++) {
      const no = await call('terminal_run', { command: 'echo two' });
      assert.equal(no.isError, true);
      assert.match(textOf(no), /terminal_run was not called.*the person said no/s);
    }
    assert.equal(output(await call('terminal_run', { command: 'echo four' })), 'four');
    assert.equal(output(await call('terminal_run', { command: 'echo five' })), 'five'); // not asked again
    assert.equal(output(await call('terminal_run', { command: 'true; echo six' })), 'six'); // not asked about
    assert.equal(questions.length, 4);
    const denied = await call('terminal_run', { argv: ['sh', '-c', 'x'], command: 'rm -rf /' });
    assert.equal(denied.isError, true);
    assert.match(textOf(denied), /rule 1: deny terminal_run with command=\*rm -rf\*/);
  });
});

test('takes silence, and a client that cannot ask, for no', async () => {
  await withPerson(() => new Promise(() => {}), async ({ call }) => {
    const no = await call('computer_list');
    assert.equal(no.isError, true);
    assert.match(textOf(no), /there was no answer within 1 s/);
  }, impatient);
  await withV1(async ({ call }) => {
    const no = await call('computer_list');
    assert.equal(no.isError, true);
    assert.match(textOf(no), /this client cannot ask/);
  }, { config: asking });
});

test('a cancelled call ends the question', async () => {
  let asked;
  const reached = new Promise((done) => { asked = done; });
  await withPerson(() => { asked(); return new Promise(() => {}); }, async ({ call }) => {
    const abort = new AbortController();
    const cancelled = call('terminal_run', { command: 'echo x' }, { signal: abort.signal });
    await reached;
    abort.abort('enough');
    await assert.rejects(cancelled);
    assert.equal(output(await call('terminal_run', { command: 'true; echo on' })), 'on');
  });
});

// ---- the host's own model ----

test('asks the model of the host', async () => {
  const { CreateMessageRequestSchema } = await load('@modelcontextprotocol/sdk/types.js');
  const asked = [];
  await withV1(async ({ call }) => {
    assert.match(good(await call('llm_query', { prompt: 'What is two and two?' })), /\bfour\b/);
    assert.match(JSON.stringify(asked[0].messages), /two and two/);
    const no = await call('llm_query', { prompt: 'refuse' });
    assert.equal(no.isError, true);
    assert.match(textOf(no), /not today/);
  }, {
    capabilities: { sampling: {} },
    prepare: (client) => client.setRequestHandler(CreateMessageRequestSchema, async ({ params }) => {
      asked.push(params);
      if (JSON.stringify(params).includes('refuse')) throw Object.assign(new Error('not today'), { code: -1 });
      return { role: 'assistant', model: 'of-the-host', stopReason: 'endTurn', content: { type: 'text', text: 'four' } };
    }),
  });
});
