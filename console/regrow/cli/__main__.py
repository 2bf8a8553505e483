"""``python -m regrow.cli``, the same as ``regrow``."""

import sys

from regrow.cli.parser import main

sys.exit(main())
