"""Where the bytes of objects lie: as shards on nodes, or as plain files.

| module | owns |
|---|---|
| `interface` | the ByteStore seam: what callers hand in and get back |
| `extents`, `formats` | bytes that lie somewhere, and where; how a row is stored |
| `body`, `buffers`, `shared_sync` | taking a body; memory under budgets; one sync for many |
| `distributed` | bytes as Reed-Solomon shards on nodes |
| `cluster`, `health` | ... nodes, and how well they answer |
| `stripe_writer`, `stripe_reader`, `stripe_restore` | ... stripes to and from them |
| `ring_table`, `node_owners` | the nodes, as all gateways agree on them; which process runs each |
| `filesystem` | bytes as plain files |
| `room` | ... what deletes need of a full disk |
| `beneath`, `plain_names`, `publication`, `file_io`, `file_reader` | ... paths, moves and blocks |
| `pathnames` | ... buckets with a directory of their own |
"""
