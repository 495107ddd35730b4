// What must not be seen inside: of the kernel, of the host, of the server, of other computers.
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { SECRET, attacked, outcomes, textOf } from './support.mjs';

const KERNEL_FILES = ['kcore', 'keys', 'key-users', 'kallsyms', 'timer_list', 'kmsg', 'sysrq-trigger',
  'modules', 'iomem', 'ioports', 'interrupts', 'config.gz', 'cmdline', 'slabinfo', 'schedstat', 'sched_debug',
  'kpagecount', 'kpageflags', 'kpagecgroup', 'vmallocinfo', 'acpi/wakeup', 'bus/pci/devices', 'bus/input/devices',
  'driver/rtc', 'fs/ext4', 'irq/0/spurious', 'scsi/scsi', 'locks'];

test('34: files about the whole machine are masked in every spelling', attacked(async (target) => {
  const computer = await target.computer();
  for (const name of KERNEL_FILES) {
    const run = await target.probe(computer, ['masked', name]);
    const lines = run.text.split('\n').filter(Boolean);
    assert.ok(lines.length >= 10, run.all);
    for (const line of lines) assert.match(line, /^masked:\S+ (OK 0|ENOENT|EACCES|ENOTDIR|EPERM|EISDIR)$/, line);
  }
}));

test('34: locks of the host are not told', attacked(async (target) => {
  // Locks of open files have no process, so that the pid namespace does not hide them.
  const file = path.join(target.dir, 'locked');
  const holder = spawn('python3', ['-c', `
import fcntl, struct, sys
f = open("${file}", "w")
fcntl.fcntl(f, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
print("held", flush=True)
sys.stdin.read()
`], { stdio: ['pipe', 'pipe', 'inherit'] });
  await new Promise((done, fail) => {
    holder.stdout.once('data', done);
    holder.once('exit', () => fail(new Error('no lock')));
  });
  try {
    const { ino } = fs.statSync(file);
    assert.ok(fs.readFileSync('/proc/locks', 'utf8').includes(`:${ino} `), 'the host sees it');
    const computer = await target.computer({ probe: false });
    const run = await target.run(computer, 'cat /proc/locks');
    assert.ok(!run.text.includes(`:${ino} `), run.text);
  } finally {
    holder.stdin.end();
  }
}));

test('18: no way to the kernel\'s settings or to programs that it starts', attacked(async (target) => {
  const computer = await target.computer();
  const rows = ['/proc/sys/kernel/core_pattern', '/proc/sys/kernel/modprobe', '/proc/sys/kernel/hotplug',
    '/proc/sys/kernel/sysrq', '/proc/sys/kernel/hostname', '/proc/sys/kernel/domainname', '/proc/sys/kernel/shmmax',
    '/proc/sys/kernel/ns_last_pid', '/proc/sys/kernel/randomize_va_space', '/proc/sys/kernel/dmesg_restrict',
    '/proc/sys/kernel/unprivileged_bpf_disabled', '/proc/sys/kernel/perf_event_paranoid', '/proc/sys/kernel/panic',
    '/proc/sys/kernel/usermodehelper/bset', '/proc/sys/fs/binfmt_misc/register', '/proc/sys/fs/suid_dumpable',
    '/proc/sys/fs/protected_symlinks', '/proc/sys/vm/overcommit_memory', '/proc/sys/vm/drop_caches',
    '/proc/sys/net/ipv4/ip_forward', '/proc/sys/net/core/somaxconn', '/proc/sys/user/max_user_namespaces',
    '/proc/sys/user/max_inotify_instances', '/proc/sys/dev/tty/ldisc_autoload',
    '/sys/kernel/uevent_helper', '/sys/fs/cgroup/release_agent', '/sys/fs/cgroup/memory/release_agent',
    '/sys/fs/cgroup/cgroup.procs', '/sys/kernel/mm/transparent_hugepage/enabled', '/proc/acpi/wakeup',
    '/proc/bus/pci', '/proc/irq/0/smp_affinity', '/proc/fs/ext4', '/proc/mtrr', '/proc/pressure/cpu',
    '/proc/timer_list', '/proc/kcore', '/proc/self/timerslack_ns/../../sys/kernel/core_pattern',
    '/proc/self/root/proc/sys/kernel/core_pattern', '//proc/./sys/kernel/../kernel/core_pattern'];
  for (const name of rows) {
    const run = await target.probe(computer, ['write', name]);
    assert.match(run.text, / (EROFS|EACCES|ENOENT|EPERM|EISDIR|ENOTDIR|ELOOP|OK null)\n$/, run.all);
  }
  const sysrq = await target.probe(computer, ['write', '/proc/sysrq-trigger']);
  assert.match(sysrq.text, / (OK null|ENOENT|EACCES|EPERM)\n$/, sysrq.all);
}));

test('36: nothing of the server\'s environment, arguments or paths is inside', attacked(async (target) => {
  const computer = await target.computer();
  const everything = await target.run(computer, `env; for p in /proc/[0-9]*; do
    for f in environ cmdline mountinfo cgroup maps status; do tr '\\0' '\\n' <$p/$f; done; readlink $p/cwd $p/exe $p/root; ls -l $p/fd;
    done 2>/dev/null; cat /etc/passwd /etc/hosts /etc/hostname /etc/resolv.conf /etc/machine-id 2>/dev/null; hostname; mount; df`,
  { env: { EMPTY: '' } });
  await target.run(computer, 'true');
  for (const word of [SECRET, 'AIOS_TEST_SECRET', 'AIOS_HOME', target.dir, path.basename(target.dir), os.hostname(),
    'aios mcp', 'test-config']) {
    assert.ok(!everything.text.includes(word), `${word} is inside`);
  }
  // The answer keeps head and tail only: the same once more where nothing is left out.
  const count = await target.run(computer, `{ env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline /proc/[0-9]*/mountinfo; } 2>/dev/null >/tmp/all
    grep -a -c -F -f - /tmp/all`, { stdin: `${SECRET}\n${path.basename(target.dir)}\n` });
  assert.equal(count.text, '0\n', count.all);
}));

test('36: computers do not see each other\'s processes, files, memory or names', attacked(async (target) => {
  const one = await target.computer();
  const two = await target.computer();
  await target.run(one, `ipcmk -M 4096 -p 0666 >/dev/null; echo ${SECRET} >/dev/shm/mark; echo ${SECRET} >/tmp/mark`);
  const { run } = await target.background(one, ['exhaust', 'null', '1', 'hold']);
  const ports = await target.run(one, ['python3', '-c', `
import socket, os
a = socket.socket(socket.AF_UNIX); a.bind("\\0mark"); a.listen()
t = socket.socket(); t.bind(("127.0.0.1", 45671)); t.listen()
print("ready", flush=True)
import sys; sys.stdin.read()
`], { background: true });
  await target.call('terminal_read', { run: ports.run, wait_ms: 10000 });
  const facts = outcomes((await target.probe(two, ['fact-processes'])).text);
  assert.ok(facts.get('fact-processes').split(',').length <= 3, facts.get('fact-processes'));
  assert.match((await target.probe(two, ['fact-shared-segments'])).text, /OK 0/);
  assert.match((await target.probe(two, ['abstract', 'mark'])).text, /^abstract ECONNREFUSED/);
  const look = await target.run(two, 'ls -A /dev/shm /tmp; curl -sS --max-time 5 http://127.0.0.1:45671/; echo $?');
  assert.match(look.text, /^\/dev\/shm:\n\n\/tmp:\n/, look.all);
  assert.match(look.text, /\n7\n$/, look.all); // curl: could not connect
  for (const id of [run, ports.run]) await target.call('terminal_write', { run: id, close: true });
}));

test('37: a program that crashes leaves no core, inside or outside', attacked(async (target) => {
  const computer = await target.computer();
  const run = await target.run(computer, 'cd /workspace; ulimit -c unlimited; sh -c \'kill -SEGV $$\'; ls -A /workspace; find / -xdev -name "core*" -type f -newer /workspace/probe 2>/dev/null');
  assert.match(run.text, /^probe$/m, run.all);
  assert.ok(!/^\/?.*core/m.test(run.text.replace(/ulimit.*|.*\(core dumped\).*/g, '')), run.all);
  assert.ok(!/core dumped/.test(run.all), run.all);
}));

test('38: leases, notifications, keyrings, vsock and SysV memory carry nothing between computers', attacked(async (target) => {
  const one = await target.computer();
  const two = await target.computer();
  for (const computer of [one, two]) {
    for (const [name, want] of [['lease', 'EPERM'], ['dnotify', 'EPERM'], ['keyctl', 'EPERM'], ['add_key', 'EPERM'],
      ['vsock', 'EAFNOSUPPORT'], ['cachestat', 'ENOSYS'], ['fact-shared-segments', 'OK 0']]) {
      assert.equal((await target.probe(computer, [name])).text, `${name} ${want}\n`);
    }
  }
  // What remains, locks on files that both see, is accepted in docs/SECURITY.md.
  const held = await target.background(one, ['flock', '/usr/bin/true', 'hold']);
  assert.match(held.text, /^flock OK/);
  const second = await target.probe(two, ['flock', '/usr/bin/true', 'try']);
  assert.match(second.text, /^flock (OK|EAGAIN)/);
  assert.match(fs.readFileSync(new URL('../../docs/SECURITY.md', import.meta.url), 'utf8'), /`flock`/);
  await target.call('terminal_write', { run: held.run, close: true });
}));

test('36: a snapshot and a fork carry files and nothing of the host', attacked(async (target) => {
  const computer = await target.computer();
  await target.run(computer, 'cd /workspace; ln -s /proc/1/environ e; ln -s / r; mkfifo p; echo kept >kept');
  const forked = await target.call('computer_create', { from: computer });
  assert.ok(!forked.isError, textOf(forked));
  const copy = forked.structuredContent.computer;
  const run = await target.run(copy, 'cat /workspace/kept; ls -l /workspace');
  assert.match(run.text, /^kept\n/, run.all);
  assert.match(run.text, /e -> \/proc\/1\/environ/);
  const bad = await target.call('file_read', { computer: copy, path: '/workspace/e' });
  assert.ok(bad.isError);
}));

