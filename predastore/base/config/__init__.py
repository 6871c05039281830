"""Configuration: a TOML file into frozen structs, with every mistake of it reported at once."""

from predastore.base.config.checks import problems
from predastore.base.config.fields import FIELDS, size_bytes
from predastore.base.config.losses import Layout
from predastore.base.config.model import (
    BACKENDS,
    LOG_LEVELS,
    S3,
    UMASK_DEFAULT,
    Auth,
    Bucket,
    Cluster,
    Config,
    Db,
    Node,
    Oidc,
    Rs,
    complete,
    development,
    owner_of,
    with_base_path,
)
from predastore.base.config.policy import Policy
from predastore.base.config.reader import load, parse

TOP_FIELDS = FIELDS[""]

__all__ = [
    "BACKENDS",
    "LOG_LEVELS",
    "S3",
    "TOP_FIELDS",
    "UMASK_DEFAULT",
    "Auth",
    "Bucket",
    "Cluster",
    "Config",
    "Db",
    "Layout",
    "Node",
    "Oidc",
    "Policy",
    "Rs",
    "complete",
    "development",
    "load",
    "owner_of",
    "parse",
    "problems",
    "size_bytes",
    "with_base_path",
]
