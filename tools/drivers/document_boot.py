import os, sys
def r(n):
    b = b""
    while len(b) < n:
        c = os.read(0, n - len(b))
        if not c:
            os._exit(1)
        b += c
    return b
texts = dict(p.split("\n", 1) for p in r(int(r(8))).decode().split("\x01")[1:])
class Parts:
    """Finds the parts of the driver, so that only those which a call needs are compiled."""
    @staticmethod
    def find_spec(name, path=None, target=None):
        return type(sys.__spec__)(name, Parts) if name in texts else None
    @staticmethod
    def create_module(spec):
        return None
    @staticmethod
    def exec_module(module):
        exec(compile(texts[module.__name__], module.__name__, "exec"), module.__dict__)
sys.meta_path.insert(0, Parts)
import document
document.keep(r, texts)
