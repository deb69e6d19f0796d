"""Prints what pip has to install for an image: Longhaul's dependencies and those of the extras that are named.

The images install them in a layer of their own, before the code, so that a change of code installs nothing again.
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
for extra in sys.argv[1:]:
    project["dependencies"] += project["optional-dependencies"][extra]
print(*project["dependencies"], sep="\n")
