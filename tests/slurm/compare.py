"""Checks that two checkpoints have the same weights and optimizer state."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'support'))

from engine_toys import differences, load

PARTS = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers')


def main() -> None:
    """Compare the two files of the command line."""
    one, two = (load(Path(path)) for path in sys.argv[1:])
    found = [
        place for part in PARTS for place in differences(one[part], two[part], part)
    ]
    if found or one['meta']['iter'] != two['meta']['iter']:
        sys.exit(f'{sys.argv[1:]} differ in {len(found)} places: {found[:5]}')
    sys.stdout.write(
        f'equal: {len(one["state_dict"])} weights after {one["meta"]["iter"]} steps\n'
    )


if __name__ == '__main__':
    main()
