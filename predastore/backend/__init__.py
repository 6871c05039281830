"""Buckets and objects over metadata (`state`) and bytes (`distributed`, `filesystem`).

| module | owns |
|---|---|
| `records` | what is stored about a bucket, object, upload or part, and under which keys |
| `state` | GlobalState: where records live (LocalState, DistributedState) |
| `local_time` | cluster time of a LocalState |
| `interface` | what callers hand in and get back; the ByteStore seam |
| `objects`, `buckets`, `uploads` | the operations; `Objects` has them all |
| `permits` | leave to change a bucket, checked again by the commit |
| `readers` | what readers need, so that nothing is taken from under them |
| `core`, `commit_ops` | conditional commits, what follows them, and what they are made of |
| `assembly`, `upload_listing` | completing an upload, and listing those in progress |
| `collector`, `upload_garbage` | bytes that nothing refers to any more; what uploads leave |
| `repair_queue` | shards found missing or bad |
| `healing` | repair, rebalancing, orphans: a package, with a table of its own |
| `body`, `buffers`, `shared_sync` | taking a body; memory under budgets; one sync for many |
| `distributed` | bytes as Reed-Solomon shards on nodes |
| `cluster`, `stripe_writer`, `stripe_reader`, `health` | ... nodes, and stripes to and from them |
| `ring_table`, `node_owners` | the nodes, as all gateways agree on them; which process runs each |
| `filesystem` | bytes as plain files |
| `room` | ... what deletes need of a full disk |
| `beneath`, `plain_names`, `publication`, `file_io`, `file_reader` | ... paths, moves and blocks |
| `pathnames`, `adoption` | ... buckets with a directory of their own, and what lies in it already |
"""
