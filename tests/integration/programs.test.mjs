// Real programs inside a computer under the default policy, and package managers through the proxy.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { good, home, output, withV1 } from './support.mjs';

// A computer for @body, which gets sh(): a command's output, which must have ended with 0.
const inComputer = (body, create) => withV1(async ({ call, dir }) => {
  const { computer } = (await call('computer_create', { memory_mb: 1024, disk_mb: 512, ...create })).structuredContent;
  const sh = async (command, more) => output(await call('terminal_run', { command, computer, ...more }));
  const write = async (file, content) => good(await call('file_write', { path: file, content, computer }));
  return body({ sh, write, call, computer, dir });
});

test('gcc compiles and its program runs, threads and shared library included', async () => {
  await inComputer(async ({ sh, write }) => {
    await write('add.c', 'int add(int a, int b) { return a + b; }\n');
    await write('main.c', `#include <pthread.h>
#include <stdio.h>
int add(int a, int b);
static void *work(void *arg) { *(int *)arg = add(*(int *)arg, 40); return NULL; }
int main(void)
{
    pthread_t thread;
    int n = 2;
    if (pthread_create(&thread, NULL, work, &n)) return 1;
    pthread_join(thread, NULL);
    printf("%d\\n", n);
    return 0;
}
`);
    assert.equal(await sh('gcc -O2 -Wall -Werror -shared -fPIC -o libadd.so add.c && ' +
      'gcc -O2 -Wall -Werror -pthread -o prog main.c -L. -ladd -Wl,-rpath,. && ./prog'), '42');
    assert.equal(await sh('gcc -O2 -static -o alone main.c add.c && ./alone'), '42');
  });
});

test('git makes, commits, branches, merges and clones', async () => {
  await inComputer(async ({ sh }) => {
    const log = await sh(`set -e
git init -q -b main one; cd one
git config user.email a@b.c; git config user.name A
seq 1 50 > numbers; git add .; git commit -qm first
git checkout -qb side; sed -i 's/^7$/seven/' numbers; git commit -qam second
git checkout -q main; sed -i 's/^40$/forty/' numbers; git commit -qam third
git merge -q side -m merged; git gc -q; git fsck
cd ..; git clone -q one two; git clone -q --bare one bare; cd two
git log --format=%s --first-parent; sed -n '7p;40p' numbers; git status --short`);
    assert.match(log, /^merged\nthird\nfirst\nseven\nforty$/m);
  });
});

test('python3 with threads, processes, shared memory and subprocesses', async () => {
  await inComputer(async ({ sh, write }) => {
    await write('all.py', `import concurrent.futures as f, multiprocessing as m, subprocess, threading
from multiprocessing import shared_memory

def square(n):
    return n * n

def fill(name):
    memory = shared_memory.SharedMemory(name)
    memory.buf[:5] = b'child'
    memory.close()

if __name__ == '__main__':
    total, lock = [0], threading.Lock()
    def add():
        for _ in range(1000):
            with lock:
                total[0] += 1
    threads = [threading.Thread(target=add) for _ in range(16)]
    [t.start() for t in threads], [t.join() for t in threads]
    print(total[0])
    for way in ('fork', 'spawn', 'forkserver'):
        with m.get_context(way).Pool(4) as pool:
            print(way, sum(pool.map(square, range(100))))
    with f.ProcessPoolExecutor(3) as pool:
        print(list(pool.map(square, range(4))))
    memory = shared_memory.SharedMemory(create=True, size=4096)
    child = m.Process(target=fill, args=(memory.name,))
    child.start(), child.join()
    print(bytes(memory.buf[:5]).decode())
    memory.close(), memory.unlink()
    queue, event = m.Queue(), m.Event()
    other = m.Process(target=lambda q, e: (e.wait(10), q.put('queued')), args=(queue, event))
    other.start(), event.set()
    print(queue.get(timeout=10)), other.join()
    print(subprocess.run(['sh', '-c', 'cat; echo $0'], input='in ', capture_output=True, text=True).stdout, end='')
    print(subprocess.Popen('echo shell | tr a-z A-Z', shell=True, stdout=subprocess.PIPE).communicate()[0].decode(), end='')
`);
    assert.equal(await sh('python3 -W error all.py'), ['16000', 'fork 328350', 'spawn 328350', 'forkserver 328350',
      '[0, 1, 4, 9]', 'child', 'queued', 'in sh', 'SHELL'].join('\n'));
    assert.equal(await sh('python3 -m venv --without-pip env && env/bin/python -c "import sys; print(sys.prefix)"'), '/workspace/env');
    assert.equal(await sh(`python3 - <<'P'
import asyncio
async def main():
    p = await asyncio.create_subprocess_exec('sleep', '0', stdout=asyncio.subprocess.PIPE)
    server = await asyncio.start_server(lambda r, w: (w.write(b'tcp'), w.close()), '127.0.0.1', 0)
    reader, _ = await asyncio.open_connection(*server.sockets[0].getsockname())
    print(await p.wait(), (await reader.read()).decode())
asyncio.run(main())
P`), '0 tcp');
  });
});

test('node with workers, child processes and shared memory', async () => {
  await inComputer(async ({ sh, write }) => {
    await write('all.mjs', `import { Worker, isMainThread, workerData, parentPort } from 'node:worker_threads';
import { execFileSync, fork } from 'node:child_process';
import fs from 'node:fs';
if (!isMainThread) {
  Atomics.add(new Int32Array(workerData), 0, 5);
  parentPort.postMessage('done');
} else if (process.send) {
  process.on('message', (m) => process.send(m * 2, () => process.disconnect()));
} else {
  const shared = new SharedArrayBuffer(4);
  await Promise.all(Array.from({ length: 4 }, () => new Promise((done, fail) => {
    const worker = new Worker(new URL(import.meta.url), { workerData: shared });
    worker.on('message', done); worker.on('error', fail);
  })));
  console.log(new Int32Array(shared)[0]);
  console.log(execFileSync('sh', ['-c', 'echo sync']).toString().trim());
  console.log(await new Promise((done) => { const c = fork('./all.mjs'); c.on('message', done); c.send(21); }));
  const watcher = fs.watch('.');
  const seen = new Promise((done) => watcher.on('change', (_, name) => { if (name === 'new') done(name); }));
  fs.writeFileSync('new', 'x');
  console.log(await seen);
  watcher.close();
}
`);
    assert.equal(await sh('node all.mjs'), '20\nsync\n42\nnew');
  });
});

test('sqlite3 keeps a database that several programs write', async () => {
  await inComputer(async ({ sh }) => {
    assert.equal(await sh(`set -e
sqlite3 data.db 'PRAGMA journal_mode=WAL; CREATE TABLE t(n INTEGER);' >/dev/null
for i in 1 2 3 4; do
  sqlite3 -cmd '.timeout 20000' data.db "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x<250) INSERT INTO t SELECT x FROM c" &
done; wait
sqlite3 data.db 'SELECT count(*), sum(n) FROM t; PRAGMA integrity_check;'`), '1000|125500\nok');
  });
});

test('make -j4 builds a small tree', async () => {
  await inComputer(async ({ sh, write }) => {
    await write('Makefile', `OBJECTS := $(patsubst %.c,%.o,$(wildcard src/*.c))
prog: $(OBJECTS)
\t$(CC) -o $@ $^
%.o: %.c
\t$(CC) -O1 -c -o $@ $<
`);
    assert.equal(await sh(`set -e; mkdir src
for i in $(seq 1 20); do echo "int f$i(void) { return $i; }" > src/f$i.c; done
{ for i in $(seq 1 20); do echo "int f$i(void);"; done; echo '#include <stdio.h>'; echo 'int main(void) { printf("%d ", 0'
  for i in $(seq 1 20); do echo "+ f$i()"; done; echo '); return 0; }'; } > src/main.c
make -s -j4 && ./prog && make -q && echo 'up to date'`), '210 up to date');
  });
});

test('tar keeps modes, times, links, holes and names', async () => {
  await inComputer(async ({ sh, write }) => {
    await write('round.sh', String.raw`set -e
mkdir -p a/deep/er; cd a; echo x > 'a file'; chmod 750 'a file'; touch -d 2001-02-03 'a file'
ln -s 'a file' soft; ln 'a file' hard; mkfifo pipe; truncate -s 5M hole; printf 'ä' > umlaut-ä; cd ..
tar --format=posix -cSzf a.tgz a; mkdir out; tar -xzpf a.tgz -C out
list() { (cd $1 && find . ! -type d -printf '%p %m %s %l %y %T@\n' | sort); }
diff <(list a) <(list out/a) && echo same
stat -c %h 'out/a/a file'; cmp a/hole out/a/hole && du -k out/a/hole | cut -f 1
`);
    assert.equal(await sh('bash round.sh'), 'same\n2\n0');
  });
});

test('a pipeline of a thousand processes', async () => {
  await inComputer(async ({ sh }) => {
    assert.equal(await sh('p="seq 1 1000"; for i in $(seq 1 1000); do p="$p | cat"; done; eval "$p" | md5sum; seq 1 1000 | md5sum')
      .then((text) => new Set(text.split('\n')).size), 1);
  }, { pids: 1100 });
});

test('the limit of processes holds, is told, and leaves the computer usable', async () => {
  await inComputer(async ({ sh, call, computer }) => {
    const result = await call('terminal_run', { computer,
      command: 'for i in $(seq 1 100); do sleep 30 & done; wait', timeout_ms: 5000 });
    assert.match(good(result), /pids: failed|timeout/);
    assert.equal(await sh('echo well'), 'well');
  }, { pids: 40 });
});

test('two programs talk over a Unix socket, a FIFO and a lock', async () => {
  await inComputer(async ({ sh }) => {
    assert.equal(await sh(`python3 - <<'P' & 
import socket
s = socket.socket(socket.AF_UNIX); s.bind('/tmp/talk'); s.listen()
open('/tmp/listening', 'w').close()
c, _ = s.accept(); c.sendall(c.recv(100).upper()); c.close()
P
python3 - <<'P'
import os, socket
while not os.path.exists('/tmp/listening'): pass
s = socket.socket(socket.AF_UNIX); s.connect('/tmp/talk'); s.sendall(b'hello'); print(s.recv(100).decode())
P
wait; mkfifo /tmp/f; echo through > /tmp/f & cat /tmp/f; flock /tmp/lock -c 'flock -n /tmp/lock -c true || echo locked'`),
    'HELLO\nthrough\nlocked');
  });
});

test('bash job control, here documents and process substitution work in a terminal', async () => {
  await inComputer(async ({ call, computer }) => {
    const started = await call('terminal_run', { argv: ['bash', '--norc', '-i'], pty: true, computer, env: { PS1: 'ready> ' } });
    const run = /r_[0-9a-z]{20,}/.exec(good(started))[0];
    const type = async (what, pattern) => {
      let text = good(await call('terminal_write', { run, ...what }));
      for (const end = Date.now() + 60000; !pattern.test(text);) {
        assert.ok(Date.now() < end, text);
        text = good(await call('terminal_read', { run, wait_ms: 1000 }));
      }
    };
    await type({ text: 'sleep 100 &\n' }, /\[1\] \d+\nready>/);
    await type({ text: 'jobs\n' }, /\[1\]\+\s+Running\s+sleep 100/);
    await type({ text: 'kill %1; wait; paste <(seq 2) <(seq 3 4)\n' }, /1\s+3\n2\s+4/);
    await type({ keys: ['C-d'] }, /exit code/);
  });
});

// ---- the network: what the rules allow, through the proxy that programs find in their environment ----

// A site on a loopback address that NO_PROXY does not name, so that programs take the proxy to it.
const HOST = '127.0.0.2';

const serve = async (folder) => {
  const asked = [];
  const server = http.createServer((request, response) => {
    asked.push(`${request.method} ${request.url}`);
    const file = path.join(folder, decodeURIComponent(new URL(request.url, 'http://x').pathname));
    const index = path.join(file, 'index.html');
    fs.readFile(fs.existsSync(index) ? index : file, (error, data) => {
      response.writeHead(error ? 404 : 200, { 'Content-Type': file.endsWith('.json') || folder.endsWith('npm')
        ? 'application/json' : fs.existsSync(index) ? 'text/html' : 'application/octet-stream' });
      response.end(error ? 'absent' : data);
    });
  });
  await new Promise((done) => server.listen(0, HOST, done));
  return { port: server.address().port, asked, close: () => new Promise((done) => {
    server.closeAllConnections();
    server.close(done);
  }) };
};

// What a package index needs is made by the programs of a computer without network, and fetched from it.
const makeSite = async (site) => {
  await inComputer(async ({ sh, write, call, computer }) => {
    await write('make.sh', String.raw`set -e
mkdir -p site/git site/simple/tinypkg site/files site/debian pkg/DEBIAN pkg/usr/share/tiny
git init -q -b main work; cd work; git config user.email a@b.c; git config user.name A
echo tracked > file; git add .; git commit -qm one; cd ..
git clone -q --bare work site/git/repo.git; git -C site/git/repo.git update-server-info
python3 - <<'P'
import zipfile
with zipfile.ZipFile('site/files/tinypkg-1.0-py3-none-any.whl', 'w') as z:
    z.writestr('tinypkg.py', 'VALUE = 42\n')
    z.writestr('tinypkg-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\nName: tinypkg\nVersion: 1.0\n')
    z.writestr('tinypkg-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n')
    z.writestr('tinypkg-1.0.dist-info/RECORD', 'tinypkg.py,,\ntinypkg-1.0.dist-info/METADATA,,\ntinypkg-1.0.dist-info/WHEEL,,\ntinypkg-1.0.dist-info/RECORD,,\n')
P
echo '<a href="../../files/tinypkg-1.0-py3-none-any.whl">tinypkg-1.0-py3-none-any.whl</a>' > site/simple/tinypkg/index.html
mkdir package; echo '{"name":"tiny-js","version":"1.0.0","main":"index.js"}' > package/package.json
echo 'module.exports = 43;' > package/index.js; tar -czf site/files/tiny-js-1.0.0.tgz package
printf 'Package: tiny-deb\nVersion: 1.0\nArchitecture: all\nMaintainer: A <a@b.c>\nDescription: tiny\n' > pkg/DEBIAN/control
echo 44 > pkg/usr/share/tiny/value; dpkg-deb --root-owner-group -b pkg site/debian/tiny-deb_1.0_all.deb >/dev/null
cd site/debian; { cat ../../pkg/DEBIAN/control; echo Filename: ./tiny-deb_1.0_all.deb
echo Size: $(stat -c %s tiny-deb_1.0_all.deb); echo SHA256: $(sha256sum < tiny-deb_1.0_all.deb | cut -d ' ' -f 1); echo; } > Packages
cd ../..; tar -cf site.tar -C site .
`);
    await sh('bash make.sh');
    let encoded = '';
    for (let offset = 0, size = Number(await sh('stat -c %s site.tar')); offset < size; offset += 24000) {
      const part = await call('file_read', { path: 'site.tar', offset, bytes: 24000, encoding: 'base64', computer });
      encoded += part.content[0].text;
    }
    execFileSync('tar', ['-xf', '-', '-C', site], { input: Buffer.from(encoded, 'base64') });
  });
};

test('curl, git, pip, npm and apt reach through the proxy what is allowed, and nothing else', async () => {
  const site = home();
  await makeSite(site);
  const server = await serve(site);
  const other = await serve(site);
  const base = `http://${HOST}:${server.port}`;
  fs.writeFileSync(path.join(site, 'tiny-js'), JSON.stringify({ name: 'tiny-js', 'dist-tags': { latest: '1.0.0' },
    versions: { '1.0.0': { name: 'tiny-js', version: '1.0.0', dist: { tarball: `${base}/files/tiny-js-1.0.0.tgz` } } } }));
  try {
    await inComputer(async ({ sh, call, computer }) => {
      assert.equal(await sh(`curl -fsS ${base}/git/repo.git/HEAD`), 'ref: refs/heads/main');
      assert.equal(await sh(`curl -fsS --socks5-hostname 127.0.0.1:3128 --noproxy '' ${base}/git/repo.git/HEAD`), 'ref: refs/heads/main');
      assert.equal(await sh(`git clone -q ${base}/git/repo.git cloned && cat cloned/file`), 'tracked');
      assert.match(await sh(`pip install -q --index-url ${base}/simple --trusted-host ${HOST} tinypkg && ` +
        'python3 -c "import tinypkg; print(tinypkg.VALUE)"'), /^42$/m);
      assert.match(await sh(`mkdir js && cd js && npm install --silent --no-audit --no-fund --registry ${base} tiny-js && ` +
        'node -p "require(\'tiny-js\')"'), /^43$/m);
      assert.match(await sh(`echo 'deb [trusted=yes] ${base}/debian ./' > tiny.list && ` +
        'apt-get -o Dir::Etc::SourceList=$PWD/tiny.list -o Dir::Etc::SourceParts=/dev/null update -q && ' +
        'apt-get -o Dir::Etc::SourceList=$PWD/tiny.list -o Dir::Etc::SourceParts=/dev/null download -q tiny-deb && ' +
        'dpkg -x tiny-deb_1.0_all.deb . && cat usr/share/tiny/value'), /^44$/m);
      assert.equal(await sh(`python3 -c "import urllib.request as u; print(u.urlopen('${base}/git/repo.git/HEAD').read().decode())"`),
        'ref: refs/heads/main\n');
      assert.ok(server.asked.length > 10);
      for (const [url, why] of [[`http://${HOST}:${other.port}/x`, 'another port'], ['http://127.0.0.3/', 'another address'],
        ['http://169.254.169.254/latest/meta-data', 'metadata'], ['http://localhost.:80/', 'a name'],
        [`http://${HOST}.nip.invalid:${server.port}/`, 'a name like the address'], ['http://[::1]:80/', 'IPv6']]) {
        const refused = await call('terminal_run', { computer, command: `curl -sS -o /dev/null -w '%{http_code}' --noproxy '' '${url}'` });
        assert.match(good(refused), /^403/, why);
      }
      const bare = await call('terminal_run', { computer, command: `curl -sS --max-time 5 --noproxy '*' ${base}/` });
      assert.match(good(bare), /exit code 7/); // there is no way around the proxy
      assert.equal(other.asked.length, 0);
    }, { allow: [`${HOST}:${server.port}`] });
    await inComputer(async ({ call, computer }) => {
      const refused = await call('terminal_run', { computer, command: `curl -sS -w '%{http_code}' ${base}/` });
      assert.match(good(refused), /403/);
      assert.match(good(refused), /computer_create/); // the body says what would allow it
      const silent = await call('terminal_run', { computer, command: `curl -s -o /dev/null ${base}/ https://example.org` });
      assert.match(good(silent), /refused by the sandbox: network connection\(example\.org:443: .*\n.*computer_create with "allow"/);
    });
  } finally {
    await server.close();
    await other.close();
  }
});
