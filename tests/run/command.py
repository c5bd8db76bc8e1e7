"""The command line, called in this process with the plugin of the tests."""

import contextlib
import io
import json
from pathlib import Path
from typing import NamedTuple

from tinygen.cli import main

PLUGIN = Path(__file__).with_name("toy_plugin.py")


class Done(NamedTuple):
    """What a command line came to."""

    code: int
    out: str
    err: str

    @property
    def document(self):
        return json.loads(self.out)

    def refused(self, code, *words):
        """It failed with this code, in one line and a hint, which hold these words."""
        assert self.code == code, self
        assert self.out == "" and len(self.err.splitlines()) <= 2 and self.err.startswith("tinygen: error: ")
        for word in words:
            assert word in self.err, self.err


def tinygen(*words):
    """Run `tinygen -p toy_plugin.py words…`."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["-p", str(PLUGIN), *map(str, words)])
    return Done(code, out.getvalue(), err.getvalue())
