import os
def r(n):
    b = b""
    while len(b) < n:
        c = os.read(3, n - len(b))
        if not c:
            os._exit(1)
        b += c
    return b
exec(compile(r(int(r(8))), "<driver>", "exec"), {"__name__": "driver"})
