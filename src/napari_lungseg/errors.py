"""What can go wrong, in words that a person can act on.

Every message says what was found, what was expected and what to do next. The command line prints it
as one line, the plugin as a notification; neither ever shows a traceback for one of these.
"""

from __future__ import annotations


class LungSegError(Exception):
    """Base of every error that this package raises on purpose."""


class ReadError(LungSegError):
    """A path that cannot be read as a scan."""


class WriteError(LungSegError):
    """A result that cannot be written where or as it was asked for."""


class InvalidVolumeError(LungSegError):
    """Voxels, geometry or labels that contradict each other."""


class IncompatibleModelError(LungSegError):
    """A model that cannot work on this image."""


class UnknownNameError(LungSegError):
    """A name that no table holds."""


class ModelFileError(LungSegError):
    """A model file that is damaged or was made by something else."""


class FetchError(LungSegError):
    """Weights that are not on this computer, or could not be fetched."""


class TrainingDataError(LungSegError):
    """Training data that cannot be learned from."""


class DeviceError(LungSegError):
    """A device that is not there or ran out of memory."""


class TrainingProcessError(LungSegError):
    """A training process that ended by itself, or a message to or from it that is broken."""


class PacsError(LungSegError):
    """A server that cannot be reached, refuses, or answers with something else than DICOMweb."""
