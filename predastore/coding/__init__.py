"""Pure functions: `erasure` (stripes), `placement` (the ring), `checksum` (the S3 family)."""
