"""comad-bench: masked multi-teacher distillation and the evaluation of its students.

Importing this package is cheap; ``comad.engine.register`` registers all with MMEngine.
"""

__version__ = '0.1.0'
