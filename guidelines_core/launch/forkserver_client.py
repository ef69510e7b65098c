"""Asks `guidelines_core.launch.forkserver` for a process and represents it: same streams, signals and exit status.

`forkserver_client.py ADDRESS PYTHON ARGUMENT…` has the effect of `PYTHON ARGUMENT…`. It is started for every process of
a run, so it imports very little. Without a server it executes the interpreter.
"""

import array
import json
import os
import signal
import socket
import sys

address, python, arguments = sys.argv[1], sys.argv[2], sys.argv[3:]
connection = socket.socket(socket.AF_UNIX)
try:
    connection.connect(address)
except OSError:
    os.execv(python, [python, *arguments])

numbers = [int(name) for name in os.listdir("/proc/self/fd")]
numbers = [n for n in numbers if n != connection.fileno() and os.path.exists(f"/proc/self/fd/{n}")]
request = {
    "arguments": arguments,
    "environment": dict(os.environ),
    "directory": os.getcwd(),
    "numbers": numbers,
}
data = json.dumps(request).encode() + b"\n"
sent = connection.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", numbers))])
connection.sendall(data[sent:])
for number in numbers:
    if number > 2:
        os.close(number)

answers = connection.makefile()
child = int(answers.readline())
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(number, lambda received, frame: os.kill(child, received))
status = answers.readline()
if not status:
    sys.exit(1)
code = int(status)
if code < 0:
    signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
    os.kill(os.getpid(), -code)
sys.exit(code)
