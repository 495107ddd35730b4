// Storage on servers through the built program: PostgreSQL and S3 (which checks signatures), each
// started here; they go away and come back, and their keys stay where they belong.
import { after, test } from 'node:test';
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { USER, descendants, eventually, good, home, Raw, resolve, textOf } from './support.mjs';

const NOBODY = 65534;
const running = new Set();
const folders = [];
after(() => {
  for (const child of running) child.kill('SIGKILL');
  for (const dir of folders) fs.rmSync(dir, { recursive: true, force: true, maxRetries: 10 });
});
const folder = (name) => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), name));
  folders.push(dir);
  return dir;
};

// A program that runs until down(), and has said @ready when up() returns.
const server = (program, args, ready, options = {}) => {
  let child;
  return {
    said: '',
    async up() {
      child = spawn(program, args(), { stdio: ['ignore', 'pipe', 'pipe'], ...options });
      running.add(child);
      this.said = '';
      for (const stream of [child.stdout, child.stderr])
        stream.on('data', (chunk) => { this.said += chunk; });
      await eventually(() => ready.test(this.said) || child.exitCode !== null, 'the server is up', 60000);
      assert.match(this.said, ready);
      return this.said;
    },
    async down() {
      const gone = new Promise((done) => child.once('close', done));
      child.kill('SIGQUIT'); // at once, as after a crash
      await gone;
      running.delete(child);
    },
  };
};

const postgres = () => {
  const bin = '/usr/lib/postgresql';
  const newest = fs.existsSync(bin) && fs.readdirSync(bin).sort((a, b) => a - b).pop();
  assert.ok(newest, 'PostgreSQL is not installed; tools/dev/setup --tests does it');
  const dir = folder('aios-pg-');
  const data = path.join(dir, 'data');
  const secret = 'horse-battery-staple';
  const as = process.getuid() === 0 ? { uid: NOBODY, gid: NOBODY } : {};
  fs.writeFileSync(path.join(dir, 'pw'), secret + '\n');
  fs.chmodSync(dir, 0o755);
  if (as.uid) fs.chownSync(dir, NOBODY, NOBODY);
  const made = spawnSync(path.join(bin, newest, 'bin/initdb'), ['-D', data, '-U', 'aios', '--auth=scram-sha-256',
    `--pwfile=${path.join(dir, 'pw')}`, '--no-sync', '--encoding=UTF8', '--locale=C', '--no-instructions'],
  { encoding: 'utf8', cwd: dir, ...as });
  assert.equal(made.status, 0, made.stderr);
  const args = ['-D', data, '-k', dir, '-c', 'listen_addresses=', '-c', 'fsync=off',
    '-c', 'unix_socket_permissions=0777'];
  return {
    ...server(path.join(bin, newest, 'bin/postgres'), () => args, /ready to accept connections/, { cwd: dir, ...as }),
    secrets: [secret],
    env: { TEST_DSN: `host=${dir} user=aios dbname=postgres password=${secret}` },
    config: () => ({ storage: { backend: 'postgres' }, postgres: { dsn_env: 'TEST_DSN' } }),
    lost: /PostgreSQL/,
  };
};

const s3 = () => {
  const dir = folder('aios-s3-');
  let port = 0;
  const script = path.join(path.dirname(resolve('@20minutes/s3rver/package.json')), 'lib/cli.js');
  const made = server(process.execPath, () => ['-e',
    'require(process.argv[1]).parseAsync([0, 0, ...process.argv.slice(2)])', '--', script,
    '--directory', dir, '--address', '127.0.0.1', '--port', String(port), '--silent',
    '--serviceEndpoint', 'localhost', '--configure-bucket', 'test'], /listening on 127\.0\.0\.1:\d+\s/);
  const { up } = made;
  return {
    ...made,
    async up() { port = Number(/127\.0\.0\.1:(\d+)/.exec(await up.call(this))[1]); },
    secrets: ['S3RVER'],
    env: { TEST_KEY_ID: 'S3RVER', TEST_KEY: 'S3RVER' },
    config: () => ({ storage: { backend: 's3' }, s3: { endpoint: `http://127.0.0.1:${port}`, bucket: 'test',
      region: 'us-east-1', access_key_env: 'TEST_KEY_ID', secret_key_env: 'TEST_KEY' } }),
    index: true, // is read once and held: what there is can be told without the server
    lost: /S3|127\.0\.0\.1/,
  };
};

const files = (dir) => fs.readdirSync(dir, { withFileTypes: true }).flatMap((entry) => {
  const at = path.join(dir, entry.name);
  return entry.isDirectory() ? files(at) : entry.isFile() ? [at] : [];
});

for (const [name, make] of [['postgres', postgres], ['s3', s3]]) {
  test(`${name}: values through the whole program, the server going and coming`, async () => {
    const back = make();
    await back.up();
    const dir = home();
    const heard = [];
    const start = async () => {
      const raw = new Raw({ dir, env: back.env, listen: true,
        config: { log: { level: 'debug' }, ...back.config() } });
      heard.push(raw);
      await raw.initialize();
      return raw;
    };
    let raw = await start();
    const get = async (args) => good(await raw.call('storage_get', args));
    const versions = async (key) => good(await raw.call('storage_versions', { key }));

    for (const value of ['one', 'two', 'three'])
      good(await raw.call('storage_put', { key: 'plan/a.md', value }));
    good(await raw.call('storage_put', { key: 'plan/b', base64: Buffer.from([0, 255, 10]).toString('base64') }));
    raw.child.kill('SIGKILL');
    await raw.ended;
    raw = await start();
    assert.match(await get({ key: 'plan/a.md' }), /^three/);
    assert.match(await get({ key: 'plan/a.md', version: 1 }), /^one/);
    assert.match(await get({ key: 'plan/b' }), new RegExp(Buffer.from([0, 255, 10]).toString('base64')));
    const listed = good(await raw.call('storage_list', { prefix: 'plan/' }));
    assert.ok(listed.includes('plan/a.md') && listed.includes('plan/b'), listed);
    good(await raw.call('storage_versions', { key: 'plan/a.md', action: 'rollback', version: 1 }));
    assert.match(await get({ key: 'plan/a.md' }), /^one/);
    const stale = await raw.call('storage_put', { key: 'plan/a.md', value: 'x', if_version: 1 });
    assert.ok(stale.isError);
    assert.equal(stale._meta['aios/error'], 'exists');
    assert.match(textOf(stale), /read it again/);

    // A program inside has none of what the server was given.
    const inside = good(await raw.call('terminal_run', { command: 'env' }));
    good(await raw.call('terminal_run', { command: 'sleep 300', background: true }));
    const tells = (text) => [...back.secrets, ...Object.keys(back.env)].some((secret) => text.includes(secret));
    assert.ok(!tells(inside), inside);
    if (!USER) {
      const environ = (pid) => {
        try { return fs.readFileSync(`/proc/${pid}/environ`, 'latin1'); } catch { return ''; }
      };
      assert.ok(descendants(raw.child.pid).length > 0);
      // One that was just forked shows the server's own until it has become its program.
      await eventually(() => !descendants(raw.child.pid).map(environ).some(tells), 'no child has a key', 20000);
    }

    await back.down();
    for (const [tool, args] of [['storage_put', { key: 'plan/a.md', value: 'while it is down' }],
      ...(back.index ? [] : [['storage_list', {}]]), ['storage_get', { key: 'plan/a.md', version: 2 }]]) {
      const answer = await raw.call(tool, args);
      assert.ok(answer.isError, tool + textOf(answer));
      assert.equal(answer._meta['aios/error'], 'lost', textOf(answer));
      assert.match(textOf(answer), back.lost);
      for (const secret of back.secrets) assert.ok(!textOf(answer).includes(secret), textOf(answer));
    }
    const status = (await raw.call('agent_status')).structuredContent;
    if (back.index) assert.equal(status.storage.keys, 2);
    else assert.match(status.storage.unavailable, back.lost);
    assert.equal(typeof status.queues.storage.waiting, 'number');
    await back.up();
    good(await raw.call('storage_put', { key: 'plan/a.md', value: 'after', if_version: 4 }));
    assert.match(await get({ key: 'plan/a.md' }), /^after/);
    assert.match(await get({ key: 'plan/a.md', version: 3 }), /^three/);
    assert.match(await versions('plan/a.md'), /5[^]*4[^]*3[^]*2[^]*1/);
    assert.equal((await raw.call('agent_status')).structuredContent.storage.keys, 2);
    await raw.close();

    // Neither log nor audit nor anything else that is kept has a key in it.
    const kept = files(dir);
    assert.ok(kept.some((file) => /audit/.test(file)), kept.join(' '));
    for (const secret of back.secrets) {
      for (const file of kept) assert.ok(!fs.readFileSync(file).includes(secret), file);
      for (const { said } of heard) assert.ok(!said.includes(secret), said);
    }
    await back.down();
  });

  test(`${name}: a server that is not there yet is named, and found when it comes`, async () => {
    const back = make();
    await back.up(); // for its port
    await back.down();
    const raw = new Raw({ env: back.env, listen: true, config: back.config() });
    await raw.initialize();
    const refused = await raw.call('storage_put', { key: 'k', value: 'v' });
    assert.ok(refused.isError);
    assert.match(textOf(refused), back.lost);
    await back.up();
    good(await raw.call('storage_put', { key: 'k', value: 'v' }));
    assert.match(good(await raw.call('storage_get', { key: 'k' })), /^v/);
    await raw.close();
    await back.down();
  });
}
