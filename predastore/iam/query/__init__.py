"""AWS's Query API over identities: IAM (2010-05-08) and STS (2011-06-15).

| module | owns |
|---|---|
| `service` | from a request to its answer: whose it is, which action, errors |
| `table` | the actions, on one page |
| `call` | one request on its way: its caller, permits, changes |
| `form` | parameters |
| `document` | answers in XML |
| `conditions` | condition keys of a request |
| `actions/` | a file for each group of actions |
"""
