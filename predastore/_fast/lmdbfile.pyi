"""Whether an lmdb file is whole, before lmdb maps it.

lmdb follows what stands in its file without looking: a number of a page that is not there ends the
process by SIGBUS, a bad length reads what is not the entry's. So whoever opens a file that may have
been cut short or damaged asks first.
"""

def check(fd: int, with_crcs: bool) -> int:
    """Looks at every page that the newest commit consists of, named tables and free list included:
    pages are there, are what they should be, belong to one thing each, and hold whole entries in
    order, as many as the trees say. Of tables without flags (no MDB_DUPSORT and the like).

    `with_crcs`: each value ends with the CRC32C of its key and of what is before it, 4 bytes,
    little endian; they are compared. Returns the number of entries. Nobody may write meanwhile.

    ValueError: what is wrong, and with which page. OSError: it can not be read. Costs about as much
    as reading the file; without the GIL.
    """
