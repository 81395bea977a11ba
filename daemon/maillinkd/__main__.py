"""`python -m maillinkd`"""

import sys

from maillinkd.cli import main

if __name__ == "__main__":
    sys.exit(main())
