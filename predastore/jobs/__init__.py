"""What goes on in the background.

| package | owns |
|---|---|
| `healing` | repair, rebalancing, orphans: with a table of its own |
"""
