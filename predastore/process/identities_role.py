"""Identities in a gateway: accounts, users and keys beyond the file, and the Query API to them."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import Final

from predastore.auth.sigv4 import Credential, Find
from predastore.base.config import Config
from predastore.base.errors import PredastoreError
from predastore.httpd.message import Handler
from predastore.iam import keys
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

_CLUSTER_KEYS_MAX: Final = 4

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
        common.reloader.add(("oidc", "auth"), self._prepare)
        self._services = IamServices(
            *(state, self.identities, sealing, SessionTokens(sealing), self._used),
            oidc=OidcProviders(lambda: self._oidc),
            operator=lambda: keyring.keys.operator.account_id,
            is_taken=lambda account: any(row.account_id == account for row in keyring.keys.auth),
        )

    async def has_account(self, account: str) -> bool:
        """Whether there is such an account: of the file, or made here."""
        if await self._keyring.known.has_account(account):
            return True
        return await self._state.get(keys.ACCOUNTS, keys.account(account)) is not None

    def open(self, stack: AsyncExitStack) -> None:
        """Begins to store when keys were used."""
        stack.push_async_callback(self._close)
        self._used.start()
        stack.push_async_callback(self._used.close)

    def _known_cluster_keys(self) -> list[bytes]:
        """The one that is in force, and those before it in this process."""
        in_force = self._keyring.keys.cluster
        if self._cluster_keys[0] != in_force:
            self._cluster_keys = [in_force, *self._cluster_keys][:_CLUSTER_KEYS_MAX]
        return self._cluster_keys

    async def _seal_anew(self) -> None:
        try:
            await self._sealing.refresh()
        except PredastoreError as error:
            _log.warning("secrets are not sealed anew yet", extra={"error": str(error)})

    def _prepare(self, settings: Config) -> Apply:
        """For a reload."""

        def apply() -> None:
            self._oidc = settings.oidc
            # Once all is applied, the cluster key may be another.
            self._task = asyncio.get_running_loop().create_task(self._seal_anew())

        return apply

    async def _close(self) -> None:
        if self._task is not None:
            await asyncio.wait([self._task])

    def _of_file(self, access_key_id: str) -> Credential | None:
        """A key of the configuration, or the operator's, which may be none of S3's."""
        found, operator = self._keyring.known.find(access_key_id), self._keyring.keys.operator
        if found is None and access_key_id == operator.access_key_id:
            return Credential(access_key_id, operator.secret_access_key, operator.account_id)
        return found

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
        key, operator = found.access_key_id, self._keyring.keys.operator.access_key_id
        return key == operator and self._keyring.known.find(key) is None

    def before(self, other: Handler) -> Handler:
        """The handler of the Query API, in front of another."""
        return QueryService(self._services, other).handle
