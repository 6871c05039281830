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
from predastore.s3db import LEVEL
from predastore.s3db.procedures import Procedure, Procedures, Question

PROCEDURES: Final = Procedures(
    (
        Procedure("bucket.create", LEVEL, buckets.create),
        Procedure("bucket.delete", LEVEL, buckets.delete),
        Procedure("bucket.change", LEVEL, buckets.change),
        Procedure("object.put", LEVEL, objects.put),
        Procedure("object.delete", LEVEL, objects.delete, quick_bytes=1024),
        Procedure("object.amend", LEVEL, objects.amend),
        Procedure("upload.create", LEVEL, uploads.create),
        Procedure("upload.part", LEVEL, uploads.part),
        Procedure("upload.complete", LEVEL, uploads.complete, quick_bytes=4096),
        Procedure("upload.abort", LEVEL, uploads.abort),
    ),
    (
        Question("object.find", LEVEL, questions.find),
        Question("bucket.documents", LEVEL, questions.documents),
        Question("version.list", LEVEL, questions.list_versions, quick_bytes=0),
    ),
)
