"""What all roles of a process have in common."""

from __future__ import annotations

import asyncio
from typing import Any

from predastore.base.config import Config
from predastore.base.errors import PredastoreError
from predastore.process import descriptors, roles
from predastore.process.keyring import Keyring
from predastore.process.reload import Reloader
from predastore.process.telemetry import Telemetry
from predastore.process.tls import Tls
from predastore.process.watchdog import Probe


class Common:
    """`failed`: resolved with the reason, or that is raised, should a role be unable to go on.
    `probes`: of the metadata in this process: can it be read?"""

    def __init__(self, settings: Config, chosen: roles.Roles, keyring: Keyring) -> None:
        self.settings = settings
        self.roles = chosen
        self.keyring = keyring
        self.failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.is_ready = False  # what /-/health/ready says; kept by predastore.process.host
        self.tls = Tls(settings, chosen)
        self.reloader = Reloader(settings)
        self.telemetry: Telemetry | None = None  # set before roles open where requests are traced
        self.probes: list[Probe] = []
        self.shares = descriptors.shares_of(settings, chosen)

    def end(self, error: PredastoreError) -> None:
        """The process can not go on for this."""
        if not self.failed.done():
            self.failed.set_exception(error)

    def fail(self, part: asyncio.Future[Any]) -> None:
        """The process can not go on, as a part of it has ended."""
        if not self.failed.done() and not part.cancelled():
            self.failed.set_result(str(part.exception() or part.result()))
