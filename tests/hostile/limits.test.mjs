// Taking all there is of something: it ends inside, with a reason, and the server goes on.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { Target, asUser, attacked, descendants, eventually, outcomes } from './support.mjs';

const number = (text, name) => Number(outcomes(text).get(name)?.match(/OK (\d+)/)?.[1]);

// Calls to another computer while something goes on in the first.
const answersMeanwhile = async (target, other) => {
  await target.ping();
  const run = await target.run(other, 'echo there');
  assert.equal(run.text, 'there\n', run.all);
};

test('1: processes without end meet the limit, and the run says so', attacked(async (target) => {
  const computer = await target.computer({ pids: 64 });
  const other = await target.computer({ probe: false });
  const run = await target.probe(computer, ['forks', '500']);
  assert.match(run.text, /^forks EAGAIN/, run.all);
  if (!asUser) assert.equal(run.reason, 'pids', run.all); // resource limits do not count refusals
  await answersMeanwhile(target, other);
  assert.equal((await target.run(computer, 'echo again')).text, 'again\n');
}));

test('1: threads without end meet the limit', attacked(async (target) => {
  const computer = await target.computer({ pids: 64 });
  const run = await target.probe(computer, ['threads', '500']);
  assert.match(run.text, /^threads EAGAIN/, run.all);
  if (!asUser) assert.equal(run.reason, 'pids', run.all);
  assert.equal((await target.run(computer, 'echo again')).text, 'again\n');
}));

test('1: a storm of forks that never ends dies whole at its deadline', attacked(async (target) => {
  const computer = await target.computer({ pids: 128 });
  const other = await target.computer({ probe: false });
  const storm = target.probe(computer, ['storm', '3000'], { timeout_ms: 6000 });
  await eventually(() => descendants(target.pid).length >= 64, 'the storm');
  for (let i = 0; i < 10; i++) await answersMeanwhile(target, other);
  assert.ok(descendants(target.pid).length < 200, 'no more processes than allowed');
  const run = await storm;
  assert.equal(run.reason, 'timeout', run.all);
  await eventually(() => descendants(target.pid).length <= 2, 'the two guests alone');
  assert.equal((await target.run(computer, 'echo again')).text, 'again\n');
}));

// What a hog gets of memory, and how it ends.
for (const [what, args] of [
  ['the heap', ['heap', '512']],
  ['a memory file that is never mapped', ['memfd', '512']],
  ['segments of SysV shared memory', ['shm', '512']],
]) {
  test(`2: memory as ${what} ends the program and not the server`, attacked(async (target) => {
    const computer = await target.computer({ memory_mb: 128, disk_mb: 32 });
    const run = await target.probe(computer, args);
    if (!asUser) {
      // Segments outlive their program, and would leave nothing for the next: they may be refused
      // before the memory is full.
      const bounded = args[0] === 'shm' && /^shm ENOSPC/.test(run.text);
      assert.ok(run.reason === 'oom' || bounded, run.all);
    } else if (args[0] === 'heap') {
      // The resource limit refuses before the watcher has to kill.
      assert.ok(run.reason === 'oom' || /^heap ENOMEM/.test(run.text), run.all);
    }
    // Without control groups, memory that no process has mapped is counted by nobody: what must
    // hold there is that it is gone with the computer, and that the server goes on.
    await target.ping();
    assert.equal((await target.run(computer, 'echo again')).text, 'again\n');
  }));
}

test('2: memory as files in /tmp and /dev/shm is the disk, which has its own limit', attacked(async (target) => {
  const computer = await target.computer({ memory_mb: 256, disk_mb: 64 });
  for (const folder of ['/tmp', '/dev/shm', '/var/tmp', '/workspace', '/usr/local/lib']) {
    const run = await target.probe(computer, ['file', `${folder}/hog`, '200']);
    assert.match(run.text, /^file ENOSPC/, run.all);
    assert.equal(run.reason, 'disk', run.all);
    await target.run(computer, `rm -f ${folder}/hog`);
  }
  assert.equal((await target.run(computer, 'echo again')).text, 'again\n');
}));

test('2: a disk as large as the memory cannot take the machine either', attacked(async (target) => {
  const computer = await target.computer({ memory_mb: 64, disk_mb: 64 });
  const run = await target.probe(computer, ['file', '/tmp/hog', '200']);
  assert.ok(run.reason === 'oom' || run.reason === 'disk', run.all);
  await target.ping();
  assert.equal((await target.run(computer, 'rm -f /tmp/hog; echo again')).text, 'again\n');
}));

test('3: descriptors run out in the program that takes them', attacked(async (target) => {
  const computer = await target.computer();
  for (const kind of ['null', 'eventfd', 'epoll', 'inotify']) {
    const run = await target.probe(computer, ['exhaust', kind, '1000000']);
    const got = outcomes(run.text);
    assert.match(got.get(kind), /^(EMFILE|ENOSPC|ENFILE)$/, run.all);
    assert.ok(number(run.text, 'exhaust') > 10, run.all);
  }
  assert.equal((await target.run(computer, 'echo again')).text, 'again\n');
}));

test('3: a terminal can be had while another computer takes all it gets', attacked(async (target) => {
  const computer = await target.computer();
  const other = await target.computer({ probe: false });
  const runs = [];
  // Several programs, so that no limit of one program is what stops it.
  for (let i = 0; i < 4; i++) runs.push(await target.background(computer, ['exhaust', 'terminal', '4000', 'hold']));
  const taken = runs.reduce((sum, { text }) => sum + number(text, 'exhaust'), 0);
  assert.ok(taken > 0, 'some terminals');
  const run = await target.run(other, 'echo from a terminal', { pty: true });
  assert.match(run.all, /from a terminal/);
  for (const { run: id } of runs) await target.call('terminal_write', { run: id, close: true });
}));

test('3: files can be watched while another computer takes all the watchers it gets', attacked(async (target) => {
  const hog = await target.computer();
  const { run } = await target.background(hog, ['exhaust', 'inotify', '4000', 'hold']);
  const other = await target.computer();
  const mine = await target.probe(other, ['exhaust', 'inotify', '8']);
  assert.equal(number(mine.text, 'exhaust'), 8, mine.all);
  await target.call('terminal_write', { run, close: true });
}));

test('3: folders deeper than a path are no trap for the tools nor for the end', attacked(async (target) => {
  const computer = await target.computer();
  const run = await target.probe(computer, ['deep', '/workspace', '3000']);
  assert.match(run.text, /^deep (OK 3000|ENOSPC)/, run.all);
  const list = await target.call('file_list', { computer, path: '/workspace', depth: 20 });
  assert.ok(list.content, JSON.stringify(list).slice(0, 300));
  await target.call('file_search', { computer, path: '/workspace', pattern: 'x' });
  const save = await target.call('computer_create', { from: computer });
  assert.ok(save.content, JSON.stringify(save).slice(0, 300));
  await target.ping();
}));

test('4: the disk fills, says so, and is empty in the next computer', attacked(async (target) => {
  const computer = await target.computer({ disk_mb: 64 });
  for (const folder of ['/tmp', '/var/tmp', '/dev/shm', '/workspace', '/home/agent']) {
    await target.run(computer, `echo left >${folder}/left-behind`);
  }
  let run = await target.probe(computer, ['file', '/workspace/hog', '500']);
  assert.match(run.text, /^file ENOSPC/, run.all);
  assert.equal(run.reason, 'disk', run.all);
  run = await target.run(computer, 'rm /workspace/hog; echo again');
  assert.equal(run.text, 'again\n', run.all);
  run = await target.probe(computer, ['fallocate', '/workspace/hog', '500']);
  assert.match(run.text, /^fallocate ENOSPC/, run.all);
  run = await target.probe(computer, ['sparse', '/workspace/hole', '4000']);
  assert.match(run.text, /^sparse (OK|EFBIG)/, run.all);
  run = await target.probe(computer, ['inodes', '/tmp', '2000000'], { timeout_ms: 40000 });
  assert.match(run.text, /^inodes ENOSPC/, run.all);
  await target.destroy(computer);
  const next = await target.computer({ probe: false });
  run = await target.run(next, 'find / -xdev -name left-behind 2>/dev/null; find /dev/shm -type f; ls -A /tmp /workspace');
  assert.equal(run.text, '/tmp:\n\n/workspace:\n', run.all);
}));
