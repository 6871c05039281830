"""Buckets and objects over metadata (`state`) and bytes (`distributed`, `filesystem`).

| module | owns |
|---|---|
| `records` | what is stored about a bucket, object, upload or part, and under which keys |
| `state` | GlobalState: where records live (LocalState, DistributedState) |
| `interface` | what callers hand in and get back; the ByteStore seam |
| `objects`, `buckets`, `uploads` | the operations; `Objects` has them all |
| `commit` | conditional commits, and what they say when a check fails |
| `collector` | lets go of bytes that nothing refers to any more |
| `distributed`, `stripe_writer`, `stripe_reader` | bytes as Reed-Solomon shards on nodes |
| `health` | which nodes are well, and how fast they are |
| `repair_queue` | the durable list of shards found missing or bad |
| `buffers` | pooled buffers under one process-wide budget |
| `filesystem`, `plain_names` | bytes as plain files |
"""
