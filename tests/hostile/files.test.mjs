// The file tools against names that want to lead elsewhere, and files that are not files.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import {
  PROBE, SECRET, Target, asUser, attacked, environment, home, textOf,
} from './support.mjs';

const failed = async (target, tool, args, want) => {
  const result = await target.call(tool, args);
  const text = result.content ? textOf(result) : JSON.stringify(result);
  assert.ok(result.isError || result.error, `${tool} ${JSON.stringify(args)}: ${text}`);
  assert.ok(!text.includes(SECRET), text);
  if (want) assert.match(text, want, JSON.stringify(args));
  return text;
};

test('30: no spelling of a path leads to the host\'s files', attacked(async (target) => {
  const computer = await target.computer({ probe: false });
  const secret = path.join(target.dir, 'secret');
  fs.writeFileSync(secret, SECRET);
  fs.chmodSync(secret, 0o644);
  await target.run(computer, `cd /workspace && ln -s /proc/1/root root1 && ln -s /proc/self/root self &&
    ln -s ${secret} direct && ln -s a b && ln -s b a && ln -s /proc/self/fd fds && ln -s /proc/1/cwd cwd &&
    ln -s self/../../../..${secret} climbing; : >file`);
  const up = '../'.repeat(30);
  for (const prefix of ['', '/proc/1/root', '/proc/self/root', '/proc/self/cwd', '/proc/1/cwd',
    '/proc/thread-self/root', '/workspace/root1', '/workspace/self', '/workspace/cwd',
    `/workspace/${up}`, '/proc/self/fd/3', '/proc/self/fd/0/../..', '/workspace/fds/3',
    '/proc/1/task/1/root', '/dev/fd/3', '//', '/./']) {
    const at = prefix + secret;
    await failed(target, 'file_read', { computer, path: at });
    await failed(target, 'file_read', { computer, path: at, encoding: 'base64' });
    await failed(target, 'file_search', { computer, path: at, pattern: '.' });
    const list = await target.call('file_list', { computer, path: path.dirname(at) });
    assert.ok(!textOf(list).includes('secret'), textOf(list));
  }
  for (const at of ['/workspace/direct', '/workspace/climbing', '/workspace/a', '/workspace/b',
    `${up}${secret.slice(1)}`, '/proc/1/environ', '/proc/1/mem', '/proc/self/mem', '/proc/kcore']) {
    await failed(target, 'file_read', { computer, path: at });
  }
  // Writing through them does not change the host either.
  for (const at of ['/workspace/direct', '/workspace/root1' + secret, '/proc/1/root' + secret,
    '/proc/self/root' + secret, `/workspace/${up}${secret}`, secret]) {
    await target.call('file_write', { computer, path: at, content: 'overwritten' });
    await target.call('file_edit', { computer, path: at, old_text: SECRET, new_text: 'edited' });
  }
  assert.equal(fs.readFileSync(secret, 'utf8'), SECRET);
  assert.deepEqual(fs.readdirSync(target.dir).filter((n) => /overwritten|part/.test(n)), []);
}));

test('30: pipes, sockets and devices never make a file tool wait', attacked(async (target) => {
  const computer = await target.computer();
  await target.run(computer, `cd /workspace && mkfifo pipe && ln -s pipe link && ln -s /dev/zero zero &&
    ln -s /dev/tty tty && ln -s /proc/kmsg kmsg && mkdir folder && cp probe runs`);
  const began = Date.now();
  for (const name of ['pipe', 'link', 'folder', '/dev/tty', 'tty', '/dev/ptmx', '/dev/pts/ptmx']) {
    await failed(target, 'file_read', { computer, path: name });
    await failed(target, 'file_edit', { computer, path: name, old_text: 'a', new_text: 'b' });
  }
  for (const name of ['/dev/zero', 'zero', '/dev/random', '/dev/full', '/dev/urandom']) {
    const result = await target.call('file_read', { computer, path: name });
    assert.ok(result.isError, `${name}: ${textOf(result).slice(0, 200)}`);
  }
  for (const name of ['pipe', 'link', 'folder', '/dev/full', '/dev/tty']) {
    for (const mode of ['append', 'create', 'replace']) {
      await target.call('file_write', { computer, path: name, content: 'x', mode });
    }
  }
  await target.call('file_search', { computer, path: '/workspace', pattern: 'x' });
  await target.call('file_search', { computer, path: '/dev', pattern: 'x' });
  await target.call('file_search', { computer, path: '/proc', pattern: 'no such thing', limit: 5 });
  await target.call('file_list', { computer, path: '/proc', depth: 3 });
  // No figure for speed: only that nobody waited for a pipe's other end until the call's own limit.
  assert.ok(Date.now() - began < 120000);
}));

test('30: a name that is exchanged while the tools use it never shows what is outside', attacked(async (target) => {
  const computer = await target.computer();
  await target.run(computer, `cd /workspace && mkdir real && echo inside >real/environ && mkdir other &&
    ln -s /proc/1 other/one && mv other/one swapped && rmdir other`);
  const { run } = await target.background(computer, ['swap', '/workspace/real', '/workspace/swapped']);
  let inside = 0, refused = 0;
  // Until both sides have been met, however the two programs take turns.
  for (let i = 0; i < 300 || ((inside === 0 || refused === 0) && i < 20000); i++) {
    const result = await target.call('file_read', { computer, path: '/workspace/real/environ' });
    const text = textOf(result);
    assert.ok(!text.includes(SECRET), text);
    if (result.isError) refused++;
    else { assert.match(text, /inside/); inside++; }
    await target.call('file_write', { computer, path: `/workspace/real/new${i % 7}`, content: 'x' });
  }
  assert.ok(inside > 0 && refused > 0, `${inside} and ${refused}`);
  await target.call('terminal_write', { run, close: true });
}));

test('31: transfers go to the named folders, to no hidden file, and through no link', async () => {
  const base = home();
  const owner = fs.statSync(base);
  const folders = Object.fromEntries(['up', 'down', 'elsewhere'].map((name) => {
    const dir = path.join(base, name);
    fs.mkdirSync(dir);
    fs.chownSync(dir, owner.uid, owner.gid);
    return [name, dir];
  }));
  fs.writeFileSync(path.join(folders.elsewhere, 'secret'), SECRET);
  fs.writeFileSync(path.join(folders.elsewhere, 'victim'), 'untouched');
  fs.chownSync(path.join(folders.elsewhere, 'victim'), owner.uid, owner.gid);
  fs.writeFileSync(path.join(folders.up, 'plain'), 'content');
  fs.symlinkSync(path.join(folders.elsewhere, 'secret'), path.join(folders.up, 'link'));
  fs.symlinkSync(folders.elsewhere, path.join(folders.up, 'dir'));
  fs.symlinkSync(folders.elsewhere, path.join(folders.down, 'dir'));
  fs.symlinkSync(path.join(folders.elsewhere, 'victim'), path.join(folders.down, 'link'));
  fs.mkdirSync(path.join(folders.down, '.git'));
  await attacked(async (target) => {
    const computer = await target.computer({ probe: false });
    await target.run(computer, 'echo payload >/workspace/payload; ln -s payload /workspace/soft');
    const up = (host) => ({ computer, direction: 'upload', host_path: host, path: '/workspace/got' });
    const down = (host, more) => ({ computer, direction: 'download', host_path: host, path: '/workspace/payload', ...more });
    const good = await target.call('file_transfer', up(`${folders.up}/plain`));
    assert.ok(!good.isError, textOf(good));
    const better = await target.call('file_transfer', down(`${folders.down}/fine`));
    assert.ok(!better.isError, textOf(better));
    assert.equal(fs.readFileSync(`${folders.down}/fine`, 'utf8'), 'payload\n');
    for (const host of [`${folders.up}/link`, `${folders.up}/dir/secret`, `${folders.up}/../elsewhere/secret`,
      `${folders.elsewhere}/secret`, `${folders.up}/./../elsewhere/secret`, '/etc/passwd', '/proc/self/environ',
      `/proc/self/root${folders.elsewhere}/secret`, `${folders.up}`, `${folders.up}/`, `${folders.up}x/plain`,
      'relative/plain', `${folders.down}/fine`]) {
      await failed(target, 'file_transfer', up(host));
    }
    for (const host of [`${folders.down}/.bashrc`, `${folders.down}/.git/hooks/pre-commit`, `${folders.down}/.git/config`,
      `${folders.down}/a/.ssh/authorized_keys`, `${folders.down}/dir/new`, `${folders.down}/../elsewhere/new`,
      `${folders.elsewhere}/new`, `${folders.up}/new`, '/etc/cron.d/x', `${folders.down}/..`, `${folders.down}/.`,
      `${folders.down}/./.bashrc`, `${folders.down}//.bashrc`, `${folders.down}x`]) {
      await failed(target, 'file_transfer', down(host));
      await failed(target, 'file_transfer', down(host, { overwrite: true }));
    }
    // A link as the last name is refused, or replaced; what it points to stays.
    await failed(target, 'file_transfer', down(`${folders.down}/link`));
    await target.call('file_transfer', down(`${folders.down}/link`, { overwrite: true }));
    assert.equal(fs.readFileSync(path.join(folders.elsewhere, 'victim'), 'utf8'), 'untouched');
    assert.deepEqual(fs.readdirSync(folders.elsewhere).sort(), ['secret', 'victim']);
    assert.deepEqual(fs.readdirSync(path.join(folders.down, '.git')), []);
    assert.deepEqual(fs.readdirSync(folders.down).filter((n) => !['.git', 'dir', 'fine', 'link'].includes(n)), []);
    // What is fetched is a file, not what a link inside names outside.
    await target.run(computer, 'ln -sf /proc/1/environ /workspace/soft');
    await failed(target, 'file_transfer', { ...down(`${folders.down}/soft`), path: '/workspace/soft' });
  }, { config: { files: { upload_from: [folders.up], download_to: [folders.down] } } })();
  fs.rmSync(base, { recursive: true });
});

test('31: a folder of the host that turns into a link between two calls is not followed', async () => {
  const base = home();
  const { uid, gid } = fs.statSync(base);
  const at = (name) => path.join(base, name);
  for (const name of ['open', 'open/sub', 'open/spare', 'outside']) {
    fs.mkdirSync(at(name));
    fs.chownSync(at(name), uid, gid);
  }
  fs.symlinkSync(at('outside'), at('open/link'));
  await attacked(async (target) => {
    const computer = await target.computer({ probe: false });
    await target.run(computer, 'echo payload >/workspace/payload');
    let stop = false;
    const swapping = (async () => {
      while (!stop) {
        fs.renameSync(at('open/sub'), at('open/was'));
        fs.renameSync(at('open/link'), at('open/sub'));
        await new Promise((done) => setImmediate(done));
        fs.renameSync(at('open/sub'), at('open/link'));
        fs.renameSync(at('open/was'), at('open/sub'));
        await new Promise((done) => setImmediate(done));
      }
    })();
    for (let i = 0; i < 200; i++) {
      await target.call('file_transfer', {
        computer, direction: 'download', host_path: at(`open/sub/f${i}`), path: '/workspace/payload',
      });
    }
    stop = true;
    await swapping;
    assert.deepEqual(fs.readdirSync(at('outside')), []);
  }, { config: { files: { download_to: [at('open')] } } })();
  fs.rmSync(base, { recursive: true });
});

// aios run, which shows folders of the host; its code, and what it wrote.
const aiosRun = (dir, args) => new Promise((done) => {
  const child = spawn(process.env.AIOS, ['run', ...args], {
    env: environment(dir), stdio: ['ignore', 'pipe', 'pipe'],
  });
  let out = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (d) => { out += d; });
  child.on('exit', (code) => done({ code, out }));
});

test('32: a setuid program of the host gives no privilege', async () => {
  const dir = home();
  const share = path.join(dir, 'share');
  fs.mkdirSync(share);
  fs.copyFileSync(PROBE, path.join(share, 'setuid'));
  fs.chmodSync(path.join(share, 'setuid'), 0o6755); // root's, where the tests are root's
  for (const how of ['--ro', '--rw']) {
    const { code, out } = await aiosRun(dir, [how, share, '--env', 'AIOS_PROBE=1', '--', path.join(share, 'setuid'), 'fact-status']);
    assert.equal(code, 0, out);
    assert.match(out, /Uid: 1000 1000 1000 1000;Gid: 1000 1000 1000 1000;.*CapEff: 0{16}/);
  }
  const { out } = await aiosRun(dir, ['--', 'sh', '-c',
    'find / -xdev -perm /6000 -type f 2>/dev/null | head -20; cp /usr/bin/su /tmp/su && ls -l /tmp/su; /usr/bin/su -c id </dev/null']);
  assert.ok(!/uid=0/.test(out), out);
  fs.rmSync(dir, { recursive: true });
});

test('32: what is left in a writable folder of the host has no setuid bit and no device', async () => {
  const dir = home();
  const { uid, gid } = fs.statSync(dir);
  const share = path.join(dir, 'share');
  fs.mkdirSync(share);
  fs.chownSync(share, uid, gid);
  fs.copyFileSync(PROBE, path.join(dir, 'probe'));
  const script = `cd ${share}; cp /bin/true a; chmod 4755 a; chmod u+s a; install -m 6755 /bin/true b;
    mknod c c 1 3; mkdir -m 2777 d; cp -p /usr/bin/su e; umask 0; (umask 7000; : >f); ls -l; true`;
  const { code, out } = await aiosRun(dir, ['--rw', share, '--', 'sh', '-c', script]);
  assert.equal(code, 0, out);
  const names = fs.readdirSync(share);
  assert.ok(names.includes('a'), out);
  for (const name of names) {
    const st = fs.lstatSync(path.join(share, name));
    assert.equal(st.mode & 0o6000, 0, name);
    assert.ok(st.isFile() || st.isDirectory(), name);
  }
  fs.rmSync(dir, { recursive: true });
});

test('26: sockets of the host cannot be reached, neither by name nor through a link', async () => {
  const dir = home();
  const share = path.join(dir, 'share');
  fs.mkdirSync(share);
  fs.copyFileSync(PROBE, path.join(share, 'probe'));
  fs.chmodSync(path.join(share, 'probe'), 0o755);
  const name = `aios-hostile-${process.pid}`;
  // Node knows no abstract names; Python does.
  const listener = spawn('python3', ['-c', `
import socket, sys
a = socket.socket(socket.AF_UNIX); a.bind("\\0${name}"); a.listen()
p = socket.socket(socket.AF_UNIX); p.bind("${dir}/outside"); p.listen()
import os; os.chmod("${dir}/outside", 0o777)
print("ready", flush=True)
sys.stdin.read()
`], { stdio: ['pipe', 'pipe', 'inherit'] });
  await new Promise((done, fail) => {
    listener.stdout.once('data', done);
    listener.once('exit', () => fail(new Error('no listener')));
  });
  fs.symlinkSync(path.join(dir, 'outside'), path.join(share, 'link'));
  try {
    const program = path.join(share, 'probe');
    const run = (args) => aiosRun(dir, ['--ro', share, '--env', 'AIOS_PROBE=1', '--', program, ...args]);
    assert.match((await run(['abstract', name])).out, /^abstract (ECONNREFUSED|EPERM)$/m);
    assert.match((await run(['pathname', path.join(share, 'link')])).out, /^pathname (ENOENT|ECONNREFUSED|EACCES)$/m);
    assert.match((await run(['pathname', path.join(dir, 'outside')])).out, /^pathname ENOENT$/m);
  } finally {
    listener.stdin.end();
  }
  fs.rmSync(dir, { recursive: true });
});

test('12: what is written over the system inside is a copy, and dies with the computer', attacked(async (target) => {
  const computer = await target.computer({ probe: false });
  await target.run(computer, `echo mine >/usr/local/bin/true; echo ${SECRET} >>/etc/passwd; rm -f /etc/hosts;
    echo 'nameserver 127.0.0.1' >/etc/resolv.conf; echo x >/usr/bin/planted; mv /etc/ssl /etc/lss; true`);
  const next = await target.computer({ probe: false });
  const look = await target.run(next, 'cat /etc/passwd /etc/hosts /etc/resolv.conf; ls /usr/local/bin /usr/bin /etc');
  assert.ok(!look.text.includes(SECRET) && !/planted|lss/.test(look.text), look.text);
  assert.match(look.text, /localhost/);
  for (const file of ['/usr/bin/planted', '/usr/local/bin/true']) assert.ok(!fs.existsSync(file), file);
  assert.ok(!fs.readFileSync('/etc/passwd', 'utf8').includes(SECRET));
  if (asUser) {
    // There the agent owns the files of /etc, so that it writes to its copies.
    const kept = await target.run(computer, 'cat /etc/passwd');
    assert.match(kept.text, new RegExp(SECRET));
  }
}));

