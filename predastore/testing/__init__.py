"""A real S3 server for the tests of other projects.

    with running(folder) as server:
        client = boto3.client("s3", **server.boto3)

With pytest nothing has to be imported: the fixtures `s3_server` and `s3_client` are there as soon
as predastore is installed (predastore.testing.plugin).
"""

from predastore.testing.server import S3Server, running

__all__ = ["S3Server", "running"]
