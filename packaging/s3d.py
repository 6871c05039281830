"""The main program of the binary: what `python -m predastore` runs."""

import sys

from predastore.process.cli import main

sys.exit(main())
