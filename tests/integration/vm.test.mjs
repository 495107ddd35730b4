// Virtual machines through the whole program: an official client, real QEMU, the image "base".
import { before, test } from 'node:test';
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { AIOS, alive, buildImages, cgroupsOf, connectV1, descendants, environment, eventually, good, handleIn, home,
  output, Raw, serverNames, textOf, withV1 } from './support.mjs';

const PATIENCE = 300000; // an emulated boot on a busy machine; an idle one takes five seconds
const IMAGES = process.env.AIOS_TEST_IMAGES; // shared by all builds of this tree

before(() => {
  assert.ok(IMAGES, 'AIOS_TEST_IMAGES must be set; run through ctest');
  buildImages('base');
}, { timeout: 1500000 });

const config = (more = {}) => ({
  tool: { call_timeout_ms: PATIENCE }, sandbox: { pool_size: 0 }, vm: { images_dir: IMAGES, pool_size: 0, ...more },
});
const withVms = (body, { dir = home(), vm } = {}) => withV1(({ call, pid }) => body({
  call: (name, args) => call(name, args, { timeout: PATIENCE }), dir, pid,
}), { dir, config: config(vm) });
const make = async (call, args = {}) => {
  const made = await call('computer_create', { kind: 'vm', ...args });
  good(made);
  return made.structuredContent;
};
const run = async (call, computer, command) => output(await call('terminal_run', { computer, command }));
const state = async (call, computer) =>
  (await call('computer_list')).structuredContent.computers.find((c) => c.computer === computer)?.state;
const qemus = (pid) => descendants(pid).filter((child) => {
  try { return fs.readFileSync(`/proc/${child}/comm`, 'utf8').startsWith('qemu'); } catch { return false; }
});
const fds = (pid) => fs.readdirSync(`/proc/${pid}/fd`).length;
// What virtual machines have on disk, but for what snapshots need.
const files = (dir) => fs.readdirSync(path.join(dir, 'state/vm'), { recursive: true })
  .filter((name) => !/^s_/.test(name) && !fs.statSync(path.join(dir, 'state/vm', name)).isDirectory());

test('a virtual machine does what every tool wants, and the operator sees it', () => withVms(async ({ call, dir, pid }) => {
  const { computer, kind, image, memory_mb: memory } = await make(call, { image: 'base', labels: { a: 'b' } });
  assert.deepEqual([kind, image], ['vm', 'base']);
  assert.ok(memory >= 128);
  assert.equal(qemus(pid).length, 1);
  // Its own kernel, its own processes, the user and the folder that sandboxes have.
  assert.notEqual(await run(call, computer, 'cat /proc/sys/kernel/random/boot_id'),
    fs.readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim());
  assert.match(await run(call, computer, 'pwd; id -u; cat /proc/1/comm'), /^\/workspace\n1000\n/);
  assert.match(good(await call('code_run', { computer, language: 'python', code: 'x = 6 * 7' })), /ok/);
  assert.match(good(await call('code_run', { computer, language: 'python', code: 'print(x)' })), /42/);
  good(await call('file_write', { computer, path: 'notes/a.txt', content: 'alpha\nbeta\n' }));
  good(await call('file_edit', { computer, path: 'notes/a.txt', old_text: 'beta', new_text: 'gamma' }));
  assert.match(good(await call('file_read', { computer, path: 'notes/a.txt' })), /gamma/);
  assert.match(good(await call('file_search', { computer, pattern: 'gam+a' })), /a\.txt:2:gamma/);
  assert.match(good(await call('file_list', { computer, depth: 2 })), /notes\/a\.txt/);
  const shell = handleIn(await call('terminal_run', { computer, argv: ['cat'], pty: true }), 'r');
  assert.match(good(await call('terminal_write', { run: shell, text: 'typed', keys: ['Enter'] })), /typed/);
  good(await call('terminal_kill', { run: shell, signal: 'KILL' }));

  const ask = (...args) => spawnSync(AIOS, args, { env: environment(dir), encoding: 'utf8' });
  const [row] = JSON.parse(ask('ps', '--json').stdout);
  assert.deepEqual([row.computer, row.kind, row.image, row.agent, row.server], [computer, 'vm', 'base', 'default', pid]);
  assert.ok(row.memory_bytes > 0);
  assert.match(ask('vm').stdout, new RegExp(`${computer} +vm +base`));
  const screen = ask('screen', computer, path.join(dir, 'x.png'));
  assert.equal(screen.status, 1);
  assert.match(screen.stderr, /screen/);

  good(await call('computer_destroy', { computer }));
  await eventually(() => qemus(pid).length === 0, 'QEMU ends');
  assert.deepEqual(JSON.parse(ask('vm', '--json').stdout), []);
}));

test('it reaches what the rules allow and nothing else', async () => {
  const server = http.createServer((request, response) => response.end('hello from outside'));
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  const { port } = server.address();
  try {
    await withVms(async ({ call }) => {
      const curl = `curl -sS --noproxy "" -m 60 http://127.0.0.1:${port}/`;
      const { computer: open } = await make(call, { allow: [`127.0.0.1:${port}`] });
      assert.equal(await run(call, open, curl), 'hello from outside');
      const { computer: shut } = await make(call);
      const refused = textOf(await call('terminal_run', { computer: shut, command: curl }));
      assert.ok(!refused.includes('hello from outside'), refused);
      assert.match(refused, /no network rule allows/);
    });
  } finally {
    server.close();
  }
});

test('copies and snapshots have its files, and another server restores them', async () => {
  const dir = home();
  let snapshot;
  await withVms(async ({ call }) => {
    const { computer } = await make(call, { labels: { role: 'first' } });
    await run(call, computer, 'echo kept >file; echo here >/tmp/memory');
    const made = await call('computer_create', { from: computer });
    good(made);
    const copy = made.structuredContent;
    assert.deepEqual([copy.kind, copy.labels], ['vm', { role: 'first' }]);
    assert.equal(await run(call, copy.computer, 'cat file /tmp/memory; echo changed >file'), 'kept\nhere');
    assert.equal(await run(call, computer, 'cat file'), 'kept');
    snapshot = handleIn(await call('computer_snapshot', { action: 'save', computer, label: 'vm' }), 's');
    assert.equal(await run(call, computer, 'cat file; rm file'), 'kept');
  }, { dir });
  await withVms(async ({ call, pid }) => {
    assert.match(good(await call('computer_snapshot', { action: 'list' })), new RegExp(snapshot));
    const again = handleIn(await call('computer_create', { from: snapshot }), 'c');
    assert.equal(await run(call, again, 'cat file /tmp/memory'), 'kept\nhere');
    good(await call('computer_snapshot', { action: 'delete', snapshot }));
    assert.equal((await call('computer_create', { from: snapshot })).isError, true);
    assert.equal(qemus(pid).length, 1);
  }, { dir });
  assert.deepEqual(files(dir), []);
  assert.deepEqual(fs.readdirSync(path.join(dir, 'state/vm')).filter((name) => /^s_/.test(name)), []);
});

test('an idle one goes to disk and comes back with the next call', () => withVms(async ({ call, pid }) => {
  const { computer } = await make(call);
  await run(call, computer, 'echo in memory >/dev/shm/x');
  const boot = await run(call, computer, 'cat /proc/sys/kernel/random/boot_id');
  for (let round = 0; round < 2; round++) {
    const end = Date.now() + PATIENCE;
    while (await state(call, computer) !== 'swapped') {
      assert.ok(Date.now() < end, 'it is not put aside');
      await new Promise((done) => setTimeout(done, 200));
    }
    await eventually(() => qemus(pid).length === 0, 'its QEMU ends', PATIENCE);
    assert.equal(await run(call, computer, 'cat /dev/shm/x'), 'in memory');
    assert.equal(await run(call, computer, 'cat /proc/sys/kernel/random/boot_id'), boot);
  }
}, { vm: { swap_after_s: 1 } }));

test('one waits for whoever asks next, and is nobody\'s until then', () => withVms(async ({ call, dir, pid }) => {
  const { computer: first } = await make(call);
  await eventually(() => qemus(pid).length === 2, 'one is made ahead', PATIENCE);
  assert.equal((await call('computer_list')).structuredContent.computers.length, 1);
  const ask = (...args) => spawnSync(AIOS, args, { env: environment(dir), encoding: 'utf8' });
  assert.equal(JSON.parse(ask('vm', '--json').stdout).length, 1);
  const { computer: second } = await make(call, { env: { WHO: 'second' }, pids: 200 });
  assert.match(await run(call, second, 'echo $WHO; pwd; id -u; hostname'), /^second\n\/workspace\n1000\ncomputer$/);
  assert.notEqual(await run(call, first, 'cat /etc/machine-id'), await run(call, second, 'cat /etc/machine-id'));
  const skew = Math.abs(Number(await run(call, second, 'date +%s')) - Date.now() / 1000);
  assert.ok(skew < PATIENCE / 1000, String(skew));
  for (const computer of [first, second]) good(await call('computer_destroy', { computer }));
  await eventually(() => qemus(pid).length === 1, 'one waits again', PATIENCE);
}, { vm: { pool_size: 1 } }));

test('the disk fills and says so: of a new one, of one that waited, and of a copy', () => withVms(async ({ call, pid }) => {
  const MIB = 2 ** 20;
  const fill = async (computer, name) => {
    const full = textOf(await call('terminal_run', { computer, command: `head -c 500M /dev/zero >/workspace/${name}` }));
    assert.match(full, /disk: failed \(1\) with the computer's disk full/);
    return Number(await run(call, computer, `stat -c %s /workspace/${name}`));
  };
  const { computer: fresh } = await make(call, { disk_mb: 64 });
  await eventually(() => qemus(pid).length === 2, 'one is made ahead', PATIENCE);
  const { computer: waited } = await make(call, { disk_mb: 64 });
  for (const computer of [fresh, waited]) {
    const bytes = await fill(computer, 'hog');
    assert.ok(bytes > 60 * MIB && bytes <= 64 * MIB, String(bytes));
    const all = textOf(await call('terminal_run', { computer, command: 'rm hog && fallocate -l 500M hog' }));
    assert.match(all, /No space left/);
    assert.equal(await run(call, computer, 'rm -f hog; head -c 48M /dev/zero >kept; echo again'), 'again');
  }
  const copied = await call('computer_create', { from: waited });
  good(copied);
  const { computer: copy } = copied.structuredContent;
  const listed = (await call('computer_list')).structuredContent.computers;
  assert.deepEqual(listed.map((row) => row.disk_mb), [64, 64, 64]);
  const left = await fill(copy, 'more');
  assert.ok(left > 12 * MIB && left <= 16 * MIB, String(left));
}, { vm: { pool_size: 1 } }));

const withCgroups = JSON.parse(spawnSync(AIOS, ['doctor', '--json'],
  { env: environment(home()), encoding: 'utf8' }).stdout).checks.find(({ name }) => name === 'cgroups').ok;

test('each has a control group of its own, with its limits, for as long as it lives', () => withVms(async ({ call, dir }) => {
  const { computer, memory_mb: memory } = await make(call);
  const groups = () => serverNames(dir).flatMap(cgroupsOf);
  const limits = groups().flatMap((group) => ['memory.limit_in_bytes', 'memory.max'].map((name) => path.join(group, name)))
    .filter((file) => fs.existsSync(file)).map((file) => Number(fs.readFileSync(file, 'utf8')));
  assert.deepEqual(limits, withCgroups ? [(memory + 192) * 2 ** 20] : []);
  good(await call('computer_destroy', { computer }));
  await eventually(() => groups().length === 0, 'its groups go', PATIENCE);
}));

test('kill -9 of the server leaves no QEMU and no file, and the next one clears its groups away', async () => {
  const dir = home();
  const { client, transport, connect } = await connectV1({ dir, config: config({ pool_size: 1 }) });
  await connect();
  const made = await client.callTool({ name: 'computer_create', arguments: { kind: 'vm' } }, undefined,
    { timeout: PATIENCE });
  good(made);
  await eventually(() => qemus(transport.pid).length === 2, 'one is made ahead', PATIENCE);
  const machines = qemus(transport.pid);
  const [name] = serverNames(dir);
  assert.equal(cgroupsOf(name).length > 0, withCgroups);
  process.kill(transport.pid, 'SIGKILL');
  await eventually(() => !machines.some(alive) && !alive(transport.pid), 'QEMU and the server end', PATIENCE);
  assert.deepEqual(files(dir), []);
  const { stdout, status } = spawnSync(AIOS, ['ps', '--json'], { env: environment(dir), encoding: 'utf8' });
  assert.equal(status, 0);
  assert.deepEqual(JSON.parse(stdout), []);
  // A server that starts sweeps what was left to it; ps does when it finds nobody there.
  await eventually(() => {
    spawnSync(AIOS, ['ps', '--json'], { env: environment(dir) });
    return fs.readdirSync(path.join(dir, 'run/status')).join() === 'lock';
  }, 'the socket of the killed server is gone', PATIENCE);
  await client.close();
  await withVms(async ({ call }) => {
    await make(call);
    assert.deepEqual(cgroupsOf(name), []);
  }, { dir });
});

test('what is made and destroyed again and again leaves nothing', () => withVms(async ({ call, dir, pid }) => {
  const round = async () => {
    const { computer } = await make(call);
    assert.equal(await run(call, computer, 'echo round'), 'round');
    good(await call('computer_destroy', { computer }));
    await eventually(() => qemus(pid).length === 0, 'QEMU ends', PATIENCE);
  };
  await round();
  await round();
  const before_ = { fds: fds(pid), processes: descendants(pid).length };
  for (let i = 0; i < 10; i++) await round();
  await eventually(() => fds(pid) <= before_.fds && descendants(pid).length <= before_.processes,
    'descriptors and processes are as before');
  assert.deepEqual(files(dir), []);
}));

test('what is missing is said, with what to do', async () => {
  for (const [vm, args, want] of [
    [{ images_dir: '/nowhere' }, {}, /no image "base".*aios image build base/],
    [{}, { image: 'none' }, /no image "none".*aios image build none/],
    [{ program: '/nowhere/qemu' }, {}, /\/nowhere\/qemu cannot be run.*vm\.program/],
  ]) {
    const raw = new Raw({ config: config(vm) });
    await raw.initialize();
    const answer = await raw.call('computer_create', { kind: 'vm', ...args });
    assert.ok(answer.isError, textOf(answer));
    assert.match(textOf(answer), want);
    assert.equal(output(await raw.call('terminal_run', { command: 'echo sandboxes work' })), 'sandboxes work');
    await raw.close();
  }
});
