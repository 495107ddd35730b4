// One kernel for many hosts: `aios serve`, and `aios mcp --connect` before it.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { after } from 'node:test';
import { AIOS, USER, alive, connectV1, descendants, environment, eventually, good, handleIn, home, Raw,
  running, textOf } from './support.mjs';

const servers = new Set();
after(() => { for (const child of servers) child.kill('SIGKILL'); });

// A running `aios serve` with a home of its own.
const serve = async ({ config, dir = home() } = {}) => {
  const args = ['serve'];
  if (config) {
    fs.writeFileSync(path.join(dir, 'serve.json'), JSON.stringify(config));
    args.push('--config', path.join(dir, 'serve.json'));
  }
  const child = spawn(AIOS, args, { env: environment(dir), stdio: ['ignore', 'ignore', 'pipe'] });
  servers.add(child);
  let said = '';
  child.stderr.on('data', (chunk) => { said += chunk; });
  const ended = new Promise((done) => child.on('close', (code, signal) => done({ code, signal })));
  await eventually(() => said.includes('listening at') || child.exitCode !== null, 'it listens');
  const socket = /listening at (\S+)/.exec(said)?.[1];
  assert.ok(socket, said);
  return { dir, child, socket, ended, said: () => said };
};
const host = async (server, agent) => {
  const args = ['--connect', server.socket, ...(agent ? ['--agent', agent] : [])];
  const raw = new Raw({ dir: server.dir, args });
  await raw.initialize();
  return raw;
};
const create = async (raw) => {
  const made = await raw.call('computer_create', {});
  good(made);
  return made.structuredContent.computer;
};
const stop = async (server) => {
  server.child.kill('SIGTERM');
  assert.deepEqual(await server.ended, { code: 0, signal: null });
};

test('hosts share a kernel and see nothing of each other', async () => {
  const server = await serve();
  const alice = await host(server, 'alice');
  const bob = await host(server, 'bob');
  const nobody = await host(server);
  const hers = await create(alice);
  const run = await alice.call('terminal_run', { computer: hers, command: 'echo secret; sleep 60', background: true });
  const handle = handleIn(run, 'r');
  for (const other of [bob, nobody]) {
    assert.ok(!textOf(await other.call('computer_list')).includes(hers));
    for (const [tool, args] of [['terminal_run', { computer: hers, command: 'true' }],
      ['terminal_read', { run: handle }], ['terminal_kill', { run: handle }],
      ['file_list', { computer: hers, path: '/' }], ['computer_destroy', { computer: hers }],
      ['computer_create', { from: hers }]]) {
      const answer = await other.call(tool, args);
      assert.ok(answer.isError, tool + textOf(answer));
      assert.ok(!textOf(answer).includes('secret'));
    }
  }
  assert.match(textOf(await alice.call('terminal_read', { run: handle, offset: 0, wait_ms: 20000 })), /secret/);
  for (const raw of [alice, bob, nobody]) await raw.close();
  await stop(server);
});

test('an agent with a name finds its computer again, one without leaves nothing', async () => {
  const server = await serve();
  const first = await host(server, 'alice');
  const kept = await create(first);
  good(await first.call('terminal_run', { computer: kept, command: 'echo here > /workspace/note' }));
  const passing = await host(server);
  const gone = await create(passing);
  good(await passing.call('terminal_run', { computer: gone, command: 'sleep 987', background: true }));
  await eventually(() => running(server.child.pid, 'sleep', '987').length === 1, 'it runs');
  await first.close();
  await passing.close();
  await eventually(() => running(server.child.pid, 'sleep', '987').length === 0, 'its programs end');
  const second = await host(server, 'alice');
  assert.match(good(await second.call('terminal_run', { computer: kept, command: 'cat /workspace/note' })), /here/);
  assert.ok(!textOf(await second.call('computer_list')).includes(gone));
  await second.close();
  await stop(server);
});

test('a host that is killed is gone for the server too', async () => {
  const server = await serve();
  const raw = await host(server);
  good(await raw.call('terminal_run', { command: 'sleep 986', background: true }));
  await eventually(() => running(server.child.pid, 'sleep', '986').length === 1, 'it runs');
  raw.child.kill('SIGKILL');
  await raw.ended;
  await eventually(() => running(server.child.pid, 'sleep', '986').length === 0, 'its programs end');
  const next = await host(server);
  good(await next.call('terminal_run', { command: 'true' }));
  await next.close();
  await stop(server);
});

test('an official client works through it', async () => {
  const server = await serve();
  const { client, connect } = await connectV1({ dir: server.dir, args: ['--connect', ''] });
  await connect();
  const answer = await client.callTool({ name: 'terminal_run', arguments: { command: 'echo $((6*7))' } });
  assert.match(textOf(answer), /42/);
  await client.close();
  await stop(server);
});

test('a second server on the socket is refused and told of the first', async () => {
  const server = await serve();
  const second = spawnSync(AIOS, ['serve'], { env: environment(server.dir), encoding: 'utf8', timeout: 20000 });
  assert.equal(second.status, 1);
  assert.match(second.stderr, /listens at .* already/);
  if (!USER) assert.ok(second.stderr.includes(String(server.child.pid)), second.stderr);
  const raw = await host(server);
  await raw.close();
  await stop(server);
});

test('the place of a killed server can be taken', async () => {
  const dead = await serve();
  dead.child.kill('SIGKILL');
  await dead.ended;
  const server = await serve({ dir: dead.dir });
  const raw = await host(server);
  good(await raw.call('terminal_run', { command: 'true' }));
  await raw.close();
  await stop(server);
});

test('without a server the host is told how to start one', async () => {
  const dir = home();
  const lone = spawnSync(AIOS, ['mcp', '--connect', path.join(dir, 'none.sock')],
    { env: environment(dir), encoding: 'utf8', input: '', timeout: 20000 });
  assert.equal(lone.status, 1);
  assert.match(lone.stderr, /aios serve/);
});

test('when the server ends, the host ends, says so, and nothing is left', async () => {
  const server = await serve();
  const raw = await host(server, 'alice');
  good(await raw.call('terminal_run', { command: 'trap "" TERM; sleep 985', background: true }));
  const processes = descendants(server.child.pid);
  server.child.kill('SIGTERM');
  assert.deepEqual(await server.ended, { code: 0, signal: null });
  assert.equal((await raw.ended).code, 1);
  await eventually(() => !processes.some(alive), 'its processes end');
  assert.ok(!fs.existsSync(server.socket));
});

test('the policies of the queues are changed while it runs', async () => {
  const server = await serve({ config: { tool: { policy: 'fifo' } } });
  const raw = await host(server, 'alice');
  const slow = raw.call('terminal_run', { command: 'sleep 1; echo done' });
  const file = path.join(server.dir, 'serve.json');
  fs.writeFileSync(file, JSON.stringify({ tool: { policy: 'rr' }, storage: { policy: 'edf' } }));
  server.child.kill('SIGHUP');
  await eventually(() => /reloaded.*tool=rr.*storage=edf/.test(server.said()), 'it says so');
  fs.writeFileSync(file, '{ "tool": { "policy": "chaos" } }');
  server.child.kill('SIGHUP');
  await eventually(() => /reload_failed.*chaos/.test(server.said()), 'it refuses a bad one');
  assert.match(good(await slow), /done/);
  good(await raw.call('terminal_run', { command: 'true' }));
  await raw.close();
  await stop(server);
});

test('agents are what the configuration says of their names', async () => {
  const server = await serve({ config: { access: {
    agents: [{ name: 'ops-*', group: 'staff', roles: ['operator'] }],
    rules: [{ role: 'operator', tool: 'terminal_run', decision: 'allow' },
      { tool: 'terminal_run', decision: 'deny' }] } } });
  const trusted = await host(server, 'ops-1');
  const other = await host(server, 'alice');
  good(await trusted.call('terminal_run', { command: 'true' }));
  assert.match(good(await trusted.call('agent_status')), /"group":"staff"/);
  const refused = await other.call('terminal_run', { command: 'true' });
  assert.ok(refused.isError);
  assert.match(textOf(refused), /rule 2/);
  await trusted.close();
  await other.close();
  await stop(server);
});

// A connection as a program makes it; resolves with what came until it was closed or @enough.
const talk = (socket, bytes, enough = () => false) => new Promise((done, fail) => {
  const c = net.connect(socket);
  let got = '';
  c.on('data', (chunk) => { got += chunk; if (enough(got)) c.destroy(); });
  c.on('close', () => done(got));
  // Refused with bytes of ours unread, a socket is reset.
  c.on('error', (error) => (error.code === 'ECONNRESET' || error.code === 'EPIPE' ? done(got) : fail(error)));
  c.write(bytes);
});

test('bad greetings are refused with the reason, and plain MCP needs none', { skip: USER !== 0 }, async () => {
  const server = await serve();
  for (const [greeting, why] of [
    ['{"aios":{"agent":"no spaces allowed"}}\n', /characters/],
    ['{"aios":{"agent":"x","group":"admins"}}\n', /group/],
    ['{"aios":7}\n', /aios/],
    ['{"aios":{\n', /greeting/],
  ]) assert.match(await talk(server.socket, greeting), why);
  assert.equal(await talk(server.socket, '{"aios":' + 'x'.repeat(10000)), '');
  const discover = { jsonrpc: '2.0', id: 1, method: 'ping' };
  assert.match(await talk(server.socket, JSON.stringify(discover) + '\n', (s) => s.includes('\n')), /"id":1/);
  // In pieces, as a socket may deliver it.
  const slow = await new Promise((done, fail) => {
    const c = net.connect(server.socket);
    let got = '';
    c.on('data', (chunk) => { got += chunk; if (got.includes('"id":2')) { c.destroy(); done(got); } });
    c.on('error', fail);
    const pieces = ['{"a', 'ios":{"agent"', ':"piecemeal"}}', '\n{"jsonrpc":"2.0","id":2,"method":"ping"}\n'];
    const next = () => { const p = pieces.shift(); if (p) { c.write(p); setTimeout(next, 30); } };
    next();
  });
  assert.match(slow, /"agent":"piecemeal"/);
  await stop(server);
});

test('another user is kept out, or let in under a name of its own', { skip: USER !== 0 || process.getuid() !== 0 }, async () => {
  const other = (dir, socket) => spawnSync('setpriv',
    ['--reuid', '65534', '--regid', '65534', '--clear-groups', AIOS, 'mcp', '--connect', socket, '--agent', 'alice'],
    { env: environment(dir), encoding: 'utf8', timeout: 30000,
      input: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call',
        params: { name: 'computer_list', arguments: {} } }) + '\n' });
  const closed = await serve();
  fs.chmodSync(closed.dir, 0o755);
  fs.chmodSync(path.join(closed.dir, 'run'), 0o755);
  const refused = other(closed.dir, closed.socket);
  assert.equal(refused.status, 1, refused.stdout + refused.stderr);
  assert.match(refused.stderr, /serve\.users/);
  await stop(closed);
  const open = await serve({ config: { serve: { users: ['65534'] } } });
  fs.chmodSync(open.dir, 0o755);
  fs.chmodSync(path.join(open.dir, 'run'), 0o755);
  const alice = await host(open, 'alice');
  const hers = await create(alice);
  const admitted = other(open.dir, open.socket);
  assert.equal(admitted.status, 0, admitted.stderr);
  assert.ok(admitted.stdout.includes('"id":1'), admitted.stdout + admitted.stderr);
  assert.ok(!admitted.stdout.includes(hers));
  await alice.close();
  await stop(open);
  // The socket lets everybody knock where some other user may come in: then the server decides.
  const others = await serve({ config: { serve: { users: ['12345'] } } });
  fs.chmodSync(others.dir, 0o755);
  fs.chmodSync(path.join(others.dir, 'run'), 0o755);
  fs.chmodSync(others.socket, 0o666);
  const knocked = other(others.dir, others.socket);
  assert.equal(knocked.status, 1, knocked.stdout + knocked.stderr);
  assert.equal(knocked.stdout, '');
  assert.match(knocked.stderr, /this user may not connect.*serve\.users/);
  await eventually(() => /host_refused.*uid=65534 why=user/.test(others.said()), 'it says so');
  await stop(others);
});

test('more hosts than the configuration allows are refused until one leaves', { skip: USER !== 0 }, async () => {
  const server = await serve({ config: { serve: { max_hosts: 2 } } });
  const first = await host(server, 'alice');
  const second = await host(server, 'bob');
  const knock = () => spawnSync(AIOS, ['mcp', '--connect', server.socket],
    { env: environment(server.dir), encoding: 'utf8', input: '', timeout: 20000 });
  const third = knock();
  assert.equal(third.status, 1, third.stdout + third.stderr);
  assert.match(third.stderr, /too many hosts.*serve\.max_hosts/);
  await eventually(() => /host_refused.*why=full/.test(server.said()), 'it says so');
  good(await first.call('computer_list'));
  await first.close();
  await eventually(() => knock().status === 0, 'a place is free');
  good(await second.call('computer_list'));
  await second.close();
  await stop(server);
});

test('thirty hosts at once are all answered', async () => {
  const server = await serve();
  const hosts = await Promise.all(Array.from({ length: 30 }, (_, i) => host(server, `agent-${i}`)));
  const answers = await Promise.all(hosts.map((raw) => raw.call('computer_list')));
  for (const answer of answers) good(answer);
  await Promise.all(hosts.map((raw) => raw.close()));
  await stop(server);
});
