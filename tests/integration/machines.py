"""Machines of the tests: network namespaces, each with an sshd, a home and a container storage of its own.

An "arm64 machine" is an sshd inside a namespace of polyarch's with a handler for arm64 programs, so that whatever is
started over SSH can execute them as a real one would; only uname(2) gives it away.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PORT = 2222
# Test runs side by side on one machine must not meet.
_RUN = os.getpid()
_NET = f"10.{64 + _RUN % 128}.{_RUN // 128 % 256}"
ORDINARY = f"polynode{_RUN}"
_SSHD = "/usr/sbin/sshd"


@dataclass(frozen=True)
class Machine:
    """A running machine: its namespace, address and folder, who logs in; `process` is its sshd."""

    name: str
    host: str
    folder: Path
    user: str
    home: Path
    process: subprocess.Popen[bytes]

    @property
    def address(self) -> str:
        return f"ssh://{self.user}@{self.host}:{PORT}"

    @property
    def kept(self) -> Path:
        """Where polyarch keeps what it keeps there."""
        return self.home / ".cache" / "polyarch-node"

    def die(self) -> None:
        """Everything of the machine is killed at once, as when its plug is pulled."""
        for pid in _pids(self.name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def processes(self) -> list[str]:
        """The command lines of what runs there."""
        found = []
        for pid in _pids(self.name):
            with contextlib.suppress(OSError):
                found.append(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        return found


@dataclass(frozen=True)
class Client:
    """The user's side: a home with keys and known_hosts."""

    home: Path

    def know(self, machine: Machine) -> None:
        """Put the machine's host key where OpenSSH would."""
        with (self.home / ".ssh" / "known_hosts").open("a") as file:
            file.write(f"[{machine.host}]:{PORT} {(machine.folder / 'host_key.pub').read_text()}")


def make_client(folder: Path) -> Client:
    ssh = folder / ".ssh"
    ssh.mkdir(parents=True, mode=0o700)
    _keygen(ssh / "id_ed25519")
    return Client(folder)


@contextlib.contextmanager
def machine(
    number: int, folder: Path, client: Client, inside: Sequence[str] = (), *, user: str = "root", lacks: str = ""
) -> Iterator[Machine]:
    """Start a machine; `inside` is the command prefix that enters what it shall live in, `lacks` a program it has not.

    Any `user` but root is made for it, with subordinate ids.
    """
    name, host = f"polynode{_RUN}-{number}", _host(number, 2)
    home = folder / "home" if user == "root" else _new_user(user)
    (folder / "home").mkdir(parents=True)
    _keygen(folder / "host_key")
    shutil.copy(client.home / ".ssh" / "id_ed25519.pub", f"/run/{name}.keys")  # where every user can read it
    (folder / "sshd_config").write_text(
        f"Port {PORT}\nListenAddress {host}\nHostKey {folder}/host_key\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile /run/{name}.keys\nPasswordAuthentication no\nPermitRootLogin yes\n"
        f"SetEnv HOME={home} PATH={_programs(folder / 'bin', lacks) if lacks else '/usr/bin:/bin'}\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    _network(name, number)
    log = (folder / "sshd.log").open("wb")
    argv = ["ip", "netns", "exec", name, *inside, _SSHD, "-D", "-e", "-f", str(folder / "sshd_config")]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    found = Machine(name, host, folder, user, home, process)
    try:
        _wait(found)
        yield found
    finally:
        found.die()
        process.kill()
        process.wait()
        _ip("netns", "del", name, check=False)
        log.close()
        _unmount(folder)
        Path(f"/run/{name}.keys").unlink()
        if user != "root":
            subprocess.run(["userdel", "--remove", user], check=False, capture_output=True)


def _new_user(name: str) -> Path:
    subprocess.run(["userdel", "--remove", name], check=False, capture_output=True)
    subprocess.run(["useradd", "--create-home", "--shell", "/bin/sh", "--password", "*", name], check=True)
    subprocess.run(["usermod", "--add-subuids", "400000-465535", "--add-subgids", "400000-465535", name], check=True)
    return Path("/home") / name


def _programs(folder: Path, lacks: str) -> Path:
    """A folder with a link to every program but one."""
    folder.mkdir()
    for program in (*Path("/usr/sbin").iterdir(), *Path("/usr/bin").iterdir()):
        if program.name != lacks and not (folder / program.name).is_symlink():
            (folder / program.name).symlink_to(program)
    return folder


def _host(number: int, end: int) -> str:
    """Our end (1) or the machine's (2) of its network of two."""
    return f"{_NET}.{4 * number + end}"


def _network(name: str, number: int) -> None:
    ours = f"pn{_RUN}-{number}"  # 15 characters at most
    _ip("netns", "add", name)
    _ip("link", "add", ours, "type", "veth", "peer", "name", "eth0", "netns", name)
    _ip("addr", "add", f"{_host(number, 1)}/30", "dev", ours)
    _ip("link", "set", ours, "up")
    _ip("-n", name, "addr", "add", f"{_host(number, 2)}/30", "dev", "eth0")
    _ip("-n", name, "link", "set", "eth0", "up")
    _ip("-n", name, "link", "set", "lo", "up")


def _wait(found: Machine) -> None:
    import socket

    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_connection((found.host, PORT), timeout=1):
            return
        if found.process.poll() is not None:
            break
        time.sleep(0.1)
    raise AssertionError((found.folder / "sshd.log").read_text())


def _unmount(folder: Path) -> None:
    """What the machine's engine left mounted in our mount namespace."""
    for line in reversed(Path("/proc/mounts").read_text().splitlines()):
        if line.split()[1].startswith(f"{folder}/"):
            subprocess.run(["umount", "-l", line.split()[1]], check=False)


def _pids(name: str) -> list[int]:
    done = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True)
    return [int(pid) for pid in done.stdout.split()]


def _keygen(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)], check=True)


def _ip(*args: str, check: bool = True) -> None:
    subprocess.run(["ip", *args], check=check, capture_output=True)
