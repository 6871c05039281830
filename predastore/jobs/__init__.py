"""What goes on in the background.

| module | owns |
|---|---|
| `garbage` | what is due is let go of, in order of time |
| `healing/` | repair, rebalancing, orphans: with a table of its own |
"""
