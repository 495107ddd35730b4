"""Runs cells of Python in one process and keeps what they leave behind.

Commands arrive on descriptor 3, answers leave on 4; both are moved out of the way first.
  run ID LENGTH\\n CODE        answered by value, error, note, images (each if there is one), done
  image ID INDEX OFFSET\\n     answered by one piece of that picture
An answer is "NAME ID NUMBER LENGTH\\n" and LENGTH bytes.
"""
import ast
import builtins
import fcntl
import io
import linecache
import os
import signal
import sys
import time
import traceback
import types
import warnings

TEXT_MAX = 60_000  # characters of one value or error, before it is cut in the middle
PIECE = 512 << 10
IMAGES_MAX = 4
IMAGE_BYTES_MAX = 3 << 20
EDGE_MAX = 1568
OURS = "<driver>"  # the name that this file is compiled under

control_in = fcntl.fcntl(3, fcntl.F_DUPFD_CLOEXEC, 200)
control_out = fcntl.fcntl(4, fcntl.F_DUPFD_CLOEXEC, 200)
os.close(3)
os.close(4)
owner = os.getpid()
running = False
images = []
left_out = []  # what could not be shown, and why
shown = set()  # ids of figures that this cell has shown
event_loop = None
pending = b""

main = types.ModuleType("__main__")
main.__dict__["__builtins__"] = builtins
sys.modules["__main__"] = main
sys.argv = [""]


# ---- talking to the other side ----

def receive(count):
    """Exactly count bytes."""
    global pending
    while len(pending) < count:
        piece = os.read(control_in, max(65536, count - len(pending)))
        if not piece:
            os._exit(0)
        pending += piece
    data, pending = pending[:count], pending[count:]
    return data


def receive_line():
    global pending
    while b"\n" not in pending:
        piece = os.read(control_in, 65536)
        if not piece:
            os._exit(0)
        pending += piece
    line, pending = pending.split(b"\n", 1)
    return line.decode()


def send(name, cell, number=0, data=b""):
    data = b"%s %d %d %d\n" % (name.encode(), cell, number, len(data)) + data
    while data:
        data = data[os.write(control_out, data):]


def send_text(name, cell, text):
    if len(text) > TEXT_MAX:
        half = TEXT_MAX // 2
        text = "%s\n[... %d characters left out ...]\n%s" % (
            text[:half], len(text) - 2 * half, text[-half:])
    send(name, cell, 0, text.encode("utf-8", "replace"))


# ---- pictures ----

def as_png(picture):
    """A PIL image as the bytes of a PNG that is small enough."""
    if picture.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16"):
        picture = picture.convert("RGB")
    edge = EDGE_MAX
    while True:
        if max(picture.size) > edge:
            if picture.mode == "P":
                picture = picture.convert("RGBA")
            scale = edge / max(picture.size)
            picture = picture.resize([max(1, int(side * scale)) for side in picture.size])
        data = io.BytesIO()
        picture.save(data, "PNG")
        if data.tell() <= IMAGE_BYTES_MAX:
            return data.getvalue()
        edge = max(picture.size) * 3 // 4


def fit_png(data):
    """Scale the bytes of a PNG down if they need it and PIL is there."""
    if data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < 24:
        raise ValueError("_repr_png_ gave something that is not a PNG")
    width, height = (int.from_bytes(data[at:at + 4], "big") for at in (16, 20))
    if max(width, height) <= EDGE_MAX and len(data) <= IMAGE_BYTES_MAX:
        return data
    try:
        from PIL import Image
    except ImportError:
        raise ValueError("it is %d x %d pixels in %d bytes; without PIL it cannot be made smaller"
                         % (width, height, len(data)))
    return as_png(Image.open(io.BytesIO(data)))


def figure_png(figure):
    data = io.BytesIO()
    inches = max(figure.get_size_inches())
    figure.savefig(data, format="png", bbox_inches="tight",
                   dpi=min(figure.dpi, EDGE_MAX / inches if inches > 0 else figure.dpi))
    return fit_png(data.getvalue())


def picture_of(thing):
    """The PNG of something that is a picture, else None."""
    if isinstance(thing, type):
        return None
    pil = sys.modules.get("PIL.Image")
    if pil is not None and isinstance(thing, pil.Image):
        return as_png(thing)
    figures = sys.modules.get("matplotlib.figure")
    if figures is not None and isinstance(thing, figures.Figure):
        shown.add(id(thing))
        return figure_png(thing)
    make = getattr(thing, "_repr_png_", None)
    data = make() if callable(make) else None
    if isinstance(data, tuple):
        data = data[0]
    if isinstance(data, str):
        import base64
        data = base64.b64decode(data)
    return fit_png(bytes(data)) if data else None


def add_picture(make, thing):
    """True when it was a picture, also one that could not be shown."""
    try:
        data = make(thing)
    except Exception as problem:
        left_out.append("a picture is not shown: %s: %s" % (type(problem).__name__, problem))
        return True
    if data is None:
        return False
    if len(images) < IMAGES_MAX:
        images.append(data)
    else:
        left_out.append("more than %d pictures: one is not shown" % IMAGES_MAX)
    return True


def show_figures(*_, **__):
    """What pyplot.show() does here: every open figure is shown and closed."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None or not hasattr(pyplot, "get_fignums"):
        return
    for number in pyplot.get_fignums():
        figure = pyplot.figure(number)
        if id(figure) not in shown:
            add_picture(figure_png, figure)
        pyplot.close(figure)


class PyplotHook:
    """Gives pyplot our show() as soon as it is imported."""

    def find_spec(self, name, path=None, target=None):
        if name != "matplotlib.pyplot":
            return None
        import importlib.util
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module):
                execute(module)
                module.show = show_figures

            spec.loader.exec_module = exec_module
        return spec


def display(*things):
    """Show each thing: pictures as pictures, the rest by its repr."""
    for thing in things:
        if not add_picture(picture_of, thing):
            print(thing if isinstance(thing, str) else repr(thing))


def no_input(prompt=""):
    raise EOFError("input() has nobody to ask here: put the value into the code")


# ---- cells ----

def on_interrupt(signal_number, frame):
    if running:
        raise KeyboardInterrupt


def run_awaitable(awaitable):
    global event_loop
    import asyncio
    if event_loop is None or event_loop.is_closed():
        event_loop = asyncio.new_event_loop()
    asyncio.set_event_loop(event_loop)
    task = event_loop.create_task(awaitable)
    try:
        return event_loop.run_until_complete(task)
    except BaseException as problem:
        if not task.done():
            task.cancel()
            try:
                event_loop.run_until_complete(task)
            except BaseException:
                pass
        if isinstance(problem, KeyboardInterrupt):
            raise KeyboardInterrupt from None  # where in the event loop it struck tells nothing
        raise


def evaluate(tree, filename, mode):
    code = compile(tree, filename, mode, ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    value = eval(code, main.__dict__)
    return run_awaitable(value) if code.co_flags & 0x80 else value  # CO_COROUTINE


def run_code(code, filename):
    """The value of the cell's last expression, or None."""
    tree = compile(code, filename, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
                   dont_inherit=True)
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        if not code.rstrip().endswith(";"):
            last = ast.Expression(tree.body.pop().value)
    if tree.body:
        evaluate(tree, filename, "exec")
    return evaluate(last, filename, "eval") if last is not None else None


def drop_ours(report):
    """Take our own frames out of a traceback and what it goes back to."""
    seen = set()
    left = [report]
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        if one.stack:
            one.stack[:] = [frame for frame in one.stack if frame.filename != OURS]
            if not one.stack:
                one.stack = None
        left += [one.__cause__, one.__context__] + list(getattr(one, "exceptions", None) or [])


def describe(problem):
    if isinstance(problem, SystemExit):
        return "SystemExit: %s (the context goes on; restart begins anew)" % (problem.code,)
    try:
        report = traceback.TracebackException.from_exception(problem)
        drop_ours(report)
        return "".join(report.format())
    except BaseException as another:
        return "%s (and its text could not be made: %s)" % (
            type(problem).__name__, type(another).__name__)


def flush():
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:
            pass


def guarded(cell, code):
    """(value's text or None, error's text or None)"""
    global running
    filename = "<cell %d>" % cell
    linecache.cache[filename] = (len(code), None, code.splitlines(True), filename)
    text = error = None
    try:
        try:
            running = True
            value = run_code(code, filename)
            if value is not None:
                builtins._ = value
                add_picture(picture_of, value)
                text = repr(value)
            show_figures()
        except BaseException as problem:
            error = describe(problem)
        finally:
            running = False
    except KeyboardInterrupt:  # it came between the two lines above
        running = False
        error = error or "KeyboardInterrupt"
    if os.getpid() != owner:  # a fork that the cell let run on to here
        if error:
            print(error, file=sys.stderr)
        flush()
        os._exit(1 if error else 0)
    return text, error


def run(cell, code):
    del images[:], left_out[:]
    shown.clear()
    signal.signal(signal.SIGINT, on_interrupt)
    begin = time.monotonic()
    text, error = guarded(cell, code)
    took = int((time.monotonic() - begin) * 1e6)
    flush()
    if text is not None:
        send_text("value", cell, text)
    if error is not None:
        send_text("error", cell, error)
    if left_out:
        send_text("note", cell, "\n".join(left_out[:IMAGES_MAX]))
    if images:
        send("images", cell, len(images))
    send("done", cell, took)


def main_loop():
    while True:
        words = receive_line().split()
        if words[0] == "run":
            run(int(words[1]), receive(int(words[2])).decode("utf-8", "replace"))
        elif words[0] == "image":
            cell, index, offset = (int(word) for word in words[1:])
            data = images[index] if index < len(images) else b""
            send("image", cell, offset, data[offset:offset + PIECE])


builtins.display = display
builtins.input = no_input
warnings.filterwarnings("ignore", message=".*non-interactive, and thus cannot be shown")
sys.meta_path.insert(0, PyplotHook())
signal.signal(signal.SIGINT, on_interrupt)
main_loop()
