"""Identities in a gateway: accounts, users and keys beyond the file, and the Query API to them."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import Final

from predastore.auth.sigv4 import Credential, Find
from predastore.base.config import Config
from predastore.base.errors import ConfigError, PredastoreError
from predastore.base.limits import CLUSTER_SECRETS_MAX, IAM_SEAL_RETRY_MS, IAM_SEALING_LOOK_S
from predastore.httpd.message import Handler
from predastore.iam import sealing_keys
from predastore.iam.errors import Unavailable
from predastore.iam.identities import Identities
from predastore.iam.identity import Identified
from predastore.iam.oidc import OidcProviders
from predastore.iam.query.call import IamServices
from predastore.iam.query.service import QueryService
from predastore.iam.sealing import SealingKeys
from predastore.iam.sessions import SessionTokens
from predastore.iam.used import LastUsed
from predastore.process.common import Common
from predastore.process.reload import Apply
from predastore.s3db.global_state import GlobalState
from predastore.storage.extents import now_ms

_CLUSTER_KEYS_MAX: Final = 2 * CLUSTER_SECRETS_MAX

_log = logging.getLogger(__name__)


class IdentitiesRole:
    """`identities`: who keys are of."""

    def __init__(self, common: Common, state: GlobalState) -> None:
        self._keyring = keyring = common.keyring
        self._region = common.settings.region
        self._state = state
        self._cluster_keys = [keyring.keys.cluster]  # the newest first
        self._sealing = sealing = SealingKeys(state, self._known_cluster_keys)
        self.identities = Identities(state, sealing, self._of_file)
        self._used = LastUsed(state)
        self._oidc = common.settings.oidc
        self._task: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        common.reloader.add(("oidc", "auth", "cluster"), self._prepare)
        self._services = IamServices(
            *(state, self.identities, sealing, SessionTokens(sealing), self._used),
            oidc=OidcProviders(lambda: self._oidc),
            operator=lambda: keyring.keys.operator.account_id,
            is_taken=lambda account: any(row.account_id == account for row in keyring.keys.auth),
        )

    async def has_account(self, account: str) -> bool:
        """Whether there is such an account: of the file, or made here."""
        known = self._keyring.known
        return await known.has_account(account) or await self.identities.has_account(account)

    def open(self, stack: AsyncExitStack) -> None:
        """Begins to store when keys were used."""
        stack.push_async_callback(self._close)
        self._begin_sealing()
        self._used.start()
        stack.push_async_callback(self._used.close)

    def _known_cluster_keys(self) -> list[bytes]:
        """The one that is in force, those that are accepted, and those before it in this
        process."""
        known = (*self._keyring.cluster_keys(), *self._cluster_keys)
        self._cluster_keys = list(dict.fromkeys(known))[:_CLUSTER_KEYS_MAX]
        return self._cluster_keys

    def _begin_sealing(self) -> None:
        """What lies sealed under another cluster key is sealed anew, however long it takes."""
        if self._task is not None:
            self._task.cancel()
        self._task = asyncio.get_running_loop().create_task(self._seal_anew())

    async def _seal_anew(self) -> None:
        said = False
        while True:
            try:
                is_done = await self._sealing.seal_anew()
                break
            except PredastoreError as error:
                if isinstance(error, Unavailable) and not said:
                    _log.warning("secrets are not sealed anew yet", extra={"error": str(error)})
                    said = True
                await asyncio.sleep(IAM_SEAL_RETRY_MS / 1000)
        if is_done and len(self._known_cluster_keys()) > 1:
            _log.info("secrets are sealed under the cluster key that is in force")
        await self._drop_unneeded()

    async def _drop_unneeded(self) -> None:
        """Versions of the sealing key that nothing needs, now and then."""
        while True:
            try:
                count = await sealing_keys.drop_unneeded(self._state, self._sealing, now_ms())
                if count:
                    _log.info("old sealing keys were dropped", extra={"count": count})
            except PredastoreError as error:
                _log.warning("old sealing keys stay for now", extra={"error": str(error)})
            await asyncio.sleep(IAM_SEALING_LOOK_S)

    def _prepare(self, settings: Config) -> Apply:
        """For a reload. ConfigError: a key would be forgotten that secrets need."""
        new, needed = self._keyring.of(settings), self._sealing.opened_by
        is_dropped = needed in self._keyring.keys.accepted
        if is_dropped and needed not in (new.cluster, *new.accepted):
            self._loop.call_soon_threadsafe(self._begin_sealing)
            raise ConfigError(
                [
                    "[cluster] secrets_accepted: secrets of identities are not sealed anew yet; "
                    "reload again, or leave the one before there"
                ]
            )

        def apply() -> None:
            self._oidc = settings.oidc
            # Once all is applied, the cluster key may be another.
            self._loop.call_soon(self._begin_sealing)

        return apply

    async def _close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _of_file(self, access_key_id: str) -> Credential | None:
        """A key of the configuration, or the operator's, which may be none of S3's."""
        found = self._keyring.known.find(access_key_id)
        if found is not None:
            return found
        for operator in self._keyring.keys.operators:
            if access_key_id == operator.access_key_id:
                return Credential(access_key_id, operator.secret_access_key, operator.account_id)
        return None

    @property
    def find(self) -> Find:
        """The credential of an access key for S3, as it is now: the ground of one that was kept is
        read."""

        async def find(access_key_id: str, token: str) -> Identified | None:
            found = await self.identities.find(access_key_id, token)
            if found is None or self._is_operators_alone(found):
                return None
            if found.identity.ground is None:
                return found
            self._used.note(found, "s3", self._region)
            return await self.identities.current(found, token)

        return find

    def _is_operators_alone(self, found: Identified) -> bool:
        """Whether it is the operator's key, and none that S3 knows."""
        key = found.access_key_id
        operators = (row.access_key_id for row in self._keyring.keys.operators)
        return key in operators and self._keyring.known.find(key) is None

    def before(self, other: Handler) -> Handler:
        """The handler of the Query API, in front of another."""
        return QueryService(self._services, other).handle
