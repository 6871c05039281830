"""The metadata database: tables of byte keys and values, replicated by Raft, kept in lmdb.

client      finds the leader, follows it, tries again          what the product uses
global_state  the same for callers that may have a state of their own process instead;
            local_time: its time
service     the same calls, as a member answers them over rpc
rest        the HTTPS API, for operators and other programs; percent: its encoding
member      one member: shell, Raft core, journal, peers; raft/: the protocol
commands    what can be done in one step, and its form in the journal
procedures  what else can be: functions of the program, run where their call is applied
store       the state: apply, read, list, snapshots; made of
            apply (what commands do), views (what procedures see), keys (keys of any length),
            listing (pages), environment (the lmdb file), gate (readers against a resize)

LEVEL tells programs apart whose commands differ (levels.py): one that has a command or a procedure
which the one before did not know has the next. 2 is that of the first release; 3 has identities.
"""

from typing import Final

LEVEL: Final = 3
