"""Accounts, users, roles, their keys and policies: who a credential is of, and what it may do.

| module | owns |
|---|---|
| `identity`, `identities`, `fetching` | whose a credential is, as it is now |
| `rows`, `keys`, `names`, `documents`, `managed` | what lies in s3db |
| `procedures/` | each change, as one commit; `refusals`, `errors`: what it is refused with |
| `sealing`, `sealing_keys` | secrets at rest, and the rotation of their key |
| `sessions`, `oidc` | temporary credentials; tokens of identity providers |
| `used` | when a key was last used |
| `audit` | a line of the log for each change, of S3's too |
| `query/` | AWS's Query API |
"""
