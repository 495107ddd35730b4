// The protocol as no official client would speak it: every message is answered or ignored as it
// should be, the server stays up, and nothing but JSON comes out.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { spawnSync } from 'node:child_process';
import { AIOS, Raw, environment, growthKib, home, rssKib, textOf } from './support.mjs';

const pingWorks = async (raw) => {
  const answer = await raw.request('ping');
  assert.deepEqual(answer.result, {});
};

test('answers initialize in every legacy revision, and the newest for an unknown one', async () => {
  for (const [asked, got] of [
    ['2025-11-25', '2025-11-25'], ['2025-06-18', '2025-06-18'], ['2025-03-26', '2025-03-26'],
    ['2024-11-05', '2024-11-05'], ['1999-01-01', '2025-11-25'], ['2099-01-01', '2025-11-25'],
  ]) {
    const raw = new Raw();
    const { result } = await raw.initialize(asked);
    assert.equal(result.protocolVersion, got, asked);
    assert.equal(result.serverInfo.name, 'aios');
    assert.ok(result.instructions.length > 100 && result.instructions.length < 2048);
    assert.deepEqual(Object.keys(result.capabilities).sort(), ['logging', 'tools']);
    assert.equal((await raw.close()).code, 0);
  }
});

test('announces nothing that is not there, and says so when it is asked for', async () => {
  const raw = new Raw();
  await raw.initialize();
  for (const method of ['prompts/list', 'resources/list', 'completion/complete', 'tasks/list',
    'sampling/createMessage', 'subscriptions/listen', 'no/such']) {
    assert.equal((await raw.request(method, {})).error.code, -32601, method);
  }
  await raw.close();
});

test('serves the modern era without a handshake', async () => {
  const raw = new Raw();
  const { result } = await raw.modern('server/discover');
  assert.equal(result.resultType, 'complete');
  assert.deepEqual(result.supportedVersions, ['2026-07-28']);
  assert.equal(result._meta['io.modelcontextprotocol/serverInfo'].name, 'aios');
  assert.ok(result.ttlMs >= 0 && ['public', 'private'].includes(result.cacheScope));
  const list = (await raw.modern('tools/list')).result;
  assert.equal(list.resultType, 'complete');
  assert.ok(list.ttlMs >= 0 && list.cacheScope);
  const call = (await raw.modern('tools/call', { name: 'computer_list', arguments: {} })).result;
  assert.equal(call.resultType, 'complete');
  assert.deepEqual(call.structuredContent, { computers: [] });
  for (const method of ['ping', 'logging/setLevel', 'initialize', 'resources/subscribe']) {
    assert.equal((await raw.modern(method, { level: 'info' })).error.code, -32601, method);
  }
  await raw.close();
});

test('judges every message by itself', async () => {
  const raw = new Raw();
  const meta = (m) => ({ _meta: m });
  const version = 'io.modelcontextprotocol/protocolVersion';
  const capabilities = 'io.modelcontextprotocol/clientCapabilities';
  await raw.modern('tools/list');
  let answer = await raw.request('tools/list', meta({ [version]: 'v999.0.0', [capabilities]: {} }));
  assert.equal(answer.error.code, -32022);
  assert.deepEqual(answer.error.data, { supported: ['2026-07-28'], requested: 'v999.0.0' });
  answer = await raw.request('tools/list', meta({ [version]: '2026-07-28' }));
  assert.equal(answer.error.code, -32602);
  answer = await raw.request('tools/list', meta({ [capabilities]: {} }));
  assert.equal(answer.error.code, -32602);
  answer = await raw.request('server/discover', {});
  assert.equal(answer.error.code, -32602);
  answer = await raw.request('tools/list', meta({ [version]: '2026-07-28', [capabilities]: {},
    'io.modelcontextprotocol/logLevel': 'shout' }));
  assert.equal(answer.error.code, -32602);
  assert.equal((await raw.initialize()).result.protocolVersion, '2025-11-25');
  assert.ok((await raw.request('tools/list', {})).result.tools.length > 0);
  assert.equal((await raw.request('tools/list', {})).result.resultType, undefined);
  assert.equal((await raw.modern('tools/list')).result.resultType, 'complete');
  await raw.close();
});

test('never ends on an odd first message', async () => {
  for (const first of ['\n', '{}\n', 'null\n', '[]\n', '"x"\n', '{"jsonrpc":"2.0"}\n',
    '{"jsonrpc":"2.0","method":"notifications/initialized"}\n',
    '{"jsonrpc":"2.0","id":7,"result":{}}\n', 'GET / HTTP/1.1\r\n\r\n', '\u0000\u0001\n']) {
    const raw = new Raw();
    raw.write(first);
    await raw.initialize();
    await pingWorks(raw);
    assert.equal((await raw.close()).code, 0, JSON.stringify(first));
  }
});

test('answers malformed messages with the exact code', async () => {
  const raw = new Raw();
  const rows = [
    ['{"jsonrpc":"2.0","id":1,', -32700, 1],
    ['{"jsonrpc":"2.0","id":"a","method":"ping","id":"b"}', -32700, 'a'],
    ['[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600, undefined],
    ['{"jsonrpc":"1.0","id":2,"method":"ping"}', -32600, 2],
    ['{"id":3,"method":"ping"}', -32600, 3],
    ['{"jsonrpc":"2.0","id":4}', -32600, 4],
    ['{"jsonrpc":"2.0","id":5,"method":17}', -32600, 5],
    ['{"jsonrpc":"2.0","id":{"a":1},"method":"ping"}', -32600, undefined],
    ['{"jsonrpc":"2.0","id":1.5,"method":"ping"}', -32600, undefined],
    ['{"jsonrpc":"2.0","id":6,"method":"ping","params":[1]}', -32602, 6],
    ['{"jsonrpc":"2.0","id":7,"method":"tools/call"}', -32602, 7],
    ['{"jsonrpc":"2.0","id":8,"method":"tools/call","params":{"name":1}}', -32602, 8],
    ['{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"no_such_tool"}}', -32602, 9],
    ['{"jsonrpc":"2.0","id":10,"method":"tools/call","params":{"name":"computer_list","arguments":[]}}', -32602, 10],
    ['{"jsonrpc":"2.0","id":11,"method":"initialize","params":{}}', -32602, 11],
    ['{"jsonrpc":"2.0","id":12,"method":"tools/list","params":{"cursor":"nonsense"}}', -32602, 12],
    ['{"jsonrpc":"2.0","id":13,"method":"tools/list","params":{"cursor":5}}', -32602, 13],
    ['{"jsonrpc":"2.0","id":14,"method":"logging/setLevel","params":{"level":"loud"}}', -32602, 14],
    ['{"jsonrpc":"2.0","id":15,"method":"ping","params":{"_meta":3}}', -32602, 15],
    ['{"a":'.repeat(100) + '1' + '}'.repeat(100), -32700, undefined],
    ['nonsense', -32700, undefined],
  ];
  for (const [line, code, id] of rows) {
    raw.write(line + '\n');
    const answer = await raw.find((m) => m.error && m.id === id);
    assert.equal(answer.error.code, code, line);
    assert.ok(answer.error.message.length > 10, line);
  }
  raw.write(Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d, 0x0a]));
  assert.equal((await raw.find((m) => m.error)).error.code, -32700);
  await pingWorks(raw);
  await raw.close();
});

test('takes lines however they are cut, with CR LF and empty lines between', async () => {
  const raw = new Raw();
  const text = '\r\n\n' + JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'ping' }) + '\r\n\n' +
    JSON.stringify({ jsonrpc: '2.0', id: 'zwei \u{1f600}', method: 'ping' }) + '\n';
  for (const byte of Buffer.from(text)) raw.write(Buffer.from([byte]));
  assert.deepEqual((await raw.find((m) => m.id === 1)).result, {});
  assert.deepEqual((await raw.find((m) => m.id === 'zwei \u{1f600}')).result, {});
  raw.write(Array.from({ length: 500 }, (_, i) =>
    JSON.stringify({ jsonrpc: '2.0', id: 1000 + i, method: 'ping' })).join('\n') + '\n');
  for (let i = 0; i < 500; i++) await raw.find((m) => m.id === 1000 + i);
  await raw.close();
});

test('refuses a line over 8 MiB once and reads on behind it', async () => {
  const raw = new Raw();
  raw.write('{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"' + 'y'.repeat(12 << 20) + '"}}\n');
  assert.equal((await raw.find((m) => m.error)).error.code, -32600);
  await pingWorks(raw);
  assert.equal(raw.messages.length, 0);
  const big = await raw.request('tools/call', { name: 'computer_list', arguments: { x: 'y'.repeat(4 << 20) } });
  assert.equal(big.result.isError, true);
  await raw.close();
});

test('refuses an id that is in use and goes on with the first', async () => {
  const raw = new Raw();
  await raw.initialize();
  raw.send({ id: 'same', method: 'tools/call', params: { name: 'terminal_run', arguments: { argv: ['sleep', '1'] } } });
  raw.send({ id: 'same', method: 'ping' });
  const refused = await raw.find((m) => m.id === 'same' && m.error);
  assert.equal(refused.error.code, -32600);
  const done = await raw.find((m) => m.id === 'same' && m.result);
  assert.match(textOf(done.result), /exit code 0/);
  await raw.close();
});

test('says nothing more about a cancelled call and ends what it started', async () => {
  const raw = new Raw();
  await raw.initialize();
  await raw.call('terminal_run', { command: 'true' });
  raw.send({ id: 'c', method: 'tools/call', params: { name: 'terminal_run',
    arguments: { command: 'touch started; sleep 300' } } });
  for (;;) {
    const listed = await raw.call('file_list', {});
    if (textOf(listed).includes('started')) break;
  }
  raw.send({ method: 'notifications/cancelled', params: { requestId: 'c', reason: 'enough' } });
  raw.send({ method: 'notifications/cancelled', params: { requestId: 'c' } });
  raw.send({ method: 'notifications/cancelled', params: { requestId: 'never' } });
  raw.send({ method: 'notifications/cancelled' });
  for (;;) {
    const ps = await raw.call('terminal_run', { command: 'grep -l sleep /proc/[0-9]*/comm | wc -l' });
    if (/^0$/m.test(textOf(ps))) break;
  }
  await pingWorks(raw);
  assert.equal(raw.messages.filter((m) => m.id === 'c').length, 0);
  await raw.close();
});

test('lists tools whole, in a fixed order, small, and portable', async () => {
  const raw = new Raw();
  await raw.initialize();
  const first = await raw.request('tools/list', {}, 'one');
  const second = await raw.request('tools/list', {}, 'one');
  assert.deepEqual(first, second);
  const { tools } = first.result;
  assert.ok(tools.length >= 15 && tools.length <= 30, String(tools.length));
  const families = new Set(tools.map((tool) => tool.name.split('_')[0]));
  assert.deepEqual([...families], ['computer', 'terminal', 'code', 'file', 'browser', 'document', 'desktop']);
  assert.ok(JSON.stringify(first.result).length <= 24 * 1024, String(JSON.stringify(first.result).length));
  for (const tool of tools) {
    assert.match(tool.name, /^[a-z_]{1,64}$/);
    assert.ok(tool.description.length > 15 && tool.description.length < 2048, tool.name);
    assert.equal(tool.inputSchema.type, 'object');
    assert.equal(tool.inputSchema.additionalProperties, false);
    for (const key of ['anyOf', 'oneOf', 'allOf']) assert.equal(tool.inputSchema[key], undefined);
    // A property without a type or a description that says something would tell a model nothing.
    for (const [name, property] of Object.entries(tool.inputSchema.properties ?? {})) {
      assert.ok(property.type, `${tool.name}.${name}`);
      assert.notEqual(property.description, '', `${tool.name}.${name}`);
    }
    // What is left out is as the protocol assumes: not read-only, destructive, not idempotent, open.
    const { readOnlyHint, destructiveHint, idempotentHint, openWorldHint } = tool.annotations ?? {};
    assert.ok([true, undefined].includes(readOnlyHint), tool.name);
    assert.ok([true, undefined].includes(idempotentHint), tool.name);
    assert.ok([false, undefined].includes(destructiveHint), tool.name);
    assert.ok([false, undefined].includes(openWorldHint), tool.name);
    if (/_(read|list|search|get|status)$/.test(tool.name)) assert.equal(readOnlyHint, true, tool.name);
  }
  assert.deepEqual((await raw.request('tools/list', { cursor: '' })).result.tools, tools);
  const old = new Raw();
  await old.initialize('2024-11-05');
  for (const tool of (await old.request('tools/list', {})).result.tools) {
    assert.equal(tool.annotations, undefined);
    assert.equal(tool.outputSchema, undefined);
  }
  await old.close();
  await raw.close();
});

test('tells a model how to correct bad arguments', async () => {
  const raw = new Raw();
  await raw.initialize();
  const rows = [
    ['terminal_run', {}, /command.*argv|argv.*command/],
    ['terminal_run', { comand: 'ls' }, /comand.*command/s],
    ['terminal_run', { command: 5 }, /command.*string/],
    ['terminal_run', { command: 'ls', timeout_ms: -1 }, /timeout_ms.*1 to/],
    ['terminal_run', { command: 'ls', computer: 'c_nope' }, /computer_create/],
    ['terminal_run', { argv: ['no-such-program-at-all'] }, /no-such-program-at-all/],
    ['terminal_run', { command: 'ls', cwd: '/no/such' }, /\/no\/such/],
    ['terminal_run', { command: 'ls', env: { 'A=B': 'c' } }, /A=B/],
    ['terminal_read', { run: 'r_nope' }, /terminal_run/],
    ['terminal_kill', { run: 'r_nope' }, /terminal_run/],
    ['computer_destroy', { computer: 'c_nope' }, /computer_create|computer_list/],
    ['computer_create', { allow: ['not a host:99999'] }, /port/],
    ['computer_create', { kind: 'mainframe' }, /mainframe.*sandbox/s],
    ['computer_create', { memory_mb: 64, disk_mb: 128 }, /disk.*memory/s],
    ['computer_snapshot', { action: 'delete' }, /snapshot/],
    ['computer_snapshot', { action: 'restore' }, /save.*list.*delete/s],
    ['computer_create', { from: 's_nope' }, /computer_snapshot/],
    ['computer_create', { from: 'c_nope' }, /computer_create|computer_list/],
    ['computer_create', { from: 'default', memory_mb: 64 }, /only labels/],
    ['computer_create', { image: 'none' }, /none.*aios image build/s],
    ['computer_create', { kind: 'vm', image: 'none' }, /aios image build none|qemu-system-x86/],
    ['file_read', { path: 'absent.txt' }, /absent\.txt.*file_list/s],
    ['file_edit', { path: 'absent.txt', old_text: 'a', new_text: 'b' }, /absent\.txt/],
    ['code_run', { language: 'cobol', code: 'x' }, /python/],
    ['file_transfer', { direction: 'upload', host_path: '/etc/passwd', path: 'x' }, /files\.upload_from/],
  ];
  for (const [name, args, pattern] of rows) {
    const result = await raw.call(name, args);
    assert.equal(result.isError, true, name + JSON.stringify(args) + JSON.stringify(result));
    assert.match(textOf(result), pattern, name + JSON.stringify(args));
    assert.equal(result.structuredContent, undefined);
  }
  await pingWorks(raw);
  await raw.close();
});

test('applies access rules, and audits decision and result', async () => {
  const dir = home();
  const raw = new Raw({ dir, config: { access: { rules: [{ tool: 'terminal_*', decision: 'deny' }] } } });
  await raw.initialize();
  const denied = await raw.call('terminal_run', { command: 'true' });
  assert.equal(denied.isError, true);
  assert.match(textOf(denied), /rule/);
  assert.equal((await raw.call('computer_list')).isError, undefined);
  assert.equal((await raw.call('computer_destroy', { computer: 'c_nope' })).isError, true);
  await raw.close();
  const audited = (...args) => spawnSync(AIOS, ['audit', ...args], { env: environment(dir), encoding: 'utf8' });
  const rows = audited('list', '--json').stdout.trim().split('\n').map((line) => JSON.parse(line))
    .filter((row) => ['decision', 'result'].includes(row.kind))
    .map(({ kind, subject, decision, agent }) => [kind, subject, decision, agent].join(' '));
  assert.deepEqual(rows, ['decision terminal_run deny default',
    'decision computer_list allow default', 'result computer_list done default',
    'decision computer_destroy allow default', 'result computer_destroy failed default']);
  assert.equal(audited('verify').status, 0);
});

test('offers only the groups that were asked for', async () => {
  const raw = new Raw({ args: ['--tools', 'computer,file'] });
  await raw.initialize();
  const names = (await raw.request('tools/list', {})).result.tools.map((tool) => tool.name);
  assert.ok(names.every((name) => /^(computer|file)_/.test(name)), names.join());
  await raw.close();
});

test('what is for programs answers them, and is listed for models when it is named', async () => {
  const names = async (args, params) => {
    const raw = new Raw({ args });
    await raw.initialize();
    const list = (await raw.request('tools/list', params)).result.tools.map((tool) => tool.name);
    if (!args.includes('computer')) assert.equal((await raw.call('memory_search', { text: 'x' })).isError, undefined);
    await raw.close();
    return list;
  };
  const usual = await names([], {});
  assert.ok(!usual.includes('memory_save') && !usual.includes('agent_status'), usual.join());
  const all = await names([], { _meta: { 'aios/all': true } });
  assert.deepEqual(all.slice(0, usual.length), usual);
  for (const name of ['memory_save', 'storage_put', 'llm_query', 'agent_context']) assert.ok(all.includes(name), name);
  assert.deepEqual(await names(['--tools', 'all'], {}), all);
  assert.deepEqual(await names(['--tools', 'computer'], { _meta: { 'aios/all': true } }),
    usual.filter((name) => name.startsWith('computer_')));
});

test('transfers files only through open folders, and never through a link out of them', async () => {
  const dir = home();
  const open = path.join(dir, 'open');
  fs.mkdirSync(open);
  fs.writeFileSync(path.join(dir, 'secret'), 'secret');
  fs.writeFileSync(path.join(open, 'in.txt'), 'hello from the host');
  fs.symlinkSync(path.join(dir, 'secret'), path.join(open, 'link'));
  fs.symlinkSync(dir, path.join(open, 'up'));
  const raw = new Raw({ dir, config: { files: { upload_from: [open], download_to: [open] } } });
  await raw.initialize();
  const transfer = (direction, host_path, inside, more = {}) =>
    raw.call('file_transfer', { direction, host_path, path: inside, ...more });
  assert.equal((await transfer('upload', path.join(open, 'in.txt'), 'in.txt')).isError, undefined);
  assert.match(textOf(await raw.call('file_read', { path: 'in.txt' })), /hello from the host/);
  for (const bad of ['link', 'up/secret', '../secret', 'absent']) {
    assert.equal((await transfer('upload', path.join(open) + '/' + bad, 'x')).isError, true, bad);
  }
  const fetched = await transfer('download', path.join(open, 'out.txt'), 'in.txt');
  assert.equal(fetched.isError, undefined, textOf(fetched));
  assert.equal(fs.readFileSync(path.join(open, 'out.txt'), 'utf8'), 'hello from the host');
  assert.match(textOf(await transfer('download', path.join(open, 'out.txt'), 'in.txt')), /overwrite/);
  assert.equal((await transfer('download', path.join(open, 'out.txt'), 'in.txt', { overwrite: true })).isError, undefined);
  for (const bad of ['.bashrc', '.git/hooks/x', 'up/stolen', '../stolen']) {
    assert.equal((await transfer('download', open + '/' + bad, 'in.txt')).isError, true, bad);
  }
  assert.equal(fs.existsSync(path.join(dir, 'stolen')), false);
  await raw.close();
});

test('asks a legacy client for its roots, and takes them as open folders', async () => {
  const dir = home();
  fs.writeFileSync(path.join(dir, 'a b.txt'), 'rooted');
  const raw = new Raw({ dir });
  await raw.initialize('2025-11-25', { roots: {} });
  raw.send({ id: 'up', method: 'tools/call', params: { name: 'file_transfer', arguments: {
    direction: 'upload', host_path: path.join(dir, 'a b.txt'), path: 'a.txt' } } });
  const asked = await raw.find((m) => m.method === 'roots/list');
  raw.send({ id: asked.id, result: { roots: [{ uri: 'file://' + encodeURI(dir) }] } });
  const done = await raw.find((m) => m.id === 'up');
  assert.equal(done.result.isError, undefined, JSON.stringify(done));
  await raw.close();
});

test('reads a whole session from a pipe and answers before it ends', async () => {
  const raw = new Raw();
  raw.send({ id: 1, method: 'initialize', params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'p', version: '1' } } });
  raw.send({ id: 2, method: 'tools/call', params: { name: 'computer_list', arguments: {} } });
  raw.child.stdin.write('{"jsonrpc":"2.0","id":3,"method":"ping"}'); // no newline at the end
  assert.equal((await raw.close()).code, 0);
  assert.deepEqual(raw.messages.map((m) => m.id).sort(), [1, 2, 3]);
});

test('bounds what a client that never reads can pile up', async () => {
  // A small request for a large answer, 40,000 times: without a bound, some 900 MB.
  const raw = new Raw();
  await raw.initialize();
  const before = rssKib(raw.child.pid);
  raw.child.stdout.pause();
  const line = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list', params: {} }) + '\n';
  raw.write(line.repeat(40000));
  // Until it has taken no more for a while, because it waits or because there is no more.
  for (let last = -1, same = 0; same < 20;) {
    const now = raw.child.stdin.writableLength;
    same = now === last ? same + 1 : 0;
    last = now;
    await new Promise((done) => setTimeout(done, 50));
  }
  const most = growthKib(raw.child.pid, 100 << 10);
  assert.ok(rssKib(raw.child.pid) - before < most, `${before} to ${rssKib(raw.child.pid)} KiB`);
  assert.ok(raw.child.stdin.writableLength > 0, 'it reads on though nobody reads its answers');
  raw.child.kill('SIGTERM');
  await raw.ended;
});

test('asks in the modern era by an answer, whose state is good once, for its own call, for a while', async () => {
  const asking = (ask_timeout_s) => new Raw({ config: { access: {
    rules: [{ tool: 'computer_list', decision: 'ask' }], ask_timeout_s } } });
  let raw = asking(600);
  const able = { 'io.modelcontextprotocol/clientCapabilities': { elicitation: {} } };
  const list = { name: 'computer_list', arguments: {} };
  const accept = { inputResponses: { question: { action: 'accept', content: {} } } };
  const ask = async () => {
    const { result } = await raw.modern('tools/call', list, able);
    assert.equal(result.resultType, 'input_required');
    const [request] = Object.values(result.inputRequests);
    assert.equal(request.method, 'elicitation/create');
    assert.ok(result.requestState.length > 20);
    return result.requestState;
  };
  const one = await ask();
  const two = await ask();
  assert.notEqual(one, two);
  let answer = await raw.modern('tools/call', { ...list, ...accept, requestState: one }, able);
  assert.deepEqual(answer.result.structuredContent, { computers: [] });
  answer = await raw.modern('tools/call', { ...list, ...accept, requestState: one }, able);
  assert.equal(answer.error.code, -32602);
  answer = await raw.modern('tools/call', { name: 'terminal_run', arguments: { command: 'true' }, ...accept,
    requestState: two }, able);
  assert.equal(answer.error.code, -32602);
  assert.match(answer.error.message, /belongs to another call/);
  answer = await raw.modern('tools/call', { ...list, ...accept, requestState: 'q_made_up' }, able);
  assert.equal(answer.error.code, -32602);
  // Without its answer it is asked again, and answered then.
  const again = (await raw.modern('tools/call', { ...list, requestState: two }, able)).result;
  assert.equal(again.resultType, 'input_required');
  answer = await raw.modern('tools/call', { ...list, ...accept, requestState: again.requestState }, able);
  assert.deepEqual(answer.result.structuredContent, { computers: [] });
  await raw.close();
  // Its time runs out.
  raw = asking(1);
  const late = await ask();
  const wrong = { name: 'computer_create', arguments: {}, requestState: late };
  for (const end = Date.now() + 20000; ;) {
    answer = await raw.modern('tools/call', wrong, able);
    if (/none that is waited for/.test(answer.error.message)) break;
    assert.ok(Date.now() < end);
    await new Promise((done) => setTimeout(done, 20));
  }
  answer = await raw.modern('tools/call', { ...list, ...accept, requestState: late }, able);
  assert.equal(answer.error.code, -32602);
  await raw.close();
});
