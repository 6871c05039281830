"""What the cluster knows about buckets and objects.

| module | owns |
|---|---|
| `rows`, `keys`, `formats` | what is stored, under which keys, in which form |
| `procedures/` | what is done to it in one step, and asked of it |
"""
