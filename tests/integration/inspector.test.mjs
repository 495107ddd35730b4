// The official inspector as a command line client: its exit codes, and its lint of the schemas.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { AIOS, environment, home } from './support.mjs';

const package_ = path.join(process.env.AIOS_NODE_MODULES, '@modelcontextprotocol/inspector');
const program = path.join(package_,
  JSON.parse(fs.readFileSync(path.join(package_, 'package.json'))).bin['mcp-inspector']);

// Exit code, standard output and standard error of one inspector run, its server on @dir.
const inspect = (dir, era, ...args) => new Promise((done) => {
  const server = Object.entries(environment(dir)).flatMap(([name, value]) => ['-e', `${name}=${value}`]);
  execFile(process.execPath,
    [program, '--cli', AIOS, 'mcp', ...server, '--protocol-era', era, '--format', 'json', ...args],
    { timeout: 60000, maxBuffer: 16 << 20, env: { PATH: process.env.PATH, HOME: dir } },
    (error, out, err) => done({ code: error ? error.code : 0, out, err }));
});

for (const era of ['legacy', 'auto', 'modern']) {
  test(`${era}: the schemas pass the strict lint without an error or a warning`, async () => {
    const { code, out, err } = await inspect(home(), era, '--method', 'tools/list', '--strict');
    assert.equal(code, 0, err);
    const answer = JSON.parse(out);
    assert.ok(answer.result.tools.length >= 15);
    assert.equal(answer.schemaFindings, undefined, JSON.stringify(answer.schemaFindings));
    assert.equal(err.trim(), '');
  });

  test(`${era}: calls tools; success is 0, a tool's refusal 5`, async () => {
    const dir = home();
    const call = (name, args) => inspect(dir, era, '--method', 'tools/call', '--tool-name', name,
      '--tool-args-json', JSON.stringify(args));
    let { code, out, err } = await call('terminal_run', { command: 'echo from the $0; exit 3' });
    assert.equal(code, 0, err); // the program failed, the tool did not
    assert.match(JSON.parse(out).result.content.map((block) => block.text).join(), /from the .*exit code 3/s);
    ({ code, out, err } = await call('computer_create', { memory_mb: 128, disk_mb: 64 }));
    assert.equal(code, 0, err);
    const { content, structuredContent } = JSON.parse(out).result;
    assert.equal(structuredContent.memory_mb, 128);
    assert.deepEqual(JSON.parse(content[0].text), structuredContent);
    ({ code, out, err } = await call('file_read', { path: 'absent' }));
    assert.equal(code, 5, out + err);
    assert.match(out + err, /file_list/);
    ({ code, out, err } = await call('computer_destroy', { computer: 'c_nope' }));
    assert.equal(code, 5, out + err);
  });
}

test('a call from the command line takes typed arguments', async () => {
  const { code, out, err } = await inspect(home(), 'legacy', '--method', 'tools/call', '--tool-name', 'terminal_run',
    '--tool-arg', 'command=sleep 300', 'timeout_ms=200');
  assert.equal(code, 0, err);
  assert.match(out, /timeout: killed/);
});
