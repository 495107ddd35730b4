// What an element is: its role, name, states and value, by the rules that assistive technology
// follows.  Evaluated first, in our isolated world of each frame.
globalThis.aiosNames = (() => {
  'use strict';
  const closedRoots = new WeakMap(); // host → shadow root that only the browser could tell of
  const OPTIONS_MAX = 20;

  const shadowOf = (el) => el.shadowRoot ?? closedRoots.get(el) ?? null;
  // Most texts are clean already, and finding that out is the cheaper part.
  const UNCLEAN = /\s\s|[^\S ]|[\u200b\ufeff\ue000-\uf8ff]/;
  const clean = (text) => {
    const trimmed = text.trim();
    return UNCLEAN.test(trimmed) ? trimmed.replace(/[\s\u200b\ufeff\ue000-\uf8ff]+/g, ' ').trim() : trimmed;
  };
  const cut = (text, most) => (text.length > most ? text.slice(0, most - 1) + '…' : text);
  const quote = (text) => '"' + text.replace(/["\\]/g, '\\$&').replace(/\s+/g, ' ') + '"';
  const words = (text) => (text ? text.split(/\s+/).filter(Boolean) : []);

  // ---- roles ----

  const TAG_ROLES = {
    ARTICLE: 'article', ASIDE: 'aside', BLOCKQUOTE: 'quote', BUTTON: 'button', CANVAS: 'canvas',
    DETAILS: 'group', DIALOG: 'dialog', FIELDSET: 'group', FORM: 'form', FRAME: 'iframe',
    H1: 'h1', H2: 'h2', H3: 'h3', H4: 'h4', H5: 'h5', H6: 'h6', IFRAME: 'iframe', IMG: 'img',
    LI: 'item', MAIN: 'main', MENU: 'list', METER: 'meter', NAV: 'nav', OL: 'list',
    OPTION: 'option', PROGRESS: 'progress', SECTION: 'region', SELECT: 'combobox',
    SUMMARY: 'button', TABLE: 'table', TD: 'cell', TEXTAREA: 'textbox', TH: 'cell', TR: 'row',
    UL: 'list', VIDEO: 'video', AUDIO: 'audio',
  };
  const INPUT_ROLES = {
    button: 'button', submit: 'button', reset: 'button', image: 'button', checkbox: 'checkbox',
    radio: 'radio', range: 'slider', number: 'spinbutton', search: 'searchbox', hidden: '',
    file: 'file', color: 'color', date: 'date', 'datetime-local': 'datetime', month: 'month',
    week: 'week', time: 'time', password: 'password',
  };
  const ARIA_ROLES = {
    banner: 'header', complementary: 'aside', contentinfo: 'footer', navigation: 'nav',
    listitem: 'item', gridcell: 'cell', columnheader: 'cell', rowheader: 'cell', image: 'img',
    progressbar: 'progress', generic: '', none: '', presentation: '', text: '', paragraph: '',
    rowgroup: '', strong: '', emphasis: '', code: '', separator: '', directory: 'list', treegrid: 'table',
    grid: 'table', blockquote: 'quote', application: '', document: '', figure: '', term: '',
    definition: '', log: '', marquee: '', timer: '', math: '', note: '', feed: 'list', caption: '',
  };
  const ACTS = new Set(['button', 'link', 'textbox', 'searchbox', 'password', 'combobox', 'listbox',
    'checkbox', 'radio', 'switch', 'slider', 'spinbutton', 'option', 'tab', 'menuitem',
    'menuitemcheckbox', 'menuitemradio', 'treeitem', 'file', 'color', 'date', 'datetime', 'month',
    'week', 'time', 'canvas', 'scrollbar']);
  // Named by what is in them; their text is then not said again.
  const BY_CONTENT = new Set(['button', 'link', 'checkbox', 'radio', 'switch', 'option', 'tab',
    'menuitem', 'menuitemcheckbox', 'menuitemradio', 'treeitem', 'h1', 'h2', 'h3', 'h4', 'h5', 'h6',
    'cell', 'item', 'tooltip', 'click', 'drag']);
  const EDITS = new Set(['textbox', 'searchbox', 'password', 'spinbutton', 'combobox', 'date', 'datetime',
    'month', 'week', 'time', 'color', 'slider', 'file']);

  const roleOf = (el) => {
    const explicit = el.getAttribute('role');
    if (explicit) {
      const first = explicit.trim().split(/\s+/)[0].toLowerCase();
      if (first === 'heading') return 'h' + (parseInt(el.getAttribute('aria-level'), 10) || 2);
      if (first === 'none' || first === 'presentation') return '';
      if (first in ARIA_ROLES) return ARIA_ROLES[first];
      if (first) return first.slice(0, 24).replace(/[^a-z0-9-]/g, '');
    }
    const tag = el.tagName;
    switch (tag) {
      case 'A': case 'AREA': return el.hasAttribute('href') ? 'link' : '';
      case 'INPUT': return el.list ? 'combobox' : INPUT_ROLES[el.type] ?? 'textbox';
      case 'SELECT': return el.multiple || el.size > 1 ? 'listbox' : 'combobox';
      case 'HEADER': return el.closest('article,aside,main,nav,section') ? '' : 'header';
      case 'FOOTER': return el.closest('article,aside,main,nav,section') ? '' : 'footer';
      case 'SECTION': case 'FORM':
        return el.hasAttribute('aria-label') || el.hasAttribute('aria-labelledby') ? TAG_ROLES[tag] : '';
      case 'svg': return el.hasAttribute('aria-label') || el.querySelector(':scope>title') ? 'img' : '';
      default: return TAG_ROLES[tag] ?? '';
    }
  };

  // ---- names ----

  const kids = (el) => {
    const shadow = shadowOf(el);
    if (shadow) return shadow.childNodes;
    if (el.tagName === 'SLOT') {
      const given = el.assignedNodes();
      if (given.length) return given;
    }
    return el.childNodes;
  };

  // The text of an element for a name: also of hidden ones, when they are pointed at by id.
  const textIn = (el, hiddenToo, left = 400) => {
    let out = '';
    for (const node of kids(el)) {
      if (out.length > left) break;
      if (node.nodeType === 3) { out += node.data; continue; }
      if (node.nodeType !== 1 || /^(SCRIPT|STYLE|NOSCRIPT|TEMPLATE)$/.test(node.tagName)) continue;
      if (!hiddenToo && (node.getAttribute('aria-hidden') === 'true' || !node.checkVisibility({ visibilityProperty: true }))) continue;
      const label = node.getAttribute('aria-label') ?? (node.tagName === 'IMG' ? node.alt : null);
      if (label !== null) out += ' ' + label + ' ';
      else if (/^(INPUT|SELECT|TEXTAREA|OPTION)$/.test(node.tagName)) out += ' ';
      else {
        const block = getComputedStyle(node).display !== 'inline' ? ' ' : '';
        out += block + textIn(node, hiddenToo, left - out.length) + block;
      }
    }
    return out;
  };

  const namedBy = (el) => {
    const ids = words(el.getAttribute('aria-labelledby'));
    if (ids.length) {
      const root = el.getRootNode();
      const name = clean(ids.map((id) => {
        const other = root.getElementById?.(id);
        return other ? other.getAttribute('aria-label') ?? (other.value && other.tagName === 'INPUT' ? other.value : textIn(other, true)) : '';
      }).join(' '));
      if (name) return name;
    }
    return clean(el.getAttribute('aria-label') ?? '');
  };

  const nativeName = (el, role) => {
    switch (el.tagName) {
      case 'INPUT':
        if (role === 'button') {
          const standard = { submit: 'Submit', reset: 'Reset' }[el.type] ?? '';
          return el.type === 'image' ? el.alt || el.value : el.value || standard;
        }
        // falls through
      case 'SELECT': case 'TEXTAREA': case 'METER': case 'PROGRESS': case 'OUTPUT': {
        const name = clean([...(el.labels ?? [])].map((label) => textIn(label)).join(' '));
        return name;
      }
      case 'IMG': case 'AREA': return el.alt;
      case 'FIELDSET': return textIn(el.querySelector(':scope>legend') ?? document.createElement('i'));
      case 'TABLE': return el.caption ? textIn(el.caption) : '';
      case 'svg': return el.querySelector(':scope>title')?.textContent ?? '';
      default: return '';
    }
  };

  // What stylesheets add before and after; icons' private characters are dropped by clean().
  const generated = (el, which) => {
    const content = getComputedStyle(el, which).content;
    return /^"/.test(content) ? content.replace(/^"|"$/g, '').replace(/\\"/g, '"') : '';
  };

  // ---- states and values ----

  const statesOf = (el, role, focused) => {
    const out = [];
    const aria = (name) => el.getAttribute('aria-' + name);
    const tag = el.tagName;
    const native = tag === 'INPUT' || tag === 'TEXTAREA' || tag === 'SELECT' || tag === 'BUTTON';
    const checked = tag === 'INPUT' && (el.type === 'checkbox' || el.type === 'radio')
      ? (el.indeterminate ? 'mixed' : String(el.checked)) : aria('checked');
    if (checked === 'true') out.push('checked');
    else if (checked === 'mixed') out.push('mixed');
    if ((native && el.matches(':disabled')) || aria('disabled') === 'true') out.push('disabled');
    if (tag === 'SUMMARY') out.push(el.parentElement?.open ? 'expanded' : 'collapsed');
    else if (aria('expanded')) out.push(aria('expanded') === 'true' ? 'expanded' : 'collapsed');
    if (aria('selected') === 'true') out.push('selected');
    if (aria('pressed') === 'true') out.push('pressed');
    const current = aria('current');
    if (current && current !== 'false') out.push('current');
    if (native) {
      if (el.required) out.push('required');
      if (el.readOnly) out.push('readonly');
    }
    if (aria('invalid') === 'true') out.push('invalid');
    if (el === focused) out.push('focused');
    if (role === 'dialog' && el.tagName === 'DIALOG' && el.matches(':modal')) out.push('modal');
    return out;
  };

  const valueOf = (el, role) => {
    switch (el.tagName) {
      case 'INPUT':
        if (role === 'password') return '*'.repeat(Math.min(el.value.length, 20));
        if (role === 'file') return [...el.files].map((file) => file.name).join(', ');
        return EDITS.has(role) ? el.value : '';
      case 'TEXTAREA': return el.value;
      case 'SELECT': return [...el.selectedOptions].map((option) => clean(option.label)).join(', ');
      case 'PROGRESS': case 'METER': return el.hasAttribute('value') ? String(el.value) : '';
      default:
        if (el.isContentEditable && EDITS.has(role)) return clean(el.innerText ?? '');
        return el.getAttribute('aria-valuetext') ?? el.getAttribute('aria-valuenow') ?? '';
    }
  };

  const optionsOf = (el) => {
    const chosen = new Set(el.selectedOptions);
    const others = [...el.options].filter((option) => !chosen.has(option));
    if (!others.length) return '';
    const some = others.slice(0, OPTIONS_MAX).map((option) => quote(cut(clean(option.label), 60)));
    if (others.length > some.length) some.push(`… ${others.length - some.length} more`);
    return ' or ' + some.join(', ');
  };

  return {
    ACTS, BY_CONTENT, EDITS, closedRoots, clean, cut, generated, kids, namedBy, nativeName, optionsOf, quote, roleOf,
    shadowOf, statesOf, textIn, valueOf,
  };
})();
