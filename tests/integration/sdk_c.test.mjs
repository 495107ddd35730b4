// libaios as its users have it: installed, found by pkg-config, linked both ways, against a running kernel.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { AIOS, environment, eventually, home } from './support.mjs';

const here = path.dirname(fileURLToPath(import.meta.url));
const top = path.resolve(here, '../..');
const build = path.dirname(path.dirname(AIOS));
const cached = (name) => new RegExp(`^${name}:[A-Z]+=(.*)$`, 'm')
  .exec(fs.readFileSync(path.join(build, 'CMakeCache.txt'), 'utf8'))?.[1] ?? '';
const cc = cached('CMAKE_C_COMPILER') || 'cc';
// A library with a sanitizer in it wants programs that have it too.
const sanitize = cached('AIOS_SANITIZE') ? [`-fsanitize=${cached('AIOS_SANITIZE')}`] : [];
const LINKS = ['shared', 'static'];

let prefix, libraries;
const programs = {}; // programs.shared.notebook: its path

const succeed = (command, args, options = {}) => {
  const done = spawnSync(command, args, { encoding: 'utf8', timeout: 120000, ...options });
  assert.equal(done.status, 0, `${command} ${args.join(' ')}: ${done.error ?? done.stdout + done.stderr}`);
  return done.stdout;
};
const pkgConfig = (...args) => succeed('pkg-config', [...args, 'aios'], {
  env: { ...process.env, PKG_CONFIG_PATH: path.join(libraries, 'pkgconfig') },
}).trim().split(/\s+/).filter(Boolean);

const compile = (source, link) => {
  const out = path.join(prefix, `${path.basename(source, '.c')}-${link}`);
  const flags = link === 'static'
    ? pkgConfig('--static', '--cflags', '--libs').map((flag) => flag.replace(/^-laios$/, '-l:libaios.a'))
    : pkgConfig('--cflags', '--libs');
  succeed(cc, ['-std=gnu11', '-Wall', '-Wextra', '-Werror', '-g', ...sanitize, source, '-o', out, ...flags]);
  return out;
};

before(() => {
  prefix = path.join(home(), 'prefix');
  succeed(cached('CMAKE_COMMAND') || 'cmake', ['--install', build, '--component', 'sdk', '--prefix', prefix]);
  const [pc] = fs.readdirSync(prefix, { recursive: true }).filter((file) => file.endsWith('aios.pc'));
  libraries = path.dirname(path.dirname(path.join(prefix, pc)));
  const sources = ['docs/examples/notebook.c', 'docs/examples/worker.c', 'tests/integration/sdk_c.c'];
  for (const link of LINKS) {
    programs[link] = {};
    for (const source of sources)
      programs[link][path.basename(source, '.c')] = compile(path.join(top, source), link);
  }
});

const servers = new Set();
after(() => { for (const child of servers) child.kill('SIGKILL'); });

const serve = async (config) => {
  const dir = home();
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
  await eventually(() => said.includes('listening at') || child.exitCode !== null, 'it listens', 20000);
  assert.match(said, /listening at \S+/);
  return { dir, said: () => said, stop: async () => {
    child.kill('SIGTERM');
    assert.deepEqual(await ended, { code: 0, signal: null }, said);
  } };
};

// Runs a program to its end, beside whatever else runs.
const run = (server, link, name, ...args) => new Promise((done, fail) => {
  const env = { ...environment(server.dir), ...(link === 'shared' ? { LD_LIBRARY_PATH: libraries } : {}) };
  const child = spawn(programs[link][name], args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  servers.add(child);
  const result = { out: '', err: '' };
  child.stdout.on('data', (chunk) => { result.out += chunk; });
  child.stderr.on('data', (chunk) => { result.err += chunk; });
  child.on('error', fail);
  child.on('close', (code, signal) => done({ ...result, code, signal }));
});
const works = async (...args) => {
  const result = await run(...args);
  assert.equal(result.code, 0, JSON.stringify(result));
  return result.out;
};

test('the libraries show nothing but the names of aios.h', () => {
  const header = fs.readFileSync(path.join(prefix, 'include/aios.h'), 'utf8').replace(/\/\*[^]*?\*\//g, '');
  const declared = [...header.matchAll(/\b(aios_[a-z_]+)\(/g)].map((match) => match[1])
    .filter((name) => !name.endsWith('_fn'));
  const names = (args) => succeed('nm', ['--defined-only', ...args]).split('\n')
    .map((line) => /^[0-9a-f]+ [A-Z] (\w+)/.exec(line)?.[1]).filter((name) => name && name !== 'AIOS_0');
  const ours = (list) => list.filter((name) => !/^_*(asan|odr_asan|ubsan|lsan|tsan)/.test(name)).sort();
  const shared = succeed('nm', ['-D', '--defined-only', path.join(libraries, 'libaios.so')]);
  assert.deepEqual(ours(names(['-D', path.join(libraries, 'libaios.so')])), [...new Set(declared)].sort());
  assert.deepEqual(ours(names(['-g', path.join(libraries, 'libaios.a')])), [...new Set(declared)].sort());
  assert.match(shared, /aios_connect@@AIOS_0/);
});

test('the header stands alone, in strict C and in C++', () => {
  const file = path.join(prefix, 'include/aios.h');
  succeed(cc, ['-std=c99', '-pedantic', '-Wall', '-Wextra', '-Werror', '-fsyntax-only', '-x', 'c', file]);
  if (spawnSync('c++', ['--version']).status === 0)
    succeed('c++', ['-pedantic', '-Wall', '-Wextra', '-Werror', '-fsyntax-only', '-x', 'c++', file]);
});

test('the build tree has a pkg-config file too', () => {
  const env = { ...process.env, PKG_CONFIG_PATH: path.join(build, 'lib/pkgconfig') };
  const flags = succeed('pkg-config', ['--cflags', '--libs', 'aios'], { env }).trim().split(/\s+/);
  succeed(cc, [...sanitize, path.join(top, 'docs/examples/notebook.c'), '-o', path.join(prefix, 'in-tree'), ...flags]);
});

test('a program linked with the archive needs no libaios.so', () => {
  assert.doesNotMatch(succeed('ldd', [programs.static.notebook]), /libaios/);
  assert.match(succeed('ldd', [programs.shared.notebook]), /libaios\.so\.0/);
});

test('without a kernel a program says how to start one', async () => {
  const none = await run({ dir: home() }, 'shared', 'notebook', 'count');
  assert.equal(none.code, 1);
  assert.match(none.err, /aios serve/);
});

test('memory, storage and tools are what the library makes of them', async () => {
  const server = await serve();
  assert.equal(await works(server, 'shared', 'sdk_c'), '');
  await server.stop();
});

for (const link of LINKS) test(`the notebook remembers, runs and counts (${link})`, async () => {
  const server = await serve();
  const notebook = (...args) => works(server, link, 'notebook', ...args);
  assert.equal(await notebook('recall', 'dragons'), '');
  const id = (await notebook('remember', 'The user likes short answers', 'style')).trim();
  assert.match(id, /^note_/);
  const found = await notebook('recall', 'answers');
  assert.ok(found.includes(id) && found.includes('The user likes short answers'), found);
  assert.match(await notebook('run', 'echo "$((6*7))" \\"quoted\\" && uname'), /42 "quoted"\nLinux/);
  assert.equal(await notebook('count'), '1\n');
  assert.equal(await notebook('count'), '2\n');
  assert.equal((await run(server, link, 'notebook')).code, 2);
  await server.stop();
});

test('many who count at once miss none and count none twice', async () => {
  const server = await serve();
  const counts = await Promise.all(Array.from({ length: 16 }, (_, i) => works(server, LINKS[i % 2], 'notebook', 'count')));
  assert.deepEqual(counts.map(Number).sort((a, b) => a - b), Array.from({ length: 16 }, (_, i) => i + 1));
  assert.equal(await works(server, 'shared', 'notebook', 'count'), '17\n');
  await server.stop();
});

// A server of OpenAI's interface that answers by a script: each entry is a delta, after hold_ms, or how to refuse.
const model = async (script) => {
  const asked = [];
  const server = http.createServer((request, response) => {
    let body = '';
    request.on('data', (chunk) => { body += chunk; });
    request.on('end', async () => {
      const question = JSON.parse(body);
      const step = script[asked.push({ url: request.url, key: request.headers.authorization, ...question }) - 1];
      if (!step || step.status) {
        response.writeHead(step?.status ?? 400, { 'content-type': 'application/json' });
        response.end(JSON.stringify({ error: { message: step?.why ?? 'the script is over' } }));
        return;
      }
      const { hold_ms, ...delta } = step;
      if (hold_ms) await new Promise((done) => setTimeout(done, hold_ms));
      const base = { id: 'x', object: 'chat.completion.chunk', model: 'scripted' };
      const send = (chunk) => response.write(`data: ${JSON.stringify({ ...base, ...chunk })}\n\n`);
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      send({ choices: [{ index: 0, delta: { role: 'assistant', ...delta }, finish_reason: null }] });
      send({ choices: [{ index: 0, delta: {}, finish_reason: step.tool_calls ? 'tool_calls' : 'stop' }] });
      send({ choices: [], usage: { prompt_tokens: 7, completion_tokens: 5, total_tokens: 12 } });
      response.end('data: [DONE]\n\n');
    });
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  server.unref();
  const config = { llm: { providers: [{ name: 'script', kind: 'openai', model: 'scripted',
    base_url: `http://127.0.0.1:${server.address().port}/v1` }] } };
  return { asked, config, close: () => server.close() };
};
const toolCall = (id, name, args) => ({ index: 0, id, type: 'function', function: { name, arguments: JSON.stringify(args) } });

test('the worker reaches a goal with a model and a computer', async () => {
  const done = 'I wrote the file and it holds 42.';
  const scripted = await model([
    { content: 'First the file.', tool_calls: [
      toolCall('call_1', 'terminal_run', { command: 'echo $((6*7)) > /workspace/answer; cat /workspace/answer' })] },
    { content: null, tool_calls: [toolCall('call_2', 'computer_destroy', {})] },
    { content: done },
    { content: 'Done before.' },
  ]);
  const server = await serve(scripted.config);
  const first = await run(server, 'shared', 'worker', 'Write 42 into a file');
  assert.equal(first.code, 0, JSON.stringify(first) + server.said());
  assert.equal(first.out, done + '\n');
  assert.match(first.err, /terminal_run \{"command":"echo/);
  assert.equal(scripted.asked.length, 3);
  const [question, second, third] = scripted.asked;
  assert.equal(question.url, '/v1/chat/completions');
  assert.equal(question.messages[0].role, 'system');
  assert.deepEqual(question.messages[1], { role: 'user', content: 'Write 42 into a file' });
  assert.ok(question.tools.length > 0 && question.tools.every((tool) => tool.function.name.startsWith('terminal_')));
  assert.ok(question.tools.find((tool) => tool.function.name === 'terminal_run').function.parameters.properties.command);
  const [said, told] = second.messages.slice(-2);
  assert.equal(said.role, 'assistant');
  assert.equal(said.content, 'First the file.');
  assert.equal(said.tool_calls[0].id, 'call_1');
  assert.equal(JSON.parse(said.tool_calls[0].function.arguments).command.slice(0, 4), 'echo');
  assert.equal(told.role, 'tool');
  assert.equal(told.tool_call_id, 'call_1');
  assert.match(told.content, /42[^]*exit code 0/);
  // A tool that it was not given is not called, whatever the model says.
  assert.match(third.messages.at(-1).content, /no such tool/);
  // What was done is known the next time.
  assert.equal(await works(server, 'static', 'worker', 'Is the file written?'), 'Done before.\n');
  assert.match(scripted.asked[3].messages[1].content, /Is the file written\?[^]*I wrote the file/);
  await server.stop();
  scripted.close();
});

test('an answer that takes longer than a call is fetched, not asked for again', async () => {
  const call_timeout_ms = 8000; // no other call takes that long
  const scripted = await model([{ content: 'Late, but whole.', hold_ms: call_timeout_ms }]);
  const server = await serve({ ...scripted.config, tool: { call_timeout_ms } });
  assert.equal(await works(server, 'shared', 'worker', 'Take your time'), 'Late, but whole.\n');
  assert.equal(scripted.asked.length, 1);
  await server.stop();
  scripted.close();
});

test('a model that refuses is a clear error', async () => {
  const scripted = await model([{ status: 401, why: 'the key is wrong' }]);
  const server = await serve(scripted.config);
  const refused = await run(server, 'shared', 'worker', 'anything');
  assert.equal(refused.code, 1);
  assert.match(refused.err, /the key is wrong/);
  await server.stop();
  scripted.close();
});
