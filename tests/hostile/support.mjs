// What the hostile tests share: a server to be attacked, a computer with the probe in it, and the
// look at the host afterwards.
//
// HOSTILE_AS=user starts the server as an ordinary user, without control groups; else it is whoever
// runs the tests, with the best limits that the machine has.  Where the tests are root's, the
// sandboxes have a uid of their own, by which whatever is left of them is found.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import assert from 'node:assert/strict';

const root = process.getuid() === 0;
const OWN_UID = 1900000000 + process.pid;
export const asUser = process.env.HOSTILE_AS === 'user' || !root;
export const SECRET = 'kept-from-every-computer-5e1f';

// The program that is started in place of the server: it puts a secret where programs inside must
// not find it, leaves a file and a folder open that must not be inherited, and becomes the user.
const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'aios-hostile-'));
fs.chmodSync(scratch, 0o755);
process.on('exit', () => fs.rmSync(scratch, { recursive: true, force: true }));
// The user may have no right to pass through the build.  There is a second part where it is two programs.
const program = path.join(scratch, 'bin/aios');
for (const part of ['bin/aios', 'lib/aios/aios']) {
  const built = path.resolve(process.env.AIOS, '../..', part);
  if (!fs.existsSync(built)) continue;
  fs.mkdirSync(path.dirname(path.join(scratch, part)), { recursive: true });
  fs.copyFileSync(built, path.join(scratch, part));
  fs.chmodSync(path.join(scratch, part), 0o755);
}
const wrapper = path.join(scratch, 'server');
const become = asUser && root
  ? `setpriv --reuid=${OWN_UID} --regid=${OWN_UID} --clear-groups -- ` : '';
fs.writeFileSync(wrapper, `#!/bin/sh
export AIOS_TEST_SECRET=${SECRET}
export ASAN_OPTIONS=detect_leaks=1:quarantine_size_mb=4
cd /
exec 7</etc/passwd 8</
exec ${become}${program} "$@"
`, { mode: 0o755 });
process.env.AIOS = wrapper;

const integration = await import('../integration/support.mjs');
export const { Raw, textOf, descendants, alive, eventually, environment } = integration;

export const PROBE = process.env.PROBE;
if (!PROBE) throw new Error('PROBE must be set; run through ctest');
const probe64 = fs.readFileSync(PROBE).toString('base64');

// A home that a sandbox's user may pass through, and that belongs to whom the server is.
export const home = () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'aios-test-'));
  fs.chmodSync(dir, 0o755);
  if (asUser && root) fs.chownSync(dir, OWN_UID, OWN_UID);
  return dir;
};

const merged = (config = {}) => ({
  ...config,
  sandbox: {
    pool_size: 0, ...(asUser ? { cgroup: 'none' } : { host_uid: OWN_UID }), ...config.sandbox,
  },
});

export const procField = (pid, name) => {
  const line = fs.readFileSync(`/proc/${pid}/status`, 'latin1').split('\n')
    .find((l) => l.startsWith(name + ':'));
  return Number(line.split(/\s+/)[1]);
};

// Processes of the uid that only this file's servers and sandboxes have.
export const ownProcesses = () => !root ? [] : fs.readdirSync('/proc')
  .filter((name) => /^\d+$/.test(name)).map(Number).filter((pid) => {
    try { return alive(pid) && procField(pid, 'Uid') === OWN_UID; } catch { return false; }
  });

// Every folder below the control groups that bears the name of one of the servers.
const controlGroups = (servers) => {
  const found = [];
  const walk = (dir, depth) => {
    let names;
    try { names = fs.readdirSync(dir, { withFileTypes: true }); } catch { return; }
    for (const name of names) {
      if (!name.isDirectory()) continue;
      const full = path.join(dir, name.name);
      if (servers.some((s) => name.name.startsWith(`aios-${s}`))) found.push(full);
      if (depth > 0) walk(full, depth - 1);
    }
  };
  walk('/sys/fs/cgroup', 6);
  return found;
};

const mountsOf = (dir) => fs.readFileSync('/proc/self/mountinfo', 'utf8').split('\n')
  .filter((line) => line.includes(dir));

// What of the machine no sandbox may change, and what of its shared memory is a sandbox's.
const hostFacts = () => ({
  hostName: os.hostname(),
  corePattern: fs.readFileSync('/proc/sys/kernel/core_pattern', 'utf8'),
  segments: !root ? [] : fs.readFileSync('/proc/sysvipc/shm', 'utf8').split('\n')
    .filter((line) => line.split(/\s+/).includes(String(OWN_UID))),
  shm: !root ? [] : fs.readdirSync('/dev/shm').filter((name) => {
    try { return fs.lstatSync(path.join('/dev/shm', name)).uid === OWN_UID; } catch { return false; }
  }),
});

// A server with what is known of the host before it.
export class Target {
  static async start({ config, initialize = true, dir = home() } = {}) {
    const t = new Target();
    t.dir = dir;
    t.before = hostFacts();
    t.raw = new Raw({ dir, config: merged(config) });
    if (initialize) await t.raw.initialize();
    return t;
  }

  get pid() { return this.raw.child.pid; }

  servers() {
    try {
      // What begins with a dot is a lock that is being made.
      return fs.readdirSync(path.join(this.dir, 'run/servers')).filter((n) => !n.startsWith('.'));
    } catch { return []; }
  }

  // Or the news that the server has died of it.
  async orDead(answer) {
    const dead = this.raw.ended.then((end) => { throw new Error(`the server ended: ${JSON.stringify(end)}`); });
    dead.catch(() => {});
    return Promise.race([answer, dead]);
  }

  call(name, args = {}) { return this.orDead(this.raw.call(name, args)); }

  // The handle of a new computer, with the probe at /workspace/probe unless told otherwise.
  async computer({ probe = true, ...args } = {}) {
    const made = await this.call('computer_create', {
      ...args, env: { AIOS_PROBE: '1', ...args.env },
    });
    assert.ok(!made.isError, made.content && textOf(made));
    const computer = made.structuredContent.computer;
    if (probe) {
      const put = await this.call('file_write', {
        computer, path: '/workspace/probe', content: probe64, encoding: 'base64', executable: true,
      });
      assert.ok(!put.isError, textOf(put));
    }
    return computer;
  }

  // Run a command (text) or a program (list); what it wrote, and how it ended.
  async run(computer, what, args = {}) {
    const result = await this.call('terminal_run', {
      computer, ...(Array.isArray(what) ? { argv: what } : { command: what }), ...args,
    });
    return Target.parse(result);
  }

  static parse(result) {
    assert.ok(result.content, JSON.stringify(result));
    const all = textOf(result);
    const blocks = result.content.map((block) => block.text ?? '');
    const status = result.isError ? '' : blocks.pop();
    const text = blocks.join('');
    const run = status.match(/"run":"(r_[^"]+)"/)?.[1];
    const code = status.match(/^\[exit code (\d+)/)?.[1];
    return {
      text, status, all, run, isError: Boolean(result.isError),
      code: code === undefined ? undefined : Number(code),
      reason: status.match(/^\[([a-z_]+)/)?.[1],
    };
  }

  probe(computer, args, more = {}) { return this.run(computer, ['/workspace/probe', ...args], more); }

  // A run in the background that has written its first line.
  async background(computer, args) {
    const { run } = await this.probe(computer, args, { background: true });
    assert.ok(run, args.join(' '));
    let all = '';
    for (let i = 0; i < 60 && !all.includes('\n'); i++) {
      const more = Target.parse(await this.call('terminal_read', { run, offset: 0, wait_ms: 1000 }));
      all = more.text;
      if (more.reason !== 'still') break;
    }
    return { run, text: all };
  }

  // How a run in the background ended; its output may end before it does.
  async ended(run) {
    let read;
    for (let i = 0; i < 20; i++) {
      read = Target.parse(await this.call('terminal_read', { run, offset: 0, wait_ms: 1000 }));
      if (read.reason !== 'still') break;
    }
    return read;
  }

  async ping() {
    assert.deepEqual((await this.orDead(this.raw.request('ping'))).result, {});
  }

  async destroy(computer) {
    const result = await this.call('computer_destroy', { computer });
    assert.ok(!result.isError, textOf(result));
  }

  // Everything gone, first with each computer, then with the server; the host is as it was.
  async finish({ keep = false } = {}) {
    await this.ping();
    const { computers } = (await this.call('computer_list')).structuredContent;
    for (const { computer } of computers) await this.destroy(computer);
    const servers = this.servers();
    await eventually(() => descendants(this.pid).filter(alive).length === 0 &&
      ownProcesses().filter((pid) => pid !== this.pid).length === 0,
    'processes of destroyed computers');
    await eventually(() => controlGroups(servers).length === 0,
      'control groups of destroyed computers');
    await this.ping();
    const end = await this.raw.close();
    assert.deepEqual(end, { code: 0, signal: null });
    this.leftNothing(servers);
    assert.deepEqual(hostFacts(), this.before);
    if (!keep) fs.rmSync(this.dir, { recursive: true, force: true });
  }

  leftNothing(servers) {
    assert.deepEqual(ownProcesses(), [], 'processes');
    assert.deepEqual(controlGroups(servers), [], 'control groups');
    assert.deepEqual(mountsOf(this.dir), [], 'mounts');
  }

  // However the test ends, the server ends too.
  abandon() { this.raw.child.kill('SIGKILL'); }
}

export const survey = { controlGroups, mountsOf };

// A test's body with a target: what it leaves is looked at whatever it did.
export const attacked = (body, options = {}) => async (t) => {
  const target = await Target.start(options);
  try {
    await body(target, t);
    await target.finish();
  } finally {
    target.abandon();
  }
};

// "NAME ERRNO" and "NAME OK detail", by name.
export const outcomes = (text) => {
  const map = new Map();
  for (const line of text.split('\n').filter(Boolean)) {
    const at = line.indexOf(' ');
    map.set(line.slice(0, at), line.slice(at + 1).trim());
  }
  return map;
};

// Each row: name, and what may be answered: a word, or an expression for it.
export const assertRows = (got, rows) => {
  const wrong = [];
  for (const [name, want] of Object.entries(rows)) {
    const is = got.get(name);
    const ok = is !== undefined && (want instanceof RegExp ? want.test(is) : is === want);
    if (!ok) wrong.push(`${name}: ${is} instead of ${want}`);
  }
  assert.deepEqual(wrong, []);
};

export const aios = (dir, args) =>
  execFileSync(wrapper, args, { env: environment(dir), encoding: 'utf8', maxBuffer: 64 << 20 });

// A line of the audit log; records reach the database a moment after what they tell of.
export const audited = async (target, match, wanted) => {
  let list = '';
  await eventually(() => {
    list = aios(target.dir, ['audit', 'list', '--match', match]);
    return list.split('\n').some(wanted);
  }, `a line of the audit for ${wanted}`).catch((error) => { throw new Error(`${error.message}\n${list}`); });
};
