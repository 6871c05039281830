"""An account at its quotas: a change that concerns everybody is one call; races of 1,000 each."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from iam.iam_traces import ACCOUNT, DOCUMENT, NOON_MS
from predastore.base import limits
from predastore.catalog.procedures.arguments import Arguments
from predastore.iam import names, refusals
from predastore.iam.identities import KEY_PURPOSE
from predastore.iam.identity import Identified
from predastore.iam.keys import PRINCIPALS
from predastore.iam.procedures import arguments as a
from predastore.iam.procedures.arguments import Cause
from predastore.iam.query.call import IamServices
from predastore.iam.rows import AccessKeyRow, EntityKind, EntityRow, PolicyRow
from predastore.process.program import PROCEDURES
from predastore.s3db.global_state import LocalState
from support.iamserver import CLUSTER_KEY, TestClock, services_over
from support.loops import on_a_loop

USER, GROUP, ROLE = EntityKind
ARN = names.policy_arn(ACCOUNT, "/", "Read")
OTHER = names.policy_arn(ACCOUNT, "/", "Bound")
RACES = 1_000


async def call(state: LocalState, procedure: str, args: Arguments) -> None:
    answer = (await state.call(procedure, args.encode())).answer
    assert refusals.cause_of(answer) is Cause.DONE, procedure


def entity(kind: EntityKind, number: int, boundary: str = "") -> a.CreateEntity:
    prefix = {USER: "AIDA", GROUP: "AGPA", ROLE: "AROA"}[kind]
    row = EntityRow(kind, f"{prefix}{number:016}", f"e{number}", "/", NOON_MS, (), boundary)
    return a.CreateEntity(ACCOUNT, row)


async def in_parts(state: LocalState, calls: list[tuple[str, Arguments]]) -> None:
    for start in range(0, len(calls), 500):
        await asyncio.gather(*(call(state, *one) for one in calls[start : start + 500]))


def policy(name: str) -> tuple[str, Arguments]:
    row = PolicyRow(f"ANPA{name}", name, "/", "", NOON_MS, NOON_MS)
    return "iam.policy.create", a.CreatePolicy(ACCOUNT, row, DOCUMENT)


@pytest.mark.timeout(280)
@on_a_loop
async def test_a_policy_that_everybody_has_is_changed_by_one_call(tmp_path: Path) -> None:
    state = LocalState(tmp_path / "state", PROCEDURES)
    users, roles = range(limits.IAM_USERS_MAX), range(limits.IAM_ROLES_MAX)
    groups = range(limits.IAM_GROUPS_MAX)
    try:
        await in_parts(state, [policy("Read"), policy("Bound")])
        everybody = [
            *(("iam.entity.create", entity(USER, number, ARN)) for number in users),
            *(("iam.entity.create", entity(ROLE, number, ARN)) for number in roles),
            *(("iam.entity.create", entity(GROUP, number)) for number in groups),
        ]
        await in_parts(state, everybody)
        attached = [
            ("iam.policy.attach", a.ChangeAttached(ACCOUNT, kind, f"e{number}", ARN))
            for kind, which in ((USER, users), (ROLE, roles), (GROUP, groups))
            for number in which
        ]
        await in_parts(state, attached)
        members = [
            ("iam.group.join", a.ChangeMember(ACCOUNT, f"e{number % 300}", f"e{number // 3}"))
            for number in range(limits.IAM_MEMBERSHIPS_MAX)
        ]
        await in_parts(state, members)
        before = dict(await state.scan(PRINCIPALS, b"", b"", 10_000))
        version = a.AddVersion(ACCOUNT, "Read", DOCUMENT, True, NOON_MS)
        await call(state, "iam.policy.add-version", version)
        after = dict(await state.scan(PRINCIPALS, b"", b"", 10_000))
        assert len(after) == len(users) + len(roles)
        assert not [key for key, row in after.items() if row == before[key]]
        one_more = entity(USER, len(users))
        answer = (await state.call("iam.entity.create", one_more.encode())).answer
        assert refusals.cause_of(answer) is Cause.LIMIT
    finally:
        await state.close()


class Race:
    """Alice, with a key, a policy and a session; two gateways that look her up."""

    def __init__(self, state: LocalState) -> None:
        self.state = state
        self.here, self.there = (services_over(state, TestClock(), CLUSTER_KEY) for _ in range(2))
        self.secret = names.secret()

    async def begin(self) -> None:
        await call(self.state, "iam.entity.create", entity(USER, 1))
        sealing = self.here.sealing
        await sealing.refresh()
        sealed = sealing.seal(KEY_PURPOSE, self.secret.encode(), bound_to=b"AKIA1")
        row = AccessKeyRow(ACCOUNT, f"AIDA{1:016}", sealed, NOON_MS)
        await call(self.state, "iam.key.create", a.CreateKey("e1", "AKIA1", row))

    async def seen(self, services: IamServices) -> Identified | None:
        """Who has the key, as a gateway finds out for one request."""
        found = await services.identities.find("AKIA1")
        return None if found is None else await services.identities.current(found)


@on_a_loop
async def test_a_thousand_times_a_key_or_a_statement_goes_and_the_next_request_knows(
    tmp_path: Path,
) -> None:
    state = LocalState(tmp_path / "state", PROCEDURES)
    race = Race(state)
    try:
        await race.begin()
        for number in range(RACES):
            is_active = number % 2 == 1
            await call(state, "iam.key.change", a.ChangeKey(ACCOUNT, "e1", "AKIA1", is_active))
            seen = [await race.seen(services) for services in (race.there, race.here)]
            assert [one is not None for one in seen] == [is_active] * 2
        for number in range(RACES):
            if number % 2 == 0:
                change: Arguments = a.PutInline(ACCOUNT, USER, "e1", "own", DOCUMENT)
                await call(state, "iam.inline.put", change)
            else:
                change = a.DeleteInline(ACCOUNT, USER, "e1", "own")
                await call(state, "iam.inline.delete", change)
            found = await race.seen(race.there)
            assert found is not None
            assert len(found.identity.policies.identity) == 1 - number % 2
    finally:
        await state.close()
