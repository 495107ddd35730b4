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
      assert.ok(tools.every((tool) => tool.inputSchema.type === 'object' && tool.title));
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
      let screen = good(await call('terminal_write', { run, text: 'typed', keys: ['Enter'] }));
      for (const end = Date.now() + 60000; !/typed\ntyped\n/.test(screen);) { // once by the terminal, once by cat
        assert.ok(Date.now() < end, screen);
        screen = good(await call('terminal_read', { run, wait_ms: 1000 }));
      }
      assert.match(good(await call('terminal_kill', { run, signal: 'KILL' })), /killed by signal 9/);
      const fork = (await call('computer_create', { from: computer })).structuredContent;
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
        { onprogress: (p) => seen.push(p), timeout: 60000 });
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

// ---- what a rule leaves to a person ----

for (const mode of ['legacy', 'auto', 'modern']) {
  test(`${mode}: asks the person about a call, and does what was answered`, async () => {
    const questions = [];
    const answers = [
      { action: 'accept', content: {} },
      { action: 'decline' },
      { action: 'accept', content: { remember: true } },
    ];
    await withV2(mode, async ({ call }) => {
      assert.equal(output(await call('terminal_run', { command: 'echo one' })), 'one');
      assert.match(questions[0].message, /Agent default wants to call the tool terminal_run/);
      assert.match(questions[0].message, /"command":"echo one"/);
      assert.equal(questions[0].requestedSchema.properties.remember.type, 'boolean');
      const no = await call('terminal_run', { command: 'echo two' });
      assert.equal(no.isError, true);
      assert.match(textOf(no), /terminal_run was not called.*the person said no/s);
      const many = await Promise.all([1, 2, 3].map((n) => call('terminal_run', { command: `echo ${n}` })));
      many.forEach((result, i) => assert.equal(output(result), String(i + 1)));
      assert.equal(output(await call('terminal_run', { command: 'echo last' })), 'last');
      assert.equal(questions.length, 5);
    }, {
      config: { access: { rules: [{ tool: 'terminal_run', args: { command: 'echo *' }, decision: 'ask' }] } },
      capabilities: { elicitation: { form: {} } },
      prepare: (client) => client.setRequestHandler('elicitation/create', async ({ params }) => {
        questions.push(params);
        return answers[Math.min(questions.length, answers.length) - 1];
      }),
    });
  });

  test(`${mode}: is told that a client which cannot ask is denied`, async () => {
    await withV2(mode, async ({ call }) => {
      const no = await call('computer_list');
      assert.equal(no.isError, true);
      assert.match(textOf(no), /this client cannot ask/);
    }, { config: { access: { rules: [{ tool: 'computer_list', decision: 'ask' }] } } });
  });
}

// ---- the host's own model ----

for (const mode of ['legacy', 'modern']) {
  test(`${mode}: asks the model of the host`, async () => {
    const asked = [];
    await withV2(mode, async ({ call }) => {
      assert.match(good(await call('llm_query', { prompt: 'What is two and two?' })), /\bfour\b/);
      assert.match(JSON.stringify(asked[0].messages), /two and two/);
    }, {
      capabilities: { sampling: {} },
      prepare: (client) => client.setRequestHandler('sampling/createMessage', async ({ params }) => {
        asked.push(params);
        return { role: 'assistant', model: 'of-the-host', stopReason: 'endTurn', content: { type: 'text', text: 'four' } };
      }),
    });
  });
}
