"""What identities refuse: nothing was changed. `code` and `status` are the Query API's, as AWS
documents them ("Common errors", and those of each action).

    IamError               `iam_code`, `status`
    +-- NoSuchEntity       there is none of this name                                    404
    +-- EntityExists       there is one                                                  409
    +-- DeleteConflict     something else has to go first                                409
    +-- LimitExceeded      a quota of the account, or of AWS                             409
    +-- ConcurrentChange   it was changed meanwhile; try again                           409
    +-- InvalidInput       a parameter says what can not be                              400
    +-- MalformedDocument  a policy that is none                                         400
    +-- NotAllowed         the caller's policies do not allow it                         403
    +-- TokenRefused       a token of an identity provider, or its provider, is no good  400
    +-- Unavailable        it can not be done now                                        503
    +-- Unsupported        AWS has it, and it is not here                                501
"""

from __future__ import annotations

from predastore.base.errors import PredastoreError


class IamError(PredastoreError):
    """`iam_code`: the Query API's, if another than the class's own."""

    code = "iam"
    iam_code = "ServiceFailure"
    status = 500

    def __init__(self, message: str, iam_code: str = "") -> None:
        super().__init__(message)
        if iam_code:
            self.iam_code = iam_code


class NoSuchEntity(IamError):
    code = "iam-no-such-entity"
    iam_code = "NoSuchEntity"
    status = 404


class EntityExists(IamError):
    code = "iam-entity-exists"
    iam_code = "EntityAlreadyExists"
    status = 409


class DeleteConflict(IamError):
    code = "iam-delete-conflict"
    iam_code = "DeleteConflict"
    status = 409


class LimitExceeded(IamError):
    code = "iam-limit-exceeded"
    iam_code = "LimitExceeded"
    status = 409


class ConcurrentChange(IamError):
    code = "iam-concurrent-change"
    iam_code = "ConcurrentModification"
    status = 409


class InvalidInput(IamError):
    code = "iam-invalid-input"
    iam_code = "ValidationError"
    status = 400


class MalformedDocument(IamError):
    code = "iam-malformed-document"
    iam_code = "MalformedPolicyDocument"
    status = 400


class NotAllowed(IamError):
    code = "iam-not-allowed"
    iam_code = "AccessDenied"
    status = 403


class TokenRefused(IamError):
    code = "iam-token-refused"
    iam_code = "InvalidIdentityToken"
    status = 400


class Unavailable(IamError):
    code = "iam-unavailable"
    iam_code = "ServiceUnavailable"
    status = 503


class Unsupported(IamError):
    code = "iam-unsupported"
    iam_code = "NotImplemented"
    status = 501
