"""The one exception that `sae_core` raises for bad input.

Its message is a single line that names the thing that is wrong and the way out. The command line prints that line
and exits with status 2; a notebook shows it as the last line of the traceback.
"""


class SaeCoreError(ValueError):
    """Bad input: a file, a name, a configuration or a number that cannot be used."""
