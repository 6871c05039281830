"""`python -m predastore` is `s3d`."""

import sys

from predastore.cli import main

sys.exit(main())
