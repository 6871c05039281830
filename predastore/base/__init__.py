"""What every layer stands on.

| module | owns |
|---|---|
| `errors` | the exception tree; the form of errors on the wire |
| `limits` | every bound, by layer |
| `config` | the configuration: a TOML file into frozen structs |
| `fs`, `lmdbfile` | files that a power cut leaves; lmdb files looked at before lmdb maps them |
| `sealing` | secrets that are stored sealed |
| `threads`, `syscalls` | blocking calls in threads; system calls that `os` lacks |
| `metrics`, `tracing` | what is counted; where traces are taken |
| `failpoints` | steps at which a test makes the process die |
"""
