"""Datagrams in batches, on non-blocking sockets: many with one system call."""

from typing_extensions import Buffer

class Receiver:
    """Its buffers are filled anew by every `receive`."""

    def receive(self, fd: int) -> list[tuple[memoryview, int, bytes]]:
        """What has come: the bytes, the size of the datagrams that they are made of (0: it is
        one), and the sender's address as the kernel has it. Empty if nothing has. OSError."""

class Sender:
    """`offload`: try to have the kernel cut datagrams; it notices if that can not be done."""

    def __init__(self, offload: bool = True) -> None: ...
    def send(
        self, fd: int, data: Buffer, size_bytes: int, segment_bytes: int, address: bytes | None
    ) -> tuple[int, int]:
        """Sends the first `size_bytes` as datagrams of `segment_bytes`, the last may be shorter.
        How many bytes went, and 0 or the errno for which it was not all. `address` is as the
        kernel has it; None for a socket that is connected."""
