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
        self._followers: list[Callable[[credentials.Keys], None]] = []

    def open(self) -> None:
        """Makes what is to be generated. StartupError."""
        self.keys = self.of(self._settings)
        self.known.replace(self.keys.auth)

    def cluster_keys(self) -> tuple[bytes, ...]:
        """The one that is in force, then those that are accepted, too."""
        return (self.keys.cluster, *self.keys.accepted)

    def follow(self, follower: Callable[[credentials.Keys], None]) -> None:
        """`follower` is given the keys that are in force after each reload."""
        self._followers.append(follower)

    def known_to(self, row: Db) -> credentials.Known:
        """Who may use a member's REST API; it follows a reload."""
        known = credentials.Known(self._of_member(row))
        self._known_to_members.append((row, known))
        return known

    def prepare(self, settings: Config) -> Apply:
        """For a reload. ConfigError."""
        auth = settings.auth
        keys = self.of(settings)
        if self._settings.backend == "distributed":
            self._check_cluster_keys(keys)

        def apply() -> None:
            self.auth, self.keys, self._settings = auth, keys, self._with(settings)
            self.known.replace(keys.auth)
            for row, known in self._known_to_members:
                known.replace(self._of_member(row))
            for follower in self._followers:
                follower(keys)

        return apply

    def of(self, settings: Config) -> credentials.Keys:
        """What [[auth]] and the secrets of these settings come to."""
        generated = partial(credentials.ensure, self._settings.base_path)
        return credentials.keys(self._with(settings), generated, roles.is_local)

    def _with(self, settings: Config) -> Config:
        """The settings of the start, with what a reload takes in here."""
        said = settings.cluster
        cluster = replace(
            self._settings.cluster, secret=said.secret, secrets_accepted=said.secrets_accepted
        )
        return replace(self._settings, auth=settings.auth, cluster=cluster)

    def _of_member(self, row: Db) -> tuple[Auth, ...]:
        if row.access_key_id:
            return (Auth(row.access_key_id, row.secret_access_key),)
        return self.keys.operators or (self.keys.operator,)

    def _check_cluster_keys(self, new: credentials.Keys) -> None:
        """Other processes prove themselves by the key that this one has: it is not changed before
        they may know another, nor forgotten while they may use it."""
        settings, chosen = self._settings, self._roles
        alone = set(settings.nodes) <= set(chosen.nodes) and set(settings.db) <= set(chosen.members)
        now = self.of(settings)
        if (alone and self._is_alone()) or new.cluster == now.cluster:
            return
        if not settings.cluster.secret:
            raise ConfigError(
                [
                    "[[auth]]: the cluster key is made of the credentials, as there is no "
                    "[cluster] secret; write one, and restart every process with the new file"
                ]
            )
        if new.cluster not in now.accepted or now.cluster not in new.accepted:
            raise ConfigError(
                [
                    "[cluster] secret: other processes have it, too. First write the new one to "
                    "secrets_accepted on every host and reload; then exchange the two on every "
                    "host and reload; then take the old one out"
                ]
            )
