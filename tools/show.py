#!/usr/bin/env python
"""Show what a config really runs: its recipe card, cost and optimizer groups."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from comad.commands.show import main

if __name__ == '__main__':
    sys.exit(main())
