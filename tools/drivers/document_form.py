"""document_edit: fields of PDF forms, by qpdf."""
import json
import os

import document
from document import Fault, folder, quote, run


def fields_of(path):
    data = json.loads(run(["qpdf", "--json=2", "--json-key=acroform", "--no-warn", "--warning-exit-0", path], path))
    form = data.get("acroform") or {}
    return [f for f in form.get("fields") or []], form


def reference(text):
    """"5 0 R" as a key of qpdf's objects."""
    return "obj:" + text


def fill(path, goal, edits):
    fields, form = fields_of(path)
    if not fields:
        raise Fault("invalid", "%s has no form fields; a PDF's other text cannot be edited, convert its source" % path)
    names = []
    for f in fields:
        if f.get("fullname") not in names:
            names.append(f.get("fullname"))
    data = json.loads(run(["qpdf", "--json=2", "--json-key=qpdf", "--json-stream-data=none", "--no-warn",
                           "--warning-exit-0", path], path, cap=256 << 20))
    header, objects = data["qpdf"]
    changed, done = {}, []

    def value(ref):
        key = reference(ref)
        if key not in changed:
            changed[key] = objects[key]["value"]
        return changed[key]

    for edit in edits:
        if edit["op"] != "set_field":
            raise Fault("unsupported", "nothing was changed: of a PDF only form fields can be set (op set_field); there "
                        "are %s" % ", ".join(quote(n) for n in names[:20]))
        name, text = edit.get("at", ""), edit.get("text", "")
        mine = [f for f in fields if name in (f.get("fullname"), f.get("partialname"))]
        if not mine:
            raise Fault("not_found", "nothing was changed: there is no field %s; there are %s" % (
                quote(name[:80]), ", ".join(quote(n) for n in names[:20])))
        done.append(set_field(mine, name, text, value, objects))
    root = objects["trailer"]["value"]["/Root"]
    catalog = objects[reference(root)]["value"]
    where = catalog["/AcroForm"]
    acroform = value(where) if isinstance(where, str) else value(root)["/AcroForm"]
    acroform["/NeedAppearances"] = True
    patch = os.path.join(folder(), "patch.json")
    with open(patch, "w", encoding="utf-8") as f:
        json.dump({"qpdf": [header, {k: {"value": v} for k, v in changed.items()}]}, f)
    between, out = os.path.join(folder(), "filled.pdf"), os.path.join(folder(), "drawn.pdf")
    run(["qpdf", path, "--no-warn", "--warning-exit-0", "--update-from-json=" + patch, between], path)
    # What the fields look like is drawn by qpdf as far as it can (ASCII); viewers draw the rest.
    run(["qpdf", between, "--no-warn", "--warning-exit-0", "--generate-appearances", out], path)
    with open(out, "rb") as f:
        document.put(goal, f.read())
    return done


def set_field(mine, name, text, value, objects):
    kind = mine[0].get("fieldtype")
    before = mine[0].get("value")
    holder = mine[0]["object"]
    if mine[0].get("parent") and "/T" not in objects[reference(holder)]["value"]:
        holder = mine[0]["parent"]
    shown = before[2:] if isinstance(before, str) and before[:2] in ("u:", "b:") else before
    if kind == "/Sig":
        raise Fault("unsupported", "nothing was changed: %s is a signature" % quote(name))
    if kind == "/Btn":
        on = tick(mine, text, value, objects)
        value(holder)["/V"] = on
        return "%s: %s, was %s" % (name, on.lstrip("/"), str(shown).lstrip("/"))
    choices = mine[0].get("choices") or []
    if kind == "/Ch" and choices and "u:" + text not in choices and text not in choices and not (
            int(objects[reference(holder)]["value"].get("/Ff", 0)) & 1 << 18):
        raise Fault("invalid", "nothing was changed: %s takes one of %s" % (
            quote(name), ", ".join(quote(c[2:] if c.startswith("u:") else c) for c in choices[:30])))
    value(holder)["/V"] = "u:" + text
    for f in mine:
        value(f["annotation"]["object"]).pop("/AP", None)
    return "%s: %s, was %s" % (name, quote(text[:200]), quote(shown if shown is not None else ""))


def tick(mine, text, value, objects):
    """The state that a check box or a group of radio buttons gets; each shows whether it is that."""
    def states(f):
        look = objects[reference(f["annotation"]["object"])]["value"].get("/AP") or {}
        look = objects[reference(look)]["value"] if isinstance(look, str) else look
        normal = look.get("/N") or {}
        normal = objects[reference(normal)].get("value", {}) if isinstance(normal, str) else normal
        return [s for s in normal if s != "/Off"] or ["/Yes"]

    every = [s for f in mine for s in states(f)]
    low = text.lower()
    if low in ("off", "false", "no", "0", "") and "/" + text not in every:
        on = "/Off"
    elif "/" + text in every:
        on = "/" + text
    elif low in ("on", "true", "yes", "1", "x") and len(mine) == 1:
        on = every[0]
    else:
        raise Fault("invalid", "nothing was changed: the field takes Off or one of %s" % ", ".join(s[1:] for s in every))
    for f in mine:
        value(f["annotation"]["object"])["/AS"] = on if on in states(f) else "/Off"
    return on
