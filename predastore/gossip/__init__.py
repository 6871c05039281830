"""Who is in the cluster: the processes, what runs in each, and which of them answer.

A SWIM: each member probes one other at a time, asks others to try where it gets no answer,
suspects before it buries, and passes news on with the probes. It decides nothing: where shards
belong is in the table of nodes (storage/ring_table.py), who votes in Raft's configuration. It tells
addresses, health, free space, and that the table has changed.
"""

from predastore.gossip.agent import Agent
from predastore.gossip.messages import DbFacts, Facts, GossipStatus, NodeFacts, Record

__all__ = ["Agent", "DbFacts", "Facts", "GossipStatus", "NodeFacts", "Record"]
