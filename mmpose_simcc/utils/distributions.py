# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What MMEngine uses of ``pkg_resources``, which setuptools 81 and later do not have, by
:mod:`importlib.metadata`.

:mod:`mmpose_simcc.utils.compat` lets MMEngine import this as ``pkg_resources``.
"""

from importlib import metadata


class DistributionNotFound(Exception):
    """There is no distribution of this name."""


class Distribution:
    """An installed distribution.

    Args:
        name (str): Its name.

    Attributes:
        location (str): The folder that it was installed into.
        version (str): Its version.

    Raises:
        DistributionNotFound: There is none.
    """

    def __init__(self, name: str) -> None:
        try:
            self._found = metadata.distribution(name)
        except (metadata.PackageNotFoundError, ValueError) as error:
            raise DistributionNotFound(name) from error
        self.location = str(self._found.locate_file(''))
        self.version = self._found.version

    def has_metadata(self, name: str) -> bool:
        """Whether it came with this file."""
        return self._found.read_text(name) is not None

    def get_metadata(self, name: str) -> str:
        """The content of a file that it came with."""
        return self._found.read_text(name)


get_distribution = Distribution
