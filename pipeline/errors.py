"""The one exception that is meant for the person who runs the pipeline."""


class UserError(Exception):
    """Something the user can mend: bad configuration, bad data, a full disk.

    The message names the file or key, the value, what is allowed, and the next step.
    The command line prints it without a traceback.
    """
