"""Runs a script of the released SAM 2: `python -m …as_sam2 script.py`."""

import runpy
import sys
from pathlib import Path

from ..installation import NAME

USAGE = f'Usage: python -m {NAME}.as_sam2 SCRIPT.py [its arguments]'


def main() -> None:
    """Run the script as Python would."""
    if len(sys.argv) < 2 or sys.argv[1] in {'-h', '--help'}:
        sys.exit(USAGE)
    script = Path(sys.argv[1])
    if not script.is_file():
        sys.exit(f'There is no script {script}; {USAGE}')
    del sys.argv[0]
    sys.path.insert(0, str(script.resolve().parent))
    runpy.run_path(str(script), run_name='__main__')


if __name__ == '__main__':
    main()
