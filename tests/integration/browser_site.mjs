// The pages of the browser tests: the awkward cases, served on the loopback of the computer.
// 127.0.0.1 and localhost are two sites, whose frames live in processes of their own.
const page = (title, body, head = '') => `<!doctype html><html lang=en><meta charset=utf-8><title>${title}</title>${head}<body>${body}`;

const log = '<p id=log>nothing yet</p><script>const say = (text) => { document.getElementById("log").textContent = text; };</script>';

const form = page('Form', `<main><h1>Order</h1><form onsubmit="say('sent ' + new URLSearchParams(new FormData(this))); return false">
<label>Name <input name=name required></label>
<label for=mail>E-mail</label> <input id=mail name=mail type=email placeholder="you@example.org">
<label>Note <textarea name=note></textarea></label>
<label>Colour <select name=colour><option>Red<option>Green<option value=b>Blue</select></label>
<label>Extras <select name=extras multiple><option>Cream<option>Sugar<option>Milk</select></label>
<label><input type=checkbox name=terms> I agree</label>
<fieldset><legend>Size</legend><label><input type=radio name=size value=s> Small</label> <label><input type=radio name=size value=l> Large</label></fieldset>
<label>Day <input type=date name=day></label>
<label>Count <input type=range name=count min=0 max=10 value=5></label>
<label>Secret <input type=password name=secret value=hunter2></label>
<button>Send</button></form>${log}</main>`);

const pages = {
  '/': page('Home', `<nav aria-label=Main><a href=/form>Form</a> <a href=/shadow>Shadow</a></nav><main><h1>Welcome</h1><p>Some <b>bold</b> and <i>slanted</i> text.</p>
<ul><li>One<li>Two <a href=/two>more</a></ul><table><tr><th>Name<th>Price<th></th></tr><tr><td>Tea<td>3<td><button>Buy tea</button></tr><tr><td>Milk<td>2<td><button>Buy milk</button></tr></table>
<div style="display:none">hidden one</div><div style="visibility:hidden">hidden two</div><div aria-hidden=true>hidden three</div><img alt="A cat" src="data:," width=80 height=80></main>`),
  '/form': form,
  '/shadow': page('Shadow', `<open-box>slotted text</open-box><shut-box></shut-box>${log}<script>
customElements.define('open-box', class extends HTMLElement { constructor() { super(); const r = this.attachShadow({ mode: 'open' });
 r.innerHTML = '<p>in the open</p><slot></slot><button>Open button</button><input aria-label="Open field">'; r.querySelector('button').onclick = () => say('open clicked'); } });
customElements.define('shut-box', class extends HTMLElement { constructor() { super(); const r = this.attachShadow({ mode: 'closed' });
 r.innerHTML = '<button>Shut button</button><input aria-label="Shut field">'; r.querySelector('button').onclick = () => say('shut clicked');
 r.querySelector('input').oninput = (e) => say('shut typed ' + e.target.value); } });</script>`),
  '/inner': page('Inner', `<h2>Inside</h2><label>Inner field <input oninput="say('inner typed ' + this.value)"></label> <button onclick="say('inner clicked')">Inner button</button>${log}<div style="height:900px">tall</div><button onclick="say('low clicked')">Low button</button>`),
  '/dialogs': page('Dialogs', `<button onclick="alert('Beware'); say('alerted')">Alert</button> <button onclick="say('confirmed ' + confirm('Sure?'))">Confirm</button>
<button onclick="say('prompted ' + prompt('Who?', 'me'))">Prompt</button>${log}`),
  '/files': page('Files', `<label>Papers <input type=file multiple onchange="say([...this.files].map((f) => f.name + ' ' + f.size).join(', '))"></label>
<button onclick="document.getElementById('hidden').click()">Choose a file</button><input id=hidden type=file style="display:none" onchange="say('chosen ' + this.files[0].name)">${log}`),
  '/drag': page('Drag', `<div id=card draggable=true style="width:120px;height:40px;background:#fc8" ondragstart="event.dataTransfer.setData('text/plain', 'card')">Card</div>
<div id=zone style="width:300px;height:120px;margin-top:60px;background:#cfc" ondragover="event.preventDefault()" ondrop="event.preventDefault(); say('dropped ' + event.dataTransfer.getData('text/plain'))">Drop here</div>
<div id=knob role=slider aria-label=Knob tabindex=0 aria-valuenow=0 style="position:absolute;left:20px;top:400px;width:40px;height:40px;background:#88f"></div><div id=goal style="position:absolute;left:400px;top:400px;width:80px;height:80px;background:#ddd">Goal</div>${log}<script>
const knob = document.getElementById('knob'); let held = null; knob.onmousedown = (e) => { held = e.clientX; e.preventDefault(); };
addEventListener('mousemove', (e) => { if (held !== null) knob.style.left = e.clientX - 20 + 'px'; });
addEventListener('mouseup', () => { if (held !== null) { held = null; say('knob at ' + parseInt(knob.style.left)); } });</script>`),
  '/scroll': page('Scroll', `<div id=list style="height:300px;overflow:auto"></div>${log}<script>let n = 0; const list = document.getElementById('list');
const more = () => { for (let i = 0; i < 20; i++) { const b = document.createElement('button'); b.style = 'display:block;height:30px'; const k = ++n; b.textContent = 'Row ' + k; b.onclick = () => say('row ' + k); list.append(b); } };
more(); list.onscroll = () => { if (n < 200 && list.scrollTop + list.clientHeight > list.scrollHeight - 50) more(); };</script>`),
  '/editable': page('Editable', `<div contenteditable aria-label=Essay style="min-height:80px;border:1px solid">First words</div>${log}<script>document.querySelector('[contenteditable]').oninput = (e) => say('essay: ' + e.target.innerText);</script>`),
  '/canvas': page('Canvas', `<canvas width=300 height=200 style="border:0;display:block" title=Board></canvas>${log}<script>document.querySelector('canvas').onclick = (e) => say('canvas ' + e.offsetX + ' ' + e.offsetY);</script>`),
  '/covered': page('Covered', `<button onclick="say('reached')">Under</button><div class=overlay style="position:fixed;inset:0;background:#0008"></div>${log}`),
  '/uncovered': page('Uncovered', `<button onclick="say('reached')">Under</button><div class=overlay style="position:fixed;inset:0;background:#0008"></div>${log}<script>setTimeout(() => document.querySelector('.overlay').remove(), 700);</script>`),
  '/moving': page('Moving', `<style>@keyframes m { from { margin-left: 0 } to { margin-left: 600px } } button { animation: m 1.2s linear forwards }</style><button onclick="say('caught')">Moving</button>${log}`),
  '/late': page('Late', `<button disabled onclick="say('pressed')">Late</button>${log}<script>setTimeout(() => { document.querySelector('button').disabled = false; }, 700);</script>`),
  '/never': page('Never', `<button disabled onclick="say('pressed')">Never</button>${log}`),
  '/dead': page('Dead', `<button>Dead</button>${log}`),
  // As React does it: the value is what the program says, whatever was typed.
  '/controlled': page('Controlled', `<label>Upper <input id=u></label> <label>Digits <input id=d></label>${log}<script>
const control = (el, rule) => { const native = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value'); let value = '';
 Object.defineProperty(el, 'value', { get() { return native.get.call(el); }, set(v) { value = v; native.set.call(el, v); } });
 el.addEventListener('input', () => { const now = native.get.call(el); if (now === value) return; value = rule(now); native.set.call(el, value); say(el.id + ' ' + value); }); };
control(u, (t) => t.toUpperCase()); control(d, (t) => t.replace(/\\D/g, ''));</script>`),
  '/keys': page('Keys', `<input id=i aria-label=Field value="some words">${log}<script>i.onkeydown = (e) => say([e.ctrlKey && 'Control', e.shiftKey && 'Shift', e.key, e.code, e.keyCode].filter(Boolean).join(' '));</script>`),
  '/hover': page('Hover', `<style>.menu { display: none } .top:hover .menu { display: block }</style><div class=top tabindex=0>Products<div class=menu><button onclick="say('picked')">Pick me</button></div></div>${log}<button ondblclick="say('double')" oncontextmenu="say('context'); return false">Twice</button>`),
  '/labels': page('Labels', `<style>.box input { display: none }</style><label class=box><input type=checkbox onchange="say('box ' + this.checked)"> Fancy</label>${log}<div id=plain>Plain thing</div><script>plain.addEventListener('click', () => say('plain clicked'));</script>`),
  '/navigate': page('Navigate', `<a href=/form>Go to the form</a> <button onclick="window.open('/inner')">Pop up</button>`),
};

const framed = (port) => page('Frames', `<h1>Frames</h1><p>above</p><iframe title=Same src=/inner width=500 height=250></iframe>
<div style="height:1200px">far</div><iframe title=Other src="http://localhost:${port}/inner" width=500 height=250 style="margin-left:37px;border:5px solid"></iframe>`);

// A server of these pages for `python3 site.py PORT`, inside a computer or on the host: it reads them
// from its standard input, and says when it is ready.
export const program = String.raw`
import http.server, json, sys
pages = json.load(sys.stdin)
rows = ''.join('<div class=row><span>Item %d</span> <a href="/item/%d">Open %d</a></div>\n' % (i, i, i) for i in range(12500))
pages['/big'] = '<!doctype html><title>Big</title><h1>Big</h1>' + rows  # 50,000 nodes
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def log_message(self, *args): pass
    def do_GET(self):
        path = self.path.split('?')[0]
        text = '<!doctype html><h1>Item</h1>' if path.startswith('/item/') else pages.get(path)
        body = (text or 'not found').encode()
        self.send_response(200 if text else 404)
        self.send_header('Content-Type', 'text/html')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
server = http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Handler)
print('ready', server.server_address[1], flush=True)
server.serve_forever()
`;

export const input = (port) => JSON.stringify({ ...pages, '/frames': framed(port) });
