"""The credentials of a process, as they are in force, and the keys that are made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from predastore.base.config import Auth, Config, Db
from predastore.base.errors import ConfigError
from predastore.process import credentials, roles
from predastore.process.reload import Apply


class Keyring:
    """`open` it before its `keys` are asked for. `is_alone`: no process of another host is in the
    cluster, as far as is known."""

    def __init__(
        self, settings: Config, chosen: roles.Roles, is_alone: Callable[[], bool] = lambda: True
    ) -> None:
        self._settings = settings
        self._roles = chosen
        self._is_alone = is_alone
        self.auth = settings.auth  # [[auth]] as it is in force
        self.known = credentials.Known(())  # to S3
        self._known_to_members: list[tuple[Db, credentials.Known]] = []

    def open(self) -> None:
        """Makes what is to be generated. StartupError."""
        self.keys = self._of(self.auth)
        self.known.replace(self.keys.auth)

    def known_to(self, row: Db) -> credentials.Known:
        """Who may use a member's REST API; it follows a reload."""
        known = credentials.Known(self._of_member(row))
        self._known_to_members.append((row, known))
        return known

    def prepare(self, settings: Config) -> Apply:
        """For a reload. ConfigError."""
        auth = settings.auth
        keys = self._of(auth)
        if self._settings.backend == "distributed":
            self._check_cluster_key(keys.cluster)

        def apply() -> None:
            self.auth, self.keys = auth, keys
            self.known.replace(keys.auth)
            for row, known in self._known_to_members:
                known.replace(self._of_member(row))

        return apply

    def _of(self, auth: tuple[Auth, ...]) -> credentials.Keys:
        """What these rows of [[auth]] come to."""
        generated = partial(credentials.ensure, self._settings.base_path)
        return credentials.keys(replace(self._settings, auth=auth), generated, roles.is_local)

    def _of_member(self, row: Db) -> tuple[Auth, ...]:
        if row.access_key_id:
            return (Auth(row.access_key_id, row.secret_access_key),)
        return (self.keys.operator,)

    def _check_cluster_key(self, key: bytes) -> None:
        """Other processes prove themselves by the key that this one has: it stays what it is."""
        settings, chosen = self._settings, self._roles
        alone = set(settings.nodes) <= set(chosen.nodes) and set(settings.db) <= set(chosen.members)
        if not (alone and self._is_alone()) and key != self._of(self.auth).cluster:
            raise ConfigError(
                [
                    "[[auth]]: the cluster key is made of the credentials, as there is no "
                    "[cluster] secret; write one, and restart every process with the new file"
                ]
            )
