#!/usr/bin/env python
"""Look into weight files, turn them into one plain file, hand students to others."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from comad.commands.weights import main

if __name__ == '__main__':
    sys.exit(main())
