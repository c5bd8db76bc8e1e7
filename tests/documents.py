"""The code blocks of Markdown documents, for the tests that run them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def blocks(document, language):
    """The blocks of one language in a file of the repository, in order."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / document).read_text(encoding="utf-8"), re.DOTALL)


def run(block, document, **names):
    """Execute a block; what it defines."""
    space = {"__name__": Path(document).stem, **names}
    exec(compile(block, document, "exec"), space)
    return space
