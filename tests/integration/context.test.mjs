// An agent's context: messages, variables and computers, put aside and taken up by another server.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { good, home, Raw, textOf } from './support.mjs';

const start = async (dir, args = []) => {
  const raw = new Raw({ dir, args });
  await raw.initialize();
  return raw;
};
const context = async (raw, args) => {
  const result = await raw.call('agent_context', args);
  good(result);
  return result.structuredContent;
};
const messagesOf = (n) => Array.from({ length: n }, (_, i) =>
  ({ role: i % 2 ? 'assistant' : 'user', content: `message ${i} of ${n}` }));

test('another server takes up what was put aside', async () => {
  const dir = home();
  const first = await start(dir);
  good(await first.call('terminal_run', { command: 'echo one > /workspace/a; echo $HOME' }));
  const second = (await first.call('computer_create', {})).structuredContent.computer;
  good(await first.call('terminal_run', { computer: second, command: 'echo two > /workspace/b' }));
  good(await first.call('terminal_run', { computer: second, command: 'sleep 100', background: true }));
  const saved = await context(first, { action: 'save', name: 'work', messages: messagesOf(50),
    variables: { step: 7, 'ключ': ['значение', null, 1.5] } });
  assert.equal(saved.version, 1);
  assert.equal(saved.computers.length, 2);
  good(await first.call('terminal_run', { command: 'echo later > /workspace/a' }));
  await first.close();

  const other = await start(dir);
  const back = await context(other, { action: 'restore', name: 'work' });
  assert.deepEqual(back.messages, messagesOf(50));
  assert.deepEqual(back.variables, { step: 7, 'ключ': ['значение', null, 1.5] });
  assert.deepEqual(back.missing, []);
  assert.equal(back.computers.length, 2);
  assert.match(back.runs.map((run) => run.command).join(), /sleep 100/);
  // The default computer is the default again, as it was when it was saved.
  assert.match(good(await other.call('terminal_run', { command: 'cat /workspace/a' })), /^one/);
  const now = back.computers.find((one) => one.was === second).computer;
  assert.match(good(await other.call('terminal_run', { computer: now, command: 'cat /workspace/b' })), /^two/);
  await other.close();
});

test('versions are kept, and the snapshots of old ones go', async () => {
  const dir = home();
  const raw = await start(dir);
  good(await raw.call('terminal_run', { command: 'true' }));
  for (let i = 1; i <= 6; i++)
    assert.equal((await context(raw, { action: 'save', name: 'w', variables: { i } })).version, i);
  const snapshots = textOf(await raw.call('computer_snapshot', { action: 'list' })).match(/context w/g);
  assert.equal(snapshots.length, 3);
  const old = await context(raw, { action: 'restore', name: 'w', version: 2 });
  assert.deepEqual(old.variables, { i: 2 });
  assert.equal(old.missing.length, 1);
  assert.deepEqual((await context(raw, { action: 'restore', name: 'w', version: 5 })).missing, []);
  await context(raw, { action: 'save', name: 'other', computers: false });
  assert.deepEqual((await context(raw, { action: 'list' })).contexts.map((one) => one.context), ['other', 'w']);
  good(await raw.call('agent_context', { action: 'delete', name: 'w' }));
  assert.ok(!textOf(await raw.call('computer_snapshot', { action: 'list' })).includes('context w'));
  const gone = await raw.call('agent_context', { action: 'restore', name: 'w' });
  assert.ok(gone.isError);
  await raw.close();
});

test('contexts of another agent are not there', async () => {
  const dir = home();
  const alice = await start(dir, ['--agent', 'alice']);
  await context(alice, { action: 'save', name: 'secret', variables: { x: 1 }, computers: false });
  await alice.close();
  const bob = await start(dir, ['--agent', 'bob']);
  assert.ok((await bob.call('agent_context', { action: 'restore', name: 'secret' })).isError);
  assert.deepEqual((await context(bob, { action: 'list' })).contexts, []);
  await bob.close();
});

for (const [label, args, words] of [
  ['no name', { action: 'save' }, /name/],
  ['a path for a name', { action: 'save', name: '../x' }, /name/],
  ['messages that are none', { action: 'save', name: 'x', messages: 7 }, /array/],
  ['variables that are none', { action: 'save', name: 'x', variables: [] }, /object/],
  ['one that never was', { action: 'restore', name: 'x' }, /no context "x"; agent_context .*list/],
  ['a version of one that never was', { action: 'restore', name: 'x', version: 2 }, /no version 2 of the context "x".*list/],
  ['one to delete that never was', { action: 'delete', name: 'x' }, /no context "x"; agent_context .*list/],
  ['an unknown action', { action: 'swap' }, /save/],
]) {
  test(`refused with a reason: ${label}`, async () => {
    const raw = await start(home());
    const answer = await raw.call('agent_context', args);
    assert.ok(answer.isError);
    assert.match(textOf(answer), words);
    await raw.close();
  });
}

// Killed at some instant of its saving, over and over: what was answered is there, and nothing is torn.
test('a server that is killed while it saves has saved whole or not at all', { timeout: 200000 }, async () => {
  const dir = home();
  let seed = 7;
  const random = (below) => { seed = (seed * 1103515245 + 12345) % 2147483648; return seed % below; };
  let answered = 0;
  let least = 0;
  for (let round = 0; round < 12; round++) {
    const raw = await start(dir);
    const before = await raw.call('agent_context', { action: 'restore', name: 'k' });
    if (answered) {
      good(before);
      const { variables, messages, missing } = before.structuredContent;
      assert.ok(variables.n >= answered, `${variables.n} < ${answered}`);
      assert.deepEqual(messages, messagesOf(variables.n));
      assert.deepEqual(missing, []);
      assert.match(good(await raw.call('terminal_run', { command: 'cat /workspace/n' })),
        new RegExp(`^${variables.n}\n`));
      least = variables.n;
    }
    let n = Math.max(least, answered);
    // After so many answers and then a moment, wherever it is by then.
    let left = random(3);
    let enough;
    const due = new Promise((done) => { enough = done; });
    const saver = (async () => {
      for (;; left--) {
        if (left <= 0) enough();
        n++;
        good(await raw.call('terminal_run', { command: `echo ${n} > /workspace/n` }));
        await context(raw, { action: 'save', name: 'k', variables: { n }, messages: messagesOf(n) });
        answered = n;
      }
    })().catch(() => {});
    await Promise.race([due, saver]);
    await new Promise((done) => setTimeout(done, random(60)));
    raw.child.kill('SIGKILL');
    await raw.ended;
    await saver;
  }
  assert.ok(answered > 0);
});
