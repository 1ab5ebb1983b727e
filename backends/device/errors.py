"""The one error that a user can mend."""


class UserError(Exception):
    """Says what was expected, what came, in which file, and the mend; shown without a traceback."""
