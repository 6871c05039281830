"""The error of a policy that is refused."""

from __future__ import annotations

from predastore.base.errors import PredastoreError


class PolicyError(PredastoreError):
    """The document is none that may be stored. `message`: what is wrong, in Amazon's words where
    they are known. `where`: the place in the document, as `Statement[2].Condition.StringEquals`; ""
    where it is the document as a whole. S3 answers MalformedPolicy, IAM MalformedPolicyDocument."""

    code = "policy"

    def __init__(self, message: str, where: str = "") -> None:
        super().__init__(f"{message} ({where})" if where else message)
        self.message = message
        self.where = where
