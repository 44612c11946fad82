"""Messages of the log that are shown on the screen as well."""


class ScreenText(str):
    """A log message for the screen of a quiet run.

    The tools' runs write all messages to the log file, but show only warnings and those
    of this class: ``print_log(ScreenText('…'), 'current')``. For any other logger it is
    a plain string.
    """

    __slots__ = ()
