"""What the fixtures that call bsqc look like (see cli/conftest.py)."""

import subprocess
from collections.abc import Callable
from typing import TypeAlias

from click.testing import Result

Run: TypeAlias = Callable[..., Result]
Start: TypeAlias = Callable[..., "subprocess.Popen[bytes]"]
