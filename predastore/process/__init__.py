"""The process `s3d`: its command line, its parts, its life.

| module | owns |
|---|---|
| `cli`, `flags`, `commands` | the command; flags and environment; commands beside running it |
| `roles`, `wiring`, `host` | what a process runs; its roles wired together; their life |
| `node_role`, `member_role`, `gateway_role`, `common` | a builder of each role; what they share |
| `credentials`, `keyring` | keys; those in force |
| `authority`, `certificates`, `cluster_tls`, `tls` | authorities; files; which one is shown |
| `joining`, `discovery`, `rivals` | finding the cluster, keeping up with it; no node twice |
| `daemon`, `descriptors`, `memory` | locks and sockets; descriptors; collector and allocator |
| `reload`, `edited`, `advice` | a changed configuration; what is worth a second look in it |
| `readiness`, `watchdog`, `monitoring` | writes can be done; signs of life; metrics and health |
| `gauges`, `looplag`, `telemetry` | the parts as gauges; the loop's lag; traces |
| `logs`, `accesslog`, `banner` | what is written, and for whom |
"""
