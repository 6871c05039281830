"""Every bound of the product, in one file, by layer.

Units stand last in a name. A bound that follows from a standard names it.
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB
TIB: Final = 1024 * GIB

# --- coding -----------------------------------------------------------------------------------

SHARDS_MAX: Final = 256  # k + m in GF(2^8)
BLOCK_BYTES_DEFAULT: Final = MIB
BLOCK_BYTES_MIN: Final = 4 * KIB
BLOCK_BYTES_MAX: Final = 4 * MIB

# --- httpd ------------------------------------------------------------------------------------

# --- rpc --------------------------------------------------------------------------------------

# --- node -------------------------------------------------------------------------------------

# --- s3db -------------------------------------------------------------------------------------

DB_KEY_BYTES_MAX: Final = 1_200  # an S3 key of 1,024 bytes under an arn prefix
DB_VALUE_BYTES_MAX: Final = 8 * MIB
COMMIT_BYTES_MAX: Final = 16 * MIB  # an encoded batch: one Raft entry
COMMIT_OPS_MAX: Final = 16_384  # checks and ops of a batch: DeleteObjects has 1,000 keys
KEPT_BYTES_MAX: Final = 16 * MIB  # old values that one batch moves and returns
DELETE_PREFIX_KEYS_MAX: Final = 100_000  # one transaction; a multipart upload has 10,000 parts
TABLES_MAX: Final = 64
TABLE_NAME_BYTES_MAX: Final = 64
REQUESTS_REMEMBERED_MAX: Final = 65_536  # more commits than a client's retry window sees
STORE_MAP_BYTES_INITIAL: Final = 4 * GIB  # address space, not disk
STORE_MAP_BYTES_MAX: Final = TIB
STORE_READERS_MAX: Final = 512  # concurrent read transactions

# --- backend ----------------------------------------------------------------------------------

# --- s3 ---------------------------------------------------------------------------------------

# --- process ----------------------------------------------------------------------------------

DB_MEMBERS_MAX: Final = 7  # a larger Raft group only makes each commit wait for more disks
DRAIN_MS_MAX: Final = 20_000  # SIGTERM: how long running requests may finish
READY_MS_MAX: Final = 60_000  # start-up: how long to wait for a leader before saying so
POOL_THREADS: Final = 4  # coding and hashing; they hold no GIL, and two cores are typical
