"""The metadata database: tables of byte keys and values, replicated by Raft, kept in lmdb.

client      finds the leader, follows it, tries again          what the product uses
service     the same calls, as a member answers them over rpc
rest        the HTTPS API, for operators and other programs; percent: its encoding
member      one member: shell, Raft core, journal, peers; raft/: the protocol
commands    what can be done in one step, and its form in the journal
store       the state: apply, read, list, snapshots; made of
            apply (what commands do), keys (keys of any length), listing (pages),
            environment (the lmdb file), gate (readers against a resize)
"""
