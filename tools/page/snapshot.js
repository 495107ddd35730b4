// The page as an outline of text, for a model to read.  Evaluated once in our isolated world of each
// frame, after names.js and before act.js; the page sees none of it.
//
// One line for each thing that has a meaning, one space of indent for each level:
//   role "name" [ref states] = "value"      or      "text"
// An element keeps its reference for as long as it lives, and no reference is given twice in a tab.
globalThis.aiosPage = (() => {
  'use strict';
  const {
    ACTS, BY_CONTENT, closedRoots, clean, cut, generated, kids, namedBy, nativeName, optionsOf, quote, roleOf,
    shadowOf, statesOf, textIn, valueOf,
  } = globalThis.aiosNames;
  const refOf = new WeakMap();    // element → number
  const elementOf = new Map();    // number → WeakRef of the element
  const gone = new FinalizationRegistry((ref) => elementOf.delete(ref));
  const asked = new WeakSet();    // hosts that may have a closed root, and have been asked about
  const frameOf = new WeakMap();  // frame element → its number in the tab
  let nextRef = globalThis.aiosFrom ?? 1;
  let shown = null;               // the lines of the last snapshot, for its next page
  let shownKey = '';              // what it was a snapshot of
  let baseline = null;            // what `changed` compares with: key → text

  const NAME_MAX = 200, VALUE_MAX = 500, HOSTS_MAX = 16;

  const refFor = (el) => {
    let ref = refOf.get(el);
    if (!ref) {
      ref = nextRef++;
      refOf.set(el, ref);
      elementOf.set(ref, new WeakRef(el));
      gone.register(el, ref);
    }
    return ref;
  };

  // ---- the walk ----

  const SKIPPED = new Set(['SCRIPT', 'STYLE', 'NOSCRIPT', 'TEMPLATE', 'HEAD', 'META', 'LINK', 'TITLE',
    'BASE', 'defs', 'metadata', 'title', 'desc', 'symbol', 'clipPath', 'OPTION', 'OPTGROUP', 'SOURCE',
    'TRACK', 'OBJECT', 'EMBED', 'LEGEND', 'CAPTION', 'DATALIST', 'COL', 'COLGROUP', 'RP', 'HR', 'PARAM']);
  const CONTAINERS = new Set(['nav', 'main', 'header', 'footer', 'aside', 'article', 'region', 'form',
    'list', 'item', 'group', 'table', 'row', 'cell', 'quote', 'dialog', 'search', 'tablist',
    'menu', 'menubar', 'toolbar', 'tree', 'listbox', 'radiogroup', 'tabpanel', 'alert', 'status']);
  // Say nothing when they hold nothing, and make way for a single thing in them.
  const THIN = new Set(['item', 'list', 'group', 'quote', 'article', 'aside', 'header', 'footer', 'main',
    'nav', 'region', 'form', 'cell']);

  const walkAll = (start, urls) => {
    let focused = document.activeElement;
    while (focused && shadowOf(focused)?.activeElement) focused = shadowOf(focused).activeElement;
    if (focused === document.body) focused = null;
    const lines = [];
    const frames = [];
    const hosts = [];
    let run = '';

    const flush = (depth) => {
      if (run) {
        const text = clean(run);
        run = '';
        if (text) lines.push({ depth, text });
      }
    };

    const scrollable = (overflow) => overflow === 'auto' || overflow === 'scroll';
    const isScroller = (el, style) =>
      (scrollable(style.overflowY) && el.clientHeight > 0 && el.scrollHeight > el.clientHeight + 1) ||
      (scrollable(style.overflowX) && el.clientWidth > 0 && el.scrollWidth > el.clientWidth + 1);

    const visitKids = (el, shadow, depth, pointer, veiled, hidden) => {
      if (!shadow && el.tagName === 'SLOT' && el.assignedNodes().length) {
        for (const node of el.assignedNodes()) {
          if (node.nodeType === 1) visit(node, depth, pointer, veiled);
          else if (node.nodeType === 3) run += node.data;
        }
        return;
      }
      for (let node = (shadow ?? el).firstChild; node; node = node.nextSibling) {
        if (node.nodeType === 1) visit(node, depth, pointer, veiled);
        else if (node.nodeType === 3 && !hidden) run += node.data;
      }
    };

    const visit = (el, depth, pointer, veiled) => {
      const tag = el.tagName;
      if (SKIPPED.has(tag)) return;
      if (tag === 'BR') { run += ' '; return; }
      if (el.getAttribute('aria-hidden') === 'true') return;
      const style = getComputedStyle(el);
      const display = style.display;
      if (display === 'none') return;
      const hidden = style.visibility !== 'visible';
      if (display !== 'inline' && el.firstElementChild && style.contentVisibility === 'hidden') return;
      let role = roleOf(el);
      if (tag === 'INPUT' && el.type === 'hidden') return;
      if (tag === 'SELECT' || tag === 'INPUT' || tag === 'TEXTAREA') veiled = true;
      const shadow = shadowOf(el);
      let acts = ACTS.has(role);
      let label = null;
      const hand = pointer || acts || style.cursor === 'pointer';

      // Only the browser can tell whether a shadow root is there that the page cannot see.
      if (!shadow && hosts.length < HOSTS_MAX && !asked.has(el) && (tag.includes('-') ||
        (!el.firstChild && tag === 'DIV' && el.offsetHeight > 15 && el.offsetWidth > 15))) hosts.push(el);
      if (!role || !acts) {
        const editable = el.isContentEditable && !el.parentElement?.isContentEditable;
        if (editable) { role = 'textbox'; acts = true; veiled = true; }
        else if (tag === 'LABEL') label = el.control;
        else if (el.getAttribute('draggable') === 'true' && tag !== 'A' && tag !== 'IMG') { role ||= 'drag'; acts = true; }
        else if ((hand && !pointer && tag !== 'HTML' && tag !== 'BODY') || el.hasAttribute('onclick') ||
          (el.hasAttribute('tabindex') && el.tabIndex >= 0)) {
          if (!CONTAINERS.has(role) || role === 'item' || role === 'cell') role = role && role !== 'item' && role !== 'cell' ? role : 'click';
          acts = true;
        }
      }
      if (label) {
        // The text of a label is the name of its control, which is said there, if it is there.
        if (label.checkVisibility({ visibilityProperty: true }) && label.getClientRects().length) {
          const inside = el.contains(label);
          if (!inside) { flush(depth); return; }
          const before = run;
          for (const node of kids(el))
            if (node.nodeType === 1 && (node === label || node.contains(label))) visit(node, depth, true, veiled);
          run ||= before;
          return;
        }
        role = roleOf(label) || 'click';
        acts = true;
      }
      const scrolls = !veiled && el.firstElementChild !== null && tag !== 'HTML' && tag !== 'BODY' && isScroller(el, style);
      if (scrolls && !role) role = 'scroll';

      if (tag === 'IFRAME' || tag === 'FRAME') {
        const rect = el.getBoundingClientRect();
        if (hidden || rect.width < 2 || rect.height < 2) return;
        flush(depth);
        const line = { depth, role: 'iframe', name: namedBy(el) || clean(el.title), el, frame: 0, states: [] };
        lines.push(line);
        frames.push(line);
        return;
      }
      if (tag === 'svg' && role !== 'img' && !el.querySelector('text,a,[role]')) return;
      if (tag === 'DETAILS' && !el.open) {
        for (const node of el.children) if (node.tagName === 'SUMMARY') { visit(node, depth, pointer, veiled); break; }
        return;
      }

      if (!role) {
        const named = veiled ? '' : el.getAttribute('aria-label');
        const inline = display === 'inline' || display === 'contents';
        if (!inline) flush(depth);
        if (named && !el.firstElementChild) { run += ' ' + named + ' '; }
        else visitKids(el, shadow, depth, hand, veiled, hidden);
        if (!inline) flush(depth);
        else if (display === 'inline-block') run += ' ';
        return;
      }

      // Something with a role.
      if (role === 'img') {
        if (hidden) return;
        const name = namedBy(el) || clean(nativeName(el, role)) || clean(el.title ?? '');
        if (!name && (el.getAttribute('alt') === '' || el.clientWidth < 48 || pointer)) return;
        flush(depth);
        lines.push({ depth, role, name, el: acts ? el : null, states: [] });
        return;
      }
      if (hidden && tag !== 'HTML') {
        // Its children may be shown all the same.
        visitKids(el, shadow, depth, pointer, veiled, true);
        return;
      }
      const byContent = BY_CONTENT.has(role) && !veiled;
      let name = namedBy(el) || clean(nativeName(el, role));
      if (label && !name) name = clean(textIn(el)) || clean(nativeName(label, role));
      flush(depth);
      const line = { depth, role, name, el: acts || scrolls ? el : null, of: el, states: statesOf(label ?? el, role, focused) };
      if (scrolls) line.states.push('scrolls');
      if (acts && role === 'drag') line.states.push('draggable');
      else if (el.getAttribute('draggable') === 'true') line.states.push('draggable');
      if (urls && role === 'link') line.url = el.href;
      const at = lines.length;
      lines.push(line);
      if (role === 'file' || tag === 'INPUT' || tag === 'TEXTAREA' || tag === 'SELECT' || (el.isContentEditable && role === 'textbox')) {
        const value = valueOf(el, role);
        if (value) line.value = cut(tag === 'TEXTAREA' ? value : clean(value), VALUE_MAX);
        if (tag === 'SELECT') line.options = optionsOf(el);
        if (!line.name) line.name = clean(el.getAttribute('placeholder') ?? el.getAttribute('aria-placeholder') ?? '') || clean(el.title);
        return;
      }
      if (label || (role === 'canvas')) { line.name ||= clean(el.title ?? ''); return; }
      if (!acts || role === 'progress') line.value = valueOf(el, role);
      visitKids(el, shadow, depth + 1, hand, veiled, false);
      flush(depth + 1);
      if (byContent) {
        // All text below: that is the name.  Else what is more than text stays below it.
        let all = '';
        let more = false;
        for (let i = at + 1; i < lines.length; i++) {
          const below = lines[i];
          if (below.text !== undefined) all += ' ' + below.text;
          else if (below.role === 'img') all += ' ' + below.name;
          else if (!below.el && below.frame === undefined && below.name && !below.cells) all += ' ' + below.name;
          else if (!below.el && below.frame === undefined && !below.cells) continue;
          else { more = true; break; }
        }
        if (!more) {
          all = clean(all);
          if (acts && !all && !name) all = clean(generated(el, '::before') + ' ' + generated(el, '::after'));
          if (line.name ? clean(all) === line.name || role !== 'cell' : all.length <= NAME_MAX || lines.length === at + 2) {
            line.name ||= all;
            lines.length = at + 1;
          } else if (!line.name && lines.length > at + 2 && acts) {
            line.name = cut(all, 60);
          }
        } else if (line.name) {
          // Named otherwise: its own text need not be said once more.
          for (let i = lines.length - 1; i > at; i--) if (lines[i].text === line.name) lines.splice(i, 1);
        } else if (acts) {
          // A card that can be clicked as a whole, with things of its own in it.
          for (let i = at + 1; i < lines.length; i++)
            if (lines[i].text !== undefined) {
              line.name = cut(lines[i].text, 80);
              if (lines[i].text === line.name) lines.splice(i, 1);
              break;
            }
        }
      }
      if (!line.name) line.name = clean(el.getAttribute('title') ?? '');
      if (role === 'row') asRow(at);
      const below = lines.length - at - 1;
      if (!acts && !scrolls && !line.states.length) {
        if (role === 'item' || role === 'cell') {
          if (!below && !line.name) { if (role === 'item') lines.length = at; }
          else if (!below && role === 'item') lines[at] = { depth, text: line.name };
          else if (role === 'item' && !line.name) unwrapIfSingle(at);
        } else if (!below && CONTAINERS.has(role)) {
          if (line.name && role !== 'list') return;
          if (!line.cells) lines.length = at;
        } else if (THIN.has(role) && !line.name && role !== 'main' && role !== 'nav') {
          unwrapIfSingle(at);
        }
      } else if (role === 'scroll' && !below) lines.length = at;
      else if (role === 'click' && !line.name && !below && !(el.offsetWidth > 0 && el.offsetHeight > 0)) lines.length = at;
    };

    const unwrapIfSingle = (at) => {
      const depth = lines[at].depth;
      for (let i = at + 2; i < lines.length; i++) if (lines[i].depth <= depth + 1) return;
      lines.splice(at, 1);
      for (let i = at; i < lines.length; i++) lines[i].depth--;
    };

    // A row whose cells are single things is one line.
    const asRow = (at) => {
      const depth = lines[at].depth;
      const cells = [];
      for (let i = at + 1; i < lines.length; i++) {
        const line = lines[i];
        if (line.frame !== undefined || line.cells) return;
        if (line.depth === depth + 1) {
          if (line.role !== 'cell') return;
          cells.push({ cell: line, in: [] });
        } else if (line.depth === depth + 2 && cells.length) cells[cells.length - 1].in.push(line);
        else return;
      }
      if (!cells.length) return;
      lines[at].cells = cells;
      lines[at].name = '';
      lines.length = at + 1;
    };

    if (start.nodeType === 1) {
      visit(start, 0, false, false);
    } else {
      for (const node of start.childNodes) if (node.nodeType === 1) visit(node, 0, false, false);
    }
    flush(0);
    return { lines, frames, hosts };
  };

  // ---- lines to text ----

  const phrase = (line, p) => {
    if (line.text !== undefined) return quote(line.text);
    let out = line.role;
    if (line.cells) {
      const cells = line.cells.map(({ cell, in: things }) => {
        const own = things.length ? things.map((thing) => phrase(thing, p)).join(' ')
          : cell.el || cell.states.length ? phrase(cell, p) : cell.name.replace(/\|/g, '\\|');
        return own;
      });
      return `${out}${line.el ? ` [${p}e${refFor(line.el)}]` : ''}: ${cells.join(' | ')}`;
    }
    if (line.name) out += ' ' + quote(cut(line.name, line.el || line.role[0] === 'h' ? NAME_MAX : 1000));
    const marks = [];
    if (line.frame) marks.push('f' + line.frame);
    else if (line.el && line.frame === undefined) marks.push(p + 'e' + refFor(line.el));
    marks.push(...line.states);
    if (line.more) marks.push(`${line.more} lines below`);
    if (marks.length) out += ` [${marks.join(' ')}]`;
    if (line.url) out += ' ' + line.url.slice(0, 500);
    if (line.value) out += ' = ' + quote(line.value);
    if (line.options) out += line.options;
    return out;
  };

  const deepest = (lines, depth) => {
    const out = [];
    let above = null;
    for (const line of lines) {
      if (line.depth < depth) { out.push(line); above = line; }
      else if (above) {
        above.more = (above.more ?? 0) + 1;
        if (above.of && above.frame === undefined) above.el ??= above.of;
      }
    }
    return out;
  };

  const resolve = (target) => {
    const ref = /^e(\d+)$/.exec(target);
    if (ref) {
      const el = elementOf.get(Number(ref[1]))?.deref();
      if (!el || !el.isConnected) throw new Error(`stale: ${target} is no longer in the page`);
      return el;
    }
    const wanted = /^text=(.*)$/s.exec(target);
    const found = [];
    const seek = (root) => {
      if (wanted) {
        const text = clean(wanted[1]).toLowerCase();
        const look = (node) => {
          for (const child of node.children) {
            if (SKIPPED.has(child.tagName)) continue;
            if (shadowOf(child)) seek(shadowOf(child));
            const before = found.length;
            if (clean(child.textContent ?? '').toLowerCase().includes(text) || shadowOf(child)) look(child);
            if (found.length === before && clean(child.textContent ?? '').toLowerCase().includes(text) &&
              child.checkVisibility({ visibilityProperty: true })) found.push(child);
          }
        };
        look(root);
        return;
      }
      found.push(...root.querySelectorAll(target));
      for (const el of root.querySelectorAll('*')) if (shadowOf(el)) seek(shadowOf(el));
    };
    try {
      seek(document);
    } catch {
      throw new Error(`unknown: ${target} is neither a reference such as e12, nor text=…, nor a CSS selector`);
    }
    if (!found.length) throw new Error(`missing: nothing in the page matches ${target}`);
    if (wanted && found.length > 1) {
      const exact = found.filter((el) => clean(el.textContent).toLowerCase() === clean(wanted[1]).toLowerCase());
      if (exact.length === 1) return exact[0];
    }
    if (found.length > 1) throw new Error(`many: ${found.length} elements match ${target}; be more exact`);
    return found[0];
  };

  // What is new, different or gone since @before: a Map of keys and texts.  Order does not count.
  const difference = (before, lines) => {
    const left = new Map(before);
    const out = [];
    for (const { key, text } of lines) {
      const was = left.get(key);
      const plain = text.trimStart();
      if (was === undefined) out.push('+' + text);
      else {
        if (was.text !== plain) out.push('~' + text);
        if (was.count > 1) left.set(key, { text: was.text, count: was.count - 1 });
        else left.delete(key);
      }
    }
    for (const { text, count } of left.values())
      out.push('-' + cut(text, 100) + (count > 1 ? ` (${count} times)` : ''));
    return out;
  };

  const remember = (lines) => {
    const map = new Map();
    for (const { key, text } of lines) {
      const was = map.get(key);
      if (was) was.count++;
      else map.set(key, { text: text.trimStart(), count: 1 });
    }
    return map;
  };

  const matching = (lines, match) => {
    const needles = match.toLowerCase().split('|').map((text) => text.trim()).filter(Boolean);
    const keep = new Set();
    const path = [];
    lines.forEach((line, i) => {
      path.length = line.depth;
      path[line.depth] = i;
      const text = line.text.toLowerCase();
      if (line.frame || needles.some((needle) => text.includes(needle)))
        for (const at of path) if (at !== undefined) keep.add(at);
    });
    return lines.filter((_, i) => keep.has(i));
  };

  // o: prefix, root, depth, urls, match, changed,
  // again (the lines of last time: for the next page).
  const build = (o) => {
    const start = o.root ? resolve(o.root) : document.documentElement ?? document;
    let { lines, frames, hosts } = walkAll(start, o.urls);
    if (o.depth) lines = deepest(lines, o.depth);
    const p = o.prefix ?? '';
    const out = lines.map((line) => {
      if (line.frame !== undefined) line.frame = frameOf.get(line.el) ?? 0;
      const text = ' '.repeat(line.depth) + phrase(line, p);
      return { depth: line.depth, text, frame: line.frame || 0,
        key: line.frame ? 'f' + line.frame : line.el && !line.cells ? 'e' + refOf.get(line.el) : text.trimStart() };
    });
    return { lines: out, frames: frames.filter((line) => !frameOf.has(line.el)).map((line) => line.el), hosts };
  };

  // Frames and hosts that the C side has not told us about yet.
  let pending = { frames: [], hosts: [] };

  const snapshot = (o) => {
    const key = JSON.stringify([o.root, o.match, o.depth, o.changed, o.urls]);
    let lines = o.again && key === shownKey ? shown : null;
    if (!lines) {
      const built = build(o);
      pending = { frames: built.frames, hosts: built.hosts };
      if (!o.final && (built.frames.length || built.hosts.length)) {
        return { frames: built.frames.length, hosts: built.hosts.length };
      }
      lines = built.lines;
      const old = baseline;
      if (!o.root && !o.depth) baseline = remember(lines);
      const whole = lines;
      if (o.match) lines = matching(lines, o.match);
      if (o.changed && old) {
        lines = difference(old, whole).map((text) => ({ text, frame: 0 }));
        // Frames are asked themselves.
        for (const line of whole) if (line.frame) lines.push({ text: ' ' + line.text.trim(), frame: line.frame });
      }
      shown = lines;
      shownKey = key;
    }
    // Without frames, only the part that is wanted leaves the page.
    const nested = lines.some((line) => line.frame);
    const first = nested ? 0 : o.skip ?? 0;
    let size = 0;
    let last = first;
    const texts = [];
    while (last < lines.length && (nested || last === first || size + lines[last].text.length < o.most)) {
      size += lines[last].text.length + 1;
      texts.push(lines[last].text);
      last++;
    }
    return { text: texts.join('\n'), skipped: first, count: texts.length, total: lines.length, next: nextRef,
      nested: nested ? lines.map((line, i) => [i, line.frame, line.text.search(/\S/)]).filter(([, frame]) => frame) : [] };
  };

  const outline = () => build({}).lines.map((line) => line.text).join('\n');

  return {
    snapshot,
    outline,
    resolve,
    refFor,
    next: () => nextRef,
    shadowOf,
    clean,
    pending: (kind) => pending[kind],
    mark: (el, number) => { frameOf.set(el, number); },
    host: (el, root) => { asked.add(el); if (root) closedRoots.set(el, root); },
    roleOf,
    nameOf: (el) => namedBy(el) || clean(nativeName(el, roleOf(el))) || clean(textIn(el)),
  };
})();
