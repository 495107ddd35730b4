// Single attempts: each row says what the kernel, the filter or the mounts answer.
import { test, before } from 'node:test';
import assert from 'node:assert/strict';
import { Target, asUser, assertRows, audited, outcomes } from './support.mjs';

let target, computer, got;
before(async () => {
  target = await Target.start();
  computer = await target.computer();
  // Two runs: an answer has room for 32 KiB, and terminals are the second's.
  const list = await target.run(computer, '/workspace/probe all >/workspace/lines 2>&1; tail -n 1 /workspace/lines');
  assert.equal(list.code, 0, list.all);
  const file = await target.run(computer, ['cat', '/workspace/lines']);
  got = outcomes(file.text);
  assert.ok(got.size > 150, file.all);
});

const refused = (names, want) => Object.fromEntries(names.split(/\s+/).map((n) => [n, want]));

test('15: no new namespace by unshare, clone or clone3', () => assertRows(got, {
  ...refused('unshare-user unshare-mount unshare-pid unshare-net unshare-ipc unshare-uts ' +
    'unshare-cgroup unshare-time unshare-user-high clone-user clone-mount clone-pid clone-net ' +
    'clone-ipc clone-uts clone-cgroup clone-user-high', 'EPERM'),
  clone3: 'ENOSYS',
  'clone-plain': 'OK',
}));

test('16: no entering of namespaces and no other identity', () => assertRows(got, {
  ...refused('setns setns-own-user setns-pidfd uid_map gid_map timens_offsets drop-groups', 'EPERM'),
  'setns-init-mount': 'EACCES',
  'init-namespace': 'EACCES',
  'setgroups-allow': /^(EPERM|EACCES)$/,
  'become-root': 'EINVAL',
  'no_new_privs-off': 'EINVAL',
  'fact-uid-map': /^OK 1000 [1-9]\d* 1$/,
  'fact-gid-map': /^OK 1000 [1-9]\d* 1$/,
}));

test('17: no mount, the old way or the new', () => assertRows(got, {
  ...refused('mount-tmpfs mount-proc mount-bind mount-remount umount pivot_root chroot fsopen ' +
    'fsopen-legacy fsconfig fsmount fspick open_tree open_tree_attr move_mount mount_setattr', 'EPERM'),
  statmount: 'ENOSYS',
  listmount: 'ENOSYS',
}));

test('19: no look into other processes', () => assertRows(got, {
  ...refused('ptrace-traceme ptrace-parent ptrace-init vm-readv-parent vm-writev-parent ' +
    'vm-readv-self pidfd_getfd-parent pidfd_getfd-init kcmp-parent process_madvise ' +
    'process_mrelease move_pages migrate_pages seccomp-listener prctl-set-mm ' +
    'prctl-core-cookie', 'EPERM'),
  ...refused('init-environ init-mem init-maps init-descriptors init-root init-exe', 'EACCES'),
}));

test('20: no io_uring', () =>
  assertRows(got, refused('io_uring_setup io_uring_enter io_uring_register', 'ENOSYS')));

test('21: no bpf, no performance counters, no userfaultfd, no keyrings', () => assertRows(got, {
  ...refused('bpf-map bpf-map-high perf_event_open userfaultfd keyctl add_key request_key ' +
    'fanotify_init name_to_handle_at open_by_handle_at', 'EPERM'),
  ...refused('memfd_secret cachestat lookup_dcookie unknown-number', 'ENOSYS'),
}));

test('22: nothing that is about the machine', () => assertRows(got, {
  ...refused('kexec_load kexec_file_load init_module finit_module delete_module reboot swapon ' +
    'swapoff acct quotactl quotactl_fd syslog-size syslog-read personality modify_ldt ' +
    'sethostname setdomainname settimeofday clock_settime iopl ioperm vhangup realtime', 'EPERM'),
  'raise-priority': 'EACCES',
  'raise-core-limit': 'EPERM',
  'personality-query': 'OK',
}));

test('23: system calls of another architecture kill', () => assertRows(got, {
  // SIGSEGV where the kernel was built or booted without that way in.
  int80: /^SIG(SYS|SEGV)$/,
  'x32-getpid': 'SIGSYS',
  'x32-mount': 'SIGSYS',
}));

test('24: nothing is typed into a terminal, also not with garbage in the high half', async () => {
  for (const name of ['tiocsti', 'tiocsti-high', 'tioclinux', 'tioclinux-high', 'tiocsetd',
    'tiocsetd-high', 'tioccons', 'kd-request', 'vt-request']) {
    assert.equal(got.get(name), 'EPERM', name);
    const run = await target.probe(computer, [name], { pty: true });
    assert.match(run.all, new RegExp(`^${name} EPERM`, 'm'));
  }
  assert.match((await target.probe(computer, ['winsize'], { pty: true })).all, /^winsize OK/m);
});

test('25: no socket family but Unix and plain TCP and UDP', () => assertRows(got, {
  ...refused('netlink-route netlink-netfilter netlink-generic netlink-uevent netlink-audit packet ' +
    'packet-dgram packet-high alg vsock xdp kcm key bluetooth can rds tipc smc ax25 appletalk ' +
    'qipcrtr pair-inet pair-tipc', 'EAFNOSUPPORT'),
  ...refused('inet-raw inet-raw-icmp inet6-raw inet-dccp inet-packet-type', 'EPERM'),
  ...refused('inet-ping inet-sctp inet-mptcp inet-udplite', 'EPROTONOSUPPORT'),
  'inet-tcp': 'OK',
  'inet6-udp': 'OK',
}));

test('27: there is no way out but the proxy', () => assertRows(got, {
  ...refused('direct-tcp direct-dns direct-metadata direct-ipv6', 'ENETUNREACH'),
  interfaces: 'OK lo',
  'interface-down': 'EPERM',
}));

test('32: no device nodes, no setuid bits, no capabilities of files', () => assertRows(got, {
  ...refused('mknod-char mknod-block mknodat-char mknod-setuid chmod-setuid chmod-setgid ' +
    'chmod-setuid-high fchmodat-setuid fchmodat2-setuid mkdir-setgid creat-setuid openat-setuid ' +
    'tmpfile-setuid fchmod-setuid file-capability trusted-mark', 'EPERM'),
  'chown-root': /^(EPERM|EINVAL)$/,
  'mknod-fifo': 'OK',
  'openat2-setuid': 'OK 0755',
  ...refused('dev-disk dev-mem dev-kmsg dev-fuse dev-kvm dev-console', 'ENOENT'),
}));

test('33: a program in a memory file may be run, as documented', () =>
  assertRows(got, { 'memfd-exec': 'OK exit 7' }));

test('12: the files of the system and of process 1 cannot be written', () => assertRows(got, {
  'own-exe-write': 'ETXTBSY',
  'init-exe-write': 'EACCES',
  'write-usr': 'EACCES',
  // As an ordinary user's, the files of /etc are the agent's own: a copy of them, see files.test.mjs.
  'write-passwd': asUser ? 'OK' : 'EACCES',
}));

test('11: processes of the host have no number here', () =>
  assertRows(got, refused('pidfd-host-pid kill-host-pid tgkill-host-pid', 'ESRCH')));

test('13: descriptors 0, 1 and 2 and nothing else; the folder is inside', () => assertRows(got, {
  'fact-descriptors': 'OK 0,1,2',
  'fact-folder': 'OK /workspace',
}));

test('36, 37: no capability, no privilege to gain, no core, nobody else to see', () => {
  assertRows(got, {
    'fact-status': /^OK Uid: 1000 1000 1000 1000;Gid: 1000 1000 1000 1000;Groups:[ 0-9]*;CapInh: 0{16};CapPrm: 0{16};CapEff: 0{16};CapBnd: 0{16};CapAmb: 0{16};NoNewPrivs: 1;Seccomp: 2$/,
    'fact-core-limit': 'OK 0/0',
    'fact-host-name': 'OK computer',
    'fact-shared-segments': 'OK 0',
    'fact-cmdline': 'OK',
    'init-oom-score': 'EACCES',
    'own-oom-score': 'EACCES',
    'read-shadow': /^(ENOENT|EACCES)$/,
  });
  // The shell, the probe and its child, and process 1.
  const names = got.get('fact-processes').slice(3).split(',');
  assert.deepEqual(names.filter((n) => !/^(probe|sh|memfd:.*|aios-guest|\d)$/.test(n)), []);
  assert.ok(names.length <= 4, names.join());
});

test('35: no sysfs, no interface but lo, no name of a control group', () => {
  assertRows(got, { 'sys-folder': 'ENOENT', 'cgroup-folder': 'ENOENT' });
  assert.match(got.get('fact-net-devices'), /^OK Inter-.* lo:( \d+){16}$/);
  assert.match(got.get('fact-cgroup'), asUser ? /^OK/ : /^OK (\d+:[^:]*:\/ ?)+$/);
  assert.equal(got.get('fact-devices'),
    'OK fd,full,null,ptmx,pts,random,shm,stderr,stdin,stdout,tty,urandom,zero');
});

test('38: nothing that one sandbox locks or leases is seen by another', () =>
  assertRows(got, refused('lease dnotify', 'EPERM')));

test('refusals are told to the agent, and stand in the audit', async () => {
  const run = await target.probe(computer, ['mount-proc']);
  assert.match(run.all, /\[refused by the sandbox: mount\(\/proc\)\]/);
  for (const word of ['mount', 'pivot_root', 'keyctl', 'bpf', 'socket', 'ioctl', 'clone']) {
    await audited(target, 'refused', (line) => new RegExp(`\\b${word}\\b`).test(line));
  }
});

test('and when it is over, nothing is left', () => target.finish());
