"""Which way each stage is built on each platform, and why; or what would fail, before anything runs."""
