// Measures AIOS beside its peers, in one run, and prints ratios.  No test: nothing fails here.
//
//   tools/dev/bench [row …]    rows: start call memory run create whole pool vm boot rounds idle sleep flood dispatch arrivals notes vectors
//                              storage context; minutes each, only when named: documents browser
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { cgroupsOf, descendants, serverNames } from '../integration/traces.mjs';

const { AIOS, AIOS_BENCH: peers, AIOS_NODE_MODULES: modules } = process.env;
const home = fs.mkdtempSync(path.join(os.tmpdir(), 'aios-bench-'));
const env = { PATH: process.env.PATH, HOME: home, AIOS_HOME: home };
const rows = process.argv.slice(2);
const wanted = (name) => rows.length === 0 || rows.includes(name);

const quantile = (list, q) => [...list].sort((a, b) => a - b)[Math.min(list.length - 1, Math.floor(q * list.length))];
const median = (list) => quantile(list, 0.5);
const us = () => Number(process.hrtime.bigint()) / 1e3;
const number = (x) => (x >= 100 ? x.toFixed(0) : x >= 10 ? x.toFixed(1) : x.toFixed(2));
const line = (work, ours, unit, peer, theirs, target) =>
  console.log(`${work.padEnd(46)} ${number(ours).padStart(9)} ${unit.padEnd(4)} | ${peer.padEnd(26)} ` +
    `${number(theirs).padStart(9)} ${unit.padEnd(4)} | ratio ${(ours / theirs).toFixed(2).padStart(6)} | target ${target}`);
const plain = (work, ours, unit, target) =>
  console.log(`${work.padEnd(46)} ${number(ours).padStart(9)} ${unit.padEnd(4)} | ${''.padEnd(42)} | ${''.padEnd(12)} | target ${target}`);

// ---- an official client ----
const load = async (sub) => import(pathToFileURL(path.join(modules, '@modelcontextprotocol/sdk/dist/esm', sub)));
const { Client } = await load('client/index.js');
const { StdioClientTransport } = await load('client/stdio.js');
const connect = async (command, args) => {
  const transport = new StdioClientTransport({ command, args, env, stderr: 'ignore' });
  const client = new Client({ name: 'bench', version: '1' });
  const start = us();
  await client.connect(transport);
  return { client, pid: transport.pid, connect_us: us() - start };
};
const floorServer = [path.join(peers, 'bench_floor'), []];
const ours = [AIOS, ['mcp']];
const everything = [process.execPath,
  [path.join(modules, '@modelcontextprotocol/server-everything/dist/index.js'), 'stdio']];

// ---- a client without anything, for what the official one would drown ----
class Thin {
  constructor(args = []) {
    this.child = spawn(AIOS, ['mcp', ...args], { env, stdio: ['pipe', 'pipe', 'ignore'] });
    this.rest = '';
    this.waiting = new Map();
    this.id = 0;
    this.child.stdout.setEncoding('utf8');
    this.child.stdout.on('data', (chunk) => {
      this.rest += chunk;
      for (let at; (at = this.rest.indexOf('\n')) >= 0; this.rest = this.rest.slice(at + 1)) {
        const message = JSON.parse(this.rest.slice(0, at));
        this.waiting.get(message.id)?.(message);
        this.waiting.delete(message.id);
      }
    });
  }
  request(method, params) {
    const id = ++this.id;
    return new Promise((done) => {
      this.waiting.set(id, done);
      this.child.stdin.write(JSON.stringify({ jsonrpc: '2.0', id, method, params }) + '\n');
    });
  }
  start() {
    return this.request('initialize', { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'b', version: '1' } });
  }
  async call(name, args) {
    const { result, error } = await this.request('tools/call', { name, arguments: args });
    if (error || result.isError) throw new Error(name + ': ' + JSON.stringify(error ?? result.content).slice(0, 300));
    return result;
  }
  close() { this.child.stdin.end(); return new Promise((done) => this.child.on('exit', done)); }
}

const rss = (pid) => Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) / 1024;
const available = () => Number(/MemAvailable:\s+(\d+)/.exec(fs.readFileSync('/proc/meminfo', 'utf8'))[1]) / 1024;
const peersOf = (rounds, ...command) =>
  execFileSync(path.join(peers, 'bench_peers'), [String(rounds), ...command], { env, encoding: 'utf8' })
    .trim().split(' ').map(Number);
const bwrap = ['bwrap', '--unshare-all', '--ro-bind', '/', '/', 'true'];

if (wanted('start')) {
  const times = { ours: [], floor: [] };
  for (let i = 0; i < 41; i++) {
    for (const [name, server] of [['ours', ours], ['floor', floorServer]]) {
      const c = await connect(...server);
      if (i > 0) times[name].push(c.connect_us / 1e3);
      await c.client.close();
    }
  }
  line('start to answered initialize', median(times.ours), 'ms', 'bare C replier', median(times.floor), '1.5');
}

if (wanted('call')) {
  const servers = { ours: await connect(...ours), floor: await connect(...floorServer), everything: await connect(...everything) };
  const call = { ours: { name: 'computer_list', arguments: {} }, floor: { name: 'computer_list', arguments: {} },
    everything: { name: 'echo', arguments: { message: 'hi' } } };
  for (const width of [1, 32]) {
    const p50 = { ours: [], floor: [], everything: [] };
    for (let round = 0; round < 7; round++) {
      for (const name of Object.keys(servers)) {
        const times = [];
        let left = 1500;
        await Promise.all(Array.from({ length: width }, async () => {
          while (left-- > 0) {
            const start = us();
            await servers[name].client.callTool(call[name]);
            times.push(us() - start);
          }
        }));
        if (round > 1) p50[name].push(median(times));
      }
    }
    line(`computer_list, ${width} in flight, p50`, median(p50.ours), 'us', 'bare C replier', median(p50.floor), '1.5');
    line(`computer_list, ${width} in flight, p50`, median(p50.ours), 'us', 'server-everything', median(p50.everything), '1.0');
  }
  for (const server of Object.values(servers)) await server.client.close();
}

if (wanted('memory')) {
  const server = new Thin();
  await server.start();
  await server.request('tools/list', {});
  await new Promise((done) => setTimeout(done, 1000));
  plain('idle resident memory of aios mcp', rss(server.child.pid), 'MB', '8');
  await server.close();
}

if (wanted('run')) {
  const server = new Thin();
  await server.start();
  const times = [], base = [];
  const args = { argv: ['true'] };
  for (let i = 0; i < 30; i++) await server.call('terminal_run', args);
  for (let round = 0; round < 5; round++) {
    base.push(peersOf(200, '/bin/true')[0]);
    for (let i = 0; i < 200; i++) {
      const start = us();
      await server.call('terminal_run', args);
      times.push(us() - start);
    }
  }
  line('terminal_run true in a live sandbox', median(times), 'us', 'fork and exec of true', median(base), '1.5');
  await server.close();
}

if (wanted('create')) {
  const server = new Thin(['--no-pool']);
  await server.start();
  const times = [], base = [];
  for (let round = 0; round < 6; round++) {
    base.push(peersOf(30, ...bwrap)[0]);
    for (let i = 0; i < 30; i++) {
      const start = us();
      const made = await server.call('computer_create', {});
      const { computer } = made.structuredContent;
      await server.call('terminal_run', { argv: ['true'], computer });
      if (round > 0) times.push(us() - start);
      await server.call('computer_destroy', { computer });
    }
  }
  line('computer_create and terminal_run true, no pool', median(times), 'us', 'bwrap … true', median(base), '1.0');
  await server.close();
}

if (wanted('whole')) {
  const command = [AIOS, 'run', '--', 'true', '--vs', ...bwrap];
  const [a, , b] = peersOf(300, ...command);
  line('aios run -- true, whole process', a, 'us', 'bwrap … true', b, '1.3');
  // bwrap ends before what it made has gone, which keeps the machine busy when the next one starts.
  env.PEERS_REST = '10';
  const [c, , d] = peersOf(150, ...command);
  delete env.PEERS_REST;
  line('  each after 10 ms of rest', c, 'us', 'bwrap … true', d, '-');
}

if (wanted('pool')) {
  const server = new Thin();
  await server.start();
  const times = [];
  for (let i = 0; i < 40; i++) {
    await new Promise((done) => setTimeout(done, 60));
    const start = us();
    const made = await server.call('computer_create', {});
    times.push((us() - start) / 1e3);
    await server.call('computer_destroy', { computer: made.structuredContent.computer });
  }
  plain('computer_create from the pool, p50', median(times), 'ms', '1');
  await server.close();
}

// Emulated where KVM does not work.  The image `base` has to be in build/images.
const withMachines = async () => {
  const config = path.join(home, 'vm.json');
  fs.writeFileSync(config, JSON.stringify({ vm: { images_dir: process.env.AIOS_BENCH_IMAGES } }));
  const server = new Thin(['--config', config]);
  await server.start();
  return server;
};

if (wanted('vm')) {
  const server = await withMachines();
  const first = [], live = [], next = [];
  const run = async (list, start, computer) => {
    await server.call('terminal_run', { argv: ['true'], computer });
    list.push((us() - start) / 1e3);
  };
  const old = (await server.call('computer_create', { kind: 'vm' })).structuredContent.computer;
  for (let i = 0; i < 11; i++) {
    await new Promise((done) => setTimeout(done, 3000)); // the pool is full again
    await run(live, us(), old);
    const start = us();
    const { computer } = (await server.call('computer_create', { kind: 'vm' })).structuredContent;
    await run(first, start, computer);
    await run(next, us(), computer);
    await server.call('computer_destroy', { computer });
  }
  line('vm from the pool to the end of `true`', median(first), 'ms', 'a run in a live vm', median(live), 'at most 25 ms more');
  plain('  the next run in it', median(next), 'ms', '-');
  await server.close();
}

if (wanted('boot')) {
  const { ours_ms: mine, peer_ms: theirs } = JSON.parse(execFileSync(path.join(peers, 'bench_boot'),
    [process.env.AIOS_BENCH_IMAGES, 'base', '9'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] }));
  line('cold boot of base to its first answer', median(mine), 'ms', 'its kernel with busybox', median(theirs), '1.3');
}

// What a server has, in figures; its own files are those of its home.
const possessions = (pid) => {
  const links = fs.readdirSync(`/proc/${pid}/fd`).map((fd) => {
    try { return fs.readlinkSync(`/proc/${pid}/fd/${fd}`); } catch { return ''; }
  }).filter((link) => link);
  const files = (name) => {
    try { return fs.readdirSync(path.join(home, name), { recursive: true }).length; } catch { return 0; }
  };
  return {
    'processes': descendants(pid).length,
    'descriptors': links.length,
    'memfds': links.filter((link) => link.startsWith('/memfd:')).length,
    'files in state': files('state'), 'files in run': files('run'), 'files in cache': files('cache'),
    'mounts': fs.readFileSync(`/proc/${pid}/mountinfo`, 'utf8').split('\n').length,
    'cgroups': serverNames(home).flatMap(cgroupsOf).length,
    'resident memory, MB': rss(pid),
  };
};

if (wanted('rounds')) {
  const server = await withMachines();
  const { pid } = server.child;
  const rounds = async (count) => {
    for (let i = 0; i < count; i++) {
      const { computer } = (await server.call('computer_create', { kind: 'vm' })).structuredContent;
      await server.call('terminal_run', { argv: ['true'], computer });
      await server.call('computer_destroy', { computer });
    }
  };
  // Settled: nothing has changed for three seconds; the pool has its machine by then.
  const settled = async () => {
    let now, last, since = us();
    for (const end = us() + 60e6; us() < end && us() - since < 3e6; last = now) {
      await new Promise((done) => setTimeout(done, 200));
      now = possessions(pid);
      if (Object.keys(now).some((name) => now[name] !== last?.[name])) since = us();
    }
    return now;
  };
  await rounds(5);
  const before = await settled();
  await rounds(100);
  const after = await settled();
  console.log('100 rounds of creating a vm, running `true` and destroying it: before -> after, target: as before');
  for (const name of Object.keys(before))
    console.log(`  ${name.padEnd(44)} ${+before[name].toFixed(1)} -> ${+after[name].toFixed(1)}`);
  await server.close();
}

if (wanted('idle')) {
  const config = path.join(home, 'many.json');
  fs.writeFileSync(config, JSON.stringify({ computer: { max_per_agent: 512 } }));
  const server = new Thin(['--no-pool', '--config', config]);
  await server.start();
  await server.call('computer_create', {});
  const before = available(), rssBefore = rss(server.child.pid);
  for (let i = 0; i < 499; i++) await server.call('computer_create', {});
  await new Promise((done) => setTimeout(done, 3000));
  plain('each of 500 idle sandboxes', (before - available()) / 499, 'MB', '1');
  plain('  of which the server itself', (rss(server.child.pid) - rssBefore) / 499, 'MB', '-');
  const list = [];
  for (let i = 0; i < 200; i++) { const start = us(); await server.request('ping'); list.push(us() - start); }
  plain('  ping with 500 sandboxes, p50', median(list), 'us', 'flat');
  await server.close();
}

if (wanted('sleep')) {
  const server = new Thin();
  await server.start();
  await server.call('terminal_run', { argv: ['true'] });
  const start = us();
  await Promise.all(Array.from({ length: 64 }, () => server.call('terminal_run', { command: 'sleep 1' })));
  plain('64 concurrent terminal_run of sleep 1', (us() - start) / 1e6, 's', '1.5');
  await server.close();
}

if (wanted('flood')) {
  const server = new Thin();
  await server.start();
  await server.call('terminal_run', { argv: ['true'] });
  const quiet = [], loud = [];
  // With the same pauses as below: a process that was idle answers more slowly than a busy one.
  for (let i = 0; i < 600; i++) {
    const s = us();
    await server.call('computer_list', {});
    quiet.push(us() - s);
    await new Promise((done) => setTimeout(done, 5));
  }
  const before = rss(server.child.pid);
  const flood = server.call('terminal_run', { command: 'yes', timeout_ms: 10000 });
  const end = us() + 9.5e6;
  let most = before;
  while (us() < end) {
    const s = us();
    await server.call('computer_list', {});
    loud.push(us() - s);
    most = Math.max(most, rss(server.child.pid));
    await new Promise((done) => setTimeout(done, 5));
  }
  await flood;
  plain('yes for 10 s: growth of the server', most - before, 'MB', 'ring (1) and frames');
  line('  computer_list meanwhile, p50', median(loud), 'us', 'before', median(quiet), 'flat');
  line('  computer_list meanwhile, p99', quantile(loud, 0.99), 'us', 'before', quantile(quiet, 0.99), 'flat');
  await server.close();
}

if (wanted('storage')) {
  const folder = fs.mkdtempSync(path.join(home, 'storage-'));
  for (const row of execFileSync(path.join(peers, 'bench_storage'), [folder], { encoding: 'utf8' }).trim().split('\n')) {
    const [work, mine, theirs] = row.split(';');
    line(`storage: ${work}`, Number(mine), 'us', work.startsWith('SQLite') ? 'one plain table' : 'write, fsync, rename',
      Number(theirs), '1.3');
  }
}

if (wanted('context')) {
  const folder = fs.mkdtempSync(path.join(home, 'context-'));
  for (const row of execFileSync(path.join(peers, 'bench_context'), [folder], { encoding: 'utf8' }).trim().split('\n')) {
    const [work, mine, theirs] = row.split(';');
    line(`context: ${work}`, Number(mine), 'us', 'one upsert of its bytes', Number(theirs), '1.5');
  }
}

if (wanted('notes')) {
  const folder = fs.mkdtempSync(path.join(home, 'notes-'));
  const [save, ...kinds] = execFileSync(path.join(peers, 'bench_memory'), ['notes', folder], { encoding: 'utf8' })
    .trim().split('\n').map((row) => row.split(' ').map(Number));
  plain('memory_save, one note of 100,000', save[0], 'ms', '');
  for (const [words, mine, theirs] of kinds)
    line(`memory search, ${words} word${words > 1 ? 's' : ''}, 100,000 notes`, mine, 'us', 'plain FTS5', theirs, '1.2');
}

if (wanted('vectors')) {
  const folder = fs.mkdtempSync(path.join(home, 'vectors-'));
  const [width, mine, scalar, reading] = execFileSync(path.join(peers, 'bench_memory'), ['vectors', folder],
    { encoding: 'utf8' }).trim().split(' ').map(Number);
  line(`1,000,000 x 384 compared, ${width} wide`, mine, 'ms', 'one after the other', scalar, '');
  line(`1,000,000 x 384 compared, ${width} wide`, mine, 'ms', 'reading those bytes', reading, '');
}

if (wanted('dispatch')) {
  const dispatch = (...args) =>
    JSON.parse(execFileSync(path.join(peers, 'bench_dispatch'), args, { env, encoding: 'utf8' }));
  const perCall = new Map();
  // Rounds in turn, so that a machine that is busy for a while is so for all alike.
  const rounds = (args, sizes, calls) => {
    const rates = new Map(sizes.map((agents) => [agents, []]));
    for (let round = 0; round < 7; round++)
      for (const agents of sizes)
        rates.get(agents).push(dispatch('closed', `agents=${agents}`, `calls=${calls}`, 'workers=128', ...args).per_s);
    return rates;
  };
  for (const [agents, rates] of rounds([], [1, 10, 100, 1000, 2000], 500000)) {
    plain(`null call, ${agents} agents, median (best ${number(Math.max(...rates))})`, median(rates), '/s', '500000');
    perCall.set(agents, 1e9 / Math.max(...rates));
  }
  line('  a call at best, slowest number of agents', Math.max(...perCall.values()), 'ns', 'fastest', Math.min(...perCall.values()), '1.5');
  for (const policy of ['priority', 'sjf', 'rr', 'edf'])
    for (const [agents, rates] of rounds([`policy=${policy}`], [1000], 300000))
      plain(`  ${policy}, ${agents} agents, median`, median(rates), '/s', '500000');
  for (const [agents, rates] of rounds(['fair=1'], [1000], 300000))
    plain(`  fair share, ${agents} agents, median`, median(rates), '/s', '500000');
  for (const [agents, rates] of rounds(['audit=1'], [1, 1000], 200000))
    plain(`  with the audit, ${agents} agents, median`, median(rates), '/s', '100000');
}

if (wanted('arrivals')) {
  for (const rate of [5, 20, 50, 500]) {
    const r = JSON.parse(execFileSync(path.join(peers, 'bench_dispatch'),
      ['open', 'class=llm', `rate=${rate}`, 'seconds=15', 'service_us=1', 'agents=10', 'audit=1'], { env, encoding: 'utf8' }));
    plain(`model calls, ${rate} a second for 15 s, done`, r.calls - r.failed, `/${r.calls}`, 'all');
    plain('  from asking to answered, p99', r.p99_us / 1e3, 'ms', '5');
  }
}

// Programs of their own, which need LibreOffice and Chromium on this machine.
for (const [row, program] of [['documents', 'document_peer.mjs'], ['browser', 'browser_peer.mjs']]) {
  if (rows.includes(row))
    spawnSync(process.execPath, [fileURLToPath(new URL(program, import.meta.url))], { stdio: 'inherit' });
}

fs.rmSync(home, { recursive: true, force: true });
