"""What stands in a mailbox: a call, or a tuple whose first place says what kind of message it is.

============================  ==================================================
``CAST, message, context``     a cast
``INFO, message, sender, ctx`` a plain message, a notice of the engine, a timer
``PARENT_EXIT, reason, None``  the parent's exit signal, for one that traps exits
``STOP, reason, None``         an order to stop (OTP GS-11)
============================  ==================================================
"""

from typing import Final

CAST: Final = 0
INFO: Final = 1
PARENT_EXIT: Final = 2
STOP: Final = 3
