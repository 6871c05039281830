"""What lacks memory, or a descriptor, is told to slow down, and its connection stays."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from support.s3server import S3Server


@pytest.mark.parametrize(
    "error", [MemoryError(), OSError(errno.EMFILE, "no more"), OSError(errno.ENFILE, "no more")]
)
def test_it_is_503_slow_down(
    server: S3Server,
    s3: BaseClient,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    async def short(*_: Any, **__: Any) -> Any:
        raise error

    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    before = server.connections()
    with monkeypatch.context() as patch:
        patch.setattr(server.catalog, "find", short)
        with pytest.raises(ClientError) as refused:
            s3.get_object(Bucket=bucket, Key="k")
    assert refused.value.response["Error"]["Code"] == "SlowDown"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"
    assert server.connections() == before
