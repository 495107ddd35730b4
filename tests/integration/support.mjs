// What the integration tests share: the server under test, official clients, a raw client.
import { spawn, spawnSync } from 'node:child_process';
import { after, before } from 'node:test';
import { createRequire } from 'node:module';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

export * from './traces.mjs';

export const AIOS = process.env.AIOS;
const modules = process.env.AIOS_NODE_MODULES;
if (!AIOS || !modules) throw new Error('AIOS and AIOS_NODE_MODULES must be set; run through ctest');
// With as-user.sh as AIOS the server is AIOS_PROGRAM, run by this user.
const AIOS_PROGRAM = process.env.AIOS_PROGRAM;
export const USER = AIOS_PROGRAM ? 65534 : 0;
const require_ = createRequire(path.join(modules, 'x.js'));

// Import an installed package as an ES module.
export const load = async (name) => {
  const parts = name.split('/');
  const pkg = parts[0].startsWith('@') ? parts.slice(0, 2).join('/') : parts[0];
  const sub = './' + parts.slice(pkg.split('/').length).join('/');
  const dir = path.join(modules, pkg);
  const { exports: map } = JSON.parse(fs.readFileSync(path.join(dir, 'package.json')));
  const entry = map[sub === './' ? '.' : sub] ?? map['./*'];
  let target = entry.import?.default ?? entry.import ?? entry.default ?? entry;
  if (target.includes('*')) target = target.replace('*', sub.slice(2));
  return import(pathToFileURL(path.join(dir, target)));
};
export const resolve = (name) => require_.resolve(name);

// Where the computers of a suite are: '' this machine's own system, 'desktop' a sandbox of that image,
// 'vm' a virtual machine of it, whose processor is emulated, 'base' one of that image, which every
// server is configured to make when a test does not say what.
export const PLACE = process.env.AIOS_TEST_PLACE ?? '';
// An emulated machine takes twenty times as long: a part of the browser's suites is tried in it, or the whole.
export const PART = PLACE === 'vm' && !process.env.AIOS_TEST_WHOLE;
export const KIND = PLACE === 'vm' || PLACE === 'base' ? 'vm' : 'sandbox';
const IMAGES = process.env.AIOS_TEST_IMAGES; // shared by all builds of this tree
export const PATIENCE = PLACE ? 600000 : 120000; // an image is unpacked, a machine is emulated
// What computer_create is sent there; @more is for sandboxes alone: other machines boot for minutes.
export const placed = (more = {}) => (PLACE === 'vm' ? { kind: 'vm', image: 'desktop' } :
  { ...(PLACE ? { image: PLACE } : {}), ...more });
// What the servers of such a suite are configured to.
export const placedConfig = (config = {}) => (!IMAGES ? config : {
  ...config, vm: { images_dir: IMAGES },
  ...(PLACE ? { tool: { call_timeout_ms: PATIENCE - 10000 } } : {}),
});
// A home for them: what is prepared once for all servers is prepared once for all suites.
export const placedHome = () => {
  const dir = home();
  if (IMAGES) {
    const cache = path.join(IMAGES, '../cache');
    fs.mkdirSync(cache, { recursive: true, mode: 0o700 });
    fs.symlinkSync(cache, path.join(dir, 'cache'));
  }
  return dir;
};
const anyHome = () => (PLACE === 'base' ? placedHome() : home());

// The images that they need are built once, by whoever comes first.
export const buildImages = (...names) => {
  const dir = home();
  fs.mkdirSync(IMAGES, { recursive: true });
  fs.mkdirSync(path.join(dir, 'cache'), { mode: 0o700 });
  fs.symlinkSync(IMAGES, path.join(dir, 'cache/images'));
  for (const name of names) {
    const { status, stderr } = spawnSync(AIOS, ['image', 'build', name], {
      env: { ...environment(dir), PATH: `${process.env.PATH}:/usr/sbin:/sbin` }, encoding: 'utf8' });
    if (status !== 0) throw new Error(stderr);
  }
};

// Every test has a home of its own, so that audit, checkpoints and configuration are its own too.
const homes = [];
export const home = () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'aios-test-'));
  homes.push(dir);
  if (USER) fs.chownSync(dir, USER, USER);
  return dir;
};
export const environment = (dir) => ({
  PATH: process.env.PATH, HOME: dir, AIOS_HOME: dir, ...(USER ? { AIOS_PROGRAM } : {}),
});

// The options that give a server the configuration @config.
const configured = (dir, given) => {
  const config = PLACE !== 'base' ? given : {
    ...given, computer: { kind: 'vm', image: PLACE, ...given?.computer }, vm: { images_dir: IMAGES, ...given?.vm } };

  if (!config) return [];
  const file = path.join(dir, 'test-config.json');
  fs.writeFileSync(file, JSON.stringify(config));
  return ['--config', file];
};

export const textOf = (result) =>
  result.content.filter((block) => block.type === 'text').map((block) => block.text).join('\n');

// A test that failed half-way leaves its server behind; the runner would wait for it for ever.
const started = new Set();
const transports = new Set();
after(() => {
  for (const child of started) child.kill('SIGKILL');
  for (const { pid } of transports) if (pid) process.kill(pid, 'SIGKILL');
  for (const dir of homes) fs.rmSync(dir, { recursive: true, force: true, maxRetries: 10 });
});

// A client of the v1 SDK on a server of its own; close() ends both.
// @prepare gets the client before it connects, to set its handlers.
export const connectV1 = async ({ dir = anyHome(), args = [], config, capabilities = { roots: {} }, prepare } = {}) => {
  const { Client } = await load('@modelcontextprotocol/sdk/client/index.js');
  const { StdioClientTransport } = await load('@modelcontextprotocol/sdk/client/stdio.js');
  const transport = new StdioClientTransport({
    command: AIOS, args: ['mcp', ...configured(dir, config), ...args], env: environment(dir), stderr: 'inherit',
  });
  transports.add(transport);
  const client = new Client({ name: 'integration', version: '1' }, { capabilities });
  await prepare?.(client);
  return { client, transport, dir, connect: () => client.connect(transport) };
};

// The same for the length of @body, which gets the client, call(), the home and the server's id.
export const withV1 = async (body, options) => {
  const { client, transport, dir, connect } = await connectV1(options);
  await connect();
  const call = (name, args = {}, more) => client.callTool({ name, arguments: args }, undefined, more);
  try {
    return await body({ client, call, dir, pid: transport.pid });
  } finally {
    await client.close();
  }
};

// A client of the v2 SDK; era: legacy, auto or modern.
export const connectV2 = async (era, { dir = anyHome(), args = [], config, capabilities, prepare } = {}) => {
  const { Client } = await load('@modelcontextprotocol/client');
  const { StdioClientTransport } = await load('@modelcontextprotocol/client/stdio');
  const transport = new StdioClientTransport({
    command: AIOS, args: ['mcp', ...configured(dir, config), ...args], env: environment(dir), stderr: 'inherit',
  });
  transports.add(transport);
  const mode = era === 'modern' ? { pin: '2026-07-28' } : era;
  const client = new Client({ name: 'integration', version: '1' },
    { versionNegotiation: { mode }, ...(capabilities ? { capabilities } : {}) });
  await prepare?.(client);
  await client.connect(transport);
  return { client, transport, dir };
};

before(() => { if (PLACE === 'base') buildImages(PLACE); }, { timeout: 3000000 });

// Bytes in, lines out, nothing assumed: for what no official client would send.
// With @listen its standard error is kept in .said.
export class Raw {
  constructor({ dir = anyHome(), args = [], config, env = {}, listen = false } = {}) {
    this.dir = dir;
    this.child = spawn(AIOS, ['mcp', ...configured(dir, config), ...args], {
      env: { ...environment(dir), ...env }, stdio: ['pipe', 'pipe', listen ? 'pipe' : 'inherit'],
    });
    this.said = '';
    this.child.stderr?.on('data', (chunk) => { this.said += chunk; });
    started.add(this.child);
    this.child.stdin.on('error', () => {});
    this.messages = [];
    this.waiters = [];
    this.rest = Buffer.alloc(0);
    this.impure = [];
    // With the end of its output, so that its last words have been read by then.
    this.ended = new Promise((done) => this.child.on('close', (code, signal) => {
      this.end = { code, signal };
      this.waiters = this.waiters.filter((waiter) => !waiter());
      done(this.end);
    }));
    this.child.stdout.on('data', (chunk) => this.take(chunk));
    this.nextId = 1;
  }

  take(chunk) {
    this.rest = Buffer.concat([this.rest, chunk]);
    for (let at; (at = this.rest.indexOf(10)) >= 0; this.rest = this.rest.subarray(at + 1)) {
      const line = this.rest.subarray(0, at);
      try {
        this.messages.push(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(line)));
      } catch {
        this.impure.push(line.toString('latin1'));
      }
    }
    this.waiters = this.waiters.filter((waiter) => !waiter());
  }

  write(data) { this.child.stdin.write(data); }
  send(message) { this.write(JSON.stringify({ jsonrpc: '2.0', ...message }) + '\n'); }

  // The first message that satisfies the predicate, past or future; removed from the list.
  find(predicate, ms = 60000, what = 'such message') {
    return new Promise((done, fail) => {
      const timer = setTimeout(() => fail(new Error(`no ${what} in ${ms} ms; there are ` +
        JSON.stringify(this.messages).slice(0, 2000))), ms);
      const look = () => {
        const at = this.messages.findIndex(predicate);
        if (at < 0 && !this.end) return false;
        clearTimeout(timer);
        if (at < 0) fail(new Error(`no ${what}: the server has ended with ${JSON.stringify(this.end)}`));
        else done(this.messages.splice(at, 1)[0]);
        return true;
      };
      if (!look()) this.waiters.push(look);
    });
  }

  async request(method, params, id = this.nextId++) {
    this.send({ id, method, ...(params === undefined ? {} : { params }) });
    return this.find((m) => m.id === id && !m.method, PLACE ? PATIENCE : 60000,
      `answer to ${method} ${params?.name ?? ''}`);
  }

  initialize(version = '2025-11-25', capabilities = {}) {
    return this.request('initialize', {
      protocolVersion: version, capabilities, clientInfo: { name: 'raw', version: '1' },
    });
  }

  async call(name, args = {}, extra = {}) {
    const answer = await this.request('tools/call', { name, arguments: args, ...extra });
    return answer.result ?? answer;
  }

  // A request in the modern form.
  modern(method, params = {}, meta = {}, id) {
    return this.request(method, {
      ...params,
      _meta: {
        'io.modelcontextprotocol/protocolVersion': '2026-07-28',
        'io.modelcontextprotocol/clientCapabilities': {},
        ...meta,
      },
    }, id);
  }

  // Close the input and wait for the end of the server.
  async close() {
    this.child.stdin.end();
    const end = await this.ended;
    if (this.impure.length) throw new Error('not JSON on standard output: ' + this.impure[0]);
    return end;
  }
}

// The handle that an answer names: a run r_..., a computer c_..., a snapshot s_....
export const handleIn = (result, letter) => {
  const found = new RegExp(`\\b${letter}_[0-9a-z]{20,}`).exec(textOf(result));
  if (!found) throw new Error(`no ${letter}_ handle in: ${textOf(result).slice(0, 1000)}`);
  return found[0];
};

// A result that must be a success; its text.
export const good = (result) => {
  if (result.isError || !result.content) throw new Error(JSON.stringify(result).slice(0, 2000));
  return textOf(result);
};

// What a program printed, without the status line below it; it must have ended with 0.
export const output = (result) => {
  const text = good(result);
  const at = text.lastIndexOf('[exit code 0,');
  if (at < 0) throw new Error(text.slice(-3000));
  return text.slice(0, at).replace(/\n\n$/, '\n').replace(/\n$/, '');
};

// Poll until @check() is true; the only way to learn of what sends no message.
export const eventually = async (check, what, ms = 30000) => {
  const end = Date.now() + ms;
  while (!check()) {
    if (Date.now() > end) throw new Error(`${what}: not within ${ms} ms`);
    await new Promise((done) => setTimeout(done, 20));
  }
};

// Bytes in KiB that the server may grow by where @kib are enough without a sanitizer, which keeps
// freed memory for a while and reserves terabytes of addresses.
export const growthKib = (pid, kib) => {
  const reserved = Number(/VmSize:\s+(\d+)/.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))[1]);
  return reserved > 1 << 30 ? 25 * kib : kib;
};
