// Programs that do not want to end, and the end of the server.
import { spawn } from 'node:child_process';
import { test } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import {
  Target, alive, asUser, attacked, descendants, environment, eventually, home,
  ownProcesses, survey,
} from './support.mjs';

const comm = (pid) => {
  try { return fs.readFileSync(`/proc/${pid}/comm`, 'latin1').trim(); } catch { return ''; }
};

test('8: deaf to signals and busy for ever: killed whole at its deadline', attacked(async (target) => {
  const computer = await target.computer();
  const before = descendants(target.pid).length;
  const run = await target.probe(computer, ['stubborn'], { timeout_ms: 2000 });
  assert.match(run.text, /^stubborn OK/);
  assert.equal(run.reason, 'timeout', run.all);
  await eventually(() => descendants(target.pid).length === before, 'its children');
  assert.equal((await target.run(computer, 'echo again')).text, 'again\n');
}));

test('8: a kill on request reaches what is deaf to all else', attacked(async (target) => {
  const computer = await target.computer();
  const { run } = await target.background(computer, ['stubborn']);
  const killed = Target.parse(await target.call('terminal_kill', { run, signal: 'KILL' }));
  assert.match(killed.all, /killed by signal 9 on request/);
  await target.destroy(computer);
  await eventually(() => descendants(target.pid).length === 0, 'its children');
}));

test('9: a daemon in a session of its own does not survive its computer', attacked(async (target) => {
  const computer = await target.computer();
  assert.match((await target.probe(computer, ['daemon'])).text, /^daemon OK/);
  const daemons = descendants(target.pid).filter((pid) => comm(pid) === 'probe-daemon');
  assert.equal(daemons.length, 1);
  await target.destroy(computer);
  await eventually(() => !alive(daemons[0]), 'the daemon');
}));

test('9: orphans that end are reaped by process 1', attacked(async (target) => {
  const computer = await target.computer({ pids: 64 });
  const run = await target.probe(computer, ['zombies', '400']);
  assert.equal(run.text, 'zombies OK 0\n', run.all);
}));

test('9: a daemon does not survive the server', async () => {
  const target = await Target.start();
  const computer = await target.computer();
  await target.probe(computer, ['daemon']);
  const all = descendants(target.pid);
  assert.ok(all.some((pid) => comm(pid) === 'probe-daemon'));
  const servers = target.servers();
  assert.equal((await target.raw.close()).code, 0);
  await eventually(() => !all.some(alive), 'everything that was started');
  target.leftNothing(servers);
  fs.rmSync(target.dir, { recursive: true });
});

// Wherever the server is in its work when it dies: nothing survives it, and the next one sweeps.
// Kills a server when it has been asked for much, at `rounds` instants that are `apart` milliseconds apart.
async function killedAtAnyInstant(rounds, apart, asked) {
  const dir = home();
  for (let i = 0; i < rounds; i++) {
    const target = await Target.start({ dir });
    const servers = target.servers();
    // Nobody waits for the answers.
    for (const [name, args] of asked) {
      target.raw.send({ id: `unanswered-${name}-${Math.random()}`, method: 'tools/call', params: { name, arguments: args } });
    }
    const deadline = process.hrtime.bigint() + BigInt(Math.round(i * apart * 1e6));
    while (process.hrtime.bigint() < deadline) await new Promise((done) => setImmediate(done));
    const seen = descendants(target.pid);
    target.raw.child.kill('SIGKILL');
    await target.raw.ended;
    await eventually(() => !seen.some(alive) && ownProcesses().length === 0,
      `round ${i}: processes`);
    assert.deepEqual(survey.mountsOf(dir), [], `round ${i}: mounts`);
    // Groups cannot go by themselves; the next server removes them.
    const next = await Target.start({ dir });
    await next.computer({ probe: false });
    await eventually(() => survey.controlGroups(servers).length === 0, `round ${i}: groups`);
    await next.finish({ keep: true });
  }
  fs.rmSync(dir, { recursive: true, force: true });
}

const create = ['computer_create', {}];
const run = ['terminal_run', { command: 'setsid sleep 1000 & sleep 1000 & wait' }];

// The first instants are within the making of a computer, the later ones within runs.
test('10: kill -9 of the server at any instant leaves nothing behind', () =>
  killedAtAnyInstant(24, 1.5, [create, run, create]));

// Children get to run when their server has ended already.
test('10: nor where processors are scarce and computers are made beside each other', async () => {
  const busy = Array.from({ length: os.cpus().length + 1 }, () => spawn('/bin/sh', ['-c', 'while :; do :; done']));
  try {
    await killedAtAnyInstant(96, 0.3, [create, run, create]);
  } finally {
    for (const one of busy) one.kill('SIGKILL');
  }
});

test('11: kill(-1) and every signal to process 1 end nothing but the own computer\'s programs', attacked(async (target) => {
  const computer = await target.computer();
  const other = await target.computer({ probe: false });
  const bystander = (await target.run(other, 'read line', { background: true })).run;
  let run = await target.probe(computer, ['kill-init']);
  assert.match(run.text, /^kill-init OK/, run.all);
  assert.equal((await target.run(computer, 'echo again')).text, 'again\n');
  const victim = (await target.run(computer, 'read line', { background: true })).run;
  run = await target.probe(computer, ['kill-all']);
  assert.match(run.text, /^kill-all OK/, run.all);
  assert.equal((await target.run(computer, 'echo again')).text, 'again\n');
  assert.match((await target.ended(victim)).status, /ended by signal 9/);
  const still = Target.parse(await target.call('terminal_read', { run: bystander }));
  assert.match(still.status, /still running/);
}));

test('14: a device of the host that is not what its name says stops the making of a computer',
  { skip: process.getuid() === 0 && !asUser ? false : 'needs mounts; the run as root shows it' }, async () => {
    const dir = home();
    const file = path.join(dir, 'not-a-device');
    fs.writeFileSync(file, '');
    for (const device of ['/dev/null', '/dev/tty', '/dev/urandom']) {
      // In a mount namespace of its own: the machine's devices stay as they are.
      const child = spawn('unshare', ['-m', 'sh', '-c',
        `mount --bind ${file} ${device} && exec ${process.env.AIOS} run -- true`],
      { env: environment(dir), stdio: ['ignore', 'pipe', 'pipe'] });
      let said = '';
      for (const stream of [child.stdout, child.stderr]) stream.on('data', (d) => { said += d; });
      const code = await new Promise((done) => child.on('exit', done));
      assert.notEqual(code, 0, said);
      assert.match(said, /device.*\/dev\/null and the like/, `${device}: ${said}`);
    }
    fs.rmSync(dir, { recursive: true });
  });
