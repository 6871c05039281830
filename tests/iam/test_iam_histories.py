"""Random histories of identities against a plain model: answers, what a principal may do, and that
whoever it concerns is told of each change, and nobody else."""

from __future__ import annotations

import random

import pytest

from predastore.catalog.procedures.arguments import Arguments
from predastore.iam import names, refusals
from predastore.iam.keys import IAM, PRINCIPALS, counts, principal
from predastore.iam.procedures import PROCEDURES
from predastore.iam.procedures import arguments as a
from predastore.iam.procedures.arguments import Cause
from predastore.iam.procedures.questions import FindIdentity, FoundIdentity, find
from predastore.iam.rows import AccessKeyRow, CountsRow, EntityKind, EntityRow, PolicyRow
from predastore.storage.formats import decode
from reference.database import Database, ModelView
from reference.iam_model import IamModel

ACCOUNT = "111111111111"
RUN = {one.name: one.run for one in PROCEDURES}
USER, GROUP, ROLE = EntityKind
AWS_ARN = "arn:aws:iam::aws:policy/AmazonS3FullAccess"


class History:
    """Calls by chance, of few names, so that they meet."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.database, self.model = Database(), IamModel(ACCOUNT)
        self._count = 0

    def step(self) -> None:
        before = {one: (self.model.effective(one), self.row(one)) for one in self.everybody()}
        procedure, args = self.call()
        answer = refusals.cause_of(self.database.call(RUN[procedure], args.encode()))
        assert answer is self.expected(procedure, args), (procedure, args)
        for one, (effective, row) in before.items():
            if self.model.effective(one) != effective:
                assert self.row(one) != row, (procedure, args, one)
            if answer is not Cause.DONE:
                assert self.row(one) == row

    def everybody(self) -> list[str]:
        return [*self.model.principals(), ACCOUNT]

    def row(self, principal_id: str) -> bytes | None:
        return self.database.table(PRINCIPALS).get(principal(ACCOUNT, principal_id))

    def expected(self, procedure: str, args: Arguments) -> Cause:
        last = procedure.rpartition(".")[2]
        if isinstance(args, a.ChangeMember):
            return self.model.join(args, leaves=last == "leave")
        if isinstance(args, a.ChangeAttached):
            return self.model.attach(args, detaches=last == "detach")
        if isinstance(args, a.ChooseVersion):
            return self.model.choose(args, deletes=last == "delete-version")
        return self.model.do(args)

    def check(self) -> None:
        """What a question tells of each principal is what the model has."""
        view = ModelView(self.database.tables)
        for one in self.model.principals():
            asked = FindIdentity("", ACCOUNT, one)
            found = refusals.read(FoundIdentity, find(view, asked.encode()))
            entity = decode(EntityRow, found.entity)
            who = (entity.kind, entity.name, entity.path, sorted(entity.tags))
            documents = sorted(policy.document or policy.arn for policy in found.policies)
            bound = found.boundary
            keys = sorted((key.access_key_id, key.is_active) for key in found.keys)
            assert (
                who,
                documents,
                None if bound is None else bound.document or bound.arn,
                entity.void_before_ms,
                keys,
            ) == self.model.effective(one)
        row = decode(CountsRow, self.database.table(IAM)[counts(ACCOUNT)])
        kinds = [one.kind for one in self.model.entities.values()]
        assert (row.users, row.groups, row.roles) == tuple(map(kinds.count, EntityKind))
        assert row.policies == len(self.model.policies)
        assert row.memberships == sum(len(one.groups) for one in self.model.entities.values())

    # --- what is called

    def call(self) -> tuple[str, Arguments]:
        makers = [made for name, made in vars(History).items() if name.startswith("_make_")]
        return self.random.choice(makers)(self)

    def _name(self) -> str:
        return self.random.choice(("a", "b", "B", "c"))

    def _kind(self) -> EntityKind:
        return self.random.choice((USER, USER, GROUP, ROLE))

    def _arn(self) -> str:
        return self.random.choice(
            (AWS_ARN, *(names.policy_arn(ACCOUNT, "/", one) for one in "pqr"))
        )

    def _text(self) -> str:
        self._count += 1
        return f"document {self._count}"

    def _id(self, kind: EntityKind) -> str:
        self._count += 1
        return f"{names.entity_id(kind)[:4]}{self._count:016}"

    def _make_entity(self) -> tuple[str, Arguments]:
        kind = self._kind()
        bound = self._arn() if kind is not GROUP and self.random.random() < 0.2 else ""
        row = EntityRow(kind, self._id(kind), self._name(), "/", 5, (), bound)
        return "iam.entity.create", a.CreateEntity(ACCOUNT, row)

    _make_another_entity = _make_entity

    def _make_change(self) -> tuple[str, Arguments]:
        kind = self._kind()
        changes = [{"new_name": self._name()}, {"path": "/p/"}, {"tags": (("T", self._text()),)}]
        if kind is not GROUP:
            changes += [{"boundary": self._arn()}, {"boundary": ""}, {"void_before_ms": 7}]
        chosen = self.random.choice(changes)
        return "iam.entity.change", a.ChangeEntity(ACCOUNT, kind, self._name(), **chosen)

    def _make_delete(self) -> tuple[str, Arguments]:
        return "iam.entity.delete", a.DeleteEntity(ACCOUNT, self._kind(), self._name())

    def _make_member(self) -> tuple[str, Arguments]:
        which = self.random.choice(("iam.group.join", "iam.group.join", "iam.group.leave"))
        return which, a.ChangeMember(ACCOUNT, self._name(), self._name())

    def _make_key(self) -> tuple[str, Arguments]:
        user = self.random.choice(("", self._name()))
        found = self.model.entities.get((USER, user.lower()))
        owner = ACCOUNT if not user else "AIDANONE" if found is None else found.id
        row = AccessKeyRow(ACCOUNT, owner, b"sealed", 5)
        return "iam.key.create", a.CreateKey(user, f"AKIA{self.random.randrange(9)}", row)

    def _make_key_change(self) -> tuple[str, Arguments]:
        user, key = self.random.choice(("", self._name())), f"AKIA{self.random.randrange(9)}"
        if self.random.random() < 0.5:
            return "iam.key.delete", a.DeleteKey(ACCOUNT, user, key)
        is_active = self.random.random() < 0.5
        return "iam.key.change", a.ChangeKey(ACCOUNT, user, key, is_active)

    def _make_inline(self) -> tuple[str, Arguments]:
        kind, name, policy = self._kind(), self._name(), self._name()
        if self.random.random() < 0.4:
            return "iam.inline.delete", a.DeleteInline(ACCOUNT, kind, name, policy)
        return "iam.inline.put", a.PutInline(ACCOUNT, kind, name, policy, self._text())

    def _make_attached(self) -> tuple[str, Arguments]:
        which = self.random.choice(("iam.policy.attach", "iam.policy.attach", "iam.policy.detach"))
        return which, a.ChangeAttached(ACCOUNT, self._kind(), self._name(), self._arn())

    def _make_policy(self) -> tuple[str, Arguments]:
        name = self.random.choice("pqr")
        if self.random.random() < 0.3:
            return "iam.policy.delete", a.DeletePolicy(ACCOUNT, name)
        row = PolicyRow("ANPA", name, "/", "", 5, 5)
        return "iam.policy.create", a.CreatePolicy(ACCOUNT, row, self._text())

    def _make_version(self) -> tuple[str, Arguments]:
        name, is_default = self.random.choice("pqr"), self.random.random() < 0.5
        if self.random.random() < 0.5:
            return "iam.policy.add-version", a.AddVersion(
                ACCOUNT, name, self._text(), is_default, 9
            )
        which = self.random.choice(("iam.policy.choose-version", "iam.policy.delete-version"))
        return which, a.ChooseVersion(ACCOUNT, name, self.random.randrange(1, 9), 9)


@pytest.mark.parametrize("seed", range(40))
def test_a_history_is_as_the_model_has_it(seed: int) -> None:
    history = History(seed)
    for step in range(300):
        history.step()
        if step % 20 == 19:
            history.check()
