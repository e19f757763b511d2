#!/usr/bin/env python
"""Train any config of the suite: pretraining, classification, segmentation or detection."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from comad.commands.train import main

if __name__ == '__main__':
    sys.exit(main())
