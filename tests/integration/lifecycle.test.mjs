// How a server begins and ends, in peace and by force, and what is left afterwards: nothing but what
// was saved.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { AIOS, alive, cgroupsOf, checkpointNames, descendants, environment, eventually, good, handleIn,
  home, mountsOf, output, Raw, serverNames, textOf } from './support.mjs';

// It takes far less than a second, and on a busy machine some; the programs that it ends are deaf and
// sleep for minutes.
const END_MS = 20000;

const aios = (dir, ...args) =>
  spawnSync(AIOS, args, { env: environment(dir), encoding: 'utf8', timeout: 60000, maxBuffer: 256 << 20 });

const doctor = home();
const withCgroups = JSON.parse(aios(doctor, 'doctor', '--json').stdout)
  .checks.find((check) => check.name === 'cgroups').ok;

const start = async (options) => {
  const raw = new Raw(options);
  await raw.initialize();
  return raw;
};
const create = async (raw, args = {}) => {
  const result = await raw.call('computer_create', args);
  good(result);
  return result.structuredContent.computer;
};
const auditIsWhole = (dir) => {
  const verified = aios(dir, 'audit', 'verify');
  assert.equal(verified.status, 0, verified.stdout + verified.stderr);
};

// A server with several computers, programs that run, an open terminal and a call in flight.
const busy = async (dir) => {
  const raw = await start({ dir });
  const first = await create(raw);
  const forked = (await raw.call('computer_create', { from: first })).structuredContent.computer;
  for (const computer of [first, forked, undefined]) {
    good(await raw.call('terminal_run', { computer, background: true,
      command: 'trap "" TERM HUP INT; (setsid sleep 320 &) ; while :; do sleep 0.1; done' }));
  }
  good(await raw.call('terminal_run', { argv: ['cat'], pty: true, wait_ms: 500 }));
  raw.send({ id: 'flying', method: 'tools/call',
    params: { name: 'terminal_run', arguments: { command: 'touch flying; sleep 321' } } });
  for (;;) if (textOf(await raw.call('file_list')).includes('flying')) break;
  const [name] = serverNames(dir);
  const processes = descendants(raw.child.pid);
  assert.ok(processes.length > 10, String(processes.length));
  if (withCgroups) assert.ok(cgroupsOf(name).length >= 3);
  return { raw, name, processes };
};

const nothingIsLeft = async (dir, name, processes) => {
  await eventually(() => !processes.some(alive), 'its processes end', END_MS);
  assert.deepEqual(cgroupsOf(name), []);
  assert.deepEqual(mountsOf(dir), []);
  assert.deepEqual(serverNames(dir), []);
  assert.deepEqual(fs.readdirSync(path.join(dir, 'run/stage')), []);
  auditIsWhole(dir);
};

for (const [what, end] of [
  ['the end of its input', (raw) => raw.child.stdin.end()],
  ['half a message and the end of its input', (raw) => raw.child.stdin.end('{"jsonrpc":"2.0","id":1,"meth')],
  ['SIGTERM', (raw) => raw.child.kill('SIGTERM')],
  ['SIGINT', (raw) => raw.child.kill('SIGINT')],
  ['SIGHUP', (raw) => raw.child.kill('SIGHUP')],
]) {
  test(`${what} tears everything down`, async () => {
    const dir = home();
    const { raw, name, processes } = await busy(dir);
    const began = Date.now();
    end(raw);
    assert.deepEqual(await raw.ended, { code: 0, signal: null });
    const took = Date.now() - began;
    assert.ok(took < END_MS, `${took} ms`);
    assert.deepEqual(raw.impure, []);
    await nothingIsLeft(dir, name, processes);
  });
}

test('a client that goes away without a word leaves nothing behind', async () => {
  const dir = home();
  const { raw, name, processes } = await busy(dir);
  raw.child.stdout.destroy();
  raw.child.stdin.destroy();
  assert.deepEqual(await raw.ended, { code: 0, signal: null });
  await nothingIsLeft(dir, name, processes);
});

test('kill -9 of a busy server ends every process, and the next server clears the rest away', async () => {
  const dir = home();
  const { raw, name, processes } = await busy(dir);
  raw.child.kill('SIGKILL');
  assert.equal((await raw.ended).signal, 'SIGKILL');
  await eventually(() => !processes.some(alive), 'its processes end');
  assert.deepEqual(mountsOf(dir), []);
  const next = await start({ dir });
  await create(next);
  await eventually(() => cgroupsOf(name).length === 0, 'its control groups go');
  assert.ok(!serverNames(dir).includes(name));
  await next.close();
  await nothingIsLeft(dir, name, processes);
});

test('kill -9 in the middle of a snapshot, while the programs are held, ends them all the same', async () => {
  const dir = home();
  for (let attempt = 0, answers = 1; answers > 0; attempt++) { // the copy may be faster than we look
    assert.ok(attempt < 20);
    const raw = await start({ dir });
    good(await raw.call('terminal_run', { background: true, command: 'sleep 325' }));
    output(await raw.call('terminal_run', { command: 'head -c 400M /dev/zero | tr "\\0" x > large' }));
    const processes = descendants(raw.child.pid);
    const had = checkpointNames(dir);
    raw.send({ id: 'save', method: 'tools/call', params: { name: 'computer_snapshot', arguments: { action: 'save' } } });
    await eventually(() => checkpointNames(dir).some((name) => !had.includes(name)), 'the copy begins', 60000);
    raw.child.kill('SIGKILL');
    await raw.ended;
    answers = raw.messages.length;
    await eventually(() => !processes.some(alive), 'its processes end');
  }
  const next = await start({ dir });
  await create(next);
  await eventually(() => checkpointNames(dir).every((name) => !name.startsWith('.')), 'the half copy goes');
  await next.close();
  auditIsWhole(dir);
});

// A generator of its own, so that a run can be repeated: AIOS_TEST_SEED.
const seed = Number(process.env.AIOS_TEST_SEED ?? Date.now() % 1000000);
const random = ((state) => () => {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
})(seed);
const below = (n) => Math.floor(random() * n);

// Processes that a lost one could be: with @mark on their command line.
const marked = (mark) => fs.readdirSync('/proc').filter((name) => {
  try {
    return /^\d+$/.test(name) && fs.readFileSync(`/proc/${name}/cmdline`, 'latin1').includes(mark);
  } catch { return false; }
});
const describe = (pid) => {
  try {
    const of = (file) => fs.readFileSync(`/proc/${pid}/${file}`, 'latin1').replaceAll('\0', ' ').trim();
    return `${pid} (${of('comm')}: ${of('cmdline')}) ${of('stat').replace(/.*\) /, '').slice(0, 30)} in ${of('wchan')}`;
  } catch { return String(pid); }
};
const members = (groups) => groups.flatMap((group) => {
  try {
    return fs.readFileSync(path.join(group, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean);
  } catch { return []; }
});

const killAtRandom = async (dir, round) => {
  const mark = `${32000 + round}.${process.pid}`;
  const raw = new Raw({ dir, args: below(4) === 0 ? ['--no-pool'] : [] });
  const acts = [
    ['computer_create', {}], ['computer_create', { memory_mb: 64, disk_mb: 32 }],
    ['terminal_run', { command: `sleep ${mark}` }], ['terminal_run', { command: `setsid sleep ${mark}`, background: true }],
    ['terminal_run', { argv: ['sleep', mark], pty: true }], ['computer_create', { from: 'default' }],
    ['computer_snapshot', { action: 'save' }], ['file_write', { path: 'a/b/c', content: 'x'.repeat(below(200000)) }],
    ['terminal_run', { command: 'head -c 3000000 /dev/urandom > blob; true' }], ['computer_list', {}],
    ['terminal_run', { command: `yes ${mark}` }],
  ];
  let answered = 0;
  const warm = below(3);
  let processes = [];
  if (warm > 0) {
    await raw.initialize();
    for (let i = 0; i < warm; i++) {
      good(await raw.call('terminal_run', { command: `(sleep ${mark} &) ; touch f${i}` }));
      answered++;
    }
  } else {
    raw.send({ id: 'init', method: 'initialize', params: { protocolVersion: '2025-11-25', capabilities: {},
      clientInfo: { name: 'raw', version: '1' } } });
  }
  const count = 1 + below(12);
  for (let i = 0; i < count; i++) {
    const [name, args] = acts[below(acts.length)];
    raw.send({ id: `act${i}`, method: 'tools/call', params: { name, arguments: args } });
  }
  const instant = below(3) === 0 ? below(300) : below(40);
  const wait = new Promise((done) => setTimeout(done, instant));
  await wait;
  const stopped = below(2) === 0;
  if (stopped) raw.child.kill('SIGSTOP'); // so that the list below is nearly whole
  processes = descendants(raw.child.pid);
  const names = serverNames(dir);
  raw.child.kill('SIGKILL');
  await raw.ended;
  answered += raw.messages.filter((m) => String(m.id).startsWith('act') && m.result).length;
  const what = `round ${round} of seed ${seed}: killed ${instant} ms after ${count} calls`;
  const left = () => new Set([...processes.filter(alive), ...marked(mark), ...members(names.flatMap(cgroupsOf))]);
  await eventually(() => left().size === 0, `${what}: its processes end`).catch((error) => {
    throw new Error(`${error.message}; left are ${[...left()].map(describe).join(', ')}`);
  });
  assert.deepEqual(raw.impure, [], what);
  return { names, answered };
};

const unsaid = (dir, id) => {
  try {
    return JSON.parse(fs.readFileSync(path.join(dir, `state/saved/${id}.json`))).saving === true;
  } catch { return false; }
};

test(`kill -9 at any instant leaves no process, and a sound home (seed ${seed})`, async () => {
  const dir = home();
  const names = new Set();
  let answered = 0;
  for (let round = 0; round < 30; round++) {
    const killed = await killAtRandom(dir, round);
    killed.names.forEach((name) => names.add(name));
    answered += killed.answered;
    if (round % 6 !== 5) continue;
    const next = await start({ dir });
    const computer = await create(next);
    await eventually(() => cgroupsOf('').filter((group) => [...names].some((name) => group.includes(name))).length === 0,
      'control groups of the killed go');
    await eventually(() => !checkpointNames(dir).some((name) => /^(\.new-|\.del-|tmp_)/.test(name)),
      'half-made checkpoints of the killed go');
    assert.equal(serverNames(dir).length, 1);
    assert.equal(output(await next.call('terminal_run', { computer, command: 'echo sound' })), 'sound');
    const saved = JSON.parse(textOf(await next.call('computer_snapshot', { action: 'list' })));
    for (const { snapshot } of saved) { // whole, each of them
      const restored = handleIn(await next.call('computer_create', { from: snapshot }), 'c');
      good(await next.call('terminal_run', { computer: restored, command: 'ls' }));
      good(await next.call('computer_destroy', { computer: restored }));
      good(await next.call('computer_snapshot', { action: 'delete', snapshot }));
    }
    // One that was whole when its server died before it said so is kept for a while, unlisted.
    await eventually(() => checkpointNames(dir).every((id) => unsaid(dir, id)), 'deleted checkpoints go');
    assert.equal((await next.close()).code, 0);
    auditIsWhole(dir);
  }
  assert.deepEqual(mountsOf(dir), []);
  const rows = aios(dir, 'audit', 'list', '--json', '--match', 'result').stdout.trim().split('\n').length;
  assert.ok(rows >= answered, `${rows} results are recorded of ${answered} that were answered`);
});

test('servers on one home work side by side, and the death of one does not touch the others', async () => {
  const dir = home();
  const one = await start({ dir });
  const two = await start({ dir });
  const mine = await create(one);
  const theirs = await create(two);
  assert.equal((await two.call('terminal_run', { computer: mine, command: 'true' })).isError, true);
  good(await one.call('terminal_run', { computer: mine, command: 'echo kept > file' }));
  const run = handleIn(await one.call('terminal_run', { computer: mine, background: true,
    command: 'read line; echo got $line' }), 'r');
  const saving = handleIn(await one.call('computer_snapshot', { action: 'save', computer: mine }), 's');
  const before = serverNames(dir);
  assert.equal(before.length, 2);
  const processes = descendants(two.child.pid);
  two.child.kill('SIGKILL');
  await two.ended;
  await eventually(() => !processes.some(alive), 'the processes of the killed end');
  const three = await start({ dir }); // sweeps
  await create(three);
  await eventually(() => serverNames(dir).length === 2, 'the name of the killed goes');
  assert.match(good(await one.call('terminal_write', { run, text: 'word\n' })), /got word/);
  assert.equal(output(await one.call('terminal_run', { computer: mine, command: 'cat file' })), 'kept');
  const fork = (await one.call('computer_create', { from: mine })).structuredContent.computer;
  assert.equal(output(await one.call('terminal_run', { computer: fork, command: 'cat file' })), 'kept');
  const restored = handleIn(await three.call('computer_create', { from: saving }), 'c');
  assert.equal(output(await three.call('terminal_run', { computer: restored, command: 'cat file' })), 'kept');
  assert.match(textOf(await three.call('terminal_run', { computer: theirs, command: 'true' })), /computer_create/);
  await one.close();
  assert.equal(output(await three.call('terminal_run', { computer: restored, command: 'cat file' })), 'kept');
  await three.close();
  auditIsWhole(dir);
});

test('snapshots survive the end of the server, by its own will or not', async () => {
  const dir = home();
  const first = await start({ dir });
  good(await first.call('terminal_run', { command: 'echo one > a; ln -s a link; mkdir d; chmod 700 d; echo x > /tmp/t; mkdir -p ~/.config; echo y > ~/.config/z' }));
  const one = handleIn(await first.call('computer_snapshot', { action: 'save', label: 'peace' }), 's');
  assert.equal((await first.close()).code, 0);
  const second = await start({ dir });
  assert.match(textOf(await second.call('computer_snapshot', { action: 'list' })), new RegExp(`${one}[^]*peace`));
  const again = handleIn(await second.call('computer_create', { from: one }), 'c');
  assert.equal(output(await second.call('terminal_run', { computer: again,
    command: 'cat link /tmp/t ~/.config/z; stat -c %a d; echo two >> a' })), 'one\nx\ny\n700');
  const two = handleIn(await second.call('computer_snapshot', { action: 'save', computer: again, label: 'force' }), 's');
  second.child.kill('SIGKILL');
  await second.ended;
  const third = await start({ dir });
  for (const [snapshot, content] of [[one, 'one'], [two, 'one\ntwo']]) {
    const computer = handleIn(await third.call('computer_create', { from: snapshot }), 'c');
    assert.equal(output(await third.call('terminal_run', { computer, command: 'cat a' })), content);
  }
  good(await third.call('computer_snapshot', { action: 'delete', snapshot: one })); // `two` lies on it
  const computer = handleIn(await third.call('computer_create', { from: two }), 'c');
  assert.equal(output(await third.call('terminal_run', { computer, command: 'cat a' })), 'one\ntwo');
  await third.close();
  auditIsWhole(dir);
});

test('idle computers end, ones with a running program do not, and their handles say why', async () => {
  const raw = await start();
  const idle = await create(raw, { idle_timeout_s: 1 });
  const used = await create(raw, { idle_timeout_s: 1 });
  const run = handleIn(await raw.call('terminal_run', { computer: used, command: 'read x; echo $x', background: true }), 'r');
  const lives = async (computer) =>
    (await raw.call('computer_list')).structuredContent.computers.some((c) => c.computer === computer);
  const processes = descendants(raw.child.pid);
  for (const end = Date.now() + 20000; await lives(idle);) assert.ok(Date.now() < end);
  assert.ok(await lives(used)); // the list is no use of them
  const gone = await raw.call('file_list', { computer: idle });
  assert.equal(gone.isError, true);
  assert.match(textOf(gone), /idle for 1 s.*computer_create/);
  assert.match(good(await raw.call('terminal_write', { run, text: 'end\n' })), /end/);
  for (const end = Date.now() + 20000; await lives(used);) assert.ok(Date.now() < end);
  for (const end = Date.now() + 20000; ;) { // its runs go with it
    const read = await raw.call('terminal_read', { run });
    if (read.isError) {
      assert.match(textOf(read), /runs go with their computer.*terminal_run/s);
      break;
    }
    assert.ok(Date.now() < end);
  }
  await eventually(() => processes.filter(alive).length < processes.length, 'its processes end');
  const destroyed = await create(raw);
  const lost = handleIn(await raw.call('terminal_run', { computer: destroyed, command: 'sleep 323', background: true }), 'r');
  good(await raw.call('computer_destroy', { computer: destroyed }));
  assert.match(textOf(await raw.call('computer_create', { from: destroyed })), /destroyed.*computer_create/);
  assert.match(textOf(await raw.call('terminal_read', { run: lost })), /runs go with their computer|computer_lost/);
  assert.match(textOf(await raw.call('terminal_write', { run: lost, text: 'x' })), /terminal_run/);
  await raw.close();
});

test('a computer whose guest is killed is lost with a reason, and the default one is made anew', async () => {
  const dir = home();
  const raw = await start({ dir, args: ['--no-pool'] });
  good(await raw.call('terminal_run', { command: 'touch mark' }));
  raw.send({ id: 'flying', method: 'tools/call', params: { name: 'terminal_run', arguments: { command: 'sleep 324' } } });
  const guests = () => descendants(raw.child.pid).filter((pid) => {
    try { return fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith('aios-guest'); } catch { return false; }
  });
  await eventually(() => guests().length >= 1 && marked('324').length >= 1, 'the guest is found');
  const [{ computer }] = (await raw.call('computer_list')).structuredContent.computers;
  for (const pid of guests()) process.kill(pid, 'SIGKILL');
  const flying = await raw.find((m) => m.id === 'flying');
  assert.match(textOf(flying.result), /computer_lost|ended|lost/);
  for (const end = Date.now() + 10000; (await raw.call('computer_list')).structuredContent.computers.length;) {
    assert.ok(Date.now() < end);
  }
  const gone = textOf(await raw.call('terminal_run', { computer, command: 'true' }));
  assert.match(gone, /is gone: .*computer_create/);
  const listed = good(await raw.call('file_list')); // the default one, made anew
  assert.ok(!listed.includes('mark'));
  await raw.close();
  auditIsWhole(dir);
  assert.match(aios(dir, 'audit', 'list').stdout, new RegExp(`${computer}.*lost`));
});
