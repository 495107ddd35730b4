// Storage and memory through the built program, on each back end that needs no server: what the
// units show of each part, the whole must do too.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { good, home, Raw, textOf } from './support.mjs';

const start = async (dir, config, args = []) => {
  const raw = new Raw({ dir, config, args });
  await raw.initialize();
  return raw;
};

for (const backend of ['sqlite', 'file']) {
  test(`${backend}: values have versions and survive kill -9`, async () => {
    const dir = home();
    const config = { storage: { backend } };
    let raw = await start(dir, config);
    for (const value of ['one', 'two', 'three'])
      good(await raw.call('storage_put', { key: 'plan/a.md', value }));
    good(await raw.call('storage_put', { key: 'plan/b', base64: Buffer.from([0, 255, 10]).toString('base64') }));
    raw.child.kill('SIGKILL');
    await raw.ended;

    raw = await start(dir, config);
    assert.match(good(await raw.call('storage_get', { key: 'plan/a.md' })), /^three/);
    assert.match(good(await raw.call('storage_get', { key: 'plan/a.md', version: 1 })), /^one/);
    const listed = good(await raw.call('storage_list', { prefix: 'plan/' }));
    assert.match(listed, /plan\/a\.md/);
    assert.match(listed, /plan\/b/);
    good(await raw.call('storage_versions', { key: 'plan/a.md', action: 'rollback', version: 1 }));
    assert.match(good(await raw.call('storage_get', { key: 'plan/a.md' })), /^one/);
    assert.match(good(await raw.call('storage_get', { key: 'plan/b' })), new RegExp(Buffer.from([0, 255, 10]).toString('base64')));
    const refused = await raw.call('storage_put', { key: 'plan/a.md', value: 'x', if_version: 1 });
    assert.ok(refused.isError);
    good(await raw.call('storage_delete', { key: 'plan/a.md' }));
    assert.ok((await raw.call('storage_get', { key: 'plan/a.md' })).isError);
    good(await raw.call('memory_save', { text: 'the gate code is kept elsewhere', tags: ['house'] }));
    assert.match(good(await raw.call('memory_search', { text: 'gate' })), /elsewhere/);
    // One key with a byte string, and five versions of one that was deleted: what the agent is told.
    const { agent, group, state, computers, storage, memory, llm, queues, times } =
      (await raw.call('agent_status')).structuredContent;
    assert.deepEqual([agent, group, state, computers], ['default', '', 'running', []]);
    const { cache, ...space } = storage;
    assert.deepEqual(space, { bytes: 3 + 'onetwothreeone'.length, keys: 1, versions: 6, quota_bytes: 1024 << 20 });
    assert.ok(cache.hits > 0 && cache.hits + cache.misses >= 5 && cache.bytes >= 3, JSON.stringify(cache));
    assert.equal(memory.notes, 1);
    assert.ok(memory.resident_bytes >= 'the gate code is kept elsewhere'.length && memory.quota_bytes > memory.resident_bytes);
    assert.deepEqual([llm.calls, llm.failures, llm.input_tokens, llm.providers], [0, 0, 0, []]);
    assert.deepEqual(Object.keys(queues).sort(), ['llm', 'memory', 'storage', 'tool']);
    assert.equal(queues.tool.running, 1); // this one
    // Each call is counted once: by its class and policy, and by its agent.
    const count = (part) => Object.values(part.policies).reduce((sum, { calls }) => sum + calls, 0);
    assert.deepEqual(Object.keys(queues.storage.policies), ['fifo']);
    assert.deepEqual([count(queues.storage), count(queues.memory), count(queues.llm)], [9, 2, 0]);
    assert.equal(times.calls, 11);
    for (const of of [times, queues.storage.policies.fifo]) {
      for (const { p50, p99, max } of [of.wait_us, of.service_us])
        assert.ok(0 <= p50 && p50 <= p99 && p99 > 0 && max > 0, JSON.stringify(of));
    }
    await raw.close();
  });

  test(`${backend}: agents share by token and by nothing else`, async () => {
    const dir = home();
    const config = { storage: { backend } };
    let raw = await start(dir, config, ['--agent', 'alice']);
    good(await raw.call('storage_put', { key: 'secret', value: 'for some' }));
    const token = good(await raw.call('storage_versions', { key: 'secret', action: 'share' })).split('\n')[0];
    const nothing = await raw.call('storage_versions', { key: 'none', action: 'share' });
    assert.ok(nothing.isError);
    await raw.close();
    raw = await start(dir, config, ['--agent', 'bob']);
    assert.ok((await raw.call('storage_get', { key: 'secret' })).isError);
    assert.match(good(await raw.call('storage_get', { token })), /for some/);
    const forged = await raw.call('storage_get', { token: token.slice(0, -3) + 'AAA' });
    assert.ok(forged.isError && !textOf(forged).includes('for some'));
    await raw.close();
  });
}

test('half a character in an argument is no reason to lose the call', async () => {
  const raw = await start(home());
  raw.write('{"jsonrpc":"2.0","id":"half","method":"tools/call","params":{"name":"storage_put",' +
    '"arguments":{"key":"k","value":"cut \\ud83d"}}}\n');
  assert.match(good((await raw.find((m) => m.id === 'half')).result), /version 1/);
  raw.write('{"jsonrpc":"2.0","id":"big","method":"tools/call","params":{"n":' + '9'.repeat(40) + '}}\n');
  assert.equal((await raw.find((m) => m.id === 'big')).error.code, -32700);
  await raw.close();
});

test('a second kernel on the same folders is refused by the number of the first, and serves later', async () => {
  const dir = home();
  const first = await start(dir);
  const second = await start(dir);
  good(await first.call('storage_put', { key: 'k', value: 'kept' }));
  good(await first.call('memory_save', { text: 'a note of the first' }));
  for (const [tool, args] of [['storage_put', { key: 'k', value: 'other' }], ['storage_get', { key: 'k' }],
    ['memory_save', { text: 'x' }], ['memory_search', { text: 'note' }]]) {
    const refused = await second.call(tool, args);
    assert.ok(refused.isError, tool);
    assert.match(textOf(refused), new RegExp(`in use by another kernel \\(process ${first.child.pid}\\).*aios serve`, 's'));
    assert.ok(!textOf(refused).includes('kept'));
  }
  good(await second.call('computer_list')); // the rest works
  assert.match(good(await first.call('storage_get', { key: 'k' })), /^kept/);
  first.child.kill('SIGKILL');
  await first.ended;
  assert.match(good(await second.call('storage_get', { key: 'k' })), /^kept/);
  assert.match(good(await second.call('memory_search', { text: 'note' })), /a note of the first/);
  await second.close();
});
