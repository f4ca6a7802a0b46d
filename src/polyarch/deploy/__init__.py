"""Where images run. Today: on this machine, any platform."""
