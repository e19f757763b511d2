#!/usr/bin/env python
"""Measure how fast training steps, data loading and tables are on this machine."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from comad.commands.benchmark import main

if __name__ == '__main__':
    sys.exit(main())
