"""The error family: failures a user can cause or mend, each message saying expected, got, what to do."""


class GaussWorldError(Exception):
    """Root of the family; the command line prints its message as one sentence and exits non-zero."""


class FileFormatError(GaussWorldError):
    """A file is not what its suffix or header promises: malformed, truncated, hostile, or of another kind."""


class CaptureError(GaussWorldError):
    """A capture cannot be used: no frames, unreadable images, or cameras that contradict them."""


class ConfigError(GaussWorldError):
    """A preset or a flag is unknown, of the wrong type, or contradicts another."""


class MissingDependency(GaussWorldError):
    """An optional package, compiler or system library is absent; the message names what to install."""


class BackendUnavailable(GaussWorldError):
    """The asked-for rasterizer cannot run here (no GPU, no gsplat, a version that is not known)."""


class UnknownScale(GaussWorldError):
    """Physics was asked of a world of unknown scale; the message says how to set it."""


class StoreError(GaussWorldError):
    """A stored world cannot be opened or written: not a world, damaged, of a newer format, or in use."""


class ConflictError(StoreError):
    """Somebody else committed first; the message names both revisions, and nothing is lost."""


class EditError(GaussWorldError):
    """An edit cannot be done to this world: no such object, a locked one, or values out of range."""
