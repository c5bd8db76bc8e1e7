"""`python -m tinygen`, the same as `tinygen`."""

from tinygen.cli import main

raise SystemExit(main())
