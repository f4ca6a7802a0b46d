"""The command line: one file per noun, thin over the rooms; only `main` turns errors into output and an exit."""

import signal
import threading

# Until `main` runs, Ctrl-C just ends the process: a traceback out of half-done imports tells nobody anything.
_MAIN = threading.current_thread() is threading.main_thread()
if _MAIN and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
