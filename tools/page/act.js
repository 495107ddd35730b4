// Whether an element can be acted on, and where; and what is done to it without real events.
// Evaluated after snapshot.js, in the same world.
globalThis.aiosAct = (() => {
  'use strict';
  const { shadowOf, clean, nameOf, roleOf } = globalThis.aiosPage;

  // "button "Save"", "<div class=overlay>": how an element is called in an error.
  const called = (el) => {
    const name = el.tagName === 'BODY' || el.tagName === 'HTML' ? '' : nameOf(el).slice(0, 60);
    const role = roleOf(el);
    if (role && name) return `${role} "${name}"`;
    const extra = el.id ? ' id=' + el.id : el.classList?.length ? ' class=' + [...el.classList].join('.') : '';
    return `<${el.tagName.toLowerCase()}${extra.slice(0, 80)}>${name ? ` "${name}"` : ''}`;
  };

  const parentOf = (node) => node.assignedSlot ?? node.parentElement ?? node.getRootNode().host ?? null;
  const within = (node, ancestor) => {
    for (; node; node = parentOf(node)) if (node === ancestor) return true;
    return false;
  };

  const hitAt = (x, y) => {
    let el = document.elementFromPoint(x, y);
    while (el) {
      const root = shadowOf(el);
      const inner = root?.elementFromPoint(x, y);
      if (!inner || inner === el || !root.contains(inner)) break;
      el = inner;
    }
    return el;
  };

  // A label stands for its control, when that is what can be seen of it.
  const stands = (hit, el) => {
    if (within(hit, el)) return true;
    const label = hit.closest?.('label');
    return !!label && label.control === el;
  };

  const frame = () => new Promise((done) => {
    // A page in the background draws no frames.
    const timer = setTimeout(done, document.visibilityState === 'visible' ? 1000 : 50);
    requestAnimationFrame(() => { clearTimeout(timer); done(); });
  });
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));

  // The part of the element that can be seen: of a link on two lines, the first.
  const boxOf = (el) => {
    for (const r of el.getClientRects()) if (r.width > 0 && r.height > 0) return r;
    return null;
  };

  const disabled = (el) => {
    if (el.matches(':disabled')) return true;
    for (let at = el; at; at = parentOf(at)) if (at.getAttribute('aria-disabled') === 'true') return true;
    return false;
  };

  const editable = (el) => {
    if (el.isContentEditable) return true;
    if (el.tagName === 'TEXTAREA' || el.tagName === 'INPUT') return !el.readOnly;
    return false;
  };

  // Why @el cannot be acted on now (text), or the point to act at.
  const look = async (el, o) => {
    if (!el.isConnected) return 'no longer in the page';
    if (!el.checkVisibility({ visibilityProperty: true, contentVisibilityAuto: true })) return 'not visible';
    let box = boxOf(el);
    if (!box && el.tagName === 'INPUT' && el.labels?.length) { el = el.labels[0]; box = boxOf(el); }
    if (!box) return 'not visible: it has no size';
    if (o.enabled && disabled(el)) return 'disabled';
    if (o.editable && !editable(el)) return el.readOnly ? 'read-only' : 'not a field that can be typed into';
    await frame();
    const second = boxOf(el);
    if (!second || second.x !== box.x || second.y !== box.y || second.width !== box.width || second.height !== box.height)
      return 'moving';
    box = second;
    if (o.scroll !== false) {
      const cx = box.x + box.width / 2, cy = box.y + box.height / 2;
      if (cx < 0 || cy < 0 || cx >= innerWidth || cy >= innerHeight || !hitAt(cx, cy) || !stands(hitAt(cx, cy), el)) {
        el.scrollIntoView({ block: o.round % 3 === 1 ? 'end' : o.round % 3 === 2 ? 'start' : 'center', inline: 'center', behavior: 'instant' });
        await frame();
        box = boxOf(el) ?? box;
      }
    }
    if (o.still) return { x: box.x + box.width / 2, y: box.y + box.height / 2 };
    const left = Math.max(box.left, 0), top = Math.max(box.top, 0);
    const right = Math.min(box.right, innerWidth), bottom = Math.min(box.bottom, innerHeight);
    if (right <= left || bottom <= top) return 'outside of the view, and scrolling does not bring it in';
    let cover = null;
    for (const [fx, fy] of [[0.5, 0.5], [0.25, 0.5], [0.75, 0.5], [0.5, 0.2], [0.5, 0.8]]) {
      const x = left + (right - left) * fx, y = top + (bottom - top) * fy;
      const hit = hitAt(x, y);
      if (hit && stands(hit, el)) return { x, y };
      cover ??= hit;
    }
    return cover ? 'covered by ' + called(cover) : 'outside of the view';
  };

  // Wait until @el can be acted on: {x, y}, or {why}.  o: ms, enabled, editable, still (no hit test).
  const ready = async (el, o) => {
    const end = performance.now() + o.ms;
    for (let round = 0; ; round++) {
      const found = await look(el, { ...o, round });
      if (typeof found !== 'string') return { ...found, tag: el.tagName, type: el.type ?? '' };
      if (performance.now() >= end || found === 'no longer in the page') return { why: found, what: called(el) };
      await pause(Math.min(20 * 2 ** Math.min(round, 3), 100));
    }
  };

  // Where the content of the frame element begins, and whether a click at its point goes into it.
  const frameAt = async (el, x, y, again) => {
    const box = el.getBoundingClientRect();
    const style = getComputedStyle(el);
    const sx = el.offsetWidth ? box.width / el.offsetWidth : 1, sy = el.offsetHeight ? box.height / el.offsetHeight : 1;
    const at = {
      x: box.x + (el.clientLeft + parseFloat(style.paddingLeft)) * sx + x * sx,
      y: box.y + (el.clientTop + parseFloat(style.paddingTop)) * sy + y * sy,
    };
    if (at.x < 0 || at.y < 0 || at.x >= innerWidth || at.y >= innerHeight) {
      if (again) return { ...at, why: 'outside of the view' };
      el.scrollIntoView({ block: 'nearest', inline: 'nearest', behavior: 'instant' });
      const now = el.getBoundingClientRect();
      const px = at.x + now.x - box.x, py = at.y + now.y - box.y;
      if (px < 0 || py < 0 || px >= innerWidth || py >= innerHeight)
        scrollBy({ left: px - innerWidth / 2, top: py - innerHeight / 2, behavior: 'instant' });
      // The browser must have seen where things are now, before it is told where to click.
      await frame();
      await frame();
      return frameAt(el, x, y, true);
    }
    const hit = hitAt(at.x, at.y);
    if (hit && hit !== el && !within(hit, el)) at.why = 'covered by ' + called(hit);
    else if (!hit) at.why = 'outside of the view';
    return at;
  };

  // ---- fields ----

  const fire = (el, type) => el.dispatchEvent(new Event(type, { bubbles: true, composed: true }));

  // Set what nobody types letter by letter, or say how it is to be typed: {type: true}.
  const PICKED = new Set(['date', 'datetime-local', 'month', 'week', 'time', 'color', 'range']);
  const fill = async (el, value, ms) => {
    if (el.tagName === 'LABEL' && el.control) el = el.control;
    if (el.tagName === 'SELECT') return select(el, [value], ms);
    if (el.tagName === 'INPUT' && (el.type === 'checkbox' || el.type === 'radio'))
      return { check: /^(true|on|yes|1|checked)$/i.test(value), now: el.checked };
    const o = await ready(el, { ms, enabled: true, editable: true, still: true });
    if (o.why) return o;
    if (el.tagName === 'INPUT' && PICKED.has(el.type)) {
      const native = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set;
      const before = el.value;
      el.focus();
      native.call(el, value.trim());
      if (el.type !== 'range' && el.value !== (el.type === 'color' ? value.trim().toLowerCase() : value.trim())) {
        const wants = { date: '2026-11-22', 'datetime-local': '2026-11-22T13:45', month: '2026-11', week: '2026-W47', time: '13:45', color: '#ff8800' };
        native.call(el, before);
        return { why: `a ${el.type} field takes values such as ${wants[el.type]}`, what: called(el) };
      }
      fire(el, 'input');
      fire(el, 'change');
      return { done: true, value: el.value };
    }
    if (el.tagName === 'INPUT' && el.type === 'number' && value !== '' && Number.isNaN(Number(value)))
      return { why: 'a number field takes numbers', what: called(el) };
    el.focus();
    if (el.select) el.select();
    else getSelection().selectAllChildren(el);
    const had = el.isContentEditable ? clean(el.innerText) : el.value;
    return { type: true, empty: had === '', same: had === value };
  };

  const contentOf = (el) => (el.isContentEditable ? el.innerText.replace(/\n$/, '') : el.type === 'password' ? '' : el.value ?? '');

  // By value, text or label; several only where several can be.
  const select = async (el, values, ms) => {
    const end = performance.now() + ms;
    if (el.tagName === 'LABEL' && el.control) el = el.control;
    if (el.tagName !== 'SELECT')
      return { why: 'not a <select>; click it, then click the option that appears', what: called(el) };
    if (values.length > 1 && !el.multiple) return { why: 'it takes one value only', what: called(el) };
    for (;;) {
      const options = [...el.options];
      const wanted = values.map((value) => options.find((o) => o.value === value) ?? options.find((o) => clean(o.label) === clean(value)) ??
        options.find((o) => clean(o.label).toLowerCase() === clean(value).toLowerCase()));
      const missing = wanted.findIndex((option) => !option);
      const late = performance.now() >= end;
      if (missing < 0 && !disabled(el) && !wanted.some((option) => option.disabled)) {
        const before = options.map((option) => option.selected);
        el.focus();
        for (const option of options) option.selected = wanted.includes(option);
        if (options.every((option, i) => option.selected === before[i])) return { same: true };
        fire(el, 'input');
        fire(el, 'change');
        return { done: true };
      }
      if (late) {
        if (missing < 0) return { why: disabled(el) ? 'disabled' : 'this option is disabled', what: called(el) };
        const there = options.slice(0, 20).map((option) => JSON.stringify(clean(option.label))).join(', ');
        return { why: `no option ${JSON.stringify(values[missing])}; there are ${there}${options.length > 20 ? ' …' : ''}`, what: called(el) };
      }
      await pause(50);
    }
  };

  const checkedOf = (el) => {
    if (el.tagName === 'LABEL' && el.control) el = el.control;
    if (el.tagName === 'INPUT' && (el.type === 'checkbox' || el.type === 'radio')) return { checked: el.checked, radio: el.type === 'radio' };
    const aria = el.getAttribute('aria-checked') ?? el.getAttribute('aria-pressed');
    if (aria !== null) return { checked: aria === 'true' };
    return { why: 'neither a checkbox, a radio button nor a switch', what: called(el) };
  };

  const focus = (el, atEnd) => {
    el.focus();
    if (atEnd) {
      if (el.setSelectionRange && /^(text|search|url|tel|password|textarea)$/.test(el.type)) el.setSelectionRange(el.value.length, el.value.length);
      else if (el.isContentEditable) { const s = getSelection(); s.selectAllChildren(el); s.collapseToEnd(); }
    }
    const active = el.getRootNode().activeElement;
    return active === el || within(active, el);
  };

  // ---- presses that would hit something else ----

  // Pointing at things moves them, and so does time.  From here until unguard() a press that hits
  // something else than @el is kept from the page, so that it can be tried again.
  const PRESSES = ['pointerdown', 'mousedown', 'pointerup', 'mouseup', 'click', 'auxclick', 'dblclick', 'contextmenu'];
  let guarded = null;
  const watchPress = (event) => {
    if (!event.isTrusted || !guarded) return;
    guarded.missed ??= !stands(hitAt(event.clientX, event.clientY) ?? event.target, guarded.el) &&
      !event.composedPath().includes(guarded.el);
    if (guarded.missed) {
      event.preventDefault();
      event.stopImmediatePropagation();
    }
  };
  const guard = (el, x, y) => {
    const hit = hitAt(x, y);
    if (!hit || !stands(hit, el)) return false;
    if (el.tagName === 'INPUT' && !boxOf(el) && el.labels?.length) el = el.labels[0];
    guarded = { el };
    for (const type of PRESSES) addEventListener(type, watchPress, true);
    return true;
  };
  const unguard = () => {
    // In a frame of another process a press may have gone elsewhere: it was not seen at all.
    const missed = guarded?.missed ?? (guarded !== null && window !== top);
    guarded = null;
    for (const type of PRESSES) removeEventListener(type, watchPress, true);
    return !missed;
  };

  // ---- what an action did to the document ----

  let seen = 0;
  let watcher = null;
  let scrolled = null;
  const stateNow = () => {
    let el = document.activeElement;
    while (el && shadowOf(el)?.activeElement) el = shadowOf(el).activeElement;
    return el;
  };
  const watch = () => {
    unguard();
    seen = 0;
    watcher?.disconnect();
    watcher = new MutationObserver((records) => { seen += records.length; });
    const options = { subtree: true, childList: true, attributes: true, characterData: true };
    const add = (root) => {
      watcher.observe(root, options);
      for (const el of root.querySelectorAll('*')) if (shadowOf(el)) add(shadowOf(el));
    };
    add(document);
    scrolled?.abort();
    scrolled = new AbortController();
    const note = () => { seen++; };
    for (const type of ['input', 'change', 'toggle', 'scroll'])
      document.addEventListener(type, note, { capture: true, passive: true, signal: scrolled.signal });
    addEventListener('scroll', note, { passive: true, signal: scrolled.signal });
    watch.focus = stateNow();
    // Styles alone can show and hide things; on a huge page that is not looked for.
    watch.outline = document.getElementsByTagName('*').length < 3000 ? globalThis.aiosPage.outline() : null;
  };
  // After two frames without a change, or @ms: how many changes, and whether the focus moved.
  const settled = async (ms) => {
    const end = performance.now() + ms;
    await frame();
    for (let before = -1; before !== seen && performance.now() < end;) {
      before = seen;
      await frame();
      await frame();
    }
    seen += watcher?.takeRecords().length ?? 0;
    const moved = stateNow() !== watch.focus;
    if (!seen && !moved && watch.outline !== null && watch.outline !== globalThis.aiosPage.outline()) seen++;
    watcher?.disconnect();
    scrolled?.abort();
    const now = stateNow();
    return { changes: seen, focus: moved && now && now !== document.body ? called(now) : '' };
  };

  // What is scrolled by a wheel over @el.
  const scrollerOf = (el, dx, dy) => {
    for (let at = el; at && at !== document.body && at !== document.documentElement; at = parentOf(at)) {
      const style = getComputedStyle(at);
      const can = (overflow) => overflow === 'auto' || overflow === 'scroll';
      if ((dy && can(style.overflowY) && at.scrollHeight > at.clientHeight) ||
        (dx && can(style.overflowX) && at.scrollWidth > at.clientWidth)) return at;
    }
    return document.scrollingElement ?? document.documentElement;
  };
  const scrollState = (el, dx, dy) => {
    const at = scrollerOf(el, dx, dy);
    return { left: Math.round(at.scrollLeft), top: Math.round(at.scrollTop),
      width: at.scrollWidth - at.clientWidth, height: at.scrollHeight - at.clientHeight };
  };

  // The first step of an action: find the element, watch the document, wait until it can be acted on.
  const begin = async (target, o) => {
    const el = globalThis.aiosPage.resolve(target);
    watch();
    const found = { ref: 'e' + globalThis.aiosPage.refFor(el), next: globalThis.aiosPage.next() };
    if (o.bare) return { ...found, tag: el.tagName, type: el.type ?? '' };
    return { ...found, ...(await ready(el, o)) };
  };

  const on = (ref) => globalThis.aiosPage.resolve(ref);

  return { ready, frameAt, fill, select, checkedOf, focus, contentOf, watch, settled, called, scrollState, begin, guard, unguard, on };
})();
