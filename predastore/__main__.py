"""`python -m predastore` is `s3d`."""

import sys

from predastore.process.cli import main

sys.exit(main())
