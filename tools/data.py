#!/usr/bin/env python
"""Prepare data sets."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from comad.commands.data import main

if __name__ == '__main__':
    sys.exit(main())
