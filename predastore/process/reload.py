"""Taking in a changed configuration while the process runs: what SIGHUP asks for.

What can change registers a hook with the keys of the configuration that it answers for. A reload
reads flags, environment and file once more, lets every hook prepare, and applies what they made,
all in one turn of the event loop. Where anything is wrong with the file, or a hook refuses, the
settings that were in force stay in force, all of them, and each problem is logged. What changed is
named. Keys that differ from what runs and that no hook answers for wait for the next start; each
reload names them, until they are changed back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from predastore.base.config import Config
from predastore.base.config.changes import KEYS, changes, row_changes
from predastore.base.errors import ConfigError, PredastoreError, located
from predastore.base.limits import RELOAD_NAMED_MAX

# Made by a hook from settings that it has found good; run on the event loop, it can not fail.
Apply = Callable[[], None]

# Runs in a thread, and changes nothing; ConfigError or StartupError where it can not be done.
Prepare = Callable[[Config], Apply]

# What a hook for a table does not take in: of a row that was there before, or at all.
_AT_START: Final = {
    "nodes": ("host", "port", "path", "listen"),
    "cluster": ("name", "join", "scrub_days"),
}

_log = logging.getLogger(__name__)


class Reloader:
    """`settings`: those that were read last, and are in force but for what waits for the next
    start. Used on the event loop, by one caller at a time."""

    def __init__(self, settings: Config) -> None:
        self.settings = settings
        self._started = settings  # what no hook answers for is as it was then
        self._waits = False
        self._hooks: list[tuple[frozenset[str], Prepare]] = []

    def add(self, keys: Sequence[str], prepare: Prepare) -> None:
        """`prepare` answers for these keys (fields of Config), and is asked at every reload."""
        self._hooks.append((frozenset(keys), prepare))

    @property
    def in_force(self) -> Config:
        """What runs: as it was started, but for what the hooks have taken in."""
        covered = frozenset[str]().union(*(keys for keys, _ in self._hooks))
        return replace(self._started, **{key: getattr(self.settings, key) for key in covered})

    async def reload(self, reread: Callable[[], Config]) -> bool:
        """Whether the settings that `reread` gives are now in force."""
        try:
            settings, applies = await asyncio.to_thread(self._prepared, reread)
        except ConfigError as error:
            return self._refuse(error.problems)
        except PredastoreError as error:
            return self._refuse([str(error)])
        except OSError as error:
            return self._refuse([located(error)])
        except Exception as error:
            _log.exception("reload failed")
            return self._refuse([f"{type(error).__name__}: {error}"])
        for apply in applies:
            apply()
        changed = changes(self.settings, settings)
        self.settings = settings
        file = settings.source or "none"
        _log.info("configuration reloaded", extra={"file": file, "changed": phrase(changed)})
        self._say_what_waits(settings)
        return True

    def _prepared(self, reread: Callable[[], Config]) -> tuple[Config, list[Apply]]:
        settings = reread()
        problems: list[str] = []
        applies: list[Apply] = []
        for _, prepare in self._hooks:
            try:
                applies.append(prepare(settings))
            except ConfigError as error:
                problems += error.problems
            except PredastoreError as error:
                problems.append(str(error))
        if problems:
            raise ConfigError(problems)
        return settings, applies

    @staticmethod
    def _refuse(problems: Sequence[str]) -> bool:
        for problem in problems:
            _log.error("configuration not reloaded", extra={"problem": problem})
        return False

    def _say_what_waits(self, settings: Config) -> None:
        covered = frozenset[str]().union(*(keys for keys, _ in self._hooks))
        waiting = changes(self._started, settings, [key for key in KEYS if key not in covered])
        for table, attributes in _AT_START.items():
            if table in covered:
                waiting += row_changes(self._started, settings, table, attributes)
        if waiting:
            _log.warning(
                "changed, but taken in at the next start only", extra={"keys": phrase(waiting)}
            )
        elif self._waits:
            _log.info("nothing waits for the next start any more")
        self._waits = bool(waiting)


def phrase(found: Sequence[str]) -> str:
    """What changed, in a line that is not too long to read."""
    if not found:
        return "nothing"
    rest = len(found) - RELOAD_NAMED_MAX
    return "; ".join([*found[:RELOAD_NAMED_MAX], *([f"and {rest} more"] if rest > 0 else [])])
