// The way out: only the proxy, only what a rule names, and everything told.  Nothing but the
// machine's own loopback is ever connected to.
import { test, before, after } from 'node:test';
import assert from 'node:assert/strict';
import http from 'node:http';
import net from 'node:net';
import { aios, attacked, audited } from './support.mjs';

// A service of the host that no computer may reach without a rule for its address.
let service, port, six, sixPort, hits = 0;
before(async () => {
  service = http.createServer((request, response) => { hits++; response.end('the host answers\n'); });
  await new Promise((done) => service.listen(0, '127.0.0.1', done));
  port = service.address().port;
  six = http.createServer((request, response) => { hits++; response.end('the host answers\n'); });
  await new Promise((done) => six.listen(0, '::1', done).on('error', () => { six = null; done(); }));
  sixPort = six?.address().port ?? port;
});
after(() => { service.close(); six?.close(); });

const ask = async (target, computer, text) => (await target.probe(computer, ['proxy', text])).text;
const get = (host, path = '/') => `GET http://${host}${path} HTTP/1.1\\nHost: ${host}\\nConnection: close`;
const connect = (host) => `CONNECT ${host} HTTP/1.1\\nHost: ${host}`;

// Every spelling of the host's loopback, the metadata service, and private networks.
const FORBIDDEN = (p) => [
  `127.0.0.1:${p}`, `127.1:${p}`, `127.0.1:${p}`, `2130706433:${p}`, `0x7f000001:${p}`, `0x7f.0.0.1:${p}`,
  `0177.0.0.1:${p}`, `017700000001:${p}`, `127.000.000.001:${p}`, `127.0.0.1.:${p}`, `localhost:${p}`,
  `localhost.:${p}`, `LOCALHOST:${p}`, `0.0.0.0:${p}`, `0:${p}`, `[::1]:${sixPort}`, `[::]:${p}`,
  `[::ffff:127.0.0.1]:${p}`, `[::ffff:7f00:1]:${p}`, `[::127.0.0.1]:${p}`, `[0:0:0:0:0:0:0:1]:${sixPort}`,
  `[::1%25lo]:${sixPort}`, `[64:ff9b::7f00:1]:${p}`, `[2002:7f00:1::]:${p}`,
  '169.254.169.254:80', '[fd00:ec2::254]:80', '[::ffff:169.254.169.254]:80', '2852039166:80', '0xa9fea9fe:80',
  '169.254.170.2:80', '100.100.100.200:80', '10.0.0.1:80', '172.16.0.1:80', '192.168.0.1:80', '100.64.0.1:80',
  '198.18.0.1:80', '224.0.0.1:80', '255.255.255.255:80', '[fe80::1]:80', '[fc00::1]:80', '[ff02::1]:80',
  '192.0.2.1:80', '[2001:db8::1]:80', `user@127.0.0.1:${p}`, `127.0.0.1:${p}@example.invalid:80`,
  `127.0.0.1%20:${p}`, `127.0.0.1\\t:${p}`,
];

test('27: without rules nothing is reached, in any spelling, by any method', attacked(async (target) => {
  const computer = await target.computer();
  const before = hits;
  for (const host of FORBIDDEN(port)) {
    for (const request of [get(host), connect(host)]) {
      assert.match(await ask(target, computer, request), /^proxy OK HTTP\/1\.[01] (403|400) /, request);
    }
  }
  assert.equal(hits, before);
}));

test('27: a rule for every name opens no address of the host, nor a private one', attacked(async (target) => {
  const computer = await target.computer({ allow: ['*:*'] });
  const before = hits;
  for (const host of FORBIDDEN(port)) {
    for (const request of [get(host), connect(host)]) {
      const answer = await ask(target, computer, request);
      assert.match(answer, /^proxy OK HTTP\/1\.[01] (403|400) /, `${request}: ${answer}`);
    }
  }
  assert.equal(hits, before);
}));

test('27: only a rule for its address and port opens a service of the host', attacked(async (target) => {
  const before = hits;
  let computer = await target.computer({ allow: [`127.0.0.1:${port}`] });
  let answer = await ask(target, computer, get(`127.0.0.1:${port}`));
  assert.match(answer, /^proxy OK HTTP\/1\.1 200 .*the host answers/);
  assert.equal(hits, before + 1);
  // What went through is counted: the request, and an answer of a head and 17 bytes.
  await audited(target, 'egress', (line) => line.includes(` 127.0.0.1:${port} done `) &&
    Number(/ out=(\d+) /.exec(line)?.[1]) > 30 && Number(/ in=(\d+)$/.exec(line)?.[1]) > 17);
  for (const host of [`127.0.0.2:${port}`, `127.0.0.1:${port === 1 ? 2 : port - 1}`, `localhost:${port}`,
    `[::1]:${sixPort}`, '169.254.169.254:80', `[::ffff:127.0.0.2]:${port}`, `2130706433:${port}`, `127.1:${port}`]) {
    answer = await ask(target, computer, get(host));
    assert.match(answer, /^proxy OK HTTP\/1\.1 (403|400) /, `${host}: ${answer}`);
  }
  assert.equal(hits, before + 1);
  // The name needs a rule for itself and one for what it resolves to.
  computer = await target.computer({ allow: [`localhost:${port}`, `127.0.0.1:${port}`] });
  answer = await ask(target, computer, get(`localhost:${port}`));
  assert.match(answer, /^proxy OK HTTP\/1\.1 200 .*the host answers/);
}));

test('27: what is refused says why, and stands in the audit', attacked(async (target) => {
  const computer = await target.computer({ allow: ['localhost'] });
  let answer = await ask(target, computer, get('unlisted.invalid'));
  assert.match(answer, /^proxy OK HTTP\/1\.1 403 .*unlisted\.invalid/, answer);
  answer = await ask(target, computer, get('169.254.169.254', '/latest/meta-data/'));
  assert.match(answer, /^proxy OK HTTP\/1\.1 403 /, answer);
  answer = await ask(target, computer, get('localhost'));
  assert.match(answer, /^proxy OK HTTP\/1\.1 403 .*(address|loopback)/, answer);
  for (const word of ['unlisted.invalid:80', '169.254.169.254:80', 'localhost:80']) {
    await audited(target, 'egress', (line) => line.includes(word) && line.includes('deny'));
  }
  assert.match(aios(target.dir, ['audit', 'verify']), /./);
}));

test('28: no name is resolved that no rule allows', attacked(async (target) => {
  const computer = await target.computer({ allow: ['localhost:1'] });
  // 403 without a look-up; a look-up of these would end in 502 or 504.
  for (const host of ['c2VjcmV0.exfil.invalid:80', `${'a'.repeat(60)}.${'b'.repeat(60)}.invalid:443`]) {
    for (const request of [get(host), connect(host)]) {
      assert.match(await ask(target, computer, request), /^proxy OK HTTP\/1\.1 403 /);
    }
  }
  // No resolver inside, whatever resolv.conf says; the host's is not touched by it.
  const run = await target.run(computer, `echo 'nameserver 127.0.0.1' >/etc/resolv.conf 2>/dev/null
    getent hosts exfil.invalid; echo $?`, { timeout_ms: 30000 });
  assert.match(run.text, /^2\n$/m, run.all);
}));

test('29: a rule means one name in one way only', attacked(async (target) => {
  // "localhost" resolves without a network; the rule for the address is there too, so that 200 or
  // 403 tells about the name alone.
  const allow = [`localhost:${port}`, `127.0.0.0/8:${port}`, `[::1]:${port}`];
  const computer = await target.computer({ allow });
  for (const host of [`localhost:${port}`, `LOCALHOST:${port}`, `LocalHost:${port}`, `localhost.:${port}`]) {
    assert.match(await ask(target, computer, get(host)), /^proxy OK HTTP\/1\.1 (200|400) /, host);
  }
  for (const host of [`xlocalhost:${port}`, `localhostx:${port}`, `a.localhost:${port}`, `localhost.x:${port}`,
    `localhost.evil.invalid:${port}`, `local-host:${port}`, `loc\u0430lhost:${port}`, `localhost..:${port}`,
    `.localhost:${port}`, `localhost%00.evil.invalid:${port}`, `localhost%2eevil:${port}`, `localhost:${port}0`,
    `localhost:0${port}`, `localhost:+${port}`, `localhost:`, `xn--localhost-:${port}`, `\uff4cocalhost:${port}`,
    `localhost\\x00:${port}`, `localhost:${port}@evil.invalid:80`, `localhost#@evil.invalid:${port}`]) {
    for (const request of [get(host), connect(host)]) {
      const answer = await ask(target, computer, request);
      assert.match(answer, /^proxy OK HTTP\/1\.[01] (403|400) /, `${request}: ${answer}`);
    }
  }
  const below = await target.computer({ allow: [`*.localhost:${port}`, `127.0.0.0/8:${port}`] });
  assert.match(await ask(target, below, get(`localhost:${port}`)), /HTTP\/1\.1 403 /, 'not itself');
  assert.match(await ask(target, below, get(`evillocalhost:${port}`)), /HTTP\/1\.1 403 /);
}));

test('29: a Host field that names another host than the target is refused or replaced', attacked(async (target) => {
  const computer = await target.computer({ allow: [`127.0.0.1:${port}`] });
  for (const text of [
    `GET http://127.0.0.1:${port}/ HTTP/1.1\\nHost: evil.invalid\\nConnection: close`,
    `GET http://127.0.0.1:${port}/ HTTP/1.1\\nHost: 127.0.0.1:${port}\\nHost: evil.invalid`,
    `GET http://127.0.0.1:${port}/ HTTP/1.1`,
    `GET / HTTP/1.1\\nHost: 127.0.0.1:${port}`,
    `GET https://127.0.0.1:${port}/ HTTP/1.1\\nHost: 127.0.0.1:${port}`,
    `GET http://127.0.0.1:${port}/ HTTP/1.1\\nHost: 127.0.0.1:${port}\\nTransfer-Encoding: chunked\\nContent-Length: 5`,
    `GET ftp://127.0.0.1:${port}/ HTTP/1.1\\nHost: 127.0.0.1:${port}`,
    `GET http://127.0.0.1:${port}/ HTTP/2.0\\nHost: 127.0.0.1:${port}`,
  ]) {
    const answer = await ask(target, computer, text);
    assert.match(answer, /^proxy OK HTTP\/1\.[01] (4\d\d|505) /, `${text}: ${answer}`);
  }
}));

// A ClientHello from inside, through CONNECT: what reaches the service of the host.
const HELLO = (host, p, sni) => `
import socket, ssl
s = socket.create_connection(("127.0.0.1", 3128))
s.sendall(b"CONNECT ${host}:${p} HTTP/1.1\\r\\nHost: ${host}:${p}\\r\\n\\r\\n")
print(s.recv(4096).split(b"\\r\\n")[0].decode())
context = ssl.create_default_context(); context.check_hostname = False; context.verify_mode = ssl.CERT_NONE
try:
    context.wrap_socket(s, server_hostname="${sni}")
except Exception as e:
    print(type(e).__name__)
`;

test('29: TLS for another name than the tunnel was asked for does not get out', attacked(async (target) => {
  const received = [];
  const listener = net.createServer((socket) => {
    const got = { bytes: Buffer.alloc(0) };
    received.push(got);
    socket.on('data', (data) => { got.bytes = Buffer.concat([got.bytes, data]); socket.end(); });
    socket.on('error', () => {});
  });
  await new Promise((done) => listener.listen(0, '127.0.0.1', done));
  const p = listener.address().port;
  try {
    const computer = await target.computer({ allow: [`localhost:${p}`, `127.0.0.1:${p}`] });
    const script = (sni) => target.run(computer, ['python3', '-c', HELLO('localhost', p, sni)], { timeout_ms: 30000 });
    const wrong = await script('evil.invalid');
    assert.match(wrong.text, /^HTTP\/1\.1 200/, wrong.all);
    assert.deepEqual(received.filter(({ bytes }) => bytes.length > 0), [], 'nothing was passed on');
    const right = await script('localhost');
    assert.match(right.text, /^HTTP\/1\.1 200/, right.all);
    assert.ok(received.some(({ bytes }) => bytes.includes('localhost')), 'the right name is passed on');
    await audited(target, 'egress', (line) => /deny/.test(line) && /evil\.invalid|server name|SNI/i.test(line));
  } finally {
    listener.close();
  }
}));

test('27: SOCKS goes by the same rules', attacked(async (target) => {
  const computer = await target.computer({ allow: ['*:*'] });
  const before = hits;
  for (const host of ['127.0.0.1', 'localhost', '2130706433', '169.254.169.254', '[::1]']) {
    for (const scheme of ['socks5', 'socks5h']) {
      const run = await target.run(computer, ['curl', '-sS', '--max-time', '20', '--noproxy', '', '-x',
        `${scheme}://127.0.0.1:3128`, `http://${host}:${port}/`]);
      assert.notEqual(run.code, 0, `${scheme} ${host}: ${run.all}`);
    }
  }
  assert.equal(hits, before);
}));

test('27: curl inside is told what to ask for', attacked(async (target) => {
  const computer = await target.computer();
  const run = await target.run(computer, 'curl -sS --max-time 20 http://unlisted.invalid/');
  assert.match(run.text, /no rule|not allowed|allow/i, run.all);
}));

test('5: connections in numbers are refused, and the server goes on', attacked(async (target) => {
  const computer = await target.computer();
  const other = await target.computer({ probe: false });
  const run = await target.run(computer, ['python3', '-c', `
import socket, time
held = []
for i in range(1500):
    try:
        s = socket.create_connection(("127.0.0.1", 3128), timeout=2); held.append(s)
    except OSError as e:
        print(type(e).__name__); break
print(len(held))
`], { timeout_ms: 60000 });
  assert.match(run.text, /\d+/, run.all);
  await target.ping();
  assert.equal((await target.run(other, 'echo there')).text, 'there\n');
}));
