"""What keeps every object at full redundancy, and the nodes free of what nobody needs.

| module | owns |
|---|---|
| `records` | what is stored about healing, and under which keys |
| `fence` | no write becomes visible whose shards may have been taken for orphans |
"""
