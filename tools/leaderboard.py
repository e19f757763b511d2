#!/usr/bin/env python
"""Build the leaderboard tables from run records and published figures."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from comad.commands.leaderboard import main

if __name__ == '__main__':
    sys.exit(main())
