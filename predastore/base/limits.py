"""Every bound of the product, in one file, by layer.

Units stand last in a name. A bound that follows from a standard names it.
"""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB
TIB: Final = 1024 * GIB

# --- base -------------------------------------------------------------------------------------

POLICY_RULES_MAX: Final = 1000  # of one key of [[auth]]; each request may look at all of them
RELOAD_NAMED_MAX: Final = 30  # changed settings in one line of the log
CONFIG_LOOK_MS: Final = 5_000  # how often the file is looked at: whether it was edited
POLICY_ACTIONS_MAX: Final = 100  # of one rule

# --- coding -----------------------------------------------------------------------------------

SHARDS_MAX: Final = 256  # k + m in GF(2^8)
BLOCK_BYTES_DEFAULT: Final = MIB
BLOCK_BYTES_MIN: Final = 4 * KIB
BLOCK_BYTES_MAX: Final = 4 * MIB
INLINE_BYTES_DEFAULT: Final = 8 * KIB  # a body up to that lies in the metadata, unless it is full
INLINE_BYTES_MAX: Final = 64 * KIB  # what `inline_max` may be
INLINE_SLACK_BYTES: Final = 8 * KIB  # a body that may end is read first, if that could make it so
RING_VIRTUAL_NODES_PER_WEIGHT: Final = 128  # enough that shares differ by few per cent
RING_PARTITIONS: Final = 4096  # units in which load is counted: fine for some hundred nodes
RING_LOAD_RATIO_MAX: Final = 1.25  # a node's load over its fair share
RING_WEIGHT_MIN: Final = 0.01  # one virtual node
RING_WEIGHT_MAX: Final = 64.0  # 8,192 virtual nodes: building the ring stays quick

# --- policy -----------------------------------------------------------------------------------

POLICY_DOCUMENT_BYTES_MAX: Final = 20 * KIB  # Amazon S3: a bucket's policy; here, of each kind
POLICY_DEPTH_MAX: Final = 10  # of braces and brackets; the language has 6
POLICY_ACTION_CHARS_MAX: Final = 128  # of the name or pattern of an action; the longest name has 50
POLICY_ACTION_PATTERNS_MAX: Final = 256  # with wildcards, different ones, of a document
POLICY_SINGLES_MAX: Final = 32  # pieces with "?" between two "*", of a document: a step a character
POLICY_VARIABLES_MAX: Final = 128  # that stand in a document; each may be searched for
POLICY_VARIABLE_CHARS_MAX: Final = 512  # of a value; a longer one is none
POLICY_QUOTED_CHARS_MAX: Final = 128  # of a document's own words in what is wrong with it
POLICY_ADDRESSES_CACHED_MAX: Final = 1024  # of clients, read from their text

# --- httpd ------------------------------------------------------------------------------------

HTTP_CONNECTIONS_MAX: Final = 10_000  # more are answered 503; idle ones cost a few KiB each
HTTP_ACCEPTS_AT_ONCE: Final = 64  # before other connections have their turn
HTTP_ACCEPT_PAUSE_S: Final = 0.1  # without a descriptor left, until it is tried again
HTTP_HANDSHAKE_TIMEOUT_S: Final = 10.0  # of TLS, from accept on
HTTP_SIDE_CONNECTIONS_MAX: Final = 256  # to the REST API of a member, or where metrics are read
HTTP_HEAD_BYTES_MAX: Final = 64 * KIB  # request line and header; S3 clients send 1 to 10 KiB
HTTP_HEADERS_MAX: Final = 256  # fields in a request
HTTP_URI_BYTES_MAX: Final = 16 * KIB  # a key of 1,024 bytes, encoded, and a presigned query
HTTP_BODY_BUFFER_BYTES_MAX: Final = 256 * KIB  # received and not yet read, per connection
HTTP_BODY_INLINE_BYTES_MAX: Final = 64 * KIB  # decoded and hashed on the loop: some 50 us
HTTP_CHUNK_BYTES_MAX: Final = 5 * GIB  # one chunk of a chunked body: all of the largest PUT
HTTP_DECODE_BYTES_MIN: Final = 16 * KIB  # of an aws-chunked body, read until that much came at once
HTTP_DECODE_BYTES_MAX: Final = 256 * KIB  # the same from then on
HTTP_TRAILER_BYTES_MAX: Final = 8 * KIB
HTTP_TRAILERS_MAX: Final = 32
HTTP_WRITE_BUFFER_BYTES_MAX: Final = MIB  # written and not yet sent, per connection
HTTP_DRAIN_BYTES_MAX: Final = 256 * KIB  # of a body nobody read, to keep its connection
HTTP_LINGER_BYTES_MAX: Final = 4 * MIB  # read and dropped so that an error answer arrives
HTTP_LINGER_S: Final = 2.0
HTTP_HEAD_TIMEOUT_S: Final = 20.0  # from the first byte of a head to its last
HTTP_IDLE_TIMEOUT_S: Final = 75.0  # between two requests
HTTP_PROGRESS_TIMEOUT_S: Final = 20.0  # a body or a reader must do the next line in this time
HTTP_PROGRESS_BYTES_MIN: Final = 4 * KIB  # slower than 200 bytes a second is an attack
HTTP_TICK_S: Final = 1.0  # how often deadlines are looked at
FORM_BOUNDARY_BYTES_MAX: Final = 70  # RFC 2046
FORM_FIELDS_BYTES_MAX: Final = 20 * KIB  # Amazon S3: names and values of the fields before the file
FORM_FIELDS_MAX: Final = 256  # before the file
FORM_PART_HEAD_BYTES_MAX: Final = 4 * KIB  # a file's name has 255 bytes on most systems
FORM_HEAD_BYTES_MAX: Final = 64 * KIB  # all before the file's bytes: fields, boundaries, heads
FORM_TAIL_BYTES_MAX: Final = 64 * KIB  # all behind them; it is read over
SIGV4_SKEW_S: Final = 900  # S3: 15 minutes
SIGV4_PRESIGNED_S_MAX: Final = 604_800  # S3: 7 days
SIGV4_KEYS_CACHED_MAX: Final = 1024  # signing keys: one per access key and day

# --- rpc --------------------------------------------------------------------------------------

RPC_HEADER_BYTES_MAX: Final = 2 * MIB  # a page of 1,000 keys of 1,024 bytes fits
RPC_PAYLOAD_BYTES_MAX: Final = BLOCK_BYTES_MAX + 64 * KIB  # a block and a little framing
RPC_CALLS_IN_FLIGHT_MAX: Final = 256  # to one peer
RPC_CALLS_WAITING_MAX: Final = 1024  # for one of those places; the next is refused at once
RPC_BYTES_IN_FLIGHT_MAX: Final = 16 * MIB  # of requests to one peer
RPC_TIMEOUT_MS_MAX: Final = 300_000  # longest deadline that a peer may ask for
RPC_DEADLINE_TICK_MS: Final = 20  # how late a deadline within this process may be noticed
RPC_MESSAGE_BYTES_MAX: Final = 8 + RPC_HEADER_BYTES_MAX + RPC_PAYLOAD_BYTES_MAX
RPC_CONNECTION_WINDOW_BYTES: Final = 2 * RPC_BYTES_IN_FLIGHT_MAX  # unread bytes of one peer
RPC_UNPROVEN_WINDOW_BYTES: Final = 16 * KIB  # the same, before it has proven the cluster key
RPC_PROOF_BYTES_MAX: Final = KIB  # a message of the proof
RPC_REFUSED_LOG_MS: Final = 60_000  # a host with another cluster key is told of once in so long
RPC_REFUSED_HOSTS_MAX: Final = 64  # such hosts remembered
RPC_NAME_CHARS_SHOWN: Final = 100  # of what a stranger calls itself, in a log
RPC_STREAMS_MAX: Final = 2 * RPC_CALLS_IN_FLIGHT_MAX  # open at once, one connection
RPC_SEND_BUFFER_BYTES_MIN: Final = 512 * KIB  # not yet acknowledged, shared by the streams
RPC_SEND_BUFFER_BYTES_MAX: Final = 8 * MIB  # twice the congestion window, up to this
RPC_SEND_SLICE_BYTES: Final = 32 * KIB  # the least of a longer message that is handed to QUIC
RPC_GATHER_BYTES_MIN: Final = 64 * KIB  # missing of a payload, for which one room is made
RPC_FLUSH_MESSAGES: Final = 16  # small ones, after which a flush does not wait for more
RPC_BURST_DATAGRAMS_MAX: Final = 32  # sent or received in a row before the loop gets its turn
RPC_DATAGRAM_BYTES: Final = 1_400  # with IPv6 and UDP headers below an Ethernet MTU of 1,500
RPC_DATAGRAM_LOOPBACK_BYTES: Final = 8_900  # the loopback's MTU is 65,536
RPC_DATAGRAM_BYTES_MAX: Final = 8_952  # of jumbo frames, less IPv6 and UDP headers
RPC_BATCHES_MAX: Final = 4  # of 64 KB, sent in a row before the loop gets its turn
RPC_ADDRESSES_MAX: Final = 4_096  # of peers, remembered by a socket
RPC_SOCKET_BUFFER_BYTES: Final = 4 * MIB  # what an unprivileged process may ask for at most
RPC_CONNECTIONS_MAX: Final = 1024  # to one listener
RPC_CONNECTIONS_UNPROVEN_MAX: Final = 128  # of these, without a proof yet
RPC_UNPROVEN_ADDRESS_MAX: Final = 16  # of these, from one address that has shown itself
RPC_UNPROVEN_PREFIX_MAX: Final = 64  # of these, from one network: 24 bits, or 48 of IPv6
RPC_FREE_HANDSHAKES: Final = 16  # begun at once by callers that have not shown their address
RPC_FREE_HANDSHAKES_S: Final = 4.0  # and each second: of 2 to 4 ms each
RPC_STATELESS_ANSWERS_S: Final = 5_000  # Retries, and other answers to nobody: 20 us each
RPC_FLOOD_RETRIES: Final = 100  # from so many on it is said
RPC_FLOOD_QUIET_S: Final = 60.0  # without a Retry: what comes then is another flood
RPC_HANDSHAKE_TIMEOUT_MS: Final = 5_000  # TLS and proof, as the listener sees it
RPC_DIAL_TIMEOUT_MS: Final = 3_000  # the same, as the caller sees it
RPC_REQUEST_TIMEOUT_MS: Final = 30_000  # from a request's first byte to its last
RPC_IDLE_TIMEOUT_MS: Final = 10_000  # a silent peer is dead
RPC_PING_INTERVAL_MS: Final = 1_000  # to a silent peer; half of it while calls wait
RPC_UNANSWERED_MS_MAX: Final = 1_500  # a peer that answers nothing is gone, while calls wait
RPC_REDIAL_MS_MIN: Final = 50
RPC_REDIAL_MS_MAX: Final = 2_000
RPC_REDIAL_IDLE_MS: Final = 60_000  # nobody called for so long: dialling stops until somebody does

# --- node -------------------------------------------------------------------------------------

NODE_FORMAT_VERSION: Final = 1  # of a node's directory
NODE_SEGMENT_BYTES_DEFAULT: Final = GIB
NODE_SEGMENT_BYTES_MIN: Final = 64 * KIB  # tests; one record with its footer must fit
NODE_SEGMENT_BYTES_MAX: Final = 16 * GIB  # a record header counts 8-byte units in 32 bits
NODE_SHARD_BLOCKS_MAX: Final = 262_144  # 256 GiB of a shard in blocks of 1 MiB
NODE_RECORD_BYTES_MAX: Final = 8 * MIB  # the largest is a commit of NODE_SHARD_BLOCKS_MAX blocks
NODE_FOOTER_PART_BYTES: Final = MIB  # footer entries held in memory before a part is written
NODE_RESERVE_BYTES: Final = 512 * MIB  # free disk that only deletes, commits and the index may use
NODE_QUEUE_BYTES_MAX: Final = 16 * MIB  # of blocks that wait for the writer, a store
NODE_QUEUE_OPERATIONS_MAX: Final = 4_096  # that wait for the writer; the next is refused
NODE_BATCH_BYTES_MAX: Final = 8 * MIB  # in one write call, so that a commit does not wait for long
NODE_BATCH_RECORDS_MAX: Final = 256  # in one write call: three pieces each, and IOV_MAX is 1,024
NODE_ZERO_AHEAD_BYTES: Final = MIB  # zeros written ahead of small records
NODE_SMALL_BATCH_BYTES: Final = 64 * KIB  # a batch up to this is worth zeros ahead of it
NODE_PENDING_SHARDS_MAX: Final = 65_536  # appended to, not yet committed
NODE_PENDING_IDLE_MS_MAX: Final = 3_600_000  # an uncommitted shard nobody appends to is dropped
NODE_DELETE_REFS_MAX: Final = 1_024  # in one call
NODE_READ_THREADS: Final = 4  # shared by the stores of a process
NODE_READ_BYTES_MAX: Final = 16 * MIB  # of blocks being read at once, a store
NODE_READS_WAITING_MAX: Final = 4_096  # for their share of that; the next is refused
NODE_READ_INLINE_BYTES_MAX: Final = 16 * KIB  # tried from the page cache without a thread
NODE_READ_BUFFERS_MAX: Final = 8  # kept for reuse, of each size class, a store
NODE_OPEN_SEGMENTS_MAX: Final = 64  # file descriptors kept for reading, a store
NODE_INDEX_MAP_BYTES: Final = 64 * GIB  # address space, not disk
NODE_INDEX_LAYER_SHARDS_MAX: Final = 8_192  # changes kept in memory before they go to lmdb
NODE_INDEX_LAYER_BYTES_MAX: Final = 8 * MIB
NODE_INDEX_LAYER_LOAD_MAX: Final = 2  # layers' worth of changes, for which writing waits for lmdb
NODE_CHECKPOINT_BYTES_MAX: Final = 256 * MIB  # of log that a start after a crash has to read again
NODE_MOVE_RESERVE_PART: Final = 4  # compaction leaves so much of the reserve to deletes: 1/4
NODE_COMPACT_DEAD_SHARE: Final = 0.2  # of what is needed: more dead bytes than that are reclaimed
NODE_COMPACT_FULL_SHARE: Final = 0.9  # a segment with more in it than that is not worth rewriting
NODE_COMPACT_TOMBSTONE_SHARE: Final = 0.06  # of what is needed: more tombstones are a burden
NODE_COMPACT_SLACK_BYTES_MAX: Final = 64 * MIB  # dead bytes that nobody minds
NODE_COMPACT_SLACK_PART: Final = 16  # of a segment, if that is less: 1/16
NODE_COMPACT_STEP_BYTES: Final = 256 * KIB  # read and moved at once: short beside a sync
NODE_COMPACT_PENDING_BYTES: Final = 8 * MIB  # copied before shards point at the copies
NODE_COMPACT_KEYS_MAX: Final = 1_024  # of shards in one operation
NODE_COMPACT_TIME_SHARE: Final = 0.2  # of the time, while requests come
NODE_SCRUB_DAYS_DEFAULT: Final = 14.0  # all segments are read once in this time
NODE_SCRUB_DAYS_MIN: Final = 0.01  # a quarter of an hour, for small nodes and for trying it
NODE_SCRUB_DAYS_MAX: Final = 366.0  # damage that nobody looks for longer than that piles up
NODE_SCRUB_BYTES_S_MIN: Final = 4 * MIB  # slower is not worth the name; 1.2 TiB in half a period
NODE_SCRUB_ASKED_BYTES_S: Final = 256 * MIB  # of a round that somebody asked for
NODE_SCRUB_STEP_BYTES: Final = MIB  # read and checked at once, about a millisecond
NODE_SCRUB_TIME_SHARE: Final = 0.2  # of the time, while requests come
NODE_SCRUB_RANGES_MAX: Final = 10_000  # damaged places of one segment that are told apart
NODE_SCRUB_DAMAGED_MAX: Final = 1_024  # segments noted to be rewritten; the next round finds more
NODE_SAY_S: Final = 30.0  # after which what was found out about damage is written to the index
NODE_REST_S_MAX: Final = 5.0  # between two steps of background work
NODE_UPKEEP_S: Final = 1.0  # between two looks at what there is to do
NODE_DAMAGE_REPORTS_MAX: Final = 100  # log lines of one recovery
NODE_BAD_BLOCKS_MAX: Final = 1_048_576  # remembered; about 100 bytes each, once disks rot
NODE_BAD_BLOCKS_SPARE: Final = 65_536  # of these are left when the scrub waits: one step's and more
NODE_PAGE_SHARDS_MAX: Final = 4_096  # of one answer of node.shards: about 90 bytes each
NODE_PAGE_BLOCKS_MAX: Final = 16_384  # of one answer of shard.locate: about 16 bytes each
NODE_PAGE_STRIPES_MAX: Final = 262_144  # of one answer of node.bad; one shard always fits

# --- s3db -------------------------------------------------------------------------------------

# What decides the outcome of a command, the bounds of procedures too, is the same for all programs
# of one level (s3db/__init__.py): members that differ in it would come to different states.
DB_KEY_BYTES_MAX: Final = 1_200  # an S3 key of 1,024 bytes under an arn prefix
DB_VALUE_BYTES_MAX: Final = 3 * MIB  # it fits in a batch, and in one rpc answer
COMMIT_BYTES_MAX: Final = 4 * MIB  # an encoded batch: one Raft entry, in one rpc payload
COMMIT_OPS_MAX: Final = 16_384  # checks and ops of a batch: DeleteObjects has 1,000 keys
KEPT_BYTES_MAX: Final = 3 * MIB  # what one batch keeps, keys and old values: one rpc answer
DELETE_PREFIX_KEYS_MAX: Final = 100_000  # one transaction; a multipart upload has 10,000 parts
TABLES_MAX: Final = 64
TABLE_NAME_BYTES_MAX: Final = 64
PROCEDURE_NAME_BYTES_MAX: Final = 64
PROCEDURE_QUICK_BYTES: Final = 16 * KIB  # arguments up to that: no work for a thread, mostly
PROCEDURE_READS_MAX: Final = 32_768  # of one call: 10,000 parts, or 8 for each of 1,000 keys
PROCEDURE_READ_BYTES_MAX: Final = 16 * MIB  # keys that were found, and values
PROCEDURE_WRITES_MAX: Final = 16_384  # 6 for each of 1,000 keys
PROCEDURE_WRITTEN_BYTES_MAX: Final = 12 * MIB  # keys and values; the rows of 10,000 parts have 4
PROCEDURE_ANSWER_BYTES_MAX: Final = 512 * KIB  # it is remembered; 500 bytes for each of 1,000 keys
ASK_BYTES_MAX: Final = 2 * MIB  # arguments of a question: 1,000 of the longest keys
REQUESTS_REMEMBERED_MAX: Final = 262_144  # 26,000 a second for all of COMMIT_TIMEOUT_MS
COMMIT_TIMEOUT_MS: Final = 10_000  # with retries; an election takes one or two seconds
COMMIT_ATTEMPT_MS: Final = 1_000  # the first two tries of a commit; each further one twice as long
READ_TIMEOUT_MS: Final = 5_000
READ_ATTEMPT_MS: Final = 1_000
MEMBER_SILENT_MS: Final = 3_000  # so long one that did not answer is asked last
LEVELS_TOLD_MS: Final = 10_000  # in which members of a new cluster have said their level
RETRY_PAUSE_MS_MIN: Final = 2
RETRY_PAUSE_MS_MAX: Final = 50
READ_KEYS_MAX: Final = 1_024  # in one call; DeleteObjects reads 1,000
READ_BYTES_MAX: Final = 4 * MIB  # values of one call: one rpc payload
READ_INLINE_MAX: Final = 16  # keys, or rows of a page, that are read without a thread
LIST_ROWS_MAX: Final = 10_000  # of one page
LIST_BYTES_MAX: Final = 2 * MIB  # keys and values of a page; a single entry may be larger
STORE_MAP_BYTES_INITIAL: Final = 4 * GIB  # address space, not disk
STORE_MAP_BYTES_MAX: Final = TIB
STORE_NO_ROOM_BYTES: Final = MIB  # less is free: that is why a write was cut short
STORE_READERS_MAX: Final = 512  # concurrent read transactions

RAFT_HEARTBEAT_MS: Final = 100
RAFT_ELECTION_TIMEOUT_MS: Final = 500  # each wait is drawn between this and twice this
RAFT_COMMAND_BYTES_MAX: Final = 4 * MIB  # an entry travels whole, in one rpc payload
RAFT_APPEND_BYTES_MAX: Final = 256 * KIB  # of entries in one append; a larger entry goes alone
RAFT_APPEND_ENTRIES_MAX: Final = 1024
RAFT_APPENDS_IN_FLIGHT_MAX: Final = 64  # to one follower
RAFT_APPEND_BYTES_IN_FLIGHT_MAX: Final = 8 * MIB  # to one follower
RAFT_UNCOMMITTED_BYTES_MAX: Final = 64 * MIB  # of a leader; further proposals are refused
RAFT_COMMANDS_QUEUED_MAX: Final = 16_384  # proposals that wait for the next turn
RAFT_READS_WAITING_MAX: Final = 16_384  # read indexes that wait for a round
RAFT_WAITERS_LOOK_MIN: Final = 1024  # reads that wait to be applied: then for such as gave up
RAFT_APPLY_BYTES_MAX: Final = MIB  # of one state machine transaction
RAFT_APPLY_ENTRIES_MAX: Final = 2048
RAFT_TURN_ROUNDS: Final = 3  # of the event loop, that a turn of a member waits for
RAFT_APPLY_AT_ONCE_ENTRIES: Final = 32  # so many, and so large, are no work for a thread
RAFT_APPLY_AT_ONCE_BYTES: Final = 256 * KIB
RAFT_APPLY_FULL_RETRY_MS: Final = 1_000  # until what is committed is tried again on a full disk
RAFT_READ_RETRY_MS: Final = 50  # between two attempts, while no leader answers
RAFT_READ_LOOK_MS: Final = 50  # between two looks at whether the leader that was asked still leads
RAFT_STEP_CALLS_MAX: Final = 4  # rpc calls in flight to one member
RAFT_STEP_BYTES_MAX: Final = 2 * MIB  # of messages in one call, unless one is larger
RAFT_STEP_MESSAGES_MAX: Final = 512  # in one call
RAFT_STEP_QUEUE_MAX: Final = 2048  # messages that wait for a call; older ones are dropped
RAFT_STEP_HOLD_MS: Final = 50  # a call waits so long for what its messages ask for
RAFT_STEP_TIMEOUT_MS: Final = 1_000  # a lost call holds one of few places
RAFT_LINKS_MAX: Final = 64  # other members that a member talks to, those that left included
RAFT_FORM_PAUSE_MS: Final = 30  # a member without a journal asks the others who they are so often
RAFT_FORM_GRACE_MS: Final = 3_000  # for the silent, before a majority founds a cluster
RAFT_FORM_JOIN_MS: Final = 5_000  # for a cluster to take a member in; then it is asked again
RAFT_FORM_LOG_MS: Final = 5_000  # how often it is said what a member waits for
RAFT_CHANGE_PAUSE_MS: Final = 5  # until a change is tried again while another is not committed
RAFT_ANNOUNCE_PAUSE_MS: Final = 200  # until a member says its address and level again
CLOCK_TICK_MS: Final = 10_000  # between two ticks of cluster time: one small commit each
CLOCK_TICK_TIMEOUT_MS: Final = 5_000  # of one; the next makes up for it
CLOCK_RETRY_MS: Final = 1_000  # until one that failed is tried again
CLOCK_SLEW_MS_MAX: Final = 600_000  # a wall clock that is further away counts for nothing
CLOCK_SLEW_PPM: Final = 500  # what it gains or loses by one that is nearer: 43 s a day
CLOCK_WARN_MS_MIN: Final = 60_000  # between two warnings that they are apart; doubles
CLOCK_WARN_MS_MAX: Final = 86_400_000
CLOCK_EQUAL_MS: Final = 1_000  # where they are nearer than that, nothing has to be set
BOOT_BYTES_MAX: Final = 256  # of what tells a boot: three names
STALENESS_ASK_MS: Final = 1_000  # a stale read asks the leader anew if its proof is older
STALENESS_WAIT_MS: Final = 20  # and waits so long for the answer
DIGEST_TIMEOUT_MS: Final = 60_000  # of a member's whole state
BACKUP_CHUNK_BYTES: Final = MIB
REST_REPLAY_GRACE_S: Final = 5.0  # in which the same signed request may come again
REST_SIGNATURES_MAX: Final = 100_000  # that are remembered: 55 changes a second for 30 minutes
API_TIMEOUT_S: Final = 70.0  # of operators' tools, for one answer: a digest takes a minute at most
CHANGE_TIMEOUT_MS: Final = 10_000  # of the membership or the leader, with retries
RAFT_SNAPSHOT_CHUNK_BYTES: Final = MIB
RAFT_LOG_KEPT_BYTES: Final = 32 * MIB  # of applied entries kept for followers that lag
RAFT_LOG_CUT_BYTES: Final = 16 * MIB  # cut the log each time this much more could go
RAFT_LOG_BYTES_MAX: Final = 256 * MIB  # a member with more in memory takes none, until it applied
RAFT_ARCHIVED_APPENDS_MAX: Final = 4  # to one follower in one turn, of entries read from the disk
RAFT_LAGGING_S: Final = 30.0  # a follower that was silent for so long may need a snapshot
RAFT_JOURNAL_KEPT_BYTES: Final = 8 * GIB  # of segments, for followers that lag; or, if more,
RAFT_JOURNAL_KEPT_TABLES: Final = 2  # times the tables' size: they are sent while more is committed
RAFT_ARCHIVE_FRAMES_MAX: Final = 2_000_000  # of them, 24 bytes each in memory
RAFT_ARCHIVE_DECODED_MAX: Final = 4  # frames that are kept decoded: one is sent in several appends
RAFT_CHECKPOINT_MS: Final = 2_000  # what was applied that long ago is synced in the tables too
RAFT_RESERVE_BYTES: Final = 256 * MIB  # free disk for votes, checkpoints and what is committed
CROWDED_FILE_BYTES: Final = 16 * GIB  # a member's tables have so much: small bodies go to shards
CROWDED_FREE_BYTES: Final = GIB  # the same, where so little of its disk is free
CROWDED_LOOK_MS: Final = 1_000  # between two looks at that
RAFT_ROOM_CHECK_MS: Final = 200  # how often a member asks how much is free, while it writes
RAFT_FULL_TRANSFER_MS: Final = 10_000  # a leader on a full disk hands over once in so long
JOURNAL_SEGMENT_BYTES_MAX: Final = 64 * MIB  # the next frame begins a new segment
JOURNAL_FRAME_BYTES_MAX: Final = 256 * MIB  # more than all that may wait for one sync
JOURNAL_SMALL_BYTES: Final = 16 * KIB  # appends up to this get zeros ahead of them (disk.py)
JOURNAL_ZERO_AHEAD_BYTES: Final = 64 * KIB  # written at once; a sync within them is far cheaper

# --- gossip -----------------------------------------------------------------------------------

GOSSIP_MEMBERS_MAX: Final = 512  # processes known; further ones are not taken in
GOSSIP_TURN_MS: Final = 100  # between two looks at what is due
GOSSIP_PROBE_MS: Final = 1_000  # one member is probed so often
GOSSIP_PING_TIMEOUT_MS: Final = 1_000  # two slow hosts of 200 ms each way answer in 800
GOSSIP_RELAY_TIMEOUT_MS: Final = 2_500  # a ping through another member, connecting included
GOSSIP_RELAYS: Final = 3  # members asked to try a silent one
GOSSIP_SUSPICION_MS: Final = 5_000  # a suspect has so long to speak up; grows with the members
GOSSIP_SYNC_MS: Final = 5_000  # views are compared with one other so often
GOSSIP_SYNC_TIMEOUT_MS: Final = 4_000
GOSSIP_GAP_MS: Final = 1_500  # a turn this late means that this process was stopped, not others
GOSSIP_SPREAD: Final = 3  # times log2 of the members: how often one piece of news is passed on
GOSSIP_NEWS_BYTES_MAX: Final = 8 * KIB  # with one message, unless one record is larger
GOSSIP_RECORD_BYTES_MAX: Final = 32 * KIB  # a process of some hundred nodes
GOSSIP_SYNC_BYTES_MAX: Final = 128 * KIB  # records in one comparison; the rest comes with the next
GOSSIP_FORGET_MS: Final = 3_600_000  # the dead are remembered so long, against old news
GOSSIP_FACTS_MS: Final = 5_000  # free space and the like are told anew at most so often
GOSSIP_TEXT_CHARS_MAX: Final = 200  # of a failure's reason

# --- storage, catalog, jobs -------------------------------------------------------------------

BACKEND_CONDITION_TRIES_MAX: Final = 8  # a conditional commit that races with others
BACKEND_BUCKET_SEEN_MS: Final = 1_000  # a record allows writes for so long; commits check it again
BUCKET_ROWS_CACHED_MAX: Final = 1_024  # by their bytes, a few hundred each
BACKEND_BUCKETS_SEEN_MAX: Final = 1_024  # of such records, a few hundred bytes each
BUCKET_DOCUMENTS_BUCKETS_MAX: Final = 4_096  # whose documents' meanings are remembered
BUCKET_DOCUMENTS_BYTES_MAX: Final = 32 * MIB  # of such meanings, as their kinds estimate them
BUCKET_DOCUMENT_COST_BYTES: Final = KIB  # of each at least, also that there is no document
BACKEND_SCAN_PAGE_MAX: Final = 1000  # records read at once by scans
BACKEND_PARTS_PAGE_MAX: Final = 256  # of an upload that ends, read at once; about 64 KiB
BACKEND_UPLOADS_PAGE_MAX: Final = 256  # of a deleted bucket, ended with one commit
BACKEND_COMMITS_WAITING_MAX: Final = 4096  # LocalState: the next is refused at once
BACKEND_GRACE_S: Final = 300  # how long replaced shards are kept for readers that had begun
GARBAGE_BATCH_MAX: Final = 1_024  # rows of `due` that are worked off together
GARBAGE_READ_ROWS: Final = 64  # pages of placements read at once, 30 KiB each at most
GARBAGE_EXTENTS_MAX: Final = 10_000  # let go of at once
GARBAGE_LOOKS_MAX: Final = 4096  # names that readers needed, and since when
GARBAGE_RETRY_S_MIN: Final = 1.0  # after a node did not answer; doubles
GARBAGE_RETRY_S_MAX: Final = 3_600.0
GARBAGE_WAIT_S_MIN: Final = 0.05  # between two looks at the front of `due`
GARBAGE_WAIT_S_MAX: Final = 5.0
HEALING_PAGE_RECORDS: Final = 256  # of a walk over all records, looked at between two pauses
HEALING_JOBS: Final = 32  # extents being rebuilt or moved at once: they share syncs
HEALING_BUSY_JOBS: Final = 2  # while requests are served
HEALING_BATCH_JOBS: Final = 1_024  # of the repair table, the most endangered first
HEALING_BATCH_S_MAX: Final = 30.0  # after which the table is looked through again
HEALING_BYTES_MAX: Final = 32 * MIB  # of stripes being rebuilt or moved
HEALING_BYTES_PER_S_MAX: Final = 256 * MIB  # read and written by rebuilding and moving
HEALING_BUSY_PAUSES: Final = 3.0  # while requests are served: pauses as many times the work
HEALING_URGENT_PAUSES: Final = 0.5  # the same, where the loss of one more node would be fatal
HEALING_PAUSE_S_MAX: Final = 2.0  # one slow piece of work says little about the next
HEALING_RATE_WINDOW_S: Final = 10.0  # over which the rate that is told is smoothed
HEALING_CALL_TIMEOUT_MS: Final = 10_000  # of one call to one node
HEALING_COUNT_AFTER_MS: Final = 10_000  # a node is down for so long, and what it held is counted
HEALING_COUNT_S_MIN: Final = 60.0  # and again after so long, or as many times longer as it took:
HEALING_COUNT_SHARE: Final = 20
HEALING_LEFT_AFTER_MS: Final = 60_000  # every gateway has long heard by then that a node has left
HEALING_SOUGHT_MAX: Final = 10_000  # extents of completed uploads, looked for by one pass
HEALING_JOB_MS_MAX: Final = 1_800_000  # a rebuild that took longer names no new shards: half an age
HEALING_EXTENTS_PER_COMMIT: Final = 64  # moved before their record is written again
HEALING_RETRY_S_MIN: Final = 2  # until an extent that could not be repaired is tried again; doubles
HEALING_RETRY_S_MAX: Final = 600
HEALING_POSTPONED_MAX: Final = 100_000  # extents that wait for that
HEALING_ASKED_AT_ONCE: Final = 32  # shards that nodes are asked about one by one
HEALING_BAD_SHARDS_MAX: Final = 100_000  # dealt with at once
HEALING_WALK_PAUSE_S_MAX: Final = 300  # between two walks where some extents could not be moved
HEALING_LATE_PAUSE_S_MAX: Final = 3_600  # the same, for shards that appeared on a draining node
REPAIR_NOTES_PER_PASS_MAX: Final = 100_000  # about 400 bytes each; a further pass finds the rest
HEALING_END_S: Final = 1.0  # between two tries to stop what works for it
LEASE_BEAT_MS: Final = 3_000  # heartbeats of the process that heals
LEASE_EXPIRY_MS: Final = 15_000  # silent for so long, another takes its place
LEASE_GIVE_UP_S_MAX: Final = 1.0  # at the end of a process: the lease would expire by itself
NODE_IDS_MAX: Final = 65_536  # as many ids as nodes can have
NODE_WATCH_MS: Final = 3_000  # between two questions to each node
NODE_STATUS_TIMEOUT_MS: Final = 2_000
NODE_TAKES_TIMEOUT_MS: Final = 1_000  # the same, where somebody waits to hear if writes can be done
NODE_OPEN_RETRY_MS: Final = 10_000  # until a store that could not be opened is tried again
NODE_LOST_MS: Final = 900_000  # down for so long, its shards are built again elsewhere
RECONCILE_PERIOD_MS: Final = 86_400_000  # between two comparisons of all nodes with all records
ORPHAN_AGE_MS: Final = 3_600_000  # far more than lies between a shard's commit and its record's
ORPHAN_CLOCK_SKEW_MS: Final = 600_000  # between the clocks of two hosts, at most
ORPHAN_SIEVE_BYTES_MIN: Final = 64 * KIB
ORPHAN_SIEVE_BYTES_MAX: Final = 64 * MIB  # 32 million shards before it errs more often
REPAIR_NOTED_MAX: Final = 4096  # extents remembered as noted already
REPAIR_WAITING_MAX: Final = 1024  # extents waiting for the repair table
REPAIR_BATCH_MAX: Final = 64  # extents written with one commit
BACKEND_WRITE_BYTES_MAX: Final = 112 * MIB  # stripes of bodies that come, all requests together
BACKEND_READ_BYTES_MAX: Final = 64 * MIB  # stripes of bodies that go, all requests together
BACKEND_BUSY_PAUSE_MS: Final = 20  # before a node that was too busy is asked again; doubles
BACKEND_BUFFER_WAIT_MS_MAX: Final = 20_000  # for a share of it; then the client is to slow down
BACKEND_IDLE_MS_MAX: Final = 3_000  # a client that stalls so long loses its memory to others
BACKEND_IDLE_BYTES: Final = 32 * KIB  # that must come of it in such a time: about 10 KiB/s
BACKEND_IDLE_CHECK_MS: Final = 250  # and each check while somebody waits cuts one such client
BACKEND_POOL_BYTES_MAX: Final = 160 * MIB  # buffers kept: stripes of 8 PUTs, in two sizes or more
BACKEND_POOLED_BUFFER_BYTES_MIN: Final = 64 * KIB  # smaller ones are cheap to make
BACKEND_STRIPES_PER_REQUEST_MAX: Final = 3  # received, coded and sent; or read ahead
BACKEND_RESTORED_STRIPES_MAX: Final = 64  # a PUT whose nodes died is made whole up to here
BACKEND_INLINE_BYTES_MAX: Final = 16 * KIB  # coded in the event loop: some tens of microseconds
BACKEND_FIRST_READ_BYTES: Final = 16 * KIB  # of a body, before it gets a share of the budget
BACKEND_DROPS_MAX: Final = 2048  # shards of abandoned writes that are being dropped at once
BACKEND_DROP_TIMEOUT_MS: Final = 10_000  # for one node to drop shards
HEALTH_DEADLINE_MS_MIN: Final = 2_000  # a write to a node is never given up sooner
HEALTH_DEADLINE_MS_MAX: Final = 30_000
HEALTH_REST_MS_MIN: Final = 250  # until a failed node is asked how it is; doubles
HEALTH_REST_MS_MAX: Final = 15_000
HEALTH_SILENT_MS: Final = 250  # a node that answers no read for so long is read from last
HEALTH_BUSY_S: Final = 1.0  # after an answer of a node to a request
HEALTH_SAMPLES: Final = 256  # reads that the percentile is taken of
HEDGE_MS_MIN: Final = 20  # a read is never called slow sooner
HEDGES_MAX: Final = 16  # stripes being hedged at once: hedging must not feed an overload
BACKEND_PATIENCE_MS: Final = 3_000  # a read waits so long for nodes to be dialled again
BACKEND_PATIENCE_PAUSE_MS: Final = 200  # and asks them so often
BACKEND_READ_TIMEOUT_MS: Final = 10_000  # of one block from one node; hedging comes much sooner
BACKEND_SLOW_STRIPES: Final = 4  # for which a node that was slow is asked last by that read
FILE_BLOCK_BYTES: Final = MIB  # of a plain file under one CRC
FILE_BLOCKS_AHEAD: Final = 2  # being read and being sent
FILE_SEGMENTS_MAX: Final = 64  # of a key that is a plain file; each may be a directory to make
FILE_LOCKS: Final = 64  # paths share them
ADOPTED_AT_ONCE: Final = 64  # files that become objects in one commit
ADOPTED_READ_BYTES: Final = 16 * MIB  # of such a file, in one turn of a thread
FILE_RESERVE_BYTES_MAX: Final = 256 * MIB  # free disk that nothing is added to: deletes need some
FILE_RESERVE_PART: Final = 16  # ... of a small file system not more than 1/16, but
FILE_RESERVE_BYTES_MIN: Final = 16 * MIB  # ... at least what a DeleteObjects of 1,000 keys writes
FILE_RESERVE_SPARE_PART: Final = 4  # ... 3/4 of which may be pages to spare in the state's file
FILE_WRITEBACK_BYTES: Final = 8 * MIB  # pushed to disk as it comes, so that the sync is short
BACKEND_STATE_READ_THREADS: Final = 2  # LocalState: reads are microseconds, unless disk is touched

RING_CHANGE_TRIES_MAX: Final = 16  # of the table of nodes, while others change it, too

# --- s3 ---------------------------------------------------------------------------------------

S3_KEY_BYTES_MAX: Final = 1024  # Amazon S3: UTF-8 bytes of a key
S3_PUT_BYTES_MAX: Final = 5 * GIB  # Amazon S3: one PUT, one part, one copy
S3_OBJECT_BYTES_MAX: Final = 5 * TIB  # Amazon S3: the sum of an object's parts
S3_PARTS_MAX: Final = 10_000  # Amazon S3
S3_PART_BYTES_MIN: Final = 5 * MIB  # Amazon S3: every part but the last
S3_USER_METADATA_BYTES_MAX: Final = 2 * KIB  # Amazon S3: names and values of x-amz-meta-*
S3_STORED_HEADERS_BYTES_MAX: Final = 8 * KIB  # Cache-Control and the like, together
S3_PAGE_MAX: Final = (
    1000  # Amazon S3: keys, parts, uploads of one answer; keys of one DeleteObjects
)
S3_BUCKETS_PAGE_MAX: Final = 10_000  # Amazon S3: buckets of one answer
S3_DELETE_XML_BYTES_MAX: Final = 2 * MIB  # Amazon S3: a DeleteObjects document
S3_COMPLETE_XML_BYTES_MAX: Final = 4 * MIB  # 10,000 parts with their longest checksums
S3_CONFIG_XML_BYTES_MAX: Final = 64 * KIB  # what a bucket, or an object's tags, are to be
S3_OBJECT_TAGS_MAX: Final = 10  # Amazon S3
S3_BUCKET_TAGS_MAX: Final = 50  # Amazon S3
S3_TAG_KEY_UNITS_MAX: Final = 128  # Amazon S3: UTF-16 code units
S3_TAG_VALUE_UNITS_MAX: Final = 256
S3_CORS_RULES_MAX: Final = 100  # Amazon S3: of a bucket
S3_CORS_ID_CHARS_MAX: Final = 255  # Amazon S3
S3_CORS_MAX_AGE_S_MAX: Final = 2**31 - 1
S3_CORS_ASKED_HEADERS_MAX: Final = 128  # of one preflight; a request has HTTP_HEADERS_MAX in all
S3_ACL_GRANTS_MAX: Final = 100  # Amazon S3
S3_CANONICAL_ID_CHARS_MAX: Final = 64  # Amazon S3's have as many; those of accounts here have fewer
S3_LOCK_DAYS_MAX: Final = 36_500  # Amazon S3: a bucket's default retention
S3_LOCK_YEARS_MAX: Final = 100
S3_XML_DEPTH_MAX: Final = 8
S3_XML_ELEMENTS_MAX: Final = 65_536  # and attributes; 10,000 parts with two checksums have 50,001
S3_XML_TOKEN_BYTES_MAX: Final = 64 * KIB  # a tag or comment, which is held until its end is there
S3_XML_FREE_BYTES: Final = 64 * KIB  # of a document; larger ones share what the next line allows
S3_XML_BYTES_MAX: Final = 64 * MIB  # of documents being received and worked off, all requests'
S3_XML_TREES_MAX: Final = 4  # of documents at once, some 10 MiB each at most
S3_XML_ASSEMBLIES_BYTES_MAX: Final = 6 * MIB  # of lists of parts worked off at once: 1 MiB takes 10
S3_XML_SLICE_BYTES: Final = 32 * KIB  # parsed between two turns of the event loop, about 1 ms
S3_TOKEN_BYTES_MAX: Final = 4 * KIB  # a continuation token, before it is decoded
S3_QUERY_PARAMETERS_MAX: Final = 64
S3_DATES_CACHED_MAX: Final = 4096  # seconds whose text is remembered, about 150 bytes each
S3_NAMES_CACHED_MAX: Final = 1024  # bucket names known to be legal, owners as XML
S3_DETAIL_CHARS_MAX: Final = 256  # of a request's own words in the message of an error
S3_READ_TRIES_MAX: Final = 8  # of an object that is replaced while it is looked up

# --- process ----------------------------------------------------------------------------------

DESCRIPTORS_PROCESS: Final = 48  # of the process itself: logs, loop, threads, sockets, a reload
DESCRIPTORS_NODE: Final = 14  # 7 that a shard node always has; a new segment, folders, upkeep
DESCRIPTORS_MEMBER: Final = 16  # 6 that a member always has; a journal, a snapshot, a backup
DESCRIPTORS_PEER: Final = 2  # its connection, and the one that is dialled when that is lost
DESCRIPTORS_FILES_CONNECTION: Final = 3  # with plain files: its socket, and two files of a copy
DESCRIPTORS_CONNECTIONS_MIN: Final = 8  # that a server takes, however few are left
EXHAUSTED_PAUSE_S: Final = 0.1  # until something is tried again that lacked a descriptor, or memory
EXHAUSTED_WAIT_S: Final = 3_600.0  # for which a node or a member waits for one, rather than fail
EXHAUSTED_PUBLISH_S: Final = 10.0  # the same, of a plain file that is to be moved to its path
DB_MEMBERS_MAX: Final = 7  # a larger Raft group only makes each commit wait for more disks
# Cyclic garbage is rare here: a full collection in the usual rhythm held the loop for 15-38 ms.
GC_THRESHOLDS: Final = (100_000, 50, 1_000)
HEAP_BLOCK_BYTES_MAX: Final = 2 * MIB  # what is larger comes from the kernel, and goes back at once
HEAP_FREE_BYTES_MAX: Final = 16 * MIB  # at the top of the heap; more is given back
COMMAND_CALL_TIMEOUT_MS: Final = 5_000  # of an operator's command, to one process
COMMAND_NOTES_MAX: Final = 20_000  # of the repair table, counted one by one: about 8 MiB
COMMAND_POLL_MS: Final = 1_000  # between two looks at work that a command waits for
COMMAND_JOBS: Final = 4  # objects that `cluster verify` reads at once
JOIN_ASK_MS: Final = 5_000  # one seed has so long to answer
JOIN_PAUSE_MS: Final = 500  # until the seeds are asked again
RING_REFRESH_MS: Final = 15_000  # the table of nodes is read so often, news or not
RING_NODE_TIMEOUT_MS: Final = 2_000  # to ask a leaving node what it still holds
RING_RETRY_MS: Final = 1_000  # after it could not be read or changed
TLS_LOOK_MS: Final = 60_000  # between two looks at the authority of the cluster, and certificates
TLS_RENEW_MS: Final = 3_600_000  # the same, where there is no cluster
TLS_RETRY_MS: Final = 500  # the same, while a new host has not got it yet
RIVAL_ASK_MS: Final = 1_500  # at a start: one process has so long to say who it sees
RIVAL_MORE_MS: Final = 200  # and the others so much longer, once one has
RIVAL_ASKED_MAX: Final = 16  # processes asked
RIVAL_PAUSE_MS: Final = 1_000  # between two looks while another may run the same node
RIVAL_WAIT_MS_MAX: Final = 60_000  # gossip has buried who is dead long before
DRAIN_MS_MAX: Final = 20_000  # SIGTERM: how long running requests may finish
TOP_PROCESSES_MAX: Final = 64  # that one `s3d top` watches, a thread each
TOP_TIMEOUT_S: Final = 5.0  # for one of them to answer
TOP_ANSWER_BYTES_MAX: Final = 16 * MIB  # more than METRICS_CHILDREN_MAX of any metric
TOP_INTERVAL_S_MIN: Final = 0.1  # between two looks
TOP_INTERVAL_S_MAX: Final = 3600.0
TESTING_START_S: Final = 30.0  # for the server of other projects' tests to be ready
TESTING_POLL_S: Final = 0.01  # how often it is asked whether it is
TESTING_STOP_S: Final = 25.0  # for it to end by itself: some more than DRAIN_MS_MAX
LOOP_LAG_INTERVAL_MS: Final = 5  # between two looks at how late the event loop is, if asked for
LOOP_LAG_SAMPLE_MS: Final = 100  # the same, always: some microseconds of CPU each
ACCESS_LOG_WAITING_MAX: Final = 16_384  # requests without their line yet, about 3 KiB each
ACCESS_LOG_FLUSH_MS: Final = 200  # between two writes of the access log
ACCESS_LOG_TEXT_CHARACTERS_MAX: Final = 1_024  # of a query, a key or a user agent in it
METRICS_CHILDREN_MAX: Final = 4_096  # of one metric: operations times status codes, or nodes
METRICS_SOURCE_MS_MAX: Final = 2_000  # for what gauges are read from; scrapers give up after 10 s
READY_POLL_MS: Final = 50  # start-up: how often a leader is looked for
READY_CHECK_MS: Final = 2_000  # how old the answer of /-/health/ready may be
READY_WRITES_MS_MAX: Final = 1_500  # to find out whether writes can be done; then they can not
READY_LOG_MS: Final = 5_000  # start-up: how often it is said that none answers yet
POOL_THREADS: Final = 4  # coding and hashing; they hold no GIL, and two cores are typical

# --- catalog --------------------------------------------------------------------------------------

PART_ROW_BYTES: Final = 320  # of a part, its key too, but for the nodes: 2 checksums, long numbers
NODE_ID_BYTES: Final = 3  # of one id in a row: NODE_IDS_MAX
# Completing an upload of as many parts as there may be, in the place of an object of as many, reads
# each row twice, and the placement that it moves, in one call, and writes both placements: so many
# shards may each part have.
CODE_SHARDS_MAX: Final = (
    min(PROCEDURE_READ_BYTES_MAX // 3, PROCEDURE_WRITTEN_BYTES_MAX // 2) // S3_PARTS_MAX
    - PART_ROW_BYTES
) // NODE_ID_BYTES
# These, and the sizes of parts and objects that S3 allows, decide what procedures do: they are the
# same for all programs of one level, as are the bounds of s3db.
PLACEMENT_PAGE_EXTENTS: Final = 256  # a row of 30 KiB with 5 nodes an extent
COMPLETED_KEPT_MS: Final = 24 * 60 * 60 * 1000  # completing an upload again is told the same
LISTED_BYTES_MAX: Final = 384 * KIB  # of an answer with versions
LISTED_READ_BYTES_LEFT_MIN: Final = MIB  # of a page's bound: some of the largest rows of versions
DELETE_READS_LEFT_MIN: Final = 4_096  # one deletion passes over 1,000 references that are gone
DELETE_BYTES_LEFT_MIN: Final = 5 * MIB  # one moves the placement of 10,000 parts of the widest code

# --- iam ------------------------------------------------------------------------------------------

# AWS's quotas ("IAM and AWS STS quotas"). They decide what procedures do: one change of a policy
# concerns at most all users and roles of an account, through all memberships, and that is one call.
IAM_USERS_MAX: Final = 5_000  # of an account
IAM_GROUPS_MAX: Final = 300
IAM_ROLES_MAX: Final = 1_000
IAM_POLICIES_MAX: Final = 1_500
IAM_MEMBERSHIPS_MAX: Final = 12_000  # of users in groups; AWS has no such quota
IAM_ACCESS_KEYS_MAX: Final = 2  # of a user, and of a root
IAM_GROUPS_OF_USER_MAX: Final = 10
IAM_ATTACHED_MAX: Final = 20  # managed policies of a user, a group, a role
IAM_POLICY_VERSIONS_MAX: Final = 5
IAM_TAGS_MAX: Final = 50
IAM_USER_INLINE_CHARS_MAX: Final = 2_048  # of all inline policies together, without white space
IAM_GROUP_INLINE_CHARS_MAX: Final = 5_120
IAM_ROLE_INLINE_CHARS_MAX: Final = 10_240
IAM_MANAGED_CHARS_MAX: Final = 6_144
IAM_TRUST_CHARS_MAX: Final = 4_096
IAM_DOCUMENT_CHARS_MAX: Final = 131_072  # as it is sent, white space too
IAM_ACCOUNTS_MAX: Final = 10_000
IAM_SESSION_POLICY_CHARS_MAX: Final = 2_048
IAM_SESSION_S_MIN: Final = 900
IAM_ROLE_SESSION_S_MAX: Final = 43_200
IAM_USER_SESSION_S_MAX: Final = 129_600
IAM_ROOT_SESSION_S_MAX: Final = 3_600
IAM_CHAINED_SESSION_S_MAX: Final = 3_600  # of a role that a session assumes
IAM_TOKEN_CHARS_MAX: Final = 16_384  # of a session token; ours have some 5,000 at most
CLUSTER_SECRETS_MAX: Final = 4  # that are taken at a time, while it is changed
IAM_SEALING_KEYS_MAX: Final = 8  # versions that can still be read
IAM_SEALING_KEPT_S: Final = IAM_USER_SESSION_S_MAX + 3_600  # after another followed; clocks differ
IAM_SEALING_LOOK_S: Final = 3_600.0  # pause before versions that nothing needs are looked for
IAM_SEAL_RETRY_MS: Final = 5_000  # pause before what was not sealed anew is tried again
IAM_FORM_BYTES_MAX: Final = 512 * KIB  # of a request of the Query API
IAM_FORM_FIELDS_MAX: Final = 512
IAM_FORMS_BYTES_MAX: Final = 8 * MIB  # of all requests at once
IAM_ANSWER_BYTES_MAX: Final = 16 * MIB  # to a command, of a page
IAM_PAGE_ITEMS_MAX: Final = 1_000  # MaxItems
IAM_PAGE_ITEMS_DEFAULT: Final = 100
IAM_TRIES_MAX: Final = 8  # of a change whose caller's rights change meanwhile
IAM_PRINCIPALS_CACHED_MAX: Final = 4_096
IAM_PRINCIPALS_CACHED_BYTES_MAX: Final = 32 * MIB  # of their documents
IAM_USED_PRECISION_S: Final = 900  # how exactly it is known when an access key was last used
IAM_USED_FLUSH_S: Final = 60.0
IAM_USED_WAITING_MAX: Final = 4_096  # access keys whose use is not stored yet
OIDC_AUDIENCES_MAX: Final = 32  # of one provider
OIDC_DOCUMENT_BYTES_MAX: Final = 256 * KIB  # discovery, JWKS
OIDC_TIMEOUT_S: Final = 5.0
OIDC_KEYS_MAX: Final = 64  # of one issuer
OIDC_REFRESH_S: Final = 3_600.0  # keys are read anew
OIDC_RETRY_S: Final = 30.0  # and, for a key that is not known, no more often than this
OIDC_TOKEN_CHARS_MAX: Final = 20_000
OIDC_SKEW_S: Final = 60.0
