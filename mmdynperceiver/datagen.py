# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""The digits are made by ``projects/digits`` of a checkout now.

For one release ``python -m mmdynperceiver.datagen`` forwards to it where there
is a checkout, and says where it went where there is none.
"""
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Run ``python -m projects.digits`` with the arguments of the process.

    Returns:
        int: Its exit status; 2 if this is no checkout.
    """
    if not (_ROOT / 'projects/digits').is_dir():
        print(
            'error: the generator of the digits is not in the wheel any more; '
            'run `python -m projects.digits` in a checkout of mmdynperceiver',
            file=sys.stderr)
        return 2
    print(
        'mmdynperceiver.datagen is now projects.digits: run `python -m '
        f'projects.digits` in {_ROOT}',
        file=sys.stderr)
    sys.path.insert(0, str(_ROOT))
    from projects.digits.__main__ import main as make
    return make()


if __name__ == '__main__':
    sys.exit(main())
