"""A PostgreSQL server of a test's own, from the binaries that Debian's and Red Hat's packages install."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

PASSWORD = "correct-horse"


def binaries() -> Path | None:
    """Return the folder of the newest server's programs, None if none is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    elsewhere = shutil.which("initdb")
    return Path(elsewhere).resolve().parent if elsewhere else None


class Server:
    """A server on a loopback port, with the one database `mlflow` and a user of that name who has a password.

    The server refuses to run as root: root starts it as the user `postgres` that the packages make.
    """

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        self._user = "postgres" if os.geteuid() == 0 else None
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        if self._user:
            owner = pwd.getpwnam(self._user)
            os.chown(self._folder, owner.pw_uid, owner.pw_gid)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        password = self._folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._call("initdb", "-D", self._data, "-U", "mlflow", "-A", "scram-sha-256", f"--pwfile={password}", "-N")
        self.start()
        self._call("createdb", "-h", "127.0.0.1", "-p", str(self._port), "-U", "mlflow", "mlflow")

    @property
    def uri(self) -> str:
        """The database's address, with the password."""
        return f"postgresql://mlflow:{PASSWORD}@127.0.0.1:{self._port}/mlflow"

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = f"-c listen_addresses=127.0.0.1 -c fsync=off -p {self._port} -k {self._folder}"
        self._call("pg_ctl", "-D", self._data, "-l", str(self._folder / "log"), "-o", options, "-w", "start")

    def kill(self) -> None:
        """End the server as a crash does, its connections with it."""
        self._call("pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop")

    def remove(self) -> None:
        """End the server, if it runs, and remove its files."""
        subprocess.run(
            [self._programs / "pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop"],
            user=self._user, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        shutil.rmtree(self._folder)

    def _call(self, program: str, *arguments: str) -> None:
        environment = {**os.environ, "PGPASSWORD": PASSWORD}
        command = [str(self._programs / program), *arguments]
        with tempfile.TemporaryFile("w+") as said:
            # Into a file: the server keeps what it was given open.
            done = subprocess.run(command, user=self._user, cwd="/", env=environment, stdout=said, stderr=said)
            said.seek(0)
            assert done.returncode == 0, said.read()
