// The browser of a computer, on a site of the tests' own that is served inside of it.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import http from 'node:http';
import { alive, buildImages, connectV1, descendants, eventually, home, PART, PATIENCE, PLACE, placed, placedConfig,
  placedHome, textOf } from './support.mjs';

const SITE = `
import http.server, time
PAGES = {
  '/': '<title>Home</title><h1>Home</h1><a id=a href=/two>two</a>'
       '<script>console.log("hello", {a: 1}); console.error("bad")</script>',
  '/two': '<title>Two</title><h1>Second</h1>'
          '<script>setTimeout(() => document.body.append("late text"), 300)</script>',
  '/busy': '<title>Busy</title>busy<script>setInterval(() => fetch("/tick"), 50)</script>',
  '/never': '<title>Never</title>some text<img src=/hang>',
  '/frames': '<title>Frames</title>outer<iframe name=same src=/inner></iframe>'
             '<iframe name=other src=http://127.0.0.1:8000/inner></iframe>',
  '/inner': '<title>Inner</title><p>inner of <script>document.write(location.host)</script></p>',
  '/shadow': '<title>Shadow</title><div id=h></div><script>'
             'h.attachShadow({mode: "open"}).innerHTML = "<p>in the shadow</p>"</script>',
  '/leave': '<title>Leave</title><script>onbeforeunload = (e) => { e.preventDefault(); return "x" }'
            '</script>',
  '/workers': '<title>Workers</title><script>const w = new Worker("/worker.js");'
              'w.onmessage = (e) => document.body.append(e.data);'
              'navigator.serviceWorker.register("/service.js");'
              'navigator.serviceWorker.ready.then(() => document.body.append(" served"))</script>',
  '/media': '<title>Media</title><audio controls aria-label=Song src=/song></audio>'
            '<video controls width=200 height=100></video><p>below</p>',
  '/long': '<title>Long</title><div style="height:5000px;background:linear-gradient(red,blue)">',
}
class Handler(http.server.BaseHTTPRequestHandler):
  def log_message(self, *args): pass
  def do_GET(self):
    path, _, query = self.path.partition('?')
    status, kind, more = 200, 'text/html', []
    body = PAGES.get(path)
    if path == '/redirect': status, body, more = 302, '', [('Location', '/two')]
    elif path == '/tick': body = 'tick'
    elif path == '/worker.js':
      body, kind = 'console.log("from the worker"); fetch("/tick?worker").then((r) => r.text()).then((t) => postMessage("worker got " + t))', 'text/javascript'
    elif path == '/service.js':
      body, kind = ('onactivate = (e) => e.waitUntil(clients.claim()); onfetch = (e) => { if (e.request.url.endsWith("/by-worker")) '
        '{ console.log("service asked"); e.respondWith(fetch("/tick?service").then(() => new Response("from the service worker"))) } }', 'text/javascript')
    elif path == '/hang': time.sleep(600)
    elif path == '/set': body, more = 'set', [('Set-Cookie', 'who=' + query + '; Max-Age=999999')]
    elif path == '/get': body = 'cookie: ' + str(self.headers.get('Cookie'))
    elif path == '/data.bin':
      body, kind = 'x' * 12000, 'application/octet-stream'
      more = [('Content-Disposition', 'attachment; filename="data.bin"')]
    if body is None: status, body = 404, 'nothing here'
    self.send_response(status)
    self.send_header('Content-Type', kind)
    self.send_header('Content-Length', str(len(body)))
    for k, v in more: self.send_header(k, v)
    self.end_headers()
    self.wfile.write(body.encode())
http.server.ThreadingHTTPServer(('0.0.0.0', 8000), Handler).serve_forever()
`;
const URL = 'http://localhost:8000';

// A site outside, on this machine's loopback.  Its address is written as the one that a browser
// does not take for its own computer's, and so asks the proxy for.
let outside, allowed;
before(async () => {
  outside = http.createServer((request, response) => {
    response.setHeader('Content-Type', 'text/html');
    response.end(`<title>Outside</title><h1>${request.method} ${request.url} from outside</h1>`);
  });
  await new Promise((done) => outside.listen(0, '127.0.0.1', done));
  allowed = `0.0.0.0:${outside.address().port}`;
});
after(() => outside.close());

// Ask until the answer is as wanted; returns it.
const until = async (ask, wanted, what) => {
  for (const end = Date.now() + PATIENCE; Date.now() < end; await new Promise((done) => setTimeout(done, 50))) {
    const answer = await ask();
    if (wanted(answer)) return answer;
  }
  throw new Error(`${what}: not within ${PATIENCE} ms`);
};

// A server, a computer of the place that may ask for the site outside, and the site in it.
const open = async () => {
  const { client, transport, connect } = await connectV1({ dir: PLACE ? placedHome() : home(),
    args: ['--tools', 'computer,terminal,file,browser'], config: PLACE ? placedConfig() : undefined });
  await connect();
  const ask = (name, args) => client.callTool({ name, arguments: args }, undefined, { timeout: PATIENCE });
  const made = await ask('computer_create', { ...placed(), allow: [allowed] });
  assert.ok(!made.isError, textOf(made));
  const mine = made.structuredContent.computer;
  // Calls without a computer mean that one.
  const call = (name, args = {}) => ask(name, /^computer_/.test(name) ? args : { computer: mine, ...args });
  const say = async (name, args) => {
    const result = await call(name, args);
    assert.ok(!result.isError, textOf(result));
    return textOf(result);
  };
  const fails = async (name, args) => {
    const result = await call(name, args);
    assert.ok(result.isError, textOf(result));
    return textOf(result);
  };
  const start = async (computer) => {
    const there = computer ? { computer } : {};
    await say('terminal_run', { command: 'exec python3 /workspace/site.py', background: true, ...there });
    await say('terminal_run', { ...there, command:
      'python3 -c "import socket,time\nwhile socket.socket().connect_ex((\'127.0.0.1\',8000)): time.sleep(0.05)"' });
  };
  const serve = async (computer) => {
    await say('file_write', { path: '/workspace/site.py', content: SITE, ...(computer ? { computer } : {}) });
    await start(computer);
  };
  await serve();
  // A start that takes longer than a call may goes on; a later call finds it done.
  if (PLACE === 'vm') await until(() => call('browser_navigate', { url: URL }), (result) => !result.isError, 'Chromium starts');
  return { call, say, fails, serve, start, pid: transport.pid, mine, close: () => client.close() };
};

// Each test has all of that for itself, but in a virtual machine, where a browser takes a minute to
// start: there they share it, and only a part of them runs.
let shared;
const withSite = async (body) => {
  if (PLACE === 'vm') return body(shared ??= await open());
  const given = await open();
  try {
    return await body(given);
  } finally {
    await given.close();
  }
};
const none = () => {};
const test_ = PART ? none : test;
// What is the same wherever the same Chromium runs is tried in one place.
const testHere = PLACE ? none : test;
before(() => { if (PLACE) buildImages('desktop'); }, { timeout: 3000000 });
after(() => shared?.close());

test_('goes to pages, back, forward, and says where it led', () => withSite(async ({ say, fails }) => {
  assert.match(await say('browser_navigate', { url: 'localhost:8000' }), /navigated to http:\/\/localhost:8000\/ \(Home\)/);
  assert.match(await say('browser_navigate', { url: `${URL}/redirect` }), /navigated to http:\/\/localhost:8000\/two \(Two\)/);
  assert.match(await say('browser_navigate', { url: 'back' }), /\(Home\)/);
  assert.match(await say('browser_navigate', { url: 'forward' }), /\(Two\)/);
  assert.match(await fails('browser_navigate', { url: 'forward' }), /no page to go forward/);
  assert.match(await say('browser_navigate', { url: 'reload', wait: 'idle' }), /\(Two\)/);
  assert.match(await say('browser_navigate', { url: `${URL}/two#part` }), /#part/);
  assert.match(await say('browser_navigate', { url: `${URL}/nowhere` }), /HTTP status 404/);
  assert.match(await fails('browser_navigate', { url: 'http://localhost:8001/' }), /ERR_CONNECTION_REFUSED/);
}));

test_('opens no addresses but those of pages', () => withSite(async ({ say, fails }) => {
  for (const url of ['file:///etc/passwd', 'file:///workspace/../etc/passwd', 'file:///workspace/%2e%2e/etc/passwd',
    'chrome://version', 'devtools://devtools/bundled/inspector.html', 'view-source:http://localhost', 'javascript:alert(1)']) {
    assert.match(await fails('browser_navigate', { url }), /the browser opens/, url);
  }
  await say('file_write', { path: '/workspace/a.html', content: '<title>File</title>' });
  assert.match(await say('browser_navigate', { url: 'file:///workspace/a.html' }), /\(File\)/);
  assert.match(await fails('browser_navigate', { url: 'https://example.org/' }),
    /no network rule allows example\.org:443/);
  assert.match(await say('browser_navigate', { url: 'http://example.org/' }),
    /no network rule allows example\.org:80/);
  // Nor does a page reach what its origin may not.
  await say('browser_navigate', { url: URL });
  assert.equal(await say('browser_evaluate',
    { expression: 'await fetch("file:///etc/passwd").then(() => "read", () => "refused")' }), 'refused');
}));

test('a site outside is shown where a rule allows it, and refused where none does', () => withSite(async ({ say, fails }) => {
  const text = () => say('browser_evaluate', { expression: 'document.body.innerText' });
  assert.match(await say('browser_navigate', { url: `http://${allowed}/page` }), /\(Outside\)/);
  assert.equal(await text(), 'GET /page from outside');
  assert.equal(await say('browser_evaluate', { expression: 'await fetch("/more", { method: "POST" }).then((r) => r.text())' }),
    '<title>Outside</title><h1>POST /more from outside</h1>');
  // Where no rule is, the page is the proxy's word, and the tool's answer has it too.
  assert.match(await say('browser_navigate', { url: 'http://unlisted.invalid/' }), /no network rule allows unlisted\.invalid:80/);
  assert.match(await text(), /no network rule allows unlisted\.invalid:80/);
  assert.match(await fails('browser_navigate', { url: 'https://unlisted.invalid/' }), /no network rule allows unlisted\.invalid:443/);
  assert.match(await say('browser_navigate', { url: `http://0.0.0.1:${outside.address().port}/` }), /no network rule allows 0\.0\.0\.1:/);
  assert.match(await say('browser_navigate', { url: URL }), /\(Home\)/);
}));

testHere('a page that never settles is told as it is', () => withSite(async ({ say }) => {
  assert.match(await say('browser_navigate', { url: `${URL}/never`, wait: 'content' }), /\(Never\)/);
  assert.match(await say('browser_wait', { idle: true, timeout_ms: 1500 }), /has not come within \d+\.\d s/);
  await say('browser_navigate', { url: `${URL}/busy` });
  assert.match(await say('browser_wait', { text: 'no such text', timeout_ms: 700 }), /has not come/);
  assert.match(await say('browser_wait', { text: 'busy' }), /it has come/);
}));

testHere('waits for text, its going, and addresses', () => withSite(async ({ say, fails }) => {
  await say('browser_navigate', { url: `${URL}/two` });
  assert.match(await say('browser_wait', { text: 'late  text', gone: 'no such', url: '/two' }), /it has come/);
  await say('browser_navigate', { url: `${URL}/frames` });
  assert.match(await say('browser_wait', { text: 'inner of 127.0.0.1:8000' }), /it has come/);
  await say('browser_navigate', { url: `${URL}/shadow` });
  assert.match(await say('browser_wait', { text: 'in the shadow' }), /it has come/);
  await say('browser_evaluate', { expression: 'setTimeout(() => h.remove(), 200); setTimeout(() => location = "/two", 400); 1' });
  assert.match(await say('browser_wait', { gone: 'in the shadow', url: '/two' }), /navigated to .*\/two/);
  assert.match(await fails('browser_wait', {}), /send what to wait for/);
}));

testHere('evaluates in the page and in frames of other origins', () => withSite(async ({ say, fails }) => {
  await say('browser_navigate', { url: `${URL}/frames`, wait: 'idle' });
  assert.equal(await say('browser_evaluate', { expression: '({a: [1, "x", null], b: document.title})' }),
    '{"a":[1,"x",null],"b":"Frames"}');
  assert.equal(await say('browser_evaluate', { expression: 'await new Promise((d) => setTimeout(d, 10, "done"))' }), 'done');
  assert.equal(await say('browser_evaluate', { expression: 'undefined' }), 'undefined');
  assert.equal(await say('browser_evaluate', { expression: '0/0' }), 'NaN');
  assert.equal(await say('browser_evaluate', { expression: '"half \\ud83d"' }), 'half \ufffd');
  for (const [frame, host] of [['same', 'localhost:8000'], ['other', '127.0.0.1:8000']]) {
    assert.equal(await say('browser_evaluate', { expression: 'location.host', frame }), host);
  }
  assert.match(await fails('browser_evaluate', { expression: '1', frame: 'none such' }), /no frame is called so.*127\.0\.0\.1/);
  assert.match(await fails('browser_evaluate', { expression: 'nothing.at.all' }), /ReferenceError: nothing is not defined/);
  assert.match(await fails('browser_evaluate', { expression: 'for (;;);' }), /not done after 15/);
  assert.equal(await say('browser_evaluate', { expression: '1 + 1' }), '2');
}));

test('a dialog blocks its page only, and is told', () => withSite(async ({ say, fails }) => {
  await say('browser_navigate', { url: URL });
  assert.match(await fails('browser_evaluate', { expression: 'confirm("really?")' }), /a dialog opened \(confirm "really\?"\)/);
  assert.match(await fails('browser_screenshot', {}), /shows a dialog/);
  assert.match(await say('browser_tabs', {}), /\[confirm open: really\?\]/);
  assert.match(await say('browser_tabs', { action: 'new', url: `${URL}/two` }), /t2 \(current\) .*\(Two\)/);
  assert.match(await say('browser_navigate', { url: `${URL}/leave`, tab: 't1' }), /\(Leave\)/);
  // The question whether to leave is answered by leaving.
  await say('browser_evaluate', { expression: 'document.body.click(); 1' });
  assert.match(await say('browser_navigate', { url: `${URL}/two` }), /\(Two\)/);
}));

testHere('pop-ups become tabs; tabs open, close and are chosen', () => withSite(async ({ say, fails }) => {
  await say('browser_navigate', { url: URL });
  await say('browser_evaluate', { expression: 'window.open("/two"); 1' });
  await say('browser_wait', { text: 'late text', tab: 't2' });
  assert.match(await say('browser_tabs', { action: 'select', tab: 't1' }), /t1 \(current\) .*\(Home\)\nt2 .*\(Two\)/);
  const closed = await say('browser_tabs', { action: 'close', tab: 't2' });
  assert.match(closed, /^t1 \(current\)/);
  assert.doesNotMatch(closed, /t2/);
  assert.match(await fails('browser_console', { tab: 't2' }), /no tab "t2"; open are: t1/);
  assert.match(await say('browser_tabs', { action: 'close', tab: 't1' }), /^$/);
  assert.match(await say('browser_navigate', { url: URL }), /\(Home\)/);
  await say('browser_evaluate', { expression: 'for (let i = 0; i < 20; i++) window.open("about:blank"); 1' });
  const many = (await say('browser_tabs', {})).split('\n').length;
  assert.ok(many <= 16, String(many));
}));

test('downloads become files of the computer', () => withSite(async ({ say }) => {
  assert.match(await say('browser_navigate', { url: `${URL}/data.bin` }),
    /download: \/workspace\/Downloads\/data\.bin, 12000 bytes/);
  assert.match(await say('terminal_run', { command: 'wc -c < /workspace/Downloads/data.bin' }), /12000/);
}));

testHere('keeps the console and the network', () => withSite(async ({ say, fails }) => {
  await say('browser_navigate', { url: URL, wait: 'idle' });
  const log = await say('browser_console', {});
  assert.match(log, /\d+ log: hello \{a: 1\} \(http:\/\/localhost:8000\/:1\)/);
  assert.match(log, /\d+ error: bad/);
  const since = Number(/since: (\d+)$/.exec(log)[1]);
  assert.match(await say('browser_console', { since }), /no messages/);
  await say('browser_evaluate', { expression: 'setTimeout(() => { throw new Error("thrown") }); await new Promise((d) => setTimeout(d, 50))' });
  assert.match(await say('browser_console', { since, filter: 'error' }), /Error: thrown/);
  assert.doesNotMatch(await say('browser_console', { filter: 'error' }), /hello/);

  await say('browser_evaluate', { expression: 'await fetch("/tick").then((r) => r.text())' });
  await say('browser_navigate', { url: `${URL}/redirect`, wait: 'idle' });
  const network = await say('browser_network', {});
  assert.match(network, /\d+ GET 200 Document text\/html .* http:\/\/localhost:8000\/\n/);
  assert.match(network, /\d+ GET 302 Document .*\/redirect\n/);
  assert.match(await say('browser_network', { filter: '404' }), /favicon/);
  await say('browser_evaluate', { expression: 'await fetch("/tick").then((r) => r.text())' });
  const tick = (await say('browser_network', { filter: 'tick' })).split('\n').at(-2);
  assert.equal(await say('browser_network', { body: Number.parseInt(tick, 10) }), 'tick');
  assert.match(await fails('browser_network', { body: 99999 }), /no body/);
  await say('browser_evaluate', { expression: 'for (let i = 0; i < 1000; i++) console.log("flood " + i); 1' });
  assert.match(await say('browser_console', { since }), /older ones are no longer kept/);
}));

testHere('workers and service workers log and fetch as pages do', () => withSite(async ({ say }) => {
  await say('browser_navigate', { url: `${URL}/workers` });
  await say('browser_wait', { text: 'worker got tick' });
  await say('browser_wait', { text: 'served' });
  assert.match(await say('browser_console', {}), /log: from the worker \(http:\/\/localhost:8000\/worker\.js:1\)/);
  assert.match(await say('browser_network', { filter: 'worker' }), /GET 200 .*\/tick\?worker\n/);
  const asked = await say('browser_evaluate', { expression: `await new Promise((done) => navigator.serviceWorker.controller
    ? done() : navigator.serviceWorker.addEventListener("controllerchange", done));
    await fetch("/by-worker").then((r) => r.text())` });
  assert.match(asked, /from the service worker/);
  await until(() => say('browser_network', { filter: 'service' }), (text) => /GET 200 .*\/tick\?service\n/.test(text),
    'what the service worker fetched');
  assert.match(await say('browser_console', {}), /log: service asked/);
}));

testHere('media without sound or picture hold nothing up', () => withSite(async ({ say }) => {
  assert.match(await say('browser_navigate', { url: `${URL}/media`, wait: 'idle' }), /Media/);
  assert.match(await say('browser_snapshot', {}), /below/);
}));

test('pictures fit, and their scale is told; a page becomes a PDF', () => withSite(async ({ call, say, fails }) => {
  await say('browser_navigate', { url: `${URL}/long` });
  const size = (result) => {
    const png = Buffer.from(result.content.find((block) => block.type === 'image').data, 'base64');
    return [png.readUInt32BE(16), png.readUInt32BE(20)];
  };
  const view = await call('browser_screenshot', {});
  assert.deepEqual(size(view), [1280, 800]);
  assert.match(textOf(view), /^1280x800 pixels$/);
  const full = await call('browser_screenshot', { part: 'full' });
  assert.ok(Math.max(...size(full)) <= 1568, String(size(full)));
  assert.match(textOf(full), /scale 0\.3\d+ of the page's/);
  assert.deepEqual(size(await call('browser_screenshot', { part: '10,2000,300,200' })), [300, 200]);
  assert.match(await fails('browser_screenshot', { part: '1,2' }), /a region is/);
  assert.match(await fails('browser_screenshot', { part: 'e1' }), /browser_snapshot first/);
  assert.match(await fails('browser_screenshot', { path: 'x.doc' }), /ends in/);
  for (const [path, magic] of [['x.pdf', '%PDF'], ['x.png', '\\x89PNG'], ['shots/x.jpg', '\\xff\\xd8']]) {
    await say('browser_screenshot', { path });
    await say('terminal_run', { argv: ['python3', '-c', `assert open('${path}', 'rb').read().startswith(b'${magic}')`] });
  }
}));

testHere('a renderer that crashes, and a browser that does, are told and come back', () => withSite(async ({ say, fails, call }) => {
  await say('browser_navigate', { url: `${URL}/set?me` });
  await say('terminal_run', { command: 'kill -9 $(pgrep -f -- --type=rendere[r])' });
  const told = await until(async () => textOf(await call('browser_evaluate', { expression: '1' })),
    (text) => text.includes('crashed'), 'the crash is told');
  assert.match(told, /the page of tab t1 crashed; browser_navigate/);
  assert.match(await say('browser_tabs', {}), /\[crashed\]/);
  assert.match(await say('browser_navigate', { url: `${URL}/get` }), /\/get/);
  assert.equal(await say('browser_evaluate', { expression: 'document.body.innerText' }), 'cookie: who=me');

  await say('terminal_run', { command: 'kill -TERM $(pgrep -o -f [r]emote-debugging-pipe); while pgrep -f chromium/[c]hromium; do sleep 0.1; done' });
  // A call that meets it while it ends says so; the next one starts it.
  const again = textOf(await until(() => call('browser_navigate', { url: `${URL}/get` }), (result) => !result.isError, 'it starts anew'));
  assert.match(again, /The browser had ended \(.*\) and was started anew/);
  assert.match(await say('browser_tabs', {}), /^t2 /);
  await say('terminal_run', { command: 'kill -9 $(pgrep -o -f [r]emote-debugging-pipe)' });
  const last = await until(() => call('browser_navigate', { url: URL }), (result) => !result.isError, 'it starts anew');
  assert.match(textOf(last), /signal 9.* started anew/);
}));

test_('a copy of a computer has a browser and cookies of its own', () => withSite(async ({ say, call, serve, mine }) => {
  await say('browser_navigate', { url: `${URL}/set?first` });
  const made = await call('computer_create', placed());
  const { computer } = made.structuredContent;
  await serve(computer);
  await say('browser_navigate', { url: `${URL}/get`, computer });
  assert.equal(await say('browser_evaluate', { expression: 'document.body.innerText', computer }), 'cookie: None');
  await say('browser_navigate', { url: `${URL}/get` });
  assert.equal(await say('browser_evaluate', { expression: 'document.body.innerText' }), 'cookie: who=first');

  const copy = (await call('computer_create', { from: mine })).structuredContent.computer;
  await say('terminal_run', { command: 'exec python3 /workspace/site.py', background: true, computer: copy });
  await until(() => call('browser_navigate', { url: `${URL}/set?second`, computer: copy }), (result) => !result.isError, 'its site answers');
  await say('browser_navigate', { url: `${URL}/get`, computer: copy });
  assert.equal(await say('browser_evaluate', { expression: 'document.body.innerText', computer: copy }), 'cookie: who=second');
  await say('browser_navigate', { url: `${URL}/get` });
  assert.equal(await say('browser_evaluate', { expression: 'document.body.innerText' }), 'cookie: who=first');
  await say('browser_evaluate', { expression: 'document.cookie = "who=; max-age=0"' });
}));

test('a copy that is made at once has the cookies, those of a session too, and what pages stored', () => withSite(async ({ say, call, start, mine }) => {
  const cookies = (computer) => say('browser_evaluate', { expression: 'document.cookie', ...(computer ? { computer } : {}) });
  await say('browser_navigate', { url: URL });
  await say('browser_evaluate', { expression: 'document.cookie = "gone=1; max-age=9999"; document.cookie = "lasting=2; max-age=9999"' });
  await say('browser_evaluate', { expression: 'document.cookie = "gone=; max-age=0"; document.cookie = "session=3"; title = "still here"; localStorage.kept = "5"' });
  const copy = (await call('computer_create', { from: mine })).structuredContent.computer;
  const [snapshot] = /s_[0-9a-z]{20,}/.exec(await say('computer_snapshot', { action: 'save', computer: mine }));
  // What is copied goes on as it was, and what it gets afterwards is its own.
  assert.equal(await say('browser_evaluate', { expression: 'title' }), 'still here');
  await say('browser_evaluate', { expression: 'document.cookie = "later=4"' });
  assert.match(await say('terminal_run', { command: 'ls -l ~/.browser/cookies.json' }), /^-rw-------/);
  for (const computer of PLACE === 'vm' ? [copy] : [copy, (await call('computer_create', { from: snapshot })).structuredContent.computer]) {
    await start(computer);
    await say('browser_navigate', { url: URL, computer });
    assert.equal((await cookies(computer)).split('; ').sort().join(), 'lasting=2,session=3');
    if (PLACE !== 'vm') assert.equal(await say('browser_evaluate', { expression: 'localStorage.kept', computer }), '5');
    await say('terminal_run', { command: 'test ! -e ~/.browser/cookies.json', computer });
    await say('computer_destroy', { computer });
  }
  assert.match(await cookies(), /later=4/);
  await say('computer_snapshot', { action: 'delete', snapshot });
}));

test_('what renders pages has what a terminal has and nothing more', () => withSite(async ({ say }) => {
  await say('browser_navigate', { url: `${URL}/frames`, wait: 'idle' });
  // Of each process of the browser, and of a shell: identity, privileges, filter, namespaces, root.
  const seen = await say('terminal_run', { argv: ['bash', '-c', `
    show() { grep -E '^(Uid|Gid|Groups|CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/$1/status | tr -s '\\t\\n ' ' '
      for ns in user mnt pid net ipc uts cgroup; do readlink /proc/$1/ns/$ns; done | tr '\\n' ' '; echo; }
    show $$
    for p in $(pgrep -f chromium); do [ $p != $$ ] && show $p; done | sort | uniq -c`] });
  const [shell, ...browser] = seen.split('\n').filter((line) => line.includes('CapEff'));
  if (PLACE === 'vm') {
    // A machine's border is the machine.  Inside it Chromium's own sandbox works: some have less, or something in a namespace of
    // their own.
    const [place] = /user:\S+/.exec(shell);
    assert.match(shell, / CapEff: 0+ /);
    for (const line of browser) assert.ok(/ Uid: (1000 ){4}/.test(line) && (/ CapEff: 0+ /.test(line) || !line.includes(place)), line);
    return;
  }
  assert.match(shell, /CapEff: 0+ .*NoNewPrivs: 1 Seccomp: 2/);
  assert.equal(browser.length, 1, seen);
  const [, count, same] = /^\s*(\d+) (.*)$/.exec(browser[0]);
  assert.equal(same.trim(), shell.trim());
  assert.ok(Number(count) >= 4, `${count} processes`);
}));

test_('nothing of it is left when its computer is gone', () => withSite(async ({ say, call, pid }) => {
  const { computer } = (await call('computer_create', placed())).structuredContent;
  await say('browser_navigate', { url: 'data:text/html,<title>T</title>', computer });
  await say('browser_tabs', { action: 'new', url: 'data:text/html,x', computer });
  const before = descendants(pid);
  await say('computer_destroy', { computer });
  const browsers = before.filter((id) => !descendants(pid).includes(id));
  await eventually(() => !browsers.some(alive), 'its processes end', 20000);
  const least = PLACE === 'vm' ? 1 : 6; // a machine is one process here
  await eventually(() => descendants(pid).length <= before.length - least, 'the tree is gone', 20000);
  await say('browser_navigate', { url: URL });
}));
