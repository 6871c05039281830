"""pysyncobj is what shell.py takes it for: exact version, private names, fail reasons."""

from __future__ import annotations

import inspect
import socket
from collections.abc import Sequence
from typing import Any

import pysyncobj
import pytest
from pysyncobj.config import FAIL_REASON
from pysyncobj.syncobj import _RAFT_STATE, SyncObj
from pysyncobj.version import VERSION

from predastore.base.errors import NoLeader, NotLeader, OutcomeUnknown, Overloaded
from predastore.s3db import shell
from predastore.s3db.raft.messages import TimeoutNow
from predastore.s3db.raft.state import Role


def shell_of(received: list[Any]) -> tuple[shell.Shell, shell.RpcTransport]:
    nodes = {1: shell.Node("db/1"), 2: shell.Node("db/2")}

    def post(member: int, messages: Sequence[Any]) -> None:
        received.append((member, messages))

    transport = shell.RpcTransport(nodes[1], nodes, post)
    made = shell.Shell(
        "db/1",
        nodes,
        transport,
        on_tick=lambda: received.append("tick"),
        on_messages=lambda messages: received.append(("from", messages)),
    )
    return made, transport


def test_the_version_is_the_pinned_one() -> None:
    assert VERSION == shell.VERSION
    assert pysyncobj.__name__ == "pysyncobj"


def test_its_import_leaves_addresses_readable_to_the_whole_process() -> None:
    for family, packed, text in (
        (socket.AF_INET, b"\x7f\0\0\1", "127.0.0.1"),
        (socket.AF_INET6, bytes(15) + b"\1", "::1"),
    ):
        assert socket.inet_ntop(family, packed) == text
        assert socket.inet_pton(family, text) == packed


def test_the_private_names_are_there() -> None:
    made, _ = shell_of([])
    missing = [name for name in shell.PRIVATE_NAMES if name not in vars(made)]
    assert missing == []


def test_the_methods_that_are_replaced_are_still_the_ones_that_matter() -> None:
    source = inspect.getsource(SyncObj)
    assert "setOnMessageReceivedCallback(self.__onMessageReceived)" in source
    assert "self._onTick(timeToWait)" in inspect.getsource(SyncObj.doTick)
    assert list(inspect.signature(SyncObj._applyCommand).parameters) == [
        "self",
        "command",
        "callback",
        "commandType",
    ]


def test_fail_reasons_and_states_have_their_numbers() -> None:
    for name in (
        "SUCCESS",
        "QUEUE_FULL",
        "MISSING_LEADER",
        "DISCARDED",
        "NOT_LEADER",
        "REQUEST_DENIED",
        "UNKNOWN_OUTCOME",
    ):
        assert getattr(shell, name) == getattr(FAIL_REASON, name)
    states = (_RAFT_STATE.FOLLOWER, _RAFT_STATE.CANDIDATE, _RAFT_STATE.LEADER)
    roles = (Role.FOLLOWER, Role.CANDIDATE, Role.LEADER)
    assert tuple(shell._STATE[role] for role in roles) == states


def test_ticks_and_messages_reach_the_core_and_no_protocol_of_pysyncobj() -> None:
    seen: list[Any] = []
    made, transport = shell_of(seen)
    made.doTick()
    message = TimeoutNow(2, 1, 3)
    answer = TimeoutNow(1, 2, 3)
    transport.received(2, [message])
    transport.send_to(2, [answer])
    transport.received(77, [message])  # of a configuration that is on its way
    transport.meet({1, 3})
    transport.send_to(2, [answer])
    assert seen == ["tick", ("from", [message]), (2, [answer]), ("from", [message])]
    made.destroy()


def test_the_queue_is_bounded_and_tells_who_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "RAFT_COMMANDS_QUEUED_MAX", 2)
    made, _ = shell_of([])
    answers: list[Any] = []
    for number in range(3):
        made.submit(b"%d" % number, lambda outcome, reason: answers.append(reason))
    assert answers == [shell.QUEUE_FULL]
    assert [command for command, _ in made.drain()] == [b"0", b"1"]
    assert made.drain() == []


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        (shell.QUEUE_FULL, Overloaded),
        (shell.MISSING_LEADER, NoLeader),
        (shell.NOT_LEADER, NotLeader),
        (shell.DISCARDED, NoLeader),
        (shell.REQUEST_DENIED, NoLeader),
        (shell.UNKNOWN_OUTCOME, OutcomeUnknown),
    ],
)
def test_fail_reasons_become_errors(reason: int, error: type[Exception]) -> None:
    assert type(shell.failure(reason, 2)) is error
