"""What the catalog does to the database in one step, and what it asks of it.

| module | owns |
|---|---|
| `arguments` | what is called with what, and answers |
| `objects`, `buckets`, `uploads` | the procedures |
| `questions` | the questions |
| `judging` | what is checked first, each check by its name |
| `chain` | the versions of one key |
| `layouts`, `completion` | where bytes are: made, shared, let go of; of the parts of an upload |

Every procedure names one bucket, by its id and generation, and touches that bucket's rows only, and
layouts. `PROCEDURES` is what the wiring hands to members and to the state of a single process.
"""

from typing import Final

from predastore.catalog.procedures import buckets, objects, questions, uploads
from predastore.s3db.procedures import Procedure, Procedures, Question

_FIRST: Final = 2  # the level of the first release

PROCEDURES: Final = Procedures(
    (
        Procedure("bucket.create", _FIRST, buckets.create),
        Procedure("bucket.delete", _FIRST, buckets.delete),
        Procedure("bucket.change", _FIRST, buckets.change),
        Procedure("object.put", _FIRST, objects.put),
        Procedure("object.delete", _FIRST, objects.delete, quick_bytes=1024),
        Procedure("object.amend", _FIRST, objects.amend),
        Procedure("upload.create", _FIRST, uploads.create),
        Procedure("upload.part", _FIRST, uploads.part),
        Procedure("upload.complete", _FIRST, uploads.complete, quick_bytes=4096),
        Procedure("upload.abort", _FIRST, uploads.abort),
    ),
    (
        Question("object.find", _FIRST, questions.find),
        Question("version.list", _FIRST, questions.list_versions, quick_bytes=0),
    ),
)
