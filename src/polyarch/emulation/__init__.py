"""How this machine executes programs of other architectures: emulators and the handlers that call them."""
