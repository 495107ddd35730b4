// Runs cells of JavaScript in one process and keeps what they leave behind.
//
// Commands arrive on descriptor 3, answers leave on 4.
//   run ID LENGTH\n CODE        answered by value, error, note, images (each if there is one), done
//   image ID INDEX OFFSET\n     answered by one piece of that picture
// An answer is "NAME ID NUMBER LENGTH\n" and LENGTH bytes.
//
// A cell is evaluated as by the console of a debugger: declarations stay and may be made again,
// await works at the top, and the last expression's value comes back.
(function (require, process, load) {
'use strict';
const fs = require('fs');
const net = require('net');
const vm = require('vm');
const util = require('util');
const inspector = require('inspector');

const TEXT_MAX = 60000;
const PIECE = 512 << 10;
const IMAGES_MAX = 4;
const IMAGE_BYTES_MAX = 3 << 20;
const OURS = /^\s+at .*\b(?:driver|node:inspector|node:vm)\b/;
const INSIDE = /^\s+at .*\bnode:internal\//;

const session = new inspector.Session();
const waiting = []; // commands that wait for the cell to end
let cell = null;    // { id, code, begin } while one runs
let images = [];
let notes = [];
let received = Buffer.alloc(0);

// ---- talking to the other side ----

function send(name, id, number, data) {
  const body = data || Buffer.alloc(0);
  const all = Buffer.concat([Buffer.from(`${name} ${id} ${number} ${body.length}\n`), body]);
  for (let at = 0; at < all.length;) {
    try {
      at += fs.writeSync(4, all, at);
    } catch (problem) {
      if (problem.code !== 'EAGAIN') throw problem;
    }
  }
}

function sendText(name, id, text) {
  if (text.length > TEXT_MAX) {
    const half = TEXT_MAX / 2;
    text = `${text.slice(0, half)}\n[... ${text.length - 2 * half} characters left out ...]\n` +
      text.slice(-half);
  }
  send(name, id, 0, Buffer.from(text));
}

// ---- pictures ----

function pictureOf(thing) {
  try {
    let data = thing;
    if (thing && typeof thing === 'object' && typeof thing.toBuffer === 'function' &&
        typeof thing.getContext === 'function') {
      data = thing.toBuffer('image/png');
    }
    if (!(data instanceof Uint8Array)) return null;
    const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    const png = bytes.length > 24 && bytes.readUInt32BE(0) === 0x89504e47 &&
      bytes.readUInt32BE(4) === 0x0d0a1a0a;
    const jpeg = bytes.length > 3 && bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff;
    return png || jpeg ? Buffer.from(bytes) : null;
  } catch {
    return null;
  }
}

function addPicture(thing) {
  const data = pictureOf(thing);
  if (!data) return false;
  if (data.length > IMAGE_BYTES_MAX) {
    notes.push(`a picture of ${data.length} bytes is not shown: at most ${IMAGE_BYTES_MAX} are`);
  } else if (images.length >= IMAGES_MAX) {
    notes.push(`more than ${IMAGES_MAX} pictures: one is not shown`);
  } else {
    images.push(data);
  }
  return true;
}

function inspect(value) {
  return util.inspect(value, { depth: 4, breakLength: 100, maxStringLength: TEXT_MAX });
}

globalThis.display = (...things) => {
  for (const thing of things) {
    if (!addPicture(thing)) console.log(typeof thing === 'string' ? thing : inspect(thing));
  }
};

// ---- import in cells ----

// Cells are scripts, which have no import declarations, and whose import() some versions of node
// refuse: both are rewritten to calls of this.
Object.defineProperty(globalThis, '__import', {
  value: (name, options) => {
    const from = require('url').pathToFileURL(process.cwd() + '/').href;
    const text = String(name);
    if (/^\.{0,2}\//.test(text)) return load(new URL(text, from).href, options);
    if (/^[a-z]+:/.test(text) || require('module').builtinModules.includes(text)) {
      return load(text, options);
    }
    return load(text, options).catch((problem) => {
      let path;
      try {
        path = require('module').createRequire(from).resolve(text);
      } catch {
        throw problem;
      }
      return load(require('url').pathToFileURL(path).href, options);
    });
  },
});

let acorn;
try {
  acorn = require('internal/deps/acorn/acorn/dist/acorn');
} catch {
  acorn = null;
}

function rewriteDeclaration(node, code) {
  const load = `await __import(${node.source.raw})`;
  const parts = [];
  let whole = null;
  for (const one of node.specifiers) {
    if (one.type === 'ImportNamespaceSpecifier') whole = one.local.name;
    else if (one.type === 'ImportDefaultSpecifier') parts.push(`default: ${one.local.name}`);
    else parts.push(`${one.imported.raw || one.imported.name}: ${one.local.name}`);
  }
  if (whole !== null && parts.length) return `let ${whole} = ${load}, { ${parts.join(', ')} } = ${whole};`;
  if (whole !== null) return `let ${whole} = ${load};`;
  return parts.length ? `let { ${parts.join(', ')} } = ${load};` : `${load};`;
}

/** Imports as above; and a top-level const becomes a let, so that a later cell may declare it with
 *  either. */
function rewrite(code) {
  if (!acorn || !/\b(?:import|export|const)\b/.test(code)) return code;
  let tree;
  try {
    tree = acorn.parse(code, { ecmaVersion: 'latest', sourceType: 'script',
      allowAwaitOutsideFunction: true, allowImportExportEverywhere: true });
  } catch {
    return code; // the evaluation will say what is wrong with it
  }
  const edits = [];
  for (const one of tree.body) {
    const node = one.type === 'ExportNamedDeclaration' && one.declaration ? one.declaration : one;
    if (node.type === 'VariableDeclaration' && node.kind === 'const') {
      edits.push([node.start, node.start + 5, 'let  ']); // the columns stay as they are
    }
  }
  (function walk(node) {
    if (!node || typeof node.type !== 'string') return;
    if (node.type === 'ImportDeclaration') {
      const lines = code.slice(node.start, node.end).split('\n').length - 1;
      edits.push([node.start, node.end, rewriteDeclaration(node) + '\n'.repeat(lines)]);
      return;
    }
    if (node.type === 'ImportExpression') edits.push([node.start, node.start + 6, '__import']);
    if (node.type === 'ExportNamedDeclaration' && node.declaration) {
      edits.push([node.start, node.declaration.start, '']);
    }
    for (const child of Object.values(node)) {
      if (Array.isArray(child)) child.forEach(walk);
      else if (child && typeof child === 'object') walk(child);
    }
  })(tree);
  edits.sort((a, b) => b[0] - a[0]);
  for (const [start, end, text] of edits) code = code.slice(0, start) + text + code.slice(end);
  return code;
}

// ---- cells ----

/** The real value behind what the evaluation gave back. */
function realValue(remote) {
  let value;
  if (!remote.objectId) {
    return remote.type === 'bigint' ? BigInt(remote.unserializableValue.slice(0, -1))
      : 'unserializableValue' in remote ? Number(remote.unserializableValue)
        : remote.value;
  }
  held = undefined;
  session.post('Runtime.callFunctionOn', {
    objectId: remote.objectId,
    functionDeclaration: `function (v) { globalThis[Symbol.for('driver')].hold(v); }`,
    arguments: [{ objectId: remote.objectId }],
    silent: true,
  }, () => {});
  value = held;
  held = undefined;
  return value;
}
let held;

/** The stack without what is beneath the cell's own frames. */
function withoutOurs(text) {
  const kept = [];
  let beneath = false;
  for (const line of text.split('\n')) {
    const frame = /^\s+at /.test(line);
    beneath = frame && (beneath || OURS.test(line));
    if (!beneath && !(frame && INSIDE.test(line))) kept.push(line);
    else if (line.endsWith(' {')) kept[kept.length - 1] += ' {'; // properties follow
  }
  return kept.join('\n');
}

function describe(details) {
  const problem = details.exception ? realValue(details.exception) : details.text;
  let text;
  try {
    text = util.types.isNativeError(problem) || problem instanceof Error
      ? inspect(problem) : `Uncaught ${inspect(problem)}`;
  } catch {
    text = String(details.text);
  }
  const name = `cell-${cell.id}`;
  if (details.exception && details.exception.className === 'SyntaxError' && !text.includes(name)) {
    const lines = cell.code.split('\n');
    const at = Math.min(details.lineNumber, lines.length - 1); // ours comes after its end
    const line = lines[at];
    if (at < details.lineNumber) details.columnNumber = line.length;
    details.lineNumber = at;
    text = `${name}:${details.lineNumber + 1}\n${line}\n${' '.repeat(details.columnNumber)}^\n${text}`;
  }
  return withoutOurs(text);
}

function finish(id, outcome) {
  if (!cell || cell.id !== id) return; // it was interrupted meanwhile
  const micros = Math.round((performance.now() - cell.begin) * 1000);
  let { error } = outcome;
  let text;
  try {
    if (outcome.details) {
      error = describe(outcome.details);
    } else if (outcome.remote && outcome.remote.type !== 'undefined') {
      const value = realValue(outcome.remote);
      text = addPicture(value) ? '[picture]' : inspect(value);
    }
  } catch (problem) {
    error = `the value cannot be shown: ${problem && problem.message}`;
  }
  cell = null;
  session.post('Runtime.releaseObjectGroup', { objectGroup: 'cell' });
  // What was printed must be out before the answer.
  process.stdout.write('', () => process.stderr.write('', () => {
    if (text !== undefined) sendText('value', id, text);
    if (error !== undefined) sendText('error', id, error);
    if (notes.length) sendText('note', id, notes.slice(0, IMAGES_MAX).join('\n'));
    if (images.length) send('images', id, images.length);
    send('done', id, micros);
    nextCommand();
  }));
}

function evaluate() {
  const { id } = cell;
  session.post('Runtime.evaluate', {
    expression: `${rewrite(cell.code)}\n//# sourceURL=cell-${id}`,
    replMode: true,
    awaitPromise: true,
    objectGroup: 'cell',
  }, (problem, answer) => {
    if (problem) {
      finish(id, { error: /terminated/.test(problem.message) ? 'Interrupted'
        : `the cell could not be evaluated: ${problem.message}` });
    } else if (answer.exceptionDetails) {
      finish(id, { details: answer.exceptionDetails });
    } else {
      finish(id, { remote: answer.result });
    }
  });
}

Object.defineProperty(globalThis, Symbol.for('driver'), {
  value: Object.freeze({ evaluate, hold: (value) => { held = value; } }),
});
// Around the evaluation, because this is what a signal can get out of an endless loop.
const guarded = new vm.Script(`globalThis[Symbol.for('driver')].evaluate()`, { filename: 'driver' });

function run(id, code) {
  images = [];
  notes = [];
  cell = { id, code, begin: performance.now() };
  try {
    guarded.runInThisContext({ breakOnSigint: true, displayErrors: false });
  } catch (problem) {
    finish(id, { error: problem.code === 'ERR_SCRIPT_EXECUTION_INTERRUPTED'
      ? 'Interrupted' : inspect(problem) });
  }
}

process.on('SIGINT', () => {
  if (cell) {
    finish(cell.id, { error: 'Interrupted while waiting; timers and requests that the cell started go on' });
  }
});
function complain(what, problem) {
  let text;
  try {
    text = inspect(problem);
  } catch {
    text = 'an error that cannot be shown';
  }
  process.stderr.write(`${what} ${withoutOurs(text)}\n`);
}
process.on('uncaughtException', (problem) => complain('Uncaught', problem));
process.on('unhandledRejection', (problem) => complain('Uncaught (in promise)', problem));

// ---- commands ----

function nextCommand() {
  while (!cell) {
    const end = received.indexOf(10);
    if (end < 0) return;
    const words = received.toString('latin1', 0, end).split(' ');
    if (words[0] === 'run') {
      const length = Number(words[2]);
      if (received.length < end + 1 + length) return;
      const code = received.toString('utf8', end + 1, end + 1 + length);
      received = received.subarray(end + 1 + length);
      run(Number(words[1]), code);
    } else {
      received = received.subarray(end + 1);
      const [id, index, offset] = words.slice(1).map(Number);
      const data = images[index] || Buffer.alloc(0);
      send('image', id, offset, data.subarray(offset, offset + PIECE));
    }
  }
}

globalThis.require = require('module').createRequire(process.cwd() + '/');
for (const name of ['module', 'exports', '__filename', '__dirname']) delete globalThis[name];
process.argv.length = 1;
process.execArgv = [];
session.connect();
const commands = new net.Socket({ fd: 3, readable: true, writable: false });
commands.on('data', (piece) => {
  received = received.length ? Buffer.concat([received, piece]) : piece;
  nextCommand();
});
commands.on('close', () => process.exit(0));
commands.on('error', () => process.exit(0));
})
