"""What the cluster knows about buckets and objects, over metadata (`s3db.global_state`) and bytes
(`storage`).

| module | owns |
|---|---|
| `catalog` | `Catalog`, all operations; of which |
| `buckets`, `listings` | ... buckets and their documents; pages of objects and versions |
| `reads`, `writes`, `deletes` | ... what there is, and its bytes; put and copy; delete and amend |
| `uploads`, `upload_listing` | ... multipart uploads, and those in progress |
| `core`, `permits`, `fence` | calls of procedures; leave to change a bucket; no write too late |
| `procedures/` | what is done to the database in one step, and asked of it |
| `rows`, `keys` | what is stored, and under which keys |
| `values`, `streams` | what callers hand in and get back |
| `errors`, `refusals` | what may not be, and how a procedure says so |
| `readers`, `repair_queue` | what readers need; shards found missing or bad |
| `files`, `adoption` | whose a plain file is; files that become objects |
"""
