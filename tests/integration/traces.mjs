// What a server has around it, as the system tells it: processes, control groups, mounts, files.
import fs from 'node:fs';
import path from 'node:path';

// Processes whose command line or name says that they belong to the server @pid, found by ancestry.
export const descendants = (pid) => {
  const children = new Map();
  for (const name of fs.readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const stat = fs.readFileSync(`/proc/${name}/stat`, 'latin1');
      const parent = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
      if (!children.has(parent)) children.set(parent, []);
      children.get(parent).push(Number(name));
    } catch { /* gone meanwhile */ }
  }
  const all = [];
  const queue = [pid];
  while (queue.length) {
    for (const child of children.get(queue.pop()) ?? []) { all.push(child); queue.push(child); }
  }
  return all;
};

// Those of them that were started with the arguments @args.
export const running = (pid, ...args) => descendants(pid).filter((id) => {
  try { return fs.readFileSync(`/proc/${id}/cmdline`, 'latin1') === args.join('\0') + '\0'; } catch { return false; }
});

export const alive = (pid) => {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'latin1');
    return stat.slice(stat.lastIndexOf(')') + 2)[0] !== 'Z';
  } catch { return false; }
};

export const rssKib = (pid) =>
  Number(/VmRSS:\s+(\d+)/.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'))[1]);

// The names under which the servers of the home @dir make what outlives a process.
export const serverNames = (dir) => {
  try {
    return fs.readdirSync(path.join(dir, 'run/servers')).filter((name) => name[0] !== '.');
  } catch { return []; }
};

// Control groups of any server whose name begins with @server, in every hierarchy.
export const cgroupsOf = (server) => {
  const found = [];
  const visit = (dir, depth) => {
    let entries;
    try { entries = fs.readdirSync(dir, { withFileTypes: true }); } catch { return; }
    for (const entry of entries) {
      if (!entry.isDirectory()) continue;
      if (entry.name.startsWith('aios-' + server)) found.push(path.join(dir, entry.name));
      else if (depth > 0) visit(path.join(dir, entry.name), depth - 1);
    }
  };
  visit('/sys/fs/cgroup', 5);
  return found;
};

// Mounts of this namespace that have to do with the home @dir.
export const mountsOf = (dir) =>
  fs.readFileSync('/proc/self/mountinfo', 'utf8').split('\n').filter((line) => line.includes(dir));

// Saved states and what is half made of them.
export const checkpointNames = (dir) => {
  try {
    return fs.readdirSync(path.join(dir, 'state/checkpoints')).filter((name) => name !== '.removed');
  } catch { return []; }
};
