#!/usr/bin/env python
"""Test a trained checkpoint of any transfer config on its validation set."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from comad.commands.test import main

if __name__ == '__main__':
    sys.exit(main())
