"""What keeps every object at full redundancy, and the nodes free of what nobody needs.

| module | owns |
|---|---|
| `healer`, `pace` | `Healing`: what is done, and by which process; when |
| `records` | what is stored about healing, and under which keys |
| `lease` | one process heals at a time |
| `context`, `throttle`, `watch` | what all share; how fast it may go; how the nodes are |
| `repair`, `rebuild`, `targets` | the repair table worked off; shards made anew; where they go |
| `passes` | when records are walked over, what for, and what is known then |
| `reconcile`, `presence`, `sieve` | nodes against records: what is missing, and what nobody names |
| `claims` | what is made, and what is deleted as an orphan, kept apart |
| `holders`, `listing`, `scrubbed` | walks over records and over nodes; blocks found bad |
| `rebalance`, `moved` | after a change of the ring; what is left behind on former nodes |
"""
