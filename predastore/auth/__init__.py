"""Who signed a request: SigV4, and presigned URLs of Version 2.

| module | owns |
|---|---|
| `authorization` | what a request claims |
| `sigv4`, `presigned_v2` | whether that is true |
| `signing` | signing as a client |
"""
