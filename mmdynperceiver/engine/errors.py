# Copyright (c) mmdynperceiver contributors. All rights reserved.
"""Errors that the user, not the program, has to mend."""

__all__ = ['InputError']


class InputError(ValueError):
    """Something given does not fit; the message says what and what to do.

    The tools print it as one line. It keeps its type on the way from a data
    loader's worker.
    """
