"""Identities of one account in plain Python objects: what each procedure does, and answers.

It keeps no counts, no indexes and no generations. `effective` is all that decides what a principal
may do, or who it is: where that changes, whoever decided on it before has to be told.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from predastore.iam import names
from predastore.iam.procedures import arguments as a
from predastore.iam.procedures.arguments import Cause
from predastore.iam.rows import EntityKind

Key = tuple[EntityKind, str]  # and a name in lower case


@dataclass
class ModelEntity:
    kind: EntityKind
    id: str
    name: str
    path: str = "/"
    boundary: str = ""
    void_before_ms: int = 0
    tags: dict[str, tuple[str, str]] = field(default_factory=dict)
    inline: dict[str, tuple[str, str]] = field(default_factory=dict)  # lower: (name, document)
    attached: set[str] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)  # ids


@dataclass
class ModelPolicy:
    name: str
    default: int = 1
    latest: int = 1
    versions: dict[int, str] = field(default_factory=dict)


class IamModel:
    """`do` is given what a procedure is called with."""

    def __init__(self, account: str) -> None:
        self.account = account
        self.entities: dict[Key, ModelEntity] = {}
        self.policies: dict[str, ModelPolicy] = {}  # by ARN
        self.keys: dict[str, tuple[str, bool]] = {}  # principal id, whether it is active

    def do(self, args: object) -> Cause:
        return getattr(self, f"_{type(args).__name__}")(args)

    def effective(self, principal_id: str) -> object:
        """Of a user, a role or the root; None where there is none."""
        keys = sorted((key, on) for key, (owner, on) in self.keys.items() if owner == principal_id)
        if principal_id == self.account:
            return keys
        found = [one for one in self.entities.values() if one.id == principal_id]
        if not found:
            return None
        entity = found[0]
        holders = [entity, *(self._by_id(one) for one in sorted(entity.groups))]
        documents = sorted(
            [text for one in holders for _, text in one.inline.values()]
            + [self._document(arn) for one in holders for arn in one.attached]
        )
        boundary = self._document(entity.boundary) if entity.boundary else None
        who = (entity.kind, entity.name, entity.path, sorted(entity.tags.values()))
        return (who, documents, boundary, entity.void_before_ms, keys)

    def principals(self) -> list[str]:
        return [one.id for one in self.entities.values() if one.kind is not EntityKind.GROUP]

    def _by_id(self, entity_id: str) -> ModelEntity:
        return next(one for one in self.entities.values() if one.id == entity_id)

    def _document(self, arn: str) -> str:
        policy = self.policies.get(arn)
        return arn if policy is None else policy.versions[policy.default]

    def _find(self, kind: EntityKind, name: str) -> ModelEntity | None:
        return self.entities.get((kind, name.lower()))

    def _arn(self, name: str) -> str:
        found = [arn for arn, one in self.policies.items() if one.name.lower() == name.lower()]
        return found[0] if found else ""

    def _is_policy(self, arn: str) -> bool:
        return arn.startswith("arn:aws:iam::aws:policy/") or arn in self.policies

    def _held(self, arn: str) -> bool:
        return any(arn in one.attached or arn == one.boundary for one in self.entities.values())

    # --- entities

    def _CreateEntity(self, args: a.CreateEntity) -> Cause:
        row = args.row
        if self._find(row.kind, row.name):
            return Cause.EXISTS
        if row.boundary and not self._is_policy(row.boundary):
            return Cause.NO_SUCH
        made = ModelEntity(row.kind, row.id, row.name, row.path, row.boundary)
        self.entities[row.kind, row.name.lower()] = made
        return Cause.DONE

    def _ChangeEntity(self, args: a.ChangeEntity) -> Cause:
        entity = self._find(args.kind, args.name)
        if entity is None:
            return Cause.NO_SUCH
        if (
            args.boundary
            and not self._is_policy(args.boundary)
            and args.boundary != entity.boundary
        ):
            return Cause.NO_SUCH
        if args.new_name is not None:
            other = self._find(args.kind, args.new_name)
            if other is not None and other is not entity:
                return Cause.EXISTS
            del self.entities[args.kind, entity.name.lower()]
            entity.name = args.new_name
            self.entities[args.kind, args.new_name.lower()] = entity
        for name in ("path", "boundary", "void_before_ms"):
            if getattr(args, name) is not None:
                setattr(entity, name, getattr(args, name))
        entity.tags |= {key.lower(): (key, value) for key, value in args.tags}
        for key in args.untagged:
            entity.tags.pop(key.lower(), None)
        return Cause.DONE

    def _DeleteEntity(self, args: a.DeleteEntity) -> Cause:
        entity = self._find(args.kind, args.name)
        if entity is None:
            return Cause.NO_SUCH
        has_keys = any(owner == entity.id for owner, _ in self.keys.values())
        has_members = any(entity.id in one.groups for one in self.entities.values())
        if entity.inline or entity.attached or entity.groups or has_keys or has_members:
            return Cause.CONFLICT
        del self.entities[args.kind, entity.name.lower()]
        return Cause.DONE

    def join(self, args: a.ChangeMember, *, leaves: bool) -> Cause:
        group = self._find(EntityKind.GROUP, args.group)
        user = self._find(EntityKind.USER, args.user)
        if group is None or user is None:
            return Cause.NO_SUCH
        if leaves:
            if group.id not in user.groups:
                return Cause.NO_SUCH
            user.groups.remove(group.id)
            return Cause.DONE
        if group.id not in user.groups and len(user.groups) >= 10:
            return Cause.LIMIT
        user.groups.add(group.id)
        return Cause.DONE

    # --- keys

    def _CreateKey(self, args: a.CreateKey) -> Cause:
        owner = self._owner(args.user)
        if owner is None:
            return Cause.NO_SUCH
        if owner != args.row.principal_id:
            return Cause.CHANGED
        if sum(one == owner for one, _ in self.keys.values()) >= 2:
            return Cause.LIMIT
        if args.access_key_id in self.keys:
            return Cause.EXISTS
        self.keys[args.access_key_id] = (owner, True)
        return Cause.DONE

    def _ChangeKey(self, args: a.ChangeKey) -> Cause:
        owner = self._owner(args.user)
        if owner is None or self.keys.get(args.access_key_id, ("",))[0] != owner:
            return Cause.NO_SUCH
        self.keys[args.access_key_id] = (owner, args.is_active)
        return Cause.DONE

    def _DeleteKey(self, args: a.DeleteKey) -> Cause:
        owner = self._owner(args.user)
        if owner is None or self.keys.get(args.access_key_id, ("",))[0] != owner:
            return Cause.NO_SUCH
        del self.keys[args.access_key_id]
        return Cause.DONE

    def _owner(self, user: str) -> str | None:
        if not user:
            return self.account
        found = self._find(EntityKind.USER, user)
        return None if found is None else found.id

    # --- policies

    def _PutInline(self, args: a.PutInline) -> Cause:
        entity = self._find(args.kind, args.name)
        if entity is None:
            return Cause.NO_SUCH
        entity.inline[args.policy.lower()] = (args.policy, args.document)
        return Cause.DONE

    def _DeleteInline(self, args: a.DeleteInline) -> Cause:
        entity = self._find(args.kind, args.name)
        if entity is None or args.policy.lower() not in entity.inline:
            return Cause.NO_SUCH
        del entity.inline[args.policy.lower()]
        return Cause.DONE

    def attach(self, args: a.ChangeAttached, *, detaches: bool) -> Cause:
        entity = self._find(args.kind, args.name)
        if entity is None:
            return Cause.NO_SUCH
        if detaches:
            if args.arn not in entity.attached:
                return Cause.NO_SUCH
            entity.attached.remove(args.arn)
        elif args.arn not in entity.attached:
            if len(entity.attached) >= 20:
                return Cause.LIMIT
            if not self._is_policy(args.arn):
                return Cause.NO_SUCH
            entity.attached.add(args.arn)
        return Cause.DONE

    def _CreatePolicy(self, args: a.CreatePolicy) -> Cause:
        if self._arn(args.row.name):
            return Cause.EXISTS
        arn = names.policy_arn(self.account, args.row.path, args.row.name)
        self.policies[arn] = ModelPolicy(args.row.name, versions={1: args.document})
        return Cause.DONE

    def _AddVersion(self, args: a.AddVersion) -> Cause:
        policy = self.policies.get(self._arn(args.name))
        if policy is None:
            return Cause.NO_SUCH
        if len(policy.versions) >= 5:
            return Cause.LIMIT
        policy.latest += 1
        policy.versions[policy.latest] = args.document
        if args.is_default:
            policy.default = policy.latest
        return Cause.DONE

    def choose(self, args: a.ChooseVersion, *, deletes: bool) -> Cause:
        policy = self.policies.get(self._arn(args.name))
        if policy is None or args.number not in policy.versions:
            return Cause.NO_SUCH
        if not deletes:
            policy.default = args.number
        elif policy.default == args.number:
            return Cause.CONFLICT
        else:
            del policy.versions[args.number]
        return Cause.DONE

    def _DeletePolicy(self, args: a.DeletePolicy) -> Cause:
        arn = self._arn(args.name)
        if not arn:
            return Cause.NO_SUCH
        if self._held(arn) or len(self.policies[arn].versions) > 1:
            return Cause.CONFLICT
        del self.policies[arn]
        return Cause.DONE
