"""The demonstration's MCP client: newline-delimited JSON-RPC over a child's standard input and output."""

import json
import os
import shlex
import subprocess
import sys
import textwrap
import time

BOLD, DIM, RED, GREEN, END = ("\033[1m", "\033[2m", "\033[31m", "\033[32m", "\033[0m") \
    if sys.stdout.isatty() else ("",) * 5


class Server:
    """One `aios mcp`, spoken to in the 2025-11-25 revision."""

    def __init__(self, program):
        self.child = subprocess.Popen([program, "mcp"], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE)
        self.last_id = 0

    def request(self, method, params):
        self.last_id += 1
        message = {"jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params}
        started = time.monotonic()
        self.child.stdin.write(json.dumps(message).encode() + b"\n")
        self.child.stdin.flush()
        while True:
            line = self.child.stdout.readline()
            if not line:
                sys.exit("demo: the server ended; its error messages stand above")
            answer = json.loads(line)
            if answer.get("id") == self.last_id and "method" not in answer:
                return answer, (time.monotonic() - started) * 1000

    def close(self):
        self.child.stdin.close()
        return self.child.wait(timeout=10)


def indent(text, mark):
    return textwrap.indent(text.rstrip("\n"), mark, lambda line: True)


def show(title, server, name, arguments, expect=None):
    """Call a tool and print request, answer and time.  `expect`: text that must be in the answer,
    which must be no failure."""
    answer, ms = server.request("tools/call", {"name": name, "arguments": arguments})
    result = answer.get("result")
    if result is None:
        sys.exit(f"demo: {name} was refused by the protocol: {answer['error']['message']}")
    text = "\n".join(block.get("text", f"[{block['type']}]") for block in result["content"])
    failed = result.get("isError", False)
    print(f"\n{BOLD}{title}{END}  {DIM}{ms:.1f} ms{END}")
    print(indent(f"{name} {json.dumps(arguments)}", "  > "))
    print(RED if failed else "", end="")
    print(indent(text if len(text) < 2000 else text[:2000] + " …", "  < "), end=f"{END}\n")
    if failed or (expect is not None and expect not in text):
        sys.exit(f"demo: expected {expect or 'a success'!r} in this answer")
    return result


def main(program):
    server = Server(program)
    answer, ms = server.request("initialize", {
        "protocolVersion": "2025-11-25", "capabilities": {},
        "clientInfo": {"name": "demo", "version": "1"}})
    info = answer["result"]
    print(f"{BOLD}initialize{END}  {DIM}{ms:.1f} ms, process start included{END}")
    print(f"  < {info['serverInfo']['title']} {info['serverInfo']['version']}, "
          f"protocol {info['protocolVersion']}")
    answer, ms = server.request("tools/list", {})
    tools = answer["result"]["tools"]
    print(f"\n{BOLD}tools/list{END}  {DIM}{ms:.1f} ms{END}")
    print(indent(textwrap.fill(", ".join(tool["name"] for tool in tools), 96), "  < "))

    show("A computer is made when it is first needed", server, "terminal_run",
         {"command": "echo hello from $(hostname), I am $(id -un); pwd"}, "hello from")
    show("Python that keeps its state …", server, "code_run",
         {"language": "python", "code": "import math\nradius = 3"})
    show("… from one call to the next", server, "code_run",
         {"language": "python", "code": "math.pi * radius ** 2"}, "28.27")
    show("Write a file", server, "file_write",
         {"path": "notes/plan.txt", "content": "first: measure\nsecond: cut\nthird: measure again\n"})
    show("Edit it, and see the change", server, "file_edit",
         {"path": "notes/plan.txt", "old_text": "second: cut", "new_text": "second: cut once"},
         "+second: cut once")
    show("Search in files", server, "file_search", {"pattern": "measure"}, "plan.txt:1")
    show("A system call that the sandbox refuses, and says so", server, "terminal_run",
         {"command": "mount -t tmpfs none /mnt || unshare --net true"}, "refused by the sandbox")
    show("A connection that no rule allows", server, "terminal_run",
         {"command": "curl -sS -m 5 http://example.com/ || "
                     "python3 -c \"import urllib.request as u; u.urlopen('http://example.com/')\" "
                     "2>&1 | tail -n 1"}, "no network rule allows example.com:80")
    fork = show("Copy the computer: the same files, a life of its own", server, "computer_create",
                {"from": "default"})
    copy = fork["structuredContent"]["computer"]
    show("Change the copy …", server, "terminal_run",
         {"command": "echo fourth: celebrate >> notes/plan.txt; wc -l notes/plan.txt",
          "computer": copy}, "4 notes/plan.txt")
    show("… and the first one is as it was", server, "terminal_run",
         {"command": "wc -l notes/plan.txt"}, "3 notes/plan.txt")
    show("What there is now", server, "computer_list", {}, copy)
    started = time.monotonic()
    code = server.close()
    if code != 0:
        sys.exit(f"demo: the server ended with code {code}")
    print(f"\n{GREEN}The server ended with code {code} "
          f"{(time.monotonic() - started) * 1000:.0f} ms after its input, and nothing is left.{END}")
    configuration(os.path.realpath(program))


def configuration(program):
    entry = {"type": "stdio", "command": program, "args": ["mcp"]}
    hosts = json.dumps({"mcpServers": {"aios": entry}}, indent=2)
    code = json.dumps({"servers": {"aios": entry}}, indent=2)
    print(f"""
{BOLD}To use it, add one entry to your LLM host:{END}

{BOLD}Claude Desktop{END}  claude_desktop_config.json (Settings, Developer, Edit Config)
{BOLD}Cursor{END}          ~/.cursor/mcp.json
{BOLD}Claude Code{END}     .mcp.json in a project, or: claude mcp add aios -- {shlex.quote(program)} mcp
{indent(hosts, "  ")}

{BOLD}VS Code{END}  .vscode/mcp.json
{indent(code, "  ")}

{BOLD}Codex{END}  ~/.codex/config.toml
  [mcp_servers.aios]
  command = {json.dumps(program)}
  args = ["mcp"]
  tool_timeout_sec = 60""")


if __name__ == "__main__":
    main(sys.argv[1])
