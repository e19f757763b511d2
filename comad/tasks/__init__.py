"""The evaluations, one file each, and the reader of their protocols.

A task's file says all of it: configs, data, metrics, protocol fields, table, part of the sample
overlay. Nothing here imports torch; `backbones`, `comad.data` and `comad.runs` may be imported.
"""

from comad.tasks.task import TASKS as TASKS  # finds them, whichever module is asked for first
