# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""What all pictures share."""
import os
from typing import Union

from matplotlib.figure import Figure

from ..core.files import replacing

__all__ = ['COLOURS', 'save_figure', 'short']

# Okabe-Ito: told apart by colour-blind readers too.
COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9')


def save_figure(figure: Figure,
                path: Union[str, os.PathLike],
                dpi: int = 150) -> None:
    """Write a picture, whole or not at all.

    Args:
        figure (Figure): The picture.
        path (str | PathLike): PNG file; its folder must exist.
        dpi (int): Dots per inch. Defaults to 150.
    """
    with replacing(path) as temporary:
        figure.savefig(
            temporary,
            format='png',
            dpi=dpi,
            bbox_inches='tight',
            facecolor='white')


def short(name: str, length: int = 13) -> str:
    """A name of a class, cut where it would write over its neighbour.

    Args:
        name (str): Such as 'great white shark, white shark, man-eater'.
        length (int): Most characters. Defaults to 13.
    """
    name = name.split(',')[0]
    return name if len(name) <= length else name[:length - 1] + '…'
