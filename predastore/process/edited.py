"""Whether the configuration's file says something else than what is in force.

Who edits it and forgets to have it taken in would find out at the next start. So the file is
looked at, and once something in it differs, that is logged, with what to do; again only when it
says something else.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable

from predastore.base.config import Config
from predastore.base.config.changes import changes
from predastore.base.errors import ConfigError, PredastoreError
from predastore.base.limits import CONFIG_LOOK_MS
from predastore.process.reload import phrase

_log = logging.getLogger(__name__)


class EditedFile:
    """`reread`: what flags, environment and file come to now; `in_force`: what was taken in last.
    `differs`: whether that is not the same, or the file has mistakes."""

    def __init__(self, reread: Callable[[], Config], in_force: Callable[[], Config]) -> None:
        self._reread = reread
        self._in_force = in_force
        self._seen: object = None
        self._said = ""
        self.differs = False

    async def watch(self) -> None:
        """Looks now and then, until it is cancelled."""
        while True:
            try:
                await self.look()
            except Exception:
                _log.exception("whether the configuration was edited is not known")
            await asyncio.sleep(CONFIG_LOOK_MS / 1000)

    async def look(self) -> None:
        """Looks once."""
        settings = self._in_force()
        if not settings.source:
            return
        seen = (_stamp(settings.source), settings)
        if seen == self._seen:
            return
        found = await asyncio.to_thread(self._found, settings)
        self._seen, self.differs = seen, bool(found)
        if found and found != self._said:
            _log.warning(
                "the configuration was edited and is not in force; SIGHUP (systemctl reload s3d) "
                "takes it in",
                extra={"file": settings.source, "differs": found},
            )
        elif self._said and not found:
            _log.info("the configuration is in force", extra={"file": settings.source})
        self._said = found

    def _found(self, settings: Config) -> str:
        """What differs, or why it can not be read; "" where it is in force."""
        try:
            found = changes(settings, self._reread())
        except ConfigError as error:
            return phrase(error.problems)
        except PredastoreError as error:
            return str(error)
        return phrase(found) if found else ""


def _stamp(file: str) -> tuple[int, int, int] | None:
    """What changes when the file does; None where it is not there."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
