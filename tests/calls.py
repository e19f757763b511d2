"""Commands called in the tests' own process, which has paid for the imports already.

Each starts as a program of its own in the tests of its --help, in tests/engine and tests/data.
"""

import contextlib
import io
import os
import warnings
from importlib import import_module
from pathlib import Path
from subprocess import CompletedProcess

from comad.runs.place import CALLER, HOME


def call(tool: str, *arguments: object, cwd: str | Path = '.') -> CompletedProcess:
    """What ``tools/<tool>.py`` says and returns when it is started in ``cwd``."""
    main = import_module(f'comad.commands.{tool}').main
    before = os.getcwd()
    os.environ.update({HOME: '.', CALLER: '.'})  # as in every test; commands change them
    os.chdir(cwd)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()) as out,
            contextlib.redirect_stderr(io.StringIO()) as err,
            warnings.catch_warnings(),
        ):
            try:
                code = main([str(argument) for argument in arguments])
            except SystemExit as error:  # of argparse
                code = error.code
    finally:
        os.chdir(before)
    return CompletedProcess([tool, *arguments], code or 0, out.getvalue(), err.getvalue())
