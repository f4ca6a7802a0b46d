"""Images as data: references, descriptors with their raw bytes, and the layout on disk that holds them."""
