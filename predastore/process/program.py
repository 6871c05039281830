"""What this program does to the metadata: the procedures and questions of all layers."""

from __future__ import annotations

from typing import Final

from predastore.catalog import procedures as catalog
from predastore.iam import procedures as iam
from predastore.s3db.procedures import Procedures

PROCEDURES: Final = Procedures(
    (*catalog.PROCEDURES.values(), *iam.PROCEDURES),
    (*catalog.PROCEDURES.questions.values(), *iam.QUESTIONS),
)
