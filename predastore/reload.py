"""Taking in a changed configuration while the process runs: what SIGHUP asks for.

What can change registers a hook with the keys of the configuration that it answers for. A reload
reads flags, environment and file once more, lets every hook prepare, and applies what they made,
all in one turn of the event loop. Where anything is wrong with the file, or a hook refuses, the
settings that were in force stay in force, all of them, and each problem is logged. Keys that
changed and that no hook answers for wait for the next start; that is logged too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import fields

from predastore.config import Config
from predastore.errors import ConfigError, PredastoreError

# Made by a hook from settings that it has found good; run on the event loop, it can not fail.
Apply = Callable[[], None]

# Runs in a thread, and changes nothing; ConfigError or StartupError where it can not be done.
Prepare = Callable[[Config], Apply]

_NOT_SETTINGS = ("source", "embedded_db")  # how a configuration came about

_log = logging.getLogger(__name__)


class Reloader:
    """`settings`: those in force. Used on the event loop, by one caller at a time."""

    def __init__(self, settings: Config) -> None:
        self.settings = settings
        self._hooks: list[tuple[frozenset[str], Prepare]] = []

    def add(self, keys: Sequence[str], prepare: Prepare) -> None:
        """`prepare` answers for these keys (fields of Config), and is asked at every reload."""
        self._hooks.append((frozenset(keys), prepare))

    async def reload(self, reread: Callable[[], Config]) -> bool:
        """Whether the settings that `reread` gives are now in force."""
        try:
            settings, applies = await asyncio.to_thread(self._prepared, reread)
        except ConfigError as error:
            return self._refuse(error.problems)
        except PredastoreError as error:
            return self._refuse([str(error)])
        except Exception as error:
            _log.exception("reload failed")
            return self._refuse([f"{type(error).__name__}: {error}"])
        for apply in applies:
            apply()
        waiting = self._waiting(settings)
        self.settings = settings
        _log.info("configuration reloaded", extra={"file": settings.source or "none"})
        if waiting:
            _log.warning(
                "changed, but taken in at the next start only", extra={"keys": " ".join(waiting)}
            )
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

    def _waiting(self, settings: Config) -> list[str]:
        """Keys that changed and that nobody answers for."""
        covered = frozenset[str]().union(*(keys for keys, _ in self._hooks))
        return [
            field.name
            for field in fields(Config)
            if field.name not in covered
            and field.name not in _NOT_SETTINGS
            and getattr(settings, field.name) != getattr(self.settings, field.name)
        ]
