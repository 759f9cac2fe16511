"""`python -m fedimg.cli`: the same as the command `fedimg`."""

import sys

from fedimg.cli import main

sys.exit(main())
