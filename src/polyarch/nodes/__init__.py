"""Other machines that build: who they are, what they can do, and a session with one of them."""
