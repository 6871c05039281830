"""What a server uses: CPU time and memory of a process and of all that it started.

A server may be several processes (workers), so that each figure is of the tree.
"""

from __future__ import annotations

from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Cpu:
    """CPU time, in seconds."""

    user_s: float
    system_s: float

    def since(self, before: Cpu) -> Cpu:
        return Cpu(self.user_s - before.user_s, self.system_s - before.system_s)

    @property
    def total_s(self) -> float:
        return self.user_s + self.system_s


def cpu(pid: int) -> Cpu:
    """So far. What ended meanwhile counts with its parent."""
    times = [process.cpu_times() for process in _tree(pid)]
    ended_user = times[0].children_user if times else 0.0
    ended_system = times[0].children_system if times else 0.0
    return Cpu(
        sum(one.user for one in times) + ended_user,
        sum(one.system for one in times) + ended_system,
    )


def resident_mib(pid: int) -> float:
    """What is resident now; a page that several of them share counts once (PSS)."""
    return float(sum(process.memory_full_info().pss for process in _tree(pid))) / (1 << 20)


def listener(address: str, port: int) -> int | None:
    """The process of this machine that listens there, the one that started the others; None where
    there is none, or it is not to be seen."""
    addresses = (address, f"::ffff:{address}", "0.0.0.0", "::")
    try:
        pids = {
            found.pid
            for found in psutil.net_connections("tcp")
            if found.status == psutil.CONN_LISTEN
            and found.laddr.port == port
            and found.laddr.ip in addresses
            and found.pid
        }
    except psutil.AccessDenied:
        return None
    roots = [pid for pid in pids if psutil.Process(pid).ppid() not in pids]
    return roots[0] if len(roots) == 1 else None


def _tree(pid: int) -> list[psutil.Process]:
    root = psutil.Process(pid)
    return [root, *root.children(recursive=True)]
