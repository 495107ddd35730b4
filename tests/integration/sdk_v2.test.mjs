// The core of the tools through the official client of both eras: legacy, negotiated and modern.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { connectV2, good, handleIn, load, output, textOf } from './support.mjs';

const LOG_LEVEL = 'io.modelcontextprotocol/logLevel';
const { SdkErrorCode } = await load('@modelcontextprotocol/client');

const withV2 = async (mode, body, options) => {
  const { client, transport } = await connectV2(mode, options);
  const call = (name, args = {}, more, meta) =>
    client.callTool({ name, arguments: args, ...(meta ? { _meta: meta } : {}) }, more);
  try {
    return await body({ client, call, pid: transport.pid });
  } finally {
    await client.close();
  }
};

const eventuallyTrue = async (check) => {
  for (const end = Date.now() + 20000; !(await check());) assert.ok(Date.now() < end, String(check));
};

for (const [mode, era, version] of [['legacy', 'legacy', '2025-11-25'], ['auto', 'modern', '2026-07-28'],
  ['modern', 'modern', '2026-07-28']]) {
  test(`${mode}: agrees on the era and introduces itself`, async () => {
    await withV2(mode, async ({ client }) => {
      assert.equal(client.getProtocolEra(), era);
      assert.equal(client.getNegotiatedProtocolVersion(), version);
      assert.equal(client.getServerVersion().name, 'aios');
      assert.ok(client.getInstructions().includes('terminal_run'));
      assert.ok(client.getServerCapabilities().tools);
      const { tools } = await client.listTools();
      assert.ok(tools.length >= 15);
      assert.ok(tools.every((tool) => tool.inputSchema.type === 'object' && tool.annotations));
      if (era === 'legacy') {
        assert.deepEqual(await client.ping(), {});
      } else {
        const found = await client.discover();
        assert.deepEqual(found.supportedVersions, ['2026-07-28']);
      }
    });
  });

  test(`${mode}: works with computers, runs and files`, async () => {
    await withV2(mode, async ({ client, call }) => {
      await client.listTools(); // from here on structured answers are validated
      const made = await call('computer_create', { labels: { era: mode } });
      const { computer } = made.structuredContent;
      assert.deepEqual(JSON.parse(textOf(made)), made.structuredContent);
      good(await call('file_write', { path: 'notes/a.txt', content: 'alpha\nbeta\n', computer }));
      assert.match(good(await call('file_edit', { path: 'notes/a.txt', old_text: 'beta', new_text: 'gamma', computer })),
        /-beta\n\+gamma\n/);
      assert.match(good(await call('file_read', { path: 'notes/a.txt', computer })), /^alpha\ngamma\n/);
      assert.match(good(await call('file_search', { pattern: 'gam+a', computer })), /a\.txt:2:gamma/);
      assert.match(good(await call('file_list', { depth: 2, computer })), /notes\/a\.txt/);
      assert.equal(output(await call('terminal_run', { command: 'cat; pwd', stdin: 'in', cwd: '/tmp', computer })), 'in/tmp');
      const run = handleIn(await call('terminal_run', { argv: ['cat'], pty: true, computer }), 'r');
      assert.match(good(await call('terminal_write', { run, text: 'typed', keys: ['Enter'] })), /typed\ntyped\n/);
      assert.match(good(await call('terminal_kill', { run, signal: 'KILL' })), /killed by signal 9/);
      const fork = (await call('computer_fork', { computer })).structuredContent;
      assert.match(good(await call('file_read', { path: 'notes/a.txt', computer: fork.computer })), /gamma/);
      const snapshot = handleIn(await call('computer_snapshot', { action: 'save', computer }), 's');
      good(await call('computer_snapshot', { action: 'delete', snapshot }));
      good(await call('computer_destroy', { computer }));
      const { computers } = (await call('computer_list')).structuredContent;
      assert.deepEqual(computers.map((c) => c.computer), [fork.computer]);
      const wrong = await call('terminal_run', { computer, command: 'true' });
      assert.equal(wrong.isError, true);
      assert.match(textOf(wrong), /computer_create/);
      await assert.rejects(call('no_such_tool'), (e) => e.code === -32602 && /tools\/list/.test(e.message));
      assert.match(good(await call('code_run', { language: 'python', code: '6 * 7' })), /\b42\b/);
    });
  });

  test(`${mode}: reports progress, cancels, and answers many calls at once`, async () => {
    await withV2(mode, async ({ call }) => {
      const seen = [];
      const long = await call('terminal_run', { command: 'sleep 6.2; echo done' },
        { onprogress: (p) => seen.push(p), timeout: 6000, resetTimeoutOnProgress: true });
      assert.equal(output(long), 'done');
      assert.ok(seen.length >= 1);
      const abort = new AbortController();
      const cancelled = call('terminal_run', { command: 'touch began; sleep 312' }, { signal: abort.signal });
      await eventuallyTrue(async () => good(await call('file_list')).includes('began'));
      abort.abort('enough');
      await assert.rejects(cancelled);
      await eventuallyTrue(async () => output(await call('terminal_run',
        { command: 'cat /proc/[0-9]*/cmdline 2>/dev/null | tr "\\0" " " | grep -c "sleep 31[2]" || true' })) === '0');
      const all = await Promise.all(Array.from({ length: 32 }, (_, i) =>
        call('terminal_run', { command: `echo ${i}` })));
      all.forEach((result, i) => assert.equal(output(result), String(i)));
      await assert.rejects(call('terminal_run', { command: 'sleep 300' }, { timeout: 300 }),
        (e) => e.code === SdkErrorCode.RequestTimeout);
    });
  });

  test(`${mode}: sends log messages as the era wants them`, async () => {
    await withV2(mode, async ({ client, call }) => {
      const messages = [];
      client.setNotificationHandler('notifications/message', (n) => { messages.push(n.params); });
      const forbidden = { command: 'python3 -c "import os; os.unshare(os.CLONE_NEWUSER)" 2>/dev/null; unshare -U true; true' };
      good(await call('terminal_run', forbidden));
      good(await call('computer_list'));
      assert.equal(messages.length, 0); // nobody asked
      if (era === 'legacy') {
        await client.setLoggingLevel('warning');
        good(await call('terminal_run', forbidden));
      } else {
        good(await call('terminal_run', forbidden, undefined, { [LOG_LEVEL]: 'warning' }));
      }
      await eventuallyTrue(async () => {
        await call('computer_list');
        return messages.length > 0;
      });
      assert.ok(messages.every((m) => m.level === 'warning' && m.logger === 'aios'), JSON.stringify(messages));
      assert.ok(messages.some((m) => m.data.event === 'computer.refused' && /unshare/.test(m.data.text)),
        JSON.stringify(messages));
      if (era === 'modern') {
        const before = messages.length;
        good(await call('terminal_run', forbidden)); // without the level in this request: silence
        good(await call('computer_list'));
        assert.equal(messages.length, before);
        await assert.rejects(client.setLoggingLevel('warning'));
      }
    });
  });
}
