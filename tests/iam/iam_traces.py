"""Golden traces of the procedures of identities: as tests/catalog/traces.py has those of the
catalog, in tests/iam/traces/. `python tests/iam/iam_traces.py` writes them anew."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    TESTS = Path(__file__).resolve().parents[1]
    sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from catalog.traces import Call, Traced, run, text_of
from predastore.catalog.procedures.arguments import Arguments
from predastore.iam import names
from predastore.iam.procedures import PROCEDURES
from predastore.iam.procedures import arguments as a
from predastore.iam.rows import AccessKeyRow, AccountRow, EntityKind, EntityRow, PolicyRow

FOLDER = Path(__file__).parent / "traces"
NOON_MS = 1_790_000_000_000
ACCOUNT = "111111111111"
USER, GROUP, ROLE = EntityKind.USER, EntityKind.GROUP, EntityKind.ROLE
BY_NAME = {one.name: one for one in PROCEDURES}
DOCUMENT = '{"Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}}'
ARN = names.policy_arn(ACCOUNT, "/", "Read")
AWS_ARN = "arn:aws:iam::aws:policy/AmazonS3FullAccess"
_PREFIX = {USER: "AIDA", GROUP: "AGPA", ROLE: "AROA"}


class IamScript:
    """Calls one after the other, in one account."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def call(self, says: str, procedure: str, args: Arguments) -> None:
        self.calls.append(Call(says, procedure, args.encode(), NOON_MS))

    def create(self, kind: EntityKind, name: str, **more: str) -> str:
        """The entity's id."""
        entity_id = _PREFIX[kind] + name.upper().ljust(16, "A")
        row = EntityRow(kind, entity_id, name, "/", NOON_MS, **more)
        self.call(f"create {name}", "iam.entity.create", a.CreateEntity(ACCOUNT, row))
        return entity_id

    def change(self, says: str, kind: EntityKind, name: str, **changes: object) -> None:
        args = a.ChangeEntity(ACCOUNT, kind, name, **changes)
        self.call(says, "iam.entity.change", args)

    def delete(self, says: str, kind: EntityKind, name: str) -> None:
        self.call(says, "iam.entity.delete", a.DeleteEntity(ACCOUNT, kind, name))

    def policy(self) -> None:
        row = PolicyRow("ANPAREAD", "Read", "/", "reads", NOON_MS, NOON_MS, tags=(("a", "b"),))
        self.call("a policy", "iam.policy.create", a.CreatePolicy(ACCOUNT, row, DOCUMENT))

    def attach(self, says: str, kind: EntityKind, name: str, arn: str = ARN) -> None:
        self.call(says, "iam.policy.attach", a.ChangeAttached(ACCOUNT, kind, name, arn))

    def detach(self, says: str, kind: EntityKind, name: str, arn: str = ARN) -> None:
        self.call(says, "iam.policy.detach", a.ChangeAttached(ACCOUNT, kind, name, arn))

    def member(self, says: str, procedure: str, group: str, user: str) -> None:
        self.call(says, f"iam.group.{procedure}", a.ChangeMember(ACCOUNT, group, user))

    def key(self, says: str, user: str, owner: str, number: int) -> None:
        row = AccessKeyRow(ACCOUNT, owner, b"sealed%d" % number, NOON_MS)
        self.call(says, "iam.key.create", a.CreateKey(user, f"AKIA{number}", row))

    def version(self, says: str, *, is_default: bool) -> None:
        args = a.AddVersion(ACCOUNT, "read", DOCUMENT, is_default, NOON_MS + 1)
        self.call(says, "iam.policy.add-version", args)


def account_create(script: IamScript) -> None:
    key = AccessKeyRow(ACCOUNT, ACCOUNT, b"sealed", NOON_MS)
    row = AccountRow(ACCOUNT, names.canonical_id(ACCOUNT), "tenant", NOON_MS)
    script.call("an account", "iam.account.create", a.CreateAccount(row, "AKIA1", key))
    script.call("its id is taken", "iam.account.create", a.CreateAccount(row, "AKIA2", key))
    other = AccountRow("2" * 12, "", "other", NOON_MS)
    script.call("its key is taken", "iam.account.create", a.CreateAccount(other, "AKIA1", key))


def account_rename(script: IamScript) -> None:
    account_create(script)
    script.call("another name", "iam.account.rename", a.RenameAccount(ACCOUNT, "lodger"))
    script.call("no such account", "iam.account.rename", a.RenameAccount("2" * 12, "lodger"))


def entity_create(script: IamScript) -> None:
    script.create(USER, "Alice")
    script.create(USER, "alice")
    script.create(GROUP, "alice")
    script.policy()
    script.create(ROLE, "job", boundary=ARN, trust=DOCUMENT, description="of the night")
    script.create(USER, "bob", boundary=names.policy_arn(ACCOUNT, "/", "None"))
    script.create(USER, "eve", boundary=AWS_ARN)


def entity_change(script: IamScript) -> None:
    script.create(USER, "alice")
    script.create(USER, "bob")
    script.policy()
    script.change("another name", USER, "alice", new_name="Eve", path="/staff/")
    script.change("its case", USER, "eve", new_name="eve")
    script.change("taken", USER, "eve", new_name="BOB")
    script.change("none of that name", USER, "alice", path="/")
    script.change("tags", USER, "eve", tags=(("a", "1"), ("b", "2")))
    script.change("other tags", USER, "eve", tags=(("A", "3"),), untagged=("b", "c"))
    script.change("a boundary", USER, "eve", boundary=ARN)
    script.change("none", USER, "eve", boundary="")
    script.change("no sessions of before", USER, "eve", void_before_ms=NOON_MS)
    script.create(ROLE, "job", trust=DOCUMENT)
    script.change("of a role", ROLE, "job", trust="{}", description="d", max_session_s=7200)
    many = tuple((str(number), "") for number in range(51))
    script.change("too many tags", ROLE, "job", tags=many)


def entity_delete(script: IamScript) -> None:
    alice = script.create(USER, "alice")
    script.create(GROUP, "staff")
    script.policy()
    script.change("a boundary", USER, "alice", boundary=ARN)
    script.member("a group", "join", "staff", "alice")
    script.delete("it has a member", GROUP, "staff")
    script.delete("in a group", USER, "alice")
    script.member("no group", "leave", "staff", "alice")
    script.key("a key", "alice", alice, 1)
    script.delete("with a key", USER, "alice")
    script.call("no key", "iam.key.delete", a.DeleteKey(ACCOUNT, "alice", "AKIA1"))
    script.delete("a user", USER, "Alice")
    script.delete("again", USER, "alice")
    script.delete("a group", GROUP, "staff")


def group_join(script: IamScript) -> None:
    script.create(USER, "alice")
    for number in range(11):
        script.create(GROUP, f"g{number}")
        script.member("join", "join", f"g{number}", "alice")
    script.member("in it already", "join", "g0", "alice")
    script.member("no such user", "join", "g0", "bob")
    script.member("no such group", "join", "g", "alice")


def group_leave(script: IamScript) -> None:
    script.create(USER, "alice")
    script.create(GROUP, "staff")
    script.member("join", "join", "staff", "alice")
    script.member("leave", "leave", "staff", "alice")
    script.member("not in it", "leave", "staff", "alice")


def key_create(script: IamScript) -> None:
    alice = script.create(USER, "alice")
    for number in range(3):
        script.key("a key", "alice", alice, number)
    script.key("of a root", "", ACCOUNT, 5)
    script.key("of another by now", "alice", "AIDAOTHER", 6)
    script.key("of nobody", "bob", "AIDABOB", 7)
    script.create(USER, "bob")
    script.key("taken", "bob", "AIDA" + "BOB".ljust(16, "A"), 0)


def key_change(script: IamScript) -> None:
    alice = script.create(USER, "alice")
    script.create(USER, "bob")
    script.key("a key", "alice", alice, 1)
    for says, user, is_active in (("off", "alice", False), ("on", "alice", True)):
        args = a.ChangeKey(ACCOUNT, user, "AKIA1", is_active)
        script.call(says, "iam.key.change", args)
    for user in ("bob", ""):
        args = a.ChangeKey(ACCOUNT, user, "AKIA1", False)
        script.call("not theirs", "iam.key.change", args)
    other = a.ChangeKey("2" * 12, "", "AKIA1", False)
    script.call("not the account's", "iam.key.change", other)


def key_delete(script: IamScript) -> None:
    alice = script.create(USER, "alice")
    script.key("a key", "alice", alice, 1)
    script.call("not theirs", "iam.key.delete", a.DeleteKey(ACCOUNT, "", "AKIA1"))
    script.call("gone", "iam.key.delete", a.DeleteKey(ACCOUNT, "alice", "AKIA1"))
    script.call("again", "iam.key.delete", a.DeleteKey(ACCOUNT, "alice", "AKIA1"))


def key_seal(script: IamScript) -> None:
    script.key("of a root", "", ACCOUNT, 1)
    for before, sealed in ((b"sealed1", b"anew"), (b"sealed1", b"late")):
        script.call("seal", "iam.key.seal", a.SealKey("AKIA1", before, sealed))
    script.call("no such key", "iam.key.seal", a.SealKey("AKIA2", b"", b""))


def inline_put(script: IamScript) -> None:
    script.create(USER, "alice")
    script.create(GROUP, "staff")
    script.member("join", "join", "staff", "alice")
    for kind, name in ((USER, "alice"), (GROUP, "staff"), (ROLE, "job")):
        args = a.PutInline(ACCOUNT, kind, name, "Own", DOCUMENT)
        script.call(f"of {name}", "iam.inline.put", args)
    for policy, size in (("own", 2048), ("more", 1), ("own", 2047), ("more", 1)):
        args = a.PutInline(ACCOUNT, USER, "alice", policy, " " + "x" * size)
        script.call(f"{size} characters", "iam.inline.put", args)


def inline_delete(script: IamScript) -> None:
    script.create(USER, "alice")
    put = a.PutInline(ACCOUNT, USER, "alice", "Own", DOCUMENT)
    script.call("a policy", "iam.inline.put", put)
    for says in ("gone", "again"):
        args = a.DeleteInline(ACCOUNT, USER, "alice", "own")
        script.call(says, "iam.inline.delete", args)


def policy_attach(script: IamScript) -> None:
    script.policy()
    script.create(USER, "alice")
    script.create(GROUP, "staff")
    script.member("join", "join", "staff", "alice")
    script.attach("to a user", USER, "alice")
    script.attach("again", USER, "alice")
    script.attach("to a group", GROUP, "staff")
    script.attach("of AWS", USER, "alice", AWS_ARN)
    script.attach("no such policy", USER, "alice", names.policy_arn(ACCOUNT, "/", "None"))
    script.attach("another path", USER, "alice", names.policy_arn(ACCOUNT, "/p/", "Read"))
    script.attach("of another account", USER, "alice", names.policy_arn("2" * 12, "/", "Read"))
    for number in range(19):
        script.attach("many", USER, "alice", f"{AWS_ARN}{number}")


def policy_detach(script: IamScript) -> None:
    script.policy()
    script.create(ROLE, "job")
    script.attach("to a role", ROLE, "job")
    script.detach("from it", ROLE, "job")
    script.detach("again", ROLE, "job")


def policy_create(script: IamScript) -> None:
    script.policy()
    script.policy()


def policy_add_version(script: IamScript) -> None:
    script.policy()
    script.create(USER, "alice")
    script.create(USER, "bob")
    script.create(GROUP, "staff")
    script.member("join", "join", "staff", "bob")
    script.attach("to a user", USER, "alice")
    script.attach("to a group", GROUP, "staff")
    script.version("not in force", is_default=False)
    script.version("in force", is_default=True)
    for _ in range(3):
        script.version("more", is_default=False)


def choose(script: IamScript, says: str, number: int, procedure: str) -> None:
    args = a.ChooseVersion(ACCOUNT, "Read", number, NOON_MS + 2)
    script.call(says, f"iam.policy.{procedure}", args)


def policy_choose_version(script: IamScript) -> None:
    script.policy()
    script.create(ROLE, "job", boundary=ARN)
    script.version("a second", is_default=False)
    choose(script, "in force", 2, "choose-version")
    choose(script, "in force already", 2, "choose-version")
    choose(script, "none", 3, "choose-version")


def policy_delete_version(script: IamScript) -> None:
    script.policy()
    script.version("a second", is_default=True)
    choose(script, "in force", 2, "delete-version")
    choose(script, "gone", 1, "delete-version")
    choose(script, "again", 1, "delete-version")
    script.version("a third", is_default=False)


def policy_change(script: IamScript) -> None:
    script.policy()
    args = a.ChangePolicy(ACCOUNT, "read", (("c", "d"),), ("a",))
    script.call("tags", "iam.policy.change", args)
    script.call("none", "iam.policy.change", a.ChangePolicy(ACCOUNT, "write"))


def policy_delete(script: IamScript) -> None:
    script.policy()
    script.create(USER, "alice", boundary=ARN)
    script.call("it bounds", "iam.policy.delete", a.DeletePolicy(ACCOUNT, "read"))
    script.change("no more", USER, "alice", boundary="")
    script.version("a second", is_default=False)
    script.call("two versions", "iam.policy.delete", a.DeletePolicy(ACCOUNT, "read"))
    choose(script, "one", 2, "delete-version")
    script.call("gone", "iam.policy.delete", a.DeletePolicy(ACCOUNT, "read"))
    script.call("again", "iam.policy.delete", a.DeletePolicy(ACCOUNT, "read"))


SCENARIOS: dict[str, Callable[[IamScript], None]] = {
    "iam.account.create": account_create,
    "iam.account.rename": account_rename,
    "iam.entity.create": entity_create,
    "iam.entity.change": entity_change,
    "iam.entity.delete": entity_delete,
    "iam.group.join": group_join,
    "iam.group.leave": group_leave,
    "iam.key.create": key_create,
    "iam.key.change": key_change,
    "iam.key.delete": key_delete,
    "iam.key.seal": key_seal,
    "iam.inline.put": inline_put,
    "iam.inline.delete": inline_delete,
    "iam.policy.attach": policy_attach,
    "iam.policy.detach": policy_detach,
    "iam.policy.create": policy_create,
    "iam.policy.add-version": policy_add_version,
    "iam.policy.choose-version": policy_choose_version,
    "iam.policy.delete-version": policy_delete_version,
    "iam.policy.change": policy_change,
    "iam.policy.delete": policy_delete,
}


def scripted(name: str) -> list[Call]:
    script = IamScript()
    SCENARIOS[name](script)
    return script.calls


def traced(calls: list[Call]) -> list[Traced]:
    return run(calls, BY_NAME)


def file_of(name: str) -> Path:
    return FOLDER / f"{name}.trace"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name in SCENARIOS:
        file_of(name).write_text(text_of(traced(scripted(name))))


if __name__ == "__main__":
    main()
