"""Buckets, objects and uploads, over metadata (`s3db.global_state`) and bytes (`storage`).

| module | owns |
|---|---|
| `objects`, `buckets`, `uploads` | the operations; `Objects` has them all |
| `permits` | leave to change a bucket, checked again by the commit |
| `readers` | what readers need, so that nothing is taken from under them |
| `core`, `commit_ops` | conditional commits, what follows them, and what they are made of |
| `assembly`, `upload_listing` | completing an upload, and listing those in progress |
| `collector`, `upload_garbage` | bytes that nothing refers to any more; what uploads leave |
| `fence` | no write comes to life after its shards went as orphans |
| `repair_queue` | shards found missing or bad |
| `adoption` | files that lie in a bucket's own directory become objects |
"""
