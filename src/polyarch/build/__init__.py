"""From a plan to images: buildah in polyarch's own namespace, platforms side by side."""
