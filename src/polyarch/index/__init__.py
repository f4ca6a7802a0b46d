"""Work on indexes without a daemon: made, changed, copied and mended, over layouts and registries."""
