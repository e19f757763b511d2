#!/usr/bin/env python
"""Run a grid of trainings and evaluations: resumes where it stopped, skips what is done."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from comad.commands.sweep import main

if __name__ == '__main__':
    sys.exit(main())
